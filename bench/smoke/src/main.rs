//! `make bench-smoke`: instructions of the hot paths, counted by callgrind and held to a committed baseline.
//!
//! A count is the same on a busy machine and on a quiet one, so that it can judge a change in CI where a time cannot. It says nothing of
//! caches, waiting and disks: `make bench` does.
//!
//! [`cases`] is what is counted, [`counted`] and [`callgrind`] how, [`seeds`] why it comes out the same; [`baseline`] judges, and only what comes of the same
//! [`environment`].
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod baseline;
mod callgrind;
mod cases;
mod counted;
mod environment;
mod made;
mod seeds;
mod show;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Context as _, Result, anyhow};
use clap::Parser;

use baseline::{Counts, PerUnit};
use cases::Case;
use environment::Environment;

/// A case takes more instructions than its baseline allows, or has none.
const FAILED: u8 = 2;
/// The baseline comes of another environment: there is nothing to compare with.
const ELSEWHERE: u8 = 3;

/// Counts instructions of the hot paths under callgrind, and compares them with the baseline
#[derive(Debug, Parser)]
#[command(
    name = "eddy-smoke",
    after_help = "Exit codes: 0 as the baseline says, 1 could not count, 2 a case is worse or the cases are others,\n\
    3 the baseline was counted in another environment (compiler, C library, valgrind, processor): nothing is compared."
)]
struct Args {
    /// Only these cases, as `detect.judge`; all of a part by its name, as `detect`
    cases: Vec<String>,
    /// The baseline
    #[arg(long, value_name = "FILE", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/baseline.json"))]
    baseline: PathBuf,
    /// Write the baseline; with cases, only those of it
    #[arg(long)]
    write: bool,
    /// Print one JSON object in place of a table
    #[arg(long)]
    json: bool,
    /// Where callgrind's output of each case is kept, for callgrind_annotate
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    // Under callgrind, without the command line's parser: its strings would lie on the heap, some as long as this checkout's path.
    let mut given = std::env::args().skip(1);
    match (given.next().as_deref(), given.next()) {
        (Some(callgrind::FEATURES), None) => {
            println!("{}", environment::features());
            return Ok(ExitCode::SUCCESS);
        }
        (Some(callgrind::RUN), Some(name)) => {
            let case = cases::named(&name).with_context(|| format!("no case {name}"))?;
            println!("{}", (case.run)(Path::new("."))?);
            return Ok(ExitCode::SUCCESS);
        }
        _ => {}
    }
    let args = Args::parse();
    let chosen = chosen(&args.cases)?;
    let environment = Environment::here(callgrind::features()?)?;
    let baseline = if args.write { None } else { Some(Counts::read(&args.baseline)?) };
    if let Some(baseline) = &baseline {
        let differences = environment.differences(&baseline.environment);
        if !differences.is_empty() {
            eprintln!("bench-smoke: the baseline was counted elsewhere: {}", differences.join("; "));
            return Ok(ExitCode::from(ELSEWHERE));
        }
    }
    let counts = Counts { environment, cases: count(&chosen, args.keep.as_deref())? };
    match baseline {
        Some(baseline) => Ok(judge(&args, &counts, &baseline, &chosen)),
        None => {
            let number = counts.cases.len();
            if args.cases.is_empty() { counts } else { counts.over(&args.baseline)? }.write(&args.baseline)?;
            println!("bench-smoke: {number} cases are written to {}", args.baseline.display());
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The cases that are named, or all.
fn chosen(names: &[String]) -> Result<Vec<&'static Case>> {
    let is = |case: &Case, name: &str| case.name == name || case.name.split('.').next() == Some(name);
    if let Some(unknown) = names.iter().find(|name| !cases::ALL.iter().any(|case| is(case, name))) {
        let all: Vec<&str> = cases::ALL.iter().map(|case| case.name).collect();
        return Err(anyhow!("no case {unknown}: there are {}", all.join(", ")));
    }
    let all = cases::ALL.iter();
    Ok(all.filter(|case| names.is_empty() || names.iter().any(|name| is(case, name))).collect())
}

/// Counts them, as many at a time as there are cores: a count does not depend on what else runs.
fn count(chosen: &[&Case], keep: Option<&Path>) -> Result<BTreeMap<String, PerUnit>> {
    let temporary = tempfile::Builder::new().prefix("eddy-smoke-").tempdir()?;
    let (next, counted) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let one_by_one = || -> Result<()> {
        while let Some(case) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
            let folder = temporary.path().join(case.name);
            let instructions = callgrind::count(case, &folder, keep)?.per_unit();
            std::fs::remove_dir_all(&folder)?;
            let per_unit = PerUnit { unit: case.unit.to_owned(), instructions };
            counted.lock().unwrap_or_else(PoisonError::into_inner).insert(case.name.to_owned(), per_unit);
        }
        Ok(())
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores.min(chosen.len())).map(|_| scope.spawn(one_by_one)).collect();
        let joined =
            threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a case's thread panicked"))?);
        joined.collect::<Result<()>>()
    })?;
    Ok(counted.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Prints what the counts are beside the baseline, and fails if they must.
fn judge(args: &Args, counts: &Counts, baseline: &Counts, chosen: &[&Case]) -> ExitCode {
    let names: Vec<&str> = chosen.iter().map(|case| case.name).collect();
    let compared = counts.beside(baseline, &names, !args.cases.is_empty());
    if args.json {
        println!("{}", serde_json::json!({ "environment": counts.environment, "cases": compared }));
    } else {
        print!("{}", show::table(&compared));
    }
    let failed = compared.iter().any(|case| case.verdict.fails());
    if failed { ExitCode::from(FAILED) } else { ExitCode::SUCCESS }
}
