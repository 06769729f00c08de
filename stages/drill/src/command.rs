//! The command line of `eddy drill`.

use std::{
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, ValueEnum as _};
use eddy_cli::supervise::UpError;

use crate::{
    drill::Drill,
    drills,
    recording::{self, Recording},
    report::{Progress, Report},
    sandbox::{
        config::{Config, leads_outside},
        refuse_used,
    },
    soak::{self, Soak},
    trial::{self, CannotRun, Kit},
};

/// Bad config or a bad command line (sysexits' EX_USAGE).
const EXIT_USAGE: u8 = 64;
/// It cannot be done here (sysexits' EX_UNAVAILABLE).
const EXIT_CANNOT: u8 = 69;
const EXIT_FAILED: u8 = 1;

const AFTER: &str = "\
Drills:
  eddy drill crash          stage processes are killed at random moments, all of them
  eddy drill server-kill    nats-server is killed at random moments
  eddy drill throttle       processes stand still (SIGSTOP) in turn, the server too
  eddy drill clock-jump     the processes' wall clock jumps by hours, forward and back
  eddy drill poison         rubbish, hostile names and huge messages come between the readings
  eddy drill bad-model      unsigned, altered and misshapen bundles are offered
  eddy drill flood          far more readings than its streams hold
  eddy drill link-cut       with a region: the link to it is cut, and frozen
  eddy drill slow-link      with a region: the link carries a few KB a second
  eddy drill disk-full      the disk of streams and state fills up, and has room again
  eddy drill power-cut      everything dies at once, and what was not synced is lost
  eddy drill all --small    each of them, on a part of the recording
  eddy drill soak --minutes 30 --out report    one after the other at random, on one gateway that runs on, with a region

More examples:
  eddy drill crash --config /etc/eddy.toml --recording export/class=readings
  eddy drill power-cut --seed 7 --keep /tmp/drill     the same moments again; streams, state and logs stay
  eddy drill all --json | jq 'select(.passed | not)'

A drill runs in a sandbox: the installed binaries, server and config, in a folder and on ports of its own. What in the config leads
outside (region, sinks, export, brokers, listeners) is left out. The recording goes through once undisturbed and once disturbed; a drill
passes if all alerts are the same byte for byte and all score rows bit for bit, no reading is lost or doubled, and each is accounted for.

Exit codes:
  0 all passed   1 one failed, and says how   64 bad command line or config   69 one cannot run here, and says why";

/// Break a sandbox of this gateway on purpose, and judge what comes of it.
#[derive(Clone, Debug, Parser)]
#[command(name = "eddy drill", version, after_help = AFTER)]
struct Arguments {
    /// A drill, `all`, or `soak`
    #[arg(value_name = "DRILL", value_parser = parse_what)]
    what: What,
    /// The installed gateway's config file [default: the defaults]
    #[arg(long, env = "EDDY_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// What is replayed: files and folders as for `eddy replay` [default: fixtures/fleet here or above, else made anew, the same]
    #[arg(long, env = "EDDY_RECORDING", value_name = "PATH")]
    recording: Option<PathBuf>,
    /// Ten days of three devices of the recording, and a sixth of the time
    #[arg(long)]
    small: bool,
    /// How long the recording is replayed while it is disturbed [default: 45, or 8 with --small]
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: Option<u64>,
    /// A score is on time so long after its reading was first offered
    #[arg(long, default_value_t = 2.0, value_name = "S", value_parser = parse_number)]
    on_time_s: f64,
    /// What is random follows from it [default: another one each time, which the report tells]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Keep the sandboxes' folders below this one, which must be new or empty [default: a temporary folder]
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Print one JSON object for each drill
    #[arg(long)]
    json: bool,
    /// With soak: how long
    #[arg(long, default_value_t = 30.0, value_name = "M", value_parser = parse_number)]
    minutes: f64,
    /// With soak: readings a second
    #[arg(long, default_value_t = 1000.0, value_name = "N", value_parser = parse_number)]
    rate: f64,
    /// With soak: write soak.json and soak.txt there
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    One(Drill),
    All,
    Soak,
}

fn parse_what(text: &str) -> Result<What, String> {
    match text {
        "all" => return Ok(What::All),
        "soak" => return Ok(What::Soak),
        _ => {}
    }
    let names = || Drill::ALL.map(Drill::name).join(", ");
    Drill::from_str(text, false).map(What::One).map_err(|_| format!("expected all, soak, or one of {}", names()))
}

fn parse_number(text: &str) -> Result<f64, String> {
    let in_range = |seconds: &f64| (1e-3..=86_400.0).contains(seconds);
    text.parse().ok().filter(in_range).ok_or_else(|| "expected a number, 0.001 to 86400".into())
}

