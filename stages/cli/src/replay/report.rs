//! What a person sees of a replay: a bar on the terminal and a line at the end, or one line of JSON.

use std::{sync::atomic::Ordering, time::Duration};

use eddy_runtime::client::ClientError;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};

use super::Summary;
use crate::{output, readers::open::BytesRead};

/// How a replay reports.
#[derive(Debug)]
pub struct Progress {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Silent,
    Json,
    Bar { bar: ProgressBar, bytes: std::sync::OnceLock<BytesRead> },
}

impl Progress {
    /// A bar on standard error (if that is a terminal) and a line on standard output.
    pub fn bar() -> Self {
        Self { kind: Kind::Bar { bar: ProgressBar::no_length(), bytes: std::sync::OnceLock::new() } }
    }

    /// One line of JSON on standard output.
    pub fn json() -> Self {
        Self { kind: Kind::Json }
    }

    /// Nothing.
    pub fn silent() -> Self {
        Self { kind: Kind::Silent }
    }

    pub(super) fn begin(&self, bytes: u64, bytes_read: BytesRead) {
        let Kind::Bar { bar, bytes: shared } = &self.kind else { return };
        bar.set_length(bytes);
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {percent:>3}% {msg}  {elapsed} (left {eta})") {
            bar.set_style(style);
        }
        // Begun once.
        let _ = shared.set(bytes_read);
    }

    pub(super) fn sent(&self, readings: u64, elapsed: Duration) {
        let Kind::Bar { bar, bytes } = &self.kind else { return };
        let rate = (readings as f64 / elapsed.as_secs_f64().max(1e-3)) as u64;
        bar.set_position(bytes.get().map_or(0, |bytes| bytes.load(Ordering::Relaxed)));
        bar.set_message(format!("{} readings, {}/s", HumanCount(readings), HumanCount(rate)));
    }

    pub(super) fn waiting(&self, problem: &ClientError) {
        let Kind::Bar { bar, .. } = &self.kind else { return };
        bar.set_message(format!("waiting: {problem}"));
    }

    pub(super) fn end(&self, summary: &Summary, first_skipped: Option<&str>) {
        match &self.kind {
            Kind::Silent => {}
            Kind::Json => output::line(&serde_json::to_string(summary).unwrap_or_default()),
            Kind::Bar { bar, .. } => {
                bar.finish_and_clear();
                output::line(&format!(
                    "replayed {} readings of {} device{} in {} messages and {:.2} s: {} readings/s",
                    HumanCount(summary.readings),
                    summary.devices,
                    if summary.devices == 1 { "" } else { "s" },
                    HumanCount(summary.messages),
                    summary.seconds,
                    HumanCount(summary.readings_per_s as u64),
                ));
            }
        }
        if let (Some(first), false) = (first_skipped, matches!(self.kind, Kind::Silent)) {
            eprintln!("eddy: {} cells or lines were skipped; the first: {first}", summary.skipped);
        }
    }
}
