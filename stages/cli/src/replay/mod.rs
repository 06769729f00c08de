//! `eddy replay`: recorded files into INGEST, in order, at any speed, with nothing lost.
//!
//! One thread reads, merges and encodes ([`chunks`]); the other side publishes ([`send`]). A chunk holds at most one message of
//! each device, and the next chunk goes out only when every message of this one is acked: whatever has to be sent again,
//! a device's readings stay in their order. A message that was stored although its ack was lost is stored twice; its
//! rows are counted once, as any reading that comes twice.

pub mod chunks;
pub mod exported;
mod report;
pub mod send;

use std::{path::PathBuf, time::Duration};

use clap::Args;
use eddy_schemas::Timestamp;
use serde::Serialize;

pub use report::Progress;

use crate::{
    gateway::{Gateway, GatewayArgs},
    handed,
    readers::{
        Merged, ReadError, ReadOptions, Skipped,
        exported::Export,
        open::{self, BytesRead},
        time::{RowClock, TimeFormat},
    },
};
use chunks::{Chunker, Limits};
use exported::{Exports, Part};
use send::{SendError, Sender};

/// Replay's part of the command line.
#[derive(Args, Clone, Debug)]
pub struct ReplayArgs {
    /// Files and folders to replay
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// `max`, or a multiple of the recording's own speed: `1x`, `10x`, `0.5x`
    #[arg(long, default_value = "max", value_parser = parse_speed)]
    pub speed: Speed,
    /// Readings in a message at most; one message of each device is under way at a time
    #[arg(long, default_value_t = 5000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=50_000))]
    pub rows_per_message: u32,
    /// Device of the files that name none [default: the file's name]
    #[arg(long, value_name = "NAME")]
    pub device: Option<String>,
    /// Time of row 0 where a file counts rows instead of time
    #[arg(long, default_value = "2020-01-01T00:00:00Z", value_name = "TIME", value_parser = parse_time)]
    pub start: Timestamp,
    /// Seconds from row to row there
    #[arg(long, default_value_t = 60.0, value_name = "SECONDS", value_parser = parse_period)]
    pub period: f64,
    /// Give up when nothing was accepted for so many seconds (a full stream, a server that is away)
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    pub patience: u64,
    /// Print the summary as one line of JSON, and no progress bar
    #[arg(long)]
    pub json: bool,
    /// Send nothing: tell which alerts another bundle or configuration would give. Each is a bundle's folder, a config file
    /// `.toml`, or `default`
    #[arg(long, num_args = 2, value_names = ["OLD", "NEW"], conflicts_with = "speed")]
    pub diff: Vec<PathBuf>,
    /// With --diff: the config file that bundles run with
    #[arg(long, value_name = "FILE", requires = "diff")]
    pub config: Option<PathBuf>,
    /// With --diff: alerts of a device that do not overlap are one that moved if they lie no further apart than so many seconds
    #[arg(long, default_value_t = 3600.0, value_name = "SECONDS", value_parser = parse_period, requires = "diff")]
    pub near: f64,
    /// With --diff: leave out of the text what is unchanged
    #[arg(long, requires = "diff")]
    pub only_changes: bool,
    /// Which gateway
    #[command(flatten)]
    pub gateway: GatewayArgs,
}

impl ReplayArgs {
    /// How the files are read.
    pub fn read_options(&self) -> ReadOptions {
        // Bounded by --period's own range.
        let rows = RowClock { start: self.start, period: (self.period * 1e9).round() as i64 };
        ReadOptions { device: self.device.clone(), rows }
    }
}

/// How fast a recording is replayed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// As fast as the gateway takes it.
    Max,
    /// So many seconds of the recording in a second.
    Times(f64),
}

impl Speed {
    /// What of the recording goes out together, in nanoseconds of event time: what falls due within 5 ms.
    fn step(self) -> Option<i64> {
        match self {
            Self::Max => None,
            Self::Times(times) => Some((times * send::PACE_STEP.as_nanos() as f64) as i64),
        }
    }
}

fn parse_speed(text: &str) -> Result<Speed, String> {
    if text == "max" {
        return Ok(Speed::Max);
    }
    match text.trim_end_matches(['x', 'X']).parse::<f64>() {
        Ok(times) if times.is_finite() && times > 0.0 => Ok(Speed::Times(times)),
        _ => Err("expected `max`, or a multiple like `10x`".into()),
    }
}

fn parse_time(text: &str) -> Result<Timestamp, String> {
    let no_rows = RowClock { start: 0, period: 0 };
    TimeFormat::Text.parse(text, no_rows).ok_or_else(|| "expected a time like 2020-01-01T00:00:00Z".into())
}

fn parse_period(text: &str) -> Result<f64, String> {
    let in_range = |seconds: &f64| (1e-6..=1e9).contains(seconds);
    text.parse().ok().filter(in_range).ok_or_else(|| "expected seconds, 0.000001 to 1000000000".into())
}

