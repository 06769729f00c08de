//! The command line of `eddy-eval`: what `eddy eval` runs. A binary of its own, so that `eddy` does not carry the inference engine.

use std::{ffi::OsString, io::Write as _, process::ExitCode};

use anyhow::Result;
use clap::Parser;
use eddy_cli::{output, replay::ReplayArgs};
use eddy_runtime::config::ConfigError;
use eddy_schemas::{SeriesName, rfc3339};

use crate::{
    diff,
    eval::{self, EvalArgs},
    heads::{self, HeadsArgs},
    rehearse::{self, RehearseArgs, judge::Verdict},
    windows::{self, WindowsArgs},
};

/// Bad config or a bad command line (sysexits' EX_USAGE).
const EXIT_USAGE: u8 = 64;
const EXIT_FAILED: u8 = 1;
/// Some streams, or a benchmark's labels, could not be read.
const EXIT_SOME_FAILED: u8 = 2;
/// A rehearsal that refuses the new bundle (sysexits' EX_DATAERR), and one that was too short to say anything (EX_NOINPUT).
const EXIT_REFUSED: u8 = 65;
const EXIT_TOO_SHORT: u8 = 66;

const AFTER: &str = "\
DATA_DIR holds any of nab/ skab/ gecco/ telemetry/ ucr/. One bundle and one configuration run on all of it, through
preprocess, embed and detect as the gateway does, without the bus. Labels are read for --score alone. The rows that a benchmark
grants for learning (NAB: 15%, at most 750; SKAB: 400; elsewhere those before the first `scored` one, of which at most
750 are taken) commission a stream; nothing else differs between benchmarks.

A result is a CSV `timestamp,anomaly_score`, one row per row of the stream.

Examples:
  eddy eval data --out results --score
  eddy eval data --out results --only nab,skab --score --json
  eddy eval data --out results --config /etc/eddy.toml
  eddy eval data --out results --score --set detect.gate_tail=1e-4 --head contrast.weight=0.5

Exit codes:
  0 done   1 failed   2 some streams failed, the others have results   64 bad command line or config";

/// Runs the public benchmarks through the stages, and scores the results
#[derive(Debug, Parser)]
#[command(name = "eddy eval", bin_name = "eddy eval", version, after_help = AFTER)]
struct EvalLine {
    #[command(flatten)]
    args: EvalArgs,
}

/// Tells the windows of a recorded file, for `eddy query --like FILE`
#[derive(Debug, Parser)]
#[command(name = "eddy-eval windows", bin_name = "eddy-eval windows", version)]
struct WindowsLine {
    #[command(flatten)]
    args: WindowsArgs,
}

/// `eddy replay --diff` hands its whole command line over
#[derive(Debug, Parser)]
#[command(name = "eddy replay", bin_name = "eddy replay", version)]
struct ReplayLine {
    #[command(flatten)]
    args: ReplayArgs,
}

const REHEARSED: &str = "\
Nothing of the gateway is changed: READINGS is read directly, without a consumer. The new bundle is refused if it opens more than
a + 2 sqrt(a + 1) alerts, a being --alerts-factor times the old one's, if it is too slow, if it refuses rows, or if it cannot run.

Examples:
  eddy-eval rehearse --old /var/lib/eddy/bundle --new /tmp/new --dir /var/lib/eddy --json
  eddy-eval rehearse --old old --new new --minutes 1440 --alerts-factor 1.5

Exit codes:
  0 accepted   1 failed   64 bad command line or config   65 refused   66 too few readings to judge by";

/// Runs a new bundle beside the old one over the newest readings of a gateway
#[derive(Debug, Parser)]
#[command(name = "eddy-eval rehearse", bin_name = "eddy-eval rehearse", version, after_help = REHEARSED)]
struct RehearseLine {
    #[command(flatten)]
    args: RehearseArgs,
}

