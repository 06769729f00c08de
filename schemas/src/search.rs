//! What `eddy.search.<site>` is asked and answers: JSON, over a NATS request.

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// A question about windows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchRequest {
    /// Near to what.
    pub like: Like,
    /// How many neighbours, 1 to 1,000.
    #[serde(default = "ten")]
    pub k: usize,
    /// Not farther than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub radius: Option<f32>,
    /// The share of the true nearest to be found: above 0, 1 measures every window; without it the config's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recall: Option<f32>,
    /// Only windows of this device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Only windows of other devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_than_device: Option<String>,
    /// Only windows of this channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// Only windows that end at or after it: nanoseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Only windows that end before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Only windows that carry this label; `*`: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Whether the vector that is asked about is told, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub with_vector: bool,
    /// Whose vectors are compared with [`Like::Vector`]: the digest of a bundle; without it the newest one's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<String>,
}

fn ten() -> usize {
    10
}

/// What a search is about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Like {
    /// The window that opened an alert.
    Alert(String),
    /// A window by its number in this index.
    Window(u64),
    /// The stored window of a series that ends nearest to a time.
    At {
        /// The device.
        device: String,
        /// The channel.
        channel: String,
        /// Nanoseconds since the Unix epoch.
        time: Timestamp,
    },
    /// A vector: see [`SearchRequest::bundle`].
    Vector(Vec<f32>),
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SearchAnswer {
    /// Digest of the bundle whose vectors were compared.
    pub bundle: String,
    /// The window that was asked about, if it is one of the index's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<FoundWindow>,
    /// Its vector, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vector: Option<Vec<f32>>,
    /// Nearest first.
    pub neighbours: Vec<FoundWindow>,
    /// How many windows the index holds.
    pub windows: u64,
    /// How long the search took.
    pub took_us: u64,
}

/// A window in an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FoundWindow {
    /// Its number in this index.
    pub window: u64,
    /// The device, as its operator calls it.
    pub device: String,
    /// The channel.
    pub channel: String,
    /// Event time of its first sample: nanoseconds since the Unix epoch.
    pub start: Timestamp,
    /// Event time of its last sample.
    pub end: Timestamp,
    /// Euclidean distance between the vectors.
    pub distance: f32,
    /// Its anomaly score.
    pub score: f32,
    /// How many of its samples are real.
    pub filled: u16,
    /// The message of DETECTIONS that brought it.
    pub sequence: u64,
    /// The alert that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert: Option<String>,
    /// What somebody said of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<FoundLabel>,
}

/// A label in an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundLabel {
    /// `normal`, or the name of a fault.
    pub name: String,
    /// Who said it.
    pub origin: String,
    /// When, by their clock: nanoseconds since the Unix epoch.
    pub time: Timestamp,
}

/// What an index holds: the answer of `eddy.search.<site>.stats`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexStats {
    /// Windows that can be found.
    pub windows: u64,
    /// Of these, those in memory: their segments are not brought to disk yet.
    pub tail: u64,
    /// And those that are scanned from disk, since too few searches came for a graph of them.
    #[serde(default)]
    pub flat: u64,
    /// Deleted windows that still take room.
    pub deleted: u64,
    /// Segments on disk.
    pub segments: u64,
    /// Sealed segments that wait to be brought to disk.
    pub waiting: u64,
    /// Series that were ever seen.
    pub series: u64,
    /// Windows that carry a label.
    pub labels: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// Messages that were removed from DETECTIONS before they were read.
    pub missed: u64,
    /// The position that the store stands at.
    pub position: String,
}

/// What is asked of `eddy.search.<site>.check`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckRequest {
    /// Windows of messages of DETECTIONS from this one on are counted.
    pub from_sequence: u64,
    /// So many windows at most are asked for, spread evenly.
    pub sample: usize,
}

/// What it answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckAnswer {
    /// What is wrong; empty if nothing.
    pub problems: Vec<String>,
    /// Windows of messages from the asked one on, deleted ones included.
    pub windows_from: u64,
    /// The position that the store stands at.
    pub position: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_request_is_enough_and_a_wrong_key_is_refused() {
        let request: SearchRequest = serde_json::from_str(r#"{"like":{"alert":"00ff"}}"#).unwrap();
        assert_eq!((request.like, request.k, request.recall), (Like::Alert("00ff".into()), 10, None));
        assert!(serde_json::from_str::<SearchRequest>(r#"{"like":{"window":1},"devcie":"x"}"#).is_err());
        let at = r#"{"like":{"at":{"device":"pump 1","channel":"t","time":5}},"k":3}"#;
        let request: SearchRequest = serde_json::from_str(at).unwrap();
        assert_eq!(serde_json::to_string(&request).unwrap(), at);
    }
}
