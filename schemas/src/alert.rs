//! The alert: a CloudEvents 1.0 JSON document on `alerts.<site>.<severity>.<device>`.
//!
//! An alert is an *episode* of one device: it opens, may be updated as it gets worse, and closes. Nothing in it depends
//! on the wall clock, on batches or on the order of other devices' readings, so a replay writes the same bytes (INV-3).

use serde::{Deserialize, Serialize};

/// The JSON Schema (2020-12) of [`Alert`].
pub const JSON_SCHEMA: &str = include_str!("../alert.schema.json");

/// `dataschema` of the events that this release writes.
pub const DATA_SCHEMA: &str = "urn:eddy:alert:1";

/// How far below the threshold the tail probability was when the episode opened; fixed from then on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Below the threshold.
    Minor,
    /// At most a tenth of the threshold.
    Major,
    /// At most a thousandth of the threshold.
    Critical,
}

impl Severity {
    /// As a subject token.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Minor => "minor",
            Self::Major => "major",
            Self::Critical => "critical",
        }
    }
}

/// Where in its life the episode is; the CloudEvents type is `eddy.alert.<phase>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The threshold was crossed.
    Opened,
    /// It got ten times less likely than when last told.
    Updated,
    /// It has been ordinary again for long enough.
    Closed,
}

impl Phase {
    /// As it stands in the CloudEvents type.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Updated => "updated",
            Self::Closed => "closed",
        }
    }
}

/// A CloudEvents envelope with an alert in it. Fields are written in this order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CloudEvent {
    /// `1.0`.
    pub specversion: String,
    /// `<episode>-<n>`: the n-th event of the episode.
    pub id: String,
    /// `eddy/<site>`.
    pub source: String,
    /// `eddy.alert.opened`, `.updated` or `.closed`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The device's token, percent-encoded.
    pub subject: String,
    /// Event time of the window's end: RFC 3339, UTC.
    pub time: String,
    /// `application/json`.
    pub datacontenttype: String,
    /// [`DATA_SCHEMA`].
    pub dataschema: String,
    /// The alert.
    pub data: Alert,
}

/// What is told about an episode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// The episode: the same in all its events. BLAKE3 of site, device, opening time and bundle, 16 hex digits.
    pub alert: String,
    /// Opened, updated or closed.
    pub phase: Phase,
    /// Fixed at opening.
    pub severity: Severity,
    /// The site.
    pub site: String,
    /// The device, as its operator calls it.
    pub device: String,
    /// Event time of the opening: RFC 3339, UTC.
    pub opened: String,
    /// Anomaly score of the window that caused this event.
    pub score: f64,
    /// Its tail probability among the device's own past.
    pub tail: f64,
    /// At or below this tail probability an alert opens.
    pub threshold: f64,
    /// The least tail probability of the episode so far.
    pub tail_min: f64,
    /// How much each channel contributed, largest first; sums to 1.
    pub channels: Vec<Share>,
    /// How much each head contributed, largest first; sums to 1.
    pub heads: Vec<Share>,
    /// Digest of the bundle that made the vectors.
    pub bundle: String,
}

/// A name and its share of the evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// A channel or head.
    pub name: String,
    /// In 0 to 1.
    pub share: f64,
}

impl CloudEvent {
    /// Wraps the `n`-th event (from 0) of an episode at `time` (RFC 3339).
    pub fn new(alert: Alert, n: u32, time: String) -> Self {
        Self {
            specversion: "1.0".into(),
            id: format!("{}-{n}", alert.alert),
            source: format!("eddy/{}", crate::names::encode(&alert.site)),
            kind: format!("eddy.alert.{}", alert.phase.as_str()),
            subject: crate::names::encode(&alert.device),
            time,
            datacontenttype: "application/json".into(),
            dataschema: DATA_SCHEMA.into(),
            data: alert,
        }
    }

    /// The NATS subject it goes out on.
    pub fn nats_subject(&self) -> String {
        let alert = &self.data;
        let (site, device) = (crate::names::encode(&alert.site), crate::names::encode(&alert.device));
        format!("alerts.{site}.{}.{device}", alert.severity.as_str())
    }

    /// The JSON bytes; the same alert is always the same bytes.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a CloudEvent has string keys only, so it always serializes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> CloudEvent {
        let alert = Alert {
            alert: "0123456789abcdef".into(),
            phase: Phase::Opened,
            severity: Severity::Major,
            site: "plant 1".into(),
            device: "a.b".into(),
            opened: "2026-01-01T00:00:00Z".into(),
            score: 1.5,
            tail: 1e-6,
            threshold: 1e-4,
            tail_min: 1e-6,
            channels: vec![Share { name: "t".into(), share: 1.0 }],
            heads: vec![Share { name: "value".into(), share: 1.0 }],
            bundle: "b".repeat(64),
        };
        CloudEvent::new(alert, 0, "2026-01-01T00:00:00Z".into())
    }

    #[test]
    fn the_json_schema_accepts_what_is_written_and_refuses_what_is_not() {
        let schema: serde_json::Value = serde_json::from_str(JSON_SCHEMA).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let good: serde_json::Value = serde_json::from_slice(&event().to_json()).unwrap();
        let problems: Vec<_> = validator.iter_errors(&good).map(|e| e.to_string()).collect();
        assert!(problems.is_empty(), "{problems:?}");
        for (pointer, bad) in [
            ("/specversion", serde_json::json!("0.3")),
            ("/data/severity", serde_json::json!("fatal")),
            ("/data/tail", serde_json::json!(2)),
            ("/time", serde_json::json!(7)),
            ("/data/channels", serde_json::json!([{"name": "t"}])),
        ] {
            let mut event = good.clone();
            *event.pointer_mut(pointer).unwrap() = bad;
            assert!(!validator.is_valid(&event), "{pointer}");
        }
    }

    #[test]
    fn a_devices_name_is_one_subject_token() {
        assert_eq!(event().nats_subject(), "alerts.plant%201.major.a%2Eb");
    }
}
