//! `compare`: two commits on one noisy machine, measured in turn.
//!
//! ONE bench, this one, drives the gateway's programs of both [`sides`]: A B A B. What slows the machine for a while slows both, and the ratios of
//! neighbours tell how far that goes. [`verdict`] says what is beyond it.

mod benches;
mod sides;
mod verdict;

use std::{ffi::OsString, path::Path, path::PathBuf, process::Command};

use anyhow::{Result, bail, ensure};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    checkout,
    load::{binaries::Binaries, peer, unless_stopped},
    runner::{TIMEOUT, say},
};
use benches::Bench;
use verdict::{Judged, Verdict};

/// `compare`'s part of the command line.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  eddy-bench compare HEAD~1
  eddy-bench compare main --benches throughput --pairs 8
  eddy-bench compare v0.1.0 --benches footprint -- --series 30000 --hours 24
  eddy-bench compare /opt/eddy/bin --json

A difference is beyond the noise where chance alone parts the runs so far at most once in a hundred (Mann and Whitney's test, exact), and the
medians differ by --least-percent. Five pairs are the fewest that can show one.")]
pub(crate) struct CompareArgs {
    /// What this build is compared with: a commit, which is built in the same profile (target/compare), or a folder with the gateway's programs
    base: String,
    /// Runs of each side
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=i64::from(verdict::PAIRS_MAX)))]
    pairs: u8,
    /// What is measured
    #[arg(long, value_delimiter = ',', default_values_t = benches::DEFAULT.map(str::to_owned))]
    benches: Vec<String>,
    /// What is less is no difference
    #[arg(long, default_value_t = 1.0)]
    least_percent: f64,
    /// Print one JSON object in place of a table
    #[arg(long)]
    json: bool,
    /// Arguments of the measurements, in place of a small form of each
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// A figure, judged.
#[derive(Debug, Serialize)]
struct Compared {
    bench: &'static str,
    figure: String,
    is_more_better: bool,
    base_runs: Vec<f64>,
    head_runs: Vec<f64>,
    #[serde(flatten)]
    judged: Judged,
}

/// Measures both sides in turn, and prints what differs.
///
/// # Errors
/// A base that cannot be had; once all else is told, that runs failed.
pub(crate) fn run(args: &CompareArgs) -> Result<()> {
    let chosen = chosen(&args.benches)?;
    let head = Binaries::find()?;
    // target/<profile>/eddy-bench
    let target: PathBuf = head.bench.ancestors().nth(2).map(Path::to_owned).unwrap_or_default();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    say(&format!("programs of {}", args.base));
    let base = sides::base(&args.base, &checkout::workspace(), &target, &head.profile(), &cargo)?;
    // The bench finds what a side lacks before anything is measured.
    Binaries::of(&base)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let folders = [base.as_path(), head.folder()];
    let (compared, failed) = runtime.block_on(unless_stopped(measure(args, &chosen, &head.bench, folders)))?;
    let figures = json!({
        "mode": "compare",
        "base": args.base,
        "head": checkout::described(),
        "profile": head.profile(),
        "pairs": args.pairs,
        "figures": compared,
        "failed": failed,
    });
    if args.json {
        println!("{figures}");
    } else {
        print!("{}", text(&compared));
    }
    ensure!(failed.is_empty(), "runs failed: {}", failed.join("; "));
    Ok(())
}

fn chosen(names: &[String]) -> Result<Vec<Bench>> {
    let known = || benches::ALL.map(|bench| bench.name).join(", ");
    let one = |name: &String| match benches::ALL.into_iter().find(|bench| bench.name == name) {
        Some(bench) => Ok(bench),
        None => bail!("no bench {name} to compare by: there are {}", known()),
    };
    names.iter().map(one).collect()
}

/// All pairs of all benches, and what failed.
async fn measure(
    args: &CompareArgs,
    chosen: &[Bench],
    program: &Path,
    folders: [&Path; 2],
) -> Result<(Vec<Compared>, Vec<String>)> {
    let scratch = tempfile::Builder::new().prefix("eddy-bench-compare-").tempdir()?;
    let mut pairs: Vec<Vec<[Value; 2]>> = vec![Vec::new(); chosen.len()];
    let mut failed = Vec::new();
    for pair in 1..=args.pairs {
        for (bench, pairs) in chosen.iter().zip(&mut pairs) {
            let mut both = Vec::new();
            for (name, folder) in ["base", "head"].into_iter().zip(folders) {
                say(&format!("pair {pair} of {}: {}, {name}", args.pairs, bench.name));
                let mut command = Command::new(program);
                command.args(bench.command_line(&args.arguments)).arg("--binaries").arg(folder);
                match peer::figures::<Value>(&mut command, TIMEOUT, scratch.path()).await {
                    Ok(figures) => both.push(figures),
                    Err(problem) => {
                        say(&format!("FAILED: {problem:#}"));
                        failed.push(format!("{} of {name}, pair {pair}: {problem:#}", bench.name));
                    }
                }
            }
            // Half a pair says nothing.
            pairs.extend(<[Value; 2]>::try_from(both));
        }
    }
    let compared =
        chosen.iter().zip(&pairs).flat_map(|(bench, pairs)| judged(bench, pairs, args.least_percent / 100.0));
    failed.extend(chosen.iter().zip(&pairs).flat_map(|(bench, pairs)| untold(bench, pairs)));
    Ok((compared.collect(), failed))
}