/// What a replay did.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Readings that are stored in INGEST.
    pub readings: u64,
    /// Messages that carried them.
    pub messages: u64,
    /// Controls of an export, sent in their place.
    #[serde(skip_serializing_if = "is_zero")]
    pub controls: u64,
    /// Devices.
    pub devices: usize,
    /// Files.
    pub files: usize,
    /// Cells and lines that were no numbers or times.
    pub skipped: u64,
    /// Messages that were sent again: the stream was full, or an ack was lost.
    pub retried: u64,
    /// From the first to the last ack.
    pub seconds: f64,
    /// Readings in a second.
    pub readings_per_s: f64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Why a replay ended early.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The files.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The gateway.
    #[error(transparent)]
    Send(#[from] SendError),
}

/// Chunks that are encoded and wait to be sent.
const CHUNKS_WAITING_MAX: usize = 2;

/// Replays `paths` into the gateway. `progress` is told of every chunk.
///
/// # Errors
/// A file that cannot be read; a gateway that accepts nothing for longer than the patience.
pub async fn replay(args: &ReplayArgs, gateway: &Gateway, progress: &Progress) -> Result<Summary, ReplayError> {
    let export = Export::of(&args.paths)?;
    let (files, bytes) = match &export {
        Some(export) => (Vec::new(), export.files.1),
        None => open::files(&args.paths)?,
    };
    let files_count = export.as_ref().map_or(files.len(), |export| export.files.0);
    let bytes_read = BytesRead::default();
    progress.begin(bytes, bytes_read.clone());
    let options = args.read_options();
    let limits = Limits::of(args.rows_per_message);
    let (chunks, mut waiting) = tokio::sync::mpsc::channel::<Part>(CHUNKS_WAITING_MAX);
    let site = gateway.site_token();
    let step = args.speed.step();
    let reader = tokio::task::spawn_blocking(move || -> Result<Skipped, ReadError> {
        // Where the sending side gave up, it says why.
        if let Some(export) = export {
            let mut exports = Exports::new(export, limits, &site, step);
            while let Some(part) = exports.next_part()? {
                if chunks.blocking_send(part).is_err() {
                    break;
                }
            }
            return Ok(exports.skipped());
        }
        let mut chunker = Chunker::new(Merged::open(&files, &options, &bytes_read)?, limits, &site, step);
        while let Some(chunk) = chunker.next_chunk()? {
            if chunks.blocking_send(Part::Readings(chunk)).is_err() {
                break;
            }
        }
        Ok(chunker.skipped())
    });

    let patience = Duration::from_secs(args.patience);
    let mut sender = Sender::new(gateway.client.clone(), patience).await?;
    let mut pace = send::Pace::new(args.speed);
    let started = std::time::Instant::now();
    let mut summary = Summary { files: files_count, ..Summary::default() };
    let mut devices = std::collections::BTreeSet::new();
    while let Some(part) = waiting.recv().await {
        let chunk = match part {
            Part::Readings(chunk) => chunk,
            Part::Control(control) => {
                exported::control(gateway, &control, patience).await?;
                summary.controls += 1;
                continue;
            }
        };
        pace.wait(chunk.first_time).await;
        let (messages, readings) = (chunk.messages.len() as u64, chunk.readings);
        devices.extend(chunk.messages.iter().map(|message| message.subject.clone()));
        sender.send(chunk, progress).await?;
        summary.messages += messages;
        summary.readings += readings;
        progress.sent(summary.readings, started.elapsed());
    }
    let skipped = match reader.await {
        Ok(read) => read?,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    };
    summary.seconds = started.elapsed().as_secs_f64();
    summary.readings_per_s = (summary.readings as f64 / summary.seconds.max(1e-9)).round();
    summary.devices = devices.len();
    summary.retried = sender.retried();
    summary.skipped = skipped.count;
    progress.end(&summary, skipped.first.as_deref());
    Ok(summary)
}

/// The command.
///
/// # Errors
/// See [`replay`]; with --diff, that `eddy-eval` cannot be started.
pub async fn run(args: &ReplayArgs) -> anyhow::Result<()> {
    if !args.diff.is_empty() {
        // It reads the same command line, and holds the stages and the inference engine.
        return Err(handed::hand_over(handed::EVAL, std::env::args_os().skip(1)));
    }
    let gateway = args.gateway.connect().await?;
    let progress = if args.json { Progress::json() } else { Progress::bar() };
    let summary = replay(args, &gateway, &progress).await?;
    if summary.readings == 0 {
        anyhow::bail!(
            "nothing was replayed: none of {} files holds a reading with a time and a number (bursts are not replayed: publish their \
             lines on ingest.<site>.<device>)",
            summary.files
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds() {
        assert_eq!(parse_speed("max"), Ok(Speed::Max));
        assert_eq!(parse_speed("10x"), Ok(Speed::Times(10.0)));
        assert_eq!(parse_speed("0.5"), Ok(Speed::Times(0.5)));
        for wrong in ["", "x", "0x", "-1x", "fast", "NaN"] {
            assert!(parse_speed(wrong).is_err(), "{wrong}");
        }
    }
}
