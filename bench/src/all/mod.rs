//! `all`: every figure that has a target in one run, and one table of them.
//!
//! [`parts`] says what is run, as commands of their own; [`figures`] holds what they say beside the targets, [`show`] prints that.

mod figures;
mod parts;
mod show;

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;

use crate::{
    checkout,
    load::{binaries::Binaries, unless_stopped},
    runner::{Outcome, Part, Runner, say},
};
use figures::Measured;

/// `all`'s part of the command line.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  eddy-bench all                          # with a release build, on a machine that does nothing else
  eddy-bench all --small                  # every part, a few minutes; its figures say nothing
  eddy-bench all --without ann
  eddy-bench all --only latency,sync --resume")]
pub(crate) struct AllArgs {
    /// Every part, but so small that it only shows that all of it works
    #[arg(long)]
    small: bool,
    /// Only these parts
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// All parts but these
    #[arg(long, value_delimiter = ',')]
    without: Vec<String>,
    /// Take what an earlier run of the same binaries measured; only what is missing is measured
    #[arg(long)]
    resume: bool,
    /// Folder with NAB
    #[arg(long, env = "EDDY_DATA", default_value = "../shared/data")]
    data: PathBuf,
    /// Where figures are kept [default: .run/bench of the source]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print one JSON object in place of the table
    #[arg(long)]
    json: bool,
}

/// Measures, prints the table, and keeps all of it as one file.
///
/// # Errors
/// Names of parts that there are not; and, once all others are measured and told, that parts failed.
pub(crate) fn run(args: &AllArgs) -> Result<()> {
    let binaries = Binaries::find()?;
    let scratch = tempfile::Builder::new().prefix("eddy-bench-all-").tempdir()?;
    let mut parts = chosen(args, parts::all(args.small, &args.data, scratch.path()))?;
    if !args.data.is_dir() {
        say(&format!("SKIPPED nab: there is no {} (--data, EDDY_DATA)", args.data.display()));
        parts.retain(|part| !part.by_eval);
    }
    let out = args.out.clone().unwrap_or_else(|| checkout::workspace().join(".run/bench"));
    let name = if args.small { "all-small" } else { "all" };
    let runner = Runner::new(&binaries, out.join(format!("{name}.parts")), scratch.path(), args.resume)?;
    // What is not all of it does not take the place of what is.
    let is_all = args.only.is_empty() && args.without.is_empty();
    let name = if is_all { name.to_owned() } else { format!("{name}-chosen") };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let measured = unless_stopped(async { Ok(runner.all(&parts).await) });
    let Outcome { figures, failed } = runtime.block_on(measured)?;
    let figures: Measured = figures.into_iter().collect();
    let rows = figures::rows(&figures);
    let all = json!({
        "mode": "all",
        "small": args.small,
        "commit": checkout::described(),
        "profile": binaries.profile(),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "figures": rows,
        "failed": failed,
        "parts": figures,
    });
    let file = out.join(format!("{name}.json"));
    std::fs::write(&file, serde_json::to_vec_pretty(&all)?).with_context(|| file.display().to_string())?;
    if args.json {
        println!("{all}");
    } else {
        print!("{}", show::text(&rows));
    }
    say(&format!("all of it is in {}", file.display()));
    ensure!(failed.is_empty(), "not measured: {}", failed.join("; "));
    Ok(())
}

fn chosen(args: &AllArgs, parts: Vec<Part>) -> Result<Vec<Part>> {
    let names: Vec<&str> = parts.iter().map(|part| part.name).collect();
    if let Some(unknown) = args.only.iter().chain(&args.without).find(|name| !names.contains(&name.as_str())) {
        bail!("no part {unknown}: there are {}", names.join(", "));
    }
    let is_named = |list: &[String], part: &Part| list.iter().any(|name| name == part.name);
    let is_chosen = |part: &Part| args.only.is_empty() || is_named(&args.only, part);
    Ok(parts.into_iter().filter(|part| is_chosen(part) && !is_named(&args.without, part)).collect())
}
