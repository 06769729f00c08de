//! `curves`: how figures change with series, history, uptime and shards, as charts for the README.
//!
//! [`parts`] measures, which is kept as one JSON file; [`charts`] says what of it is shown, [`draw`] draws it. `--draw` draws again what is kept.

mod charts;
mod draw;
mod parts;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::{
    checkout,
    load::{binaries::Binaries, unless_stopped},
    runner::{Outcome, Runner, say},
};
use charts::Measured;

/// `curves`' part of the command line.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct CurvesArgs {
    /// Every curve, but of few points that say nothing
    #[arg(long)]
    small: bool,
    /// Measure nothing: draw what curves.json holds
    #[arg(long)]
    draw: bool,
    /// Take what an earlier run of the same binaries measured; only what is missing is measured
    #[arg(long)]
    resume: bool,
    /// Where curves.json and the charts go [default: bench/figures of the source; .run/bench/curves with --small]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Measures, and draws.
///
/// # Errors
/// Parts that failed, or charts that cannot be drawn or written.
pub(crate) fn run(args: &CurvesArgs) -> Result<()> {
    let own = if args.small { ".run/bench/curves" } else { "bench/figures" };
    let out = args.out.clone().unwrap_or_else(|| checkout::workspace().join(own));
    std::fs::create_dir_all(&out).with_context(|| out.display().to_string())?;
    let file = out.join("curves.json");
    if !args.draw {
        let Outcome { figures, failed } = measure(args)?;
        // Charts of some parts would stand beside older ones of the others.
        ensure!(
            failed.is_empty(),
            "not measured, so nothing is drawn (--resume takes what was): {}",
            failed.join("; ")
        );
        write(&file, &told(args, figures.into_iter().collect()))?;
    }
    let text = std::fs::read(&file).with_context(|| file.display().to_string())?;
    let kept: Value = serde_json::from_slice(&text).with_context(|| file.display().to_string())?;
    let parts: Measured = serde_json::from_value(kept["parts"].clone()).context("curves.json has no parts")?;
    for (name, chart) in charts::all(&parts) {
        let path = out.join(format!("{name}.svg"));
        std::fs::write(&path, chart.svg()?).with_context(|| path.display().to_string())?;
        println!("{}", path.display());
    }
    Ok(())
}

fn measure(args: &CurvesArgs) -> Result<Outcome> {
    let binaries = Binaries::find()?;
    let scratch = tempfile::Builder::new().prefix("eddy-bench-curves-").tempdir()?;
    let name = if args.small { "curves-small.parts" } else { "curves.parts" };
    let runner =
        Runner::new(&binaries, checkout::workspace().join(".run/bench").join(name), scratch.path(), args.resume)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(unless_stopped(async { Ok(runner.all(&parts::all(args.small)).await) }))
}

/// What is kept: what is drawn, without what each process used.
fn told(args: &CurvesArgs, mut parts: Measured) -> Value {
    parts.values_mut().for_each(slim);
    json!({
        "mode": "curves",
        "small": args.small,
        "commit": checkout::described(),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "parts": parts,
    })
}

/// Leaves out what takes most room, wherever it stands.
fn slim(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(slim),
        Value::Object(object) => {
            for key in ["processes", "idle_processes", "images"] {
                object.remove(key);
            }
            object.values_mut().for_each(slim);
        }
        _ => {}
    }
}

fn write(file: &Path, figures: &Value) -> Result<()> {
    say(&format!("writing {}", file.display()));
    std::fs::write(file, serde_json::to_vec_pretty(figures)?).with_context(|| file.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_drawn_again_without_measuring() {
        let folder = tempfile::tempdir().unwrap();
        let args = CurvesArgs { small: true, draw: true, resume: false, out: Some(folder.path().to_owned()) };
        let run_of = |series: u64| json!({"series": series, "shards": 1, "windows_per_s": 1e5, "processes": {"a": {"cpu_s": 1}}});
        let part = json!({"scaling": [run_of(99), run_of(999)], "processes": {}});
        let kept = told(&args, [(parts::SPEED.to_owned(), part)].into());
        assert!(!kept.to_string().contains("cpu_s"));
        write(&folder.path().join("curves.json"), &kept).unwrap();
        run(&args).unwrap();
        let svg = std::fs::read_to_string(folder.path().join("speed-by-series.svg")).unwrap();
        assert!(svg.contains("windows embedded and scored"));
        assert!(!folder.path().join("latency-by-series.svg").exists());
    }
}