/// What a bundle makes of given windows, by embed's own code: how `make train` holds tract to the framework
#[derive(Debug, Parser)]
#[command(name = "eddy-eval heads", bin_name = "eddy-eval heads", version)]
struct HeadsLine {
    #[command(flatten)]
    args: HeadsArgs,
}

/// What other commands of `eddy` ask for; a folder of benchmarks that is called so is given as `./windows`.
const WINDOWS: &str = "windows";
const REPLAY: &str = "replay";
const REHEARSE: &str = "rehearse";
/// The same, of retraining.
const HEADS: &str = "heads";

/// The whole `main` of the binary.
pub fn main() -> ExitCode {
    let mut line: Vec<OsString> = std::env::args_os().collect();
    let asked = line.get(1).and_then(|first| first.to_str()).unwrap_or_default().to_owned();
    match asked.as_str() {
        WINDOWS => {
            line.remove(1);
            run(line, WINDOWS, |line: WindowsLine| tell_windows(&line.args).map(|()| ExitCode::SUCCESS))
        }
        REPLAY => {
            line.remove(1);
            run(line, REPLAY, |line: ReplayLine| compare(&line.args).map(|()| ExitCode::SUCCESS))
        }
        REHEARSE => {
            line.remove(1);
            run(line, REHEARSE, |line: RehearseLine| rehearse_bundle(&line.args))
        }
        HEADS => {
            line.remove(1);
            run(line, HEADS, |line: HeadsLine| tell_heads(&line.args).map(|()| ExitCode::SUCCESS))
        }
        _ => run(line, "eval", |line: EvalLine| run_benchmarks(&line.args)),
    }
}

fn compare(args: &ReplayArgs) -> Result<()> {
    let report = diff::run(args)?;
    output::line(&if args.json { serde_json::to_string(&report)? } else { report.to_string() });
    Ok(())
}

fn rehearse_bundle(args: &RehearseArgs) -> Result<ExitCode> {
    let report = rehearse::run(args)?;
    output::line(&if args.json { serde_json::to_string(&report)? } else { report.to_string() });
    Ok(match report.verdict {
        Verdict::Accepted => ExitCode::SUCCESS,
        Verdict::Refused => ExitCode::from(EXIT_REFUSED),
        Verdict::TooShort => ExitCode::from(EXIT_TOO_SHORT),
    })
}

/// Reads a command line, and does what it says.
fn run<L: Parser>(line: Vec<OsString>, name: &str, work: impl FnOnce(L) -> Result<ExitCode>) -> ExitCode {
    let line = match L::try_parse_from(line) {
        Ok(line) => line,
        Err(error) => {
            // Nothing is left to do if that cannot be printed.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    work(line).unwrap_or_else(|error| {
        eprintln!("eddy {name}: {error:#}");
        ExitCode::from(if error.is::<ConfigError>() { EXIT_USAGE } else { EXIT_FAILED })
    })
}

fn tell_windows(args: &WindowsArgs) -> Result<()> {
    let mut out = std::io::stdout().lock();
    for window in windows::run(args)? {
        if args.json {
            serde_json::to_writer(&mut out, &window)?;
            writeln!(out)?;
        } else {
            let (series, end) = (SeriesName::encode(&window.device, &window.channel), rfc3339(window.end));
            writeln!(out, "{series} {end} tail {:.1e} score {:.2}", window.tail, window.score)?;
        }
    }
    Ok(())
}

fn tell_heads(args: &HeadsArgs) -> Result<()> {
    println!("{}", serde_json::to_string(&heads::run(args)?)?);
    Ok(())
}

fn run_benchmarks(args: &EvalArgs) -> Result<ExitCode> {
    let report = eval::run(args)?;
    for failure in &report.failed {
        eprintln!("eddy eval: {}: {}", failure.what, failure.problem);
    }
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!("{report}");
    }
    Ok(match (report.inputs, report.failed.len()) {
        (_, 0) => ExitCode::SUCCESS,
        (0, _) => ExitCode::from(EXIT_FAILED),
        _ => ExitCode::from(EXIT_SOME_FAILED),
    })
}
