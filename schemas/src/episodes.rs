//! What `eddy.search.<site>.episodes` is asked and answers: alerts whose episodes went like another one's. JSON, over a NATS request.

use serde::{Deserialize, Serialize};

use crate::{Timestamp, alert::Share, search::FoundLabel};

/// A question about an alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpisodesRequest {
    /// The alert, by its id.
    pub alert: String,
    /// How many others, 1 to 1,000.
    #[serde(default = "ten")]
    pub k: usize,
    /// Not farther than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub radius: Option<f32>,
    /// Only alerts of this device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Only alerts of other devices than the asked one's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub others: bool,
    /// Only alerts that opened at or after it: nanoseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Only alerts that opened before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Only alerts that carry this label; `*`: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

fn ten() -> usize {
    10
}

impl EpisodesRequest {
    /// The ten alerts that went most like this one.
    pub fn new(alert: &str) -> Self {
        Self {
            alert: alert.to_owned(),
            k: ten(),
            radius: None,
            device: None,
            others: false,
            since: None,
            until: None,
            label: None,
        }
    }
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpisodesAnswer {
    /// Digest of the bundle whose vectors were compared.
    pub bundle: String,
    /// The alert that was asked about.
    pub asked: FoundEpisode,
    /// Those most like it first.
    pub episodes: Vec<FoundEpisode>,
    /// How many alerts it was compared with.
    pub compared: u64,
    /// How long that took.
    pub took_us: u64,
}

/// An alert in an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FoundEpisode {
    /// Its id.
    pub alert: String,
    /// The device, as its operator calls it.
    pub device: String,
    /// Event time of its opening: nanoseconds since the Unix epoch.
    pub opened: Timestamp,
    /// Event time of the first sample of the window that opened it.
    pub start: Timestamp,
    /// Event time of its newest window.
    pub end: Timestamp,
    /// 0: it went the same way; 1: it has nothing in common with the asked one.
    pub distance: f32,
    /// How much each channel contributed when it opened, largest first.
    pub channels: Vec<Share>,
    /// How many windows it is compared by; 0: it is too young, and is compared by the window that opened it.
    pub windows: usize,
    /// What somebody said of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<FoundLabel>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_an_alert_is_enough_and_a_wrong_key_is_refused() {
        let request: EpisodesRequest = serde_json::from_str(r#"{"alert":"00ff"}"#).unwrap();
        assert_eq!(request, EpisodesRequest::new("00ff"));
        assert_eq!(serde_json::to_string(&request).unwrap(), r#"{"alert":"00ff","k":10}"#);
        assert!(serde_json::from_str::<EpisodesRequest>(r#"{"alert":"00ff","channel":"t"}"#).is_err());
    }
}