/// The figures of one bench that some runs have and others have not: a side that raises no alert has no latency.
fn untold(bench: &Bench, pairs: &[[Value; 2]]) -> Vec<String> {
    let is_told = |run: &Value, path: &str| run.pointer(path).and_then(Value::as_f64).is_some_and(|value| value > 0.0);
    let one = |(path, _): &(&str, bool)| {
        let [base, head] = [0, 1].map(|side| pairs.iter().filter(|pair| is_told(&pair[side], path)).count());
        let some = base + head > 0 && base.min(head) < pairs.len();
        some.then(|| {
            let runs = pairs.len();
            format!(
                "{} {path}: base told it in {base} and head in {head} of {runs} runs: it is not compared",
                bench.name
            )
        })
    };
    bench.figures.iter().filter_map(one).collect()
}

/// The figures of one bench; one that a run does not have is left out ([`untold`] says so).
fn judged(bench: &Bench, pairs: &[[Value; 2]], least: f64) -> Vec<Compared> {
    let one = |(path, is_more_better): &(&str, bool)| {
        let side = |side: usize| -> Option<Vec<f64>> {
            pairs.iter().map(|pair| pair[side].pointer(path).and_then(Value::as_f64)).collect()
        };
        let (base_runs, head_runs) = (side(0)?, side(1)?);
        let judged = verdict::judge(&base_runs, &head_runs, *is_more_better, least)?;
        let figure = path.trim_start_matches('/').replace('/', ".");
        Some(Compared { bench: bench.name, figure, is_more_better: *is_more_better, base_runs, head_runs, judged })
    };
    bench.figures.iter().filter_map(one).collect()
}

/// For people.
fn text(compared: &[Compared]) -> String {
    let mut out =
        format!("{:<44} {:>12} {:>12}  {:>7} {:>17}  {:>7}\n", "figure", "base", "head", "ratio", "spread", "chance");
    for Compared { bench, figure, judged, .. } in compared {
        let verdict = match judged.verdict {
            Verdict::NoDifference => "no difference",
            Verdict::Better => "better",
            Verdict::Worse => "WORSE",
        };
        let spread = format!("{:.3} to {:.3}", judged.ratio_min, judged.ratio_max);
        let (base, head, name) = (judged.base, judged.head, format!("{bench} {figure}"));
        out += &format!(
            "{name:<44} {base:>12.3} {head:>12.3}  {:>7.3} {spread:>17}  {:>7.3}  {verdict}\n",
            judged.ratio, judged.chance
        );
    }
    let beyond = compared.iter().filter(|one| one.judged.verdict != Verdict::NoDifference).count();
    out + &match beyond {
        0 => format!("no difference in any of {} figures\n", compared.len()),
        _ => format!("{beyond} of {} figures differ beyond the noise\n", compared.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_of(windows_per_s: f64) -> Value {
        json!({"windows_per_s": windows_per_s, "capture_readings_per_s": 5.0})
    }

    #[test]
    fn a_doctored_side_is_seen_and_the_same_one_is_not() {
        let noise = [1.0, 1.03, 0.98, 1.01, 0.99];
        let pairs = |slower: f64| noise.map(|noise| [run_of(1_000.0 * noise), run_of(slower * 1_000.0 * noise)]);
        let compared = judged(&benches::ALL[0], &pairs(0.85), 0.01);
        let verdicts: Vec<_> = compared.iter().map(|one| (one.figure.as_str(), one.judged.verdict)).collect();
        // What a run does not tell is no figure.
        assert_eq!(verdicts, [("windows_per_s", Verdict::Worse), ("capture_readings_per_s", Verdict::NoDifference)]);
        assert!(text(&compared).contains("WORSE") && text(&compared).contains("1 of 2 figures differ"));
        assert_eq!(untold(&benches::ALL[0], &pairs(0.85)), Vec::<String>::new());
        let mut silent = pairs(1.0);
        silent[1][1]["windows_per_s"] = Value::Null;
        let said = untold(&benches::ALL[0], &silent);
        assert!(said.len() == 1 && said[0].contains("base told it in 5 and head in 4 of 5"), "{said:?}");
        let same = judged(&benches::ALL[0], &pairs(1.0), 0.01);
        assert!(same.iter().all(|one| one.judged.verdict == Verdict::NoDifference));
        assert!(text(&same).ends_with("no difference in any of 2 figures\n"));
    }
}
