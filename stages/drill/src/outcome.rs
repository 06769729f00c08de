//! What came out of a gateway: alerts to the byte, score rows to the bit (INV-3).

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use eddy_cli::demo::oracle;
use eddy_schemas::{Scores, SeriesName, Timestamp, dump, flags, names, rfc3339};

/// By device and series: the same whatever the order between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Per device (as a subject's token): its alerts, in order.
    pub alerts: BTreeMap<String, Vec<Vec<u8>>>,
    /// Per series: event time and a digest of all that a score row says, in order.
    pub scores: BTreeMap<String, Vec<(Timestamp, u64)>>,
}

/// A row that scores a reading of a series.
pub struct Scored {
    /// Canonical text of the series.
    pub series: String,
    /// Event time.
    pub time: Timestamp,
}

impl Outcome {
    /// Takes what a message of DETECTIONS says of `devices` (tokens); tells which readings it scores, of whatever device.
    ///
    /// # Errors
    /// If it is neither alert nor scores.
    pub fn take(&mut self, devices: &BTreeSet<String>, subject: &str, payload: &[u8]) -> Result<Vec<Scored>> {
        if subject.starts_with("alerts.") {
            let device = subject.rsplit('.').next().unwrap_or_default();
            if devices.contains(device) {
                self.alerts.entry(device.to_owned()).or_default().push(payload.to_vec());
            }
            return Ok(Vec::new());
        }
        let batch = Scores::decode(payload).context("no score batch")?;
        let lines = dump::rows(payload)?;
        let mut scored = Vec::new();
        for (row, line) in lines.iter().enumerate() {
            if batch.rows.control(row).is_some() {
                continue;
            }
            let (series, time) = (batch.rows.name(row), batch.rows.time[row]);
            if devices.contains(SeriesName::device_token(series)) {
                let digest = blake3::hash(line.as_bytes());
                let digest = digest.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
                self.scores.entry(series.to_owned()).or_default().push((time, digest));
            }
            if batch.flags[row] & flags::JOINT == 0 {
                scored.push(Scored { series: series.to_owned(), time });
            }
        }
        Ok(scored)
    }

    /// How many alerts.
    pub fn alerts(&self) -> u64 {
        self.alerts.values().map(|alerts| alerts.len() as u64).sum()
    }

    /// As the demo prints it.
    pub fn alerts_hash(&self) -> String {
        oracle::alerts_hash(self.alerts.values().flatten().cloned().collect())
    }

    /// Where `found` differs from it, the first of each device and series.
    pub fn differences(&self, found: &Self) -> Vec<String> {
        let text = |alert: Option<&Vec<u8>>| alert.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let row =
            |row: Option<&(Timestamp, u64)>| row.map(|(time, digest)| format!("{} {digest:016x}", rfc3339(*time)));
        let device = |token: &str| names::decode(token);
        let alerts = differences("alerts", &self.alerts, &found.alerts, device, text);
        let scores = differences("scores", &self.scores, &found.scores, str::to_owned, row);
        alerts.into_iter().chain(scores).collect()
    }
}

fn differences<T: PartialEq>(
    kind: &str,
    expected: &BTreeMap<String, Vec<T>>,
    found: &BTreeMap<String, Vec<T>>,
    called: impl Fn(&str) -> String,
    text: impl Fn(Option<&T>) -> Option<String>,
) -> Vec<String> {
    let names: BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
    let none = Vec::new();
    let one = |name: &String| {
        let (expected, found) = (expected.get(name).unwrap_or(&none), found.get(name).unwrap_or(&none));
        let at = expected.iter().zip(found).position(|(a, b)| a != b).unwrap_or(expected.len().min(found.len()));
        let word = |all: &[T]| text(all.get(at)).unwrap_or_else(|| "none".to_owned());
        (expected != found).then(|| {
            format!(
                "{kind} of {}: {} and {} of them; the first that differs is number {}: {} and then {}",
                called(name),
                expected.len(),
                found.len(),
                at + 1,
                word(expected),
                word(found)
            )
        })
    };
    names.into_iter().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use eddy_schemas::ScoresBuilder;

    use super::*;

    fn outcome(scores: &[(&str, i64, f32)], alerts: &[(&str, &str)]) -> Outcome {
        let devices = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
        let mut outcome = Outcome::default();
        let mut batch = ScoresBuilder::new("bundle");
        for (series, time, score) in scores {
            batch.push(series, *time, *score, 1.0, 0, None);
        }
        outcome.take(&devices, "scores.s.0", &batch.encode()).unwrap();
        for (device, alert) in alerts {
            outcome.take(&devices, &format!("alerts.s.high.{device}"), alert.as_bytes()).unwrap();
        }
        outcome
    }

    #[test]
    fn each_kind_of_difference_is_told() {
        let rows = [("a/x", 1, 0.5), ("a/x", 2, 0.5), ("b/x", 1, 0.5)];
        let alerts = [("a", "one"), ("a", "two"), ("b", "three")];
        let expected = outcome(&rows, &alerts);
        assert_eq!(expected.alerts(), 3);
        // Other devices, and another order between devices, are no difference.
        let other = [("b/x", 1, 0.5), ("c/x", 1, 0.5), ("a/x", 1, 0.5), ("a/x", 2, 0.5)];
        let same = outcome(&other, &[("b", "three"), ("a", "one"), ("c", "four"), ("a", "two")]);
        assert_eq!((expected.differences(&same), expected.alerts_hash()), (vec![], same.alerts_hash()));

        let one = |scores: &[(&str, i64, f32)], alerts: &[(&str, &str)]| {
            let different = expected.differences(&outcome(scores, alerts));
            assert_eq!(different.len(), 1, "{different:?}");
            different[0].clone()
        };
        let removed = one(&rows, &alerts[1..]);
        assert_eq!(removed, "alerts of a: 2 and 1 of them; the first that differs is number 1: one and then two");
        assert!(one(&rows, &[("a", "two"), ("a", "one"), ("b", "three")]).contains("2 and 2"));
        assert!(
            one(&rows, &[("a", "one"), ("a", "two"), ("b", "three"), ("b", "five")]).contains("none and then five")
        );
        assert!(one(&rows[1..], &alerts).starts_with("scores of a/x: 2 and 1"));
        assert!(one(&[rows[0], rows[1], rows[1], rows[2]], &alerts).starts_with("scores of a/x: 2 and 3"));
        assert!(one(&[rows[0], ("a/x", 2, 0.500_001), rows[2]], &alerts).contains("number 2"));
    }
}
