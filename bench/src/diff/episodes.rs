//! A side's alerts as episodes: each opened once, perhaps updated, perhaps closed.

use std::collections::HashMap;

use anyhow::{Context as _, Result, ensure};
use eddy_schemas::{
    Timestamp,
    alert::{Alert, CloudEvent, Phase, Severity, Share},
    time_of,
};
use serde::Serialize;

/// Most events of alerts that are kept of a side; they are all that is (INV-5).
pub const EVENTS_MAX: usize = 100_000;
/// A channel with less than this share is not what an alert is about.
pub const SHARE_MIN: f64 = 0.05;

/// An alert from its opening to its end, as it was told when it opened.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Episode {
    /// Its id: BLAKE3 of site, device, opening time and bundle.
    pub alert: String,
    /// Event time of the opening: RFC 3339, UTC.
    pub opened: String,
    /// Event time of the end; `None` if it was still open when the recording ended.
    pub closed: Option<String>,
    /// Fixed at the opening.
    pub severity: Severity,
    /// What it is about, largest share first.
    pub channels: Vec<Share>,
    /// Anomaly score of the window that opened it.
    pub score: f64,
    /// Tail probability of that window.
    pub tail: f64,
    /// At or below this tail probability it opened.
    pub threshold: f64,
    /// The least tail probability until its end.
    pub tail_min: f64,
    #[serde(skip)]
    pub(super) device: String,
    /// The opening and the end, in nanoseconds; the end of what stayed open is the latest time there is.
    #[serde(skip)]
    pub(super) span: (Timestamp, Timestamp),
}

/// Collects a side's alerts.
#[derive(Debug, Default)]
pub struct Episodes {
    all: Vec<Episode>,
    /// By id where the newest of a device lies: one episode of a device is open at a time.
    by_device: HashMap<String, usize>,
    payloads: Vec<Vec<u8>>,
}

impl Episodes {
    /// Takes an alert as it is published.
    ///
    /// # Errors
    /// If it is none, or one too many.
    pub fn take(&mut self, payload: Vec<u8>) -> Result<()> {
        ensure!(
            self.payloads.len() < EVENTS_MAX,
            "more than {EVENTS_MAX} events of alerts: compare a part of the recording, or a bundle that alerts less"
        );
        let event: CloudEvent = serde_json::from_slice(&payload)?;
        self.payloads.push(payload);
        let time = time_of(&event.time).with_context(|| format!("no time: {}", event.time))?;
        let alert = event.data;
        if alert.phase == Phase::Opened {
            self.by_device.insert(alert.device.clone(), self.all.len());
            self.all.push(opened(alert, time));
            return Ok(());
        }
        let Some(episode) = self.by_device.get(&alert.device).map(|at| &mut self.all[*at]) else { return Ok(()) };
        if episode.alert == alert.alert {
            episode.tail_min = episode.tail_min.min(alert.tail_min);
            if alert.phase == Phase::Closed {
                (episode.closed, episode.span.1) = (Some(event.time), time);
            }
        }
        Ok(())
    }

    /// All of them, by device and opening, and the hash of their events as `eddy demo` tells it.
    pub fn finish(mut self) -> (Vec<Episode>, String) {
        self.all.sort_by(|a, b| a.device.cmp(&b.device).then(a.span.cmp(&b.span)));
        (self.all, eddy_cli::demo::oracle::alerts_hash(self.payloads))
    }
}

fn opened(alert: Alert, time: Timestamp) -> Episode {
    Episode {
        span: (time_of(&alert.opened).unwrap_or(time), Timestamp::MAX),
        alert: alert.alert,
        opened: alert.opened,
        closed: None,
        severity: alert.severity,
        channels: alert.channels.into_iter().filter(|share| share.share >= SHARE_MIN).collect(),
        score: alert.score,
        tail: alert.tail,
        threshold: alert.threshold,
        tail_min: alert.tail_min,
        device: alert.device,
    }
}