/// The whole `main` of the binary.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nothing is left to do if that cannot be printed.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let outside: Vec<_> = std::env::vars_os().map(|(name, _)| name).collect();
    let outside: Vec<_> = outside.iter().filter(|name| leads_outside(&name.to_string_lossy())).collect();
    if !outside.is_empty() {
        return tell(&without(&outside));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match runtime.context("no async runtime").and_then(|runtime| runtime.block_on(run(&arguments))) {
        Ok(code) => ExitCode::from(code),
        Err(error) => tell(&error),
    }
}

/// Becomes itself again, without variables that lead outside; returns only with why it cannot.
fn without(variables: &[&std::ffi::OsString]) -> anyhow::Error {
    let again = || -> Result<anyhow::Error> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(std::env::args_os().skip(1));
        for name in variables {
            command.env_remove(name);
        }
        Ok(command.exec().into())
    };
    again().unwrap_or_else(|error| error)
}

fn tell(error: &anyhow::Error) -> ExitCode {
    eprintln!("eddy drill: {error:#}");
    ExitCode::from(match error.downcast_ref::<UpError>() {
        Some(UpError::Config(_)) => EXIT_USAGE,
        Some(UpError::NoServer(_) | UpError::NoWorker(..)) => EXIT_CANNOT,
        _ if error.is::<CannotRun>() => EXIT_CANNOT,
        _ => EXIT_FAILED,
    })
}

async fn run(arguments: &Arguments) -> Result<u8> {
    let scratch = tempfile::Builder::new().prefix("eddy-drill-").tempdir()?;
    let kit = kit(arguments, scratch.path())?;
    for left_out in &kit.config.left_out {
        eprintln!("eddy drill: left out of the sandbox's config: {left_out}");
    }
    let done = tokio::select! {
        done = drills(arguments, &kit) => done,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    kit.progress.end();
    done
}

async fn drills(arguments: &Arguments, kit: &Kit) -> Result<u8> {
    let drills = match arguments.what {
        What::One(drill) => vec![drill],
        What::All => Drill::ALL.to_vec(),
        What::Soak => return soak(arguments, kit).await,
    };
    let undisturbed = trial::baseline(kit).await?;
    let mut reports = Vec::new();
    for drill in drills {
        let report = drills::run(kit, drill, &undisturbed).await;
        kit.progress.print(&if arguments.json { serde_json::to_string(&report)? } else { format!("{report}\n") });
        reports.push(report);
    }
    Ok(exit_code(&reports))
}

async fn soak(arguments: &Arguments, kit: &Kit) -> Result<u8> {
    let soak = Soak {
        time: Duration::from_secs_f64(arguments.minutes * 60.0),
        rate: arguments.rate,
        out: arguments.out.clone(),
    };
    let report = soak::run(kit, &soak).await?;
    kit.progress.print(&if arguments.json { serde_json::to_string(&report)? } else { report.to_string() });
    Ok(if report.passed { 0 } else { EXIT_FAILED })
}

fn kit(arguments: &Arguments, scratch: &Path) -> Result<Kit> {
    let dir = match &arguments.keep {
        Some(dir) => {
            refuse_used(dir)?;
            std::path::absolute(dir)?
        }
        None => scratch.to_owned(),
    };
    let config = Config::of(arguments.config.as_deref())?;
    let recording = Recording::read(&recording::find(arguments.recording.as_deref(), scratch)?)?;
    let recording = if arguments.small { recording.small() } else { recording };
    ensure!(!recording.readings.is_empty(), "the recording holds no reading");
    Ok(Kit {
        config,
        recording: Arc::new(recording),
        over: Duration::from_secs(arguments.seconds.unwrap_or(if arguments.small { 8 } else { 45 })),
        on_time: Duration::from_secs_f64(arguments.on_time_s),
        seed: arguments.seed.unwrap_or_else(|| eddy_cli::now().unsigned_abs() % 1_000_000),
        dir,
        keep: arguments.keep.is_some(),
        progress: Progress::new(),
    })
}

/// A failure weighs more than what could not be tried.
fn exit_code(reports: &[Report]) -> u8 {
    let failed = |report: &&Report| !report.passed && report.cannot_run.is_none();
    match (reports.iter().find(failed), reports.iter().find(|report| report.cannot_run.is_some())) {
        (Some(_), _) => EXIT_FAILED,
        (None, Some(_)) => EXIT_CANNOT,
        (None, None) => 0,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound_and_every_drill_has_an_example() {
        let mut command = Arguments::command();
        command.clone().debug_assert();
        let help = command.render_long_help().to_string();
        for drill in Drill::ALL {
            assert!(help.contains(&format!("  eddy drill {} ", drill.name())), "{}", drill.name());
            assert_eq!(parse_what(&drill.name()), Ok(What::One(drill)));
        }
        assert_eq!((parse_what("all"), parse_what("soak")), (Ok(What::All), Ok(What::Soak)));
        assert!(parse_what("fire").unwrap_err().contains("power-cut"));
    }
}
