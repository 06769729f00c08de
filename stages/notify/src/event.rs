//! An alert as a sink handles it: its bytes as detect wrote them, and what they say.

use std::ops::Range;

use bytes::Bytes;
use eddy_runtime::trace::Contexts;
use eddy_schemas::{Timestamp, alert::CloudEvent};

/// A larger message is no alert.
pub const ALERT_BYTES_MAX: usize = 256 << 10;

/// One event of an alert.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its sequence in DETECTIONS.
    pub sequence: u64,
    /// When it was stored there: what its age counts from.
    pub stored_at: Timestamp,
    /// The subject that it came on.
    pub subject: String,
    /// The CloudEvents JSON, byte for byte.
    pub json: Bytes,
    /// The same, read.
    pub cloud: CloudEvent,
    /// The sampled traces that it is part of.
    pub traces: Contexts,
    data: Range<usize>,
}

impl Event {
    /// Reads message `sequence` of DETECTIONS.
    ///
    /// # Errors
    /// Why it is no alert.
    pub fn read(sequence: u64, stored_at: Timestamp, subject: &str, json: Bytes) -> Result<Self, String> {
        if json.len() > ALERT_BYTES_MAX {
            return Err(format!("{} bytes, and an alert has at most {ALERT_BYTES_MAX}", json.len()));
        }
        let cloud: CloudEvent = serde_json::from_slice(&json).map_err(|error| format!("no alert: {error}"))?;
        let data = member(&json, "data").ok_or("no alert: its data are not found")?;
        Ok(Self { sequence, stored_at, subject: subject.to_owned(), json, cloud, traces: Contexts::default(), data })
    }

    /// The same event in these traces.
    pub fn traced(self, traces: Contexts) -> Self {
        Self { traces, ..self }
    }

    /// The alert's own JSON, byte for byte: the event without its envelope.
    pub fn data(&self) -> Bytes {
        self.json.slice(self.data.clone())
    }
}

/// Where the value of the member `name` of a JSON object stands. The JSON is known to be good: only strings, braces and
/// brackets need to be told apart. A number read and written again may differ in its last digit, so it is not.
fn member(json: &[u8], name: &str) -> Option<Range<usize>> {
    let (mut depth, mut at) = (0_usize, 0);
    let mut key: Option<&[u8]> = None;
    let mut value: Option<usize> = None;
    while at < json.len() {
        match json[at] {
            b'"' => {
                let end = string_end(json, at)?;
                if depth == 1 && key.is_none() {
                    key = Some(&json[at + 1..end - 1]);
                }
                at = end;
                continue;
            }
            b':' if depth == 1 && value.is_none() => value = Some(at + 1),
            b'{' | b'[' => depth += 1,
            b',' | b'}' | b']' if depth == 1 => {
                if key == Some(name.as_bytes()) {
                    return value.map(|start| trimmed(json, start..at));
                }
                (key, value) = (None, None);
            }
            b'}' | b']' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        at += 1;
    }
    None
}

/// The end of the string that begins at `start`.
fn string_end(json: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        match json.get(at)? {
            b'\\' => at += 2,
            b'"' => return Some(at + 1),
            _ => at += 1,
        }
    }
}

fn trimmed(json: &[u8], range: Range<usize>) -> Range<usize> {
    let text = &json[range.clone()];
    let before = text.len() - text.trim_ascii_start().len();
    range.start + before..range.start + before + text.trim_ascii().len()
}

#[cfg(test)]
pub(crate) mod tests {
    use eddy_schemas::alert::{Alert, Phase, Severity, Share};

    use super::*;

    pub(crate) fn alert(device: &str, severity: Severity, phase: Phase) -> Alert {
        Alert {
            alert: "0123456789abcdef".into(),
            phase,
            severity,
            site: "plant 1".into(),
            device: device.into(),
            opened: "2026-01-01T00:00:00Z".into(),
            score: 1.5,
            tail: 1e-6,
            threshold: 1e-4,
            tail_min: 1e-6,
            channels: vec![Share { name: "t \"}{".into(), share: 1.0 }],
            heads: vec![Share { name: "value".into(), share: 1.0 }],
            bundle: "b".repeat(64),
        }
    }

    pub(crate) fn event(sequence: u64, device: &str, phase: Phase) -> Event {
        let cloud = CloudEvent::new(alert(device, Severity::Major, phase), 0, "2026-01-01T00:05:00Z".into());
        Event::read(sequence, 0, &cloud.nats_subject(), cloud.to_json().into()).unwrap()
    }

    #[test]
    fn the_data_are_the_bytes_that_stand_in_the_event() {
        let event = event(1, "a \\ \"b\"", Phase::Opened);
        assert_eq!(event.data(), serde_json::to_vec(&event.cloud.data).unwrap());
        let spaced = br#" { "a" : [ {"data": 1}, "x:\"," ] , "data" : { "b" : [1, 2] } , "c": 2 } "#;
        assert_eq!(&spaced[member(spaced, "data").unwrap()], br#"{ "b" : [1, 2] }"#);
        assert_eq!(&spaced[member(spaced, "c").unwrap()], b"2");
        assert_eq!(member(spaced, "b"), None);
    }

    #[test]
    fn what_is_no_alert_says_why() {
        let read = |json: &'static [u8]| Event::read(1, 0, "alerts.s.minor.d", Bytes::from_static(json));
        assert!(read(b"{}").unwrap_err().contains("missing field"));
        assert!(read(b"\xff").unwrap_err().contains("no alert"));
        let large = vec![b' '; ALERT_BYTES_MAX + 1];
        assert!(Event::read(1, 0, "s", large.into()).unwrap_err().contains("at most"));
    }
}
