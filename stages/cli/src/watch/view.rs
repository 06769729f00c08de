//! What an operator sees of a gateway at a moment: plain data, for a terminal and (as JSON) for a browser.

use std::collections::BTreeMap;

use eddy_schemas::{
    Timestamp,
    alert::{Phase, Severity, Share},
    health::Health,
    models::State,
    search::IndexStats,
    sync::UplinkStats,
};
use serde::Serialize;

use crate::{
    rollout::seen::Seen,
    status::{Aside, StreamUse},
};

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct View {
    /// The site.
    pub site: String,
    /// Its bus.
    pub url: String,
    /// When this was seen, by this machine's clock: nanoseconds since the Unix epoch.
    pub at: Timestamp,
    /// Why nothing newer can be told, if so.
    pub trouble: Option<String>,
    /// Stages, in the order of the path.
    pub stages: Vec<StageView>,
    /// Streams, in the order of the path.
    pub streams: Vec<StreamUse>,
    /// The partition of the gateway's folder; `None` of a gateway on another machine.
    pub disk: Option<Disk>,
    /// The way to the region; `None` where there is none.
    pub link: Option<UplinkStats>,
    /// What the index holds; `None` if it does not answer.
    pub index: Option<IndexStats>,
    /// Which bundles judge.
    pub bundles: Seen,
    /// How far the bundle is that was wanted last.
    pub wish: Option<State>,
    /// Conditions of devices that hold now.
    pub conditions: Vec<Health>,
    /// Per stage what it put aside, as far as SIDE held it when this view began, and since.
    pub aside: BTreeMap<String, Aside>,
    /// Devices under maintenance, and until when (nanoseconds; `None`: until it is ended).
    pub maintenance: BTreeMap<String, Option<Timestamp>>,
    /// What alerted.
    pub alerts: Alerts,
}

/// A stage.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StageView {
    /// Its name; with the shard where there are several.
    pub name: String,
    /// Whether it reads, or what keeps it.
    pub state: StageState,
    /// In words, where it is not well.
    pub problem: Option<String>,
    /// Rows that went through, per second.
    pub rows_per_s: Option<f64>,
    /// Messages that it was handed, per second.
    pub messages_per_s: u64,
    /// Messages that it was not handed yet.
    pub lag_messages: u64,
    /// From a pull to the ack of its output, in milliseconds: median and 99th percentile of the last ten seconds.
    pub batch_ms: Option<(f64, f64)>,
    /// From a reading's arrival at the gateway to the ack of the output that has it, likewise.
    pub age_ms: Option<(f64, f64)>,
    /// Resident memory.
    pub memory_bytes: Option<u64>,
}

/// How a stage is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StageState {
    /// It asks for messages.
    Reading,
    /// It does not.
    #[default]
    Away,
    /// It says of itself that it is not well.
    Unwell,
    /// It is not started again.
    GivenUp,
}

/// A partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Disk {
    /// Bytes that are free.
    pub free: u64,
    /// Bytes in all.
    pub total: u64,
    /// Seconds until it is full at the pace of the last minutes; `None` where it does not fill up.
    pub full_in_s: Option<f64>,
}

/// What alerted.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Alerts {
    /// By device and cause: what needs somebody first, then the newest.
    pub incidents: Vec<Incident>,
    /// Alerts that are open and not suppressed.
    pub open: usize,
    /// Of these, those that nobody has acknowledged.
    pub unseen: usize,
    /// Alerts that are not to be heard now, by reason.
    pub suppressed: BTreeMap<Suppression, usize>,
    /// Alerts that are held here, of all that DETECTIONS still has.
    pub held: usize,
}

/// Why an alert is not to be heard now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Suppression {
    /// Its device is under maintenance.
    Maintenance,
    /// Another bundle had just become the one that judges.
    Rollout,
}

impl Suppression {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Maintenance => "maintenance",
            Self::Rollout => "rollout",
        }
    }
}

/// Alerts of one device that have one cause.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Incident {
    /// The device, as its operator calls it.
    pub device: String,
    /// The fault's name, where somebody or the index knows it; else the channel that contributed most.
    pub cause: String,
    /// The worst of its open alerts; of none open the worst of all.
    pub severity: Severity,
    /// Why it is not to be heard now.
    pub suppressed: Option<Suppression>,
    /// Open alerts.
    pub open: usize,
    /// Open alerts that nobody has acknowledged.
    pub unseen: usize,
    /// Newest first; never empty.
    pub alerts: Vec<AlertView>,
}

/// An alert with all that was said of it since.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AlertView {
    /// Its id.
    pub alert: String,
    /// The device.
    pub device: String,
    /// How bad it was at its opening.
    pub severity: Severity,
    /// Opened, updated or closed.
    pub phase: Phase,
    /// Event time of its opening: RFC 3339.
    pub opened: String,
    /// Event time of the last that was told of it: RFC 3339.
    pub told: String,
    /// When its first event was stored, by the server's clock: nanoseconds since the Unix epoch.
    pub stored_at: Timestamp,
    /// Anomaly score of the window that was told last.
    pub score: f64,
    /// Its least tail probability.
    pub tail_min: f64,
    /// At or below this one it opened.
    pub threshold: f64,
    /// How much each channel contributed, largest first.
    pub channels: Vec<Share>,
    /// How much each head contributed, largest first.
    pub heads: Vec<Share>,
    /// The bundle that judged.
    pub bundle: String,
    /// The message of DETECTIONS that opened it.
    pub sequence: u64,
    /// What the index knew of its window.
    pub known: Option<Known>,
    /// What an operator said that it was.
    pub label: Option<Said>,
    /// Who looks after it.
    pub acknowledged: Option<Said>,
    /// Why it is not to be heard now.
    pub suppressed: Option<Suppression>,
}

/// What the index knew of an alert's window.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Known {
    /// In words.
    pub text: String,
    /// The fault that its neighbours are, where they are one.
    pub fault: Option<String>,
    /// The alert's own window.
    pub window: Stretch,
    /// The nearest others, nearest first.
    pub neighbours: Vec<Stretch>,
}

/// A window of a series.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stretch {
    /// The device.
    pub device: String,
    /// The channel.
    pub channel: String,
    /// Event time of its first sample: nanoseconds since the Unix epoch.
    pub start: Timestamp,
    /// Event time of its last one.
    pub end: Timestamp,
    /// How far its vector is from the alert's.
    pub distance: f32,
    /// The message of DETECTIONS that brought it.
    pub sequence: u64,
    /// The alert that it belongs to.
    pub alert: Option<String>,
    /// What somebody said of it.
    pub label: Option<String>,
}

/// An operator's word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Said {
    /// The word: a label; of an acknowledgement nothing.
    pub what: String,
    /// Who said it, as far as it is known.
    pub by: String,
    /// When, by their clock: nanoseconds since the Unix epoch.
    pub time: Timestamp,
}
