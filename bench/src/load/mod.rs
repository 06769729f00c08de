//! Load: what a whole gateway does under it, measured on real processes and the real server.
//!
//! [`latency`] (sensor to alert beside a bare floor), [`throughput`] (readings made durable, windows scored, and the same
//! design in Python), [`footprint`] (memory, and the cost of a window over a day of event time), [`traces`] (what they cost), [`recover`] (starts,
//! restarts, a backlog). Each starts `eddy up` in a
//! folder of its own ([`gateway`]), feeds a simulated fleet ([`sensors`], [`feed`]), and reads what happened from the
//! streams themselves ([`journey`]). Progress goes to standard error; standard output is for the figures alone.

pub(crate) mod binaries;
mod collected;
mod feed;
pub(crate) mod figures;
mod floor;
mod footprint;
mod gateway;
mod images;
mod journey;
mod latency;
pub(crate) mod peer;
mod plan;
pub(crate) mod process;
mod recover;
mod sensors;
mod show;
mod sink;
mod start;
#[cfg(test)]
mod tests;
mod throughput;
mod traces;
mod usage;

use std::path::PathBuf;

use anyhow::{Result, bail};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

pub(crate) use floor::HopArgs;
pub(crate) use footprint::FootprintArgs;
pub(crate) use latency::LatencyArgs;
pub(crate) use recover::RecoverArgs;
pub(crate) use throughput::ThroughputArgs;
pub(crate) use traces::TracesArgs;

use binaries::Binaries;

/// What every measurement takes.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Common {
    /// Print one JSON object in place of a table
    #[arg(long)]
    json: bool,
    /// First rows of a series that set its scaling, fewer than a bundle would ask for, so that the warm-up is short
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(2..=2000))]
    commissioning_rows: u64,
    /// The folder in which the gateway's temporary one is made [default: the system's]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The folder of the gateway's programs, of any build [default: the bench's own]
    #[arg(long, value_name = "DIR")]
    binaries: Option<PathBuf>,
}

/// Rows past commissioning after which a series can alert: its calibration has enough distances.
const CALIBRATION_ROWS: u64 = 140;

impl Common {
    fn warm_rows(&self) -> u64 {
        self.commissioning_rows + CALIBRATION_ROWS
    }

    fn folder(&self) -> PathBuf {
        self.dir.clone().unwrap_or_else(std::env::temp_dir)
    }

    fn binaries(&self) -> Result<Binaries> {
        self.binaries.as_deref().map_or_else(Binaries::find, Binaries::of)
    }
}

/// One of the measurements.
#[derive(Debug)]
pub(crate) enum Load {
    /// Sensor to alert.
    Latency(LatencyArgs),
    /// Readings and windows a second.
    Throughput(ThroughputArgs),
    /// Memory.
    Footprint(FootprintArgs),
    /// What traces cost.
    Traces(TracesArgs),
    /// Starts, restarts and a backlog.
    Recover(RecoverArgs),
    /// A process of the floor.
    Hop(HopArgs),
}

/// Measures, and prints the figures. Ctrl-C or SIGTERM ends it and whatever it started.
///
/// # Errors
/// Whatever keeps it from measuring.
pub(crate) fn run(load: Load) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        if let Load::Hop(args) = &load {
            return floor::hop(args).await;
        }
        let figures = unless_stopped(measure(&load)).await?;
        if load.common().is_some_and(|common| common.json) {
            println!("{figures}");
        } else {
            print!("{}", show::text(&figures));
        }
        Ok(())
    })
}

/// Does something until it is done, or Ctrl-C or SIGTERM comes.
///
/// # Errors
/// Its own, and that it was stopped.
pub(crate) async fn unless_stopped<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    // What it started ends when it is dropped.
    tokio::select! {
        done = work => done,
        _ = terminate.recv() => bail!("stopped by SIGTERM"),
        _ = interrupt.recv() => bail!("interrupted"),
    }
}

impl Load {
    /// None of a process of the floor, which measures nothing itself.
    fn common(&self) -> Option<&Common> {
        match self {
            Self::Latency(args) => Some(&args.common),
            Self::Throughput(args) => Some(&args.common),
            Self::Footprint(args) => Some(&args.common),
            Self::Traces(args) => Some(&args.common),
            Self::Recover(args) => Some(&args.common),
            Self::Hop(_) => None,
        }
    }
}

async fn measure(load: &Load) -> Result<Value> {
    let Some(common) = load.common() else { return Ok(Value::Null) };
    let binaries = common.binaries()?;
    match load {
        Load::Latency(args) => latency::run(args, &binaries).await,
        Load::Throughput(args) => throughput::run(args, &binaries).await,
        Load::Footprint(args) => footprint::run(args, &binaries).await,
        Load::Traces(args) => traces::run(args, &binaries).await,
        Load::Recover(args) => recover::run(args, &binaries).await,
        Load::Hop(_) => Ok(Value::Null),
    }
}

/// The figures of the last run, and of all runs where there are several.
fn merged(mut runs: Vec<Value>) -> Value {
    let all = runs.clone();
    let mut last = runs.pop().unwrap_or_else(|| json!({}));
    if all.len() > 1
        && let Some(object) = last.as_object_mut()
    {
        object.insert("scaling".into(), all.into());
    }
    last
}

/// Progress.
fn say(text: &str) {
    eprintln!("eddy-bench: {text}");
}
