//! The recording's known faults, and which of them an episode found.

use std::{collections::BTreeMap, path::Path};

use eddy_schemas::alert::{Alert, Phase, Share};
use serde::{Deserialize, Deserializer};

/// An alert lists every channel; one with less than this is not what it is about.
const SHARE_MIN: f64 = 0.05;

/// What a recording's `truth.json` says; what it says beside is not needed here.
#[derive(Clone, Debug, Deserialize)]
pub struct Truth {
    /// Everything that was injected.
    pub events: Vec<TrueEvent>,
}

/// One injected event.
#[derive(Clone, Debug, Deserialize)]
pub struct TrueEvent {
    /// Its name in the recording.
    pub id: String,
    /// The device.
    pub device: String,
    /// `fault` where an alert is due; anything else is a device's health.
    pub class: String,
    /// What sort of thing it is.
    pub kind: String,
    /// The channels that it touches.
    pub channels: Vec<String>,
    /// Event time of its first row.
    #[serde(deserialize_with = "instant")]
    pub start: jiff::Timestamp,
    /// Event time of its last row.
    #[serde(deserialize_with = "instant")]
    pub end: jiff::Timestamp,
    /// Seconds after the end in which an alert still counts.
    pub grace_s: i64,
}

impl TrueEvent {
    /// In a few words.
    pub fn brief(&self) -> String {
        format!("{} {} of {}, {} to {}", self.id, self.kind, self.channels.join("+"), self.start, self.end)
    }

    fn covers(&self, device: &str, time: jiff::Timestamp) -> bool {
        let seconds = self.end.as_second().saturating_add(self.grace_s);
        self.class == "fault" && self.device == device && self.start <= time && time.as_second() <= seconds
    }
}

impl Truth {
    /// Reads `truth.json` of the recording in `folder`.
    ///
    /// # Errors
    /// If it is not there or not as it should be.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join("truth.json");
        let json = std::fs::read(&path).map_err(|problem| anyhow::anyhow!("{}: {problem}", path.display()))?;
        serde_json::from_slice(&json).map_err(|problem| anyhow::anyhow!("{}: {problem}", path.display()))
    }

    /// The events of these devices alone.
    pub fn of_devices(&self, devices: &[String]) -> Self {
        Self { events: self.events.iter().filter(|event| devices.contains(&event.device)).cloned().collect() }
    }

    /// How many faults there are.
    pub fn faults(&self) -> usize {
        self.events.iter().filter(|event| event.class == "fault").count()
    }

    /// The fault that an episode of this device and opening time found: the first that was going on.
    pub fn of(&self, alert: &Alert) -> Option<&TrueEvent> {
        self.at(&alert.device, &alert.opened)
    }

    /// The fault of `device` that was going on at `time` (RFC 3339): the first.
    pub fn at(&self, device: &str, time: &str) -> Option<&TrueEvent> {
        let time = time.parse().ok()?;
        self.events.iter().find(|event| event.covers(device, time))
    }
}

/// Episodes against faults.
#[derive(Debug)]
pub struct Score<'a> {
    truth: &'a Truth,
    /// By fault whether an episode that found it names a channel that the fault touches.
    found: BTreeMap<String, bool>,
    wrong: u64,
}

impl<'a> Score<'a> {
    /// Nothing found yet.
    pub fn new(truth: &'a Truth) -> Self {
        Self { truth, found: BTreeMap::new(), wrong: 0 }
    }

    /// Counts an alert: an episode counts once, by when it opened; what its later events name counts too.
    pub fn count(&mut self, alert: &Alert) {
        match self.truth.of(alert) {
            Some(fault) => {
                let blames = |share: &Share| share.share >= SHARE_MIN && fault.channels.contains(&share.name);
                let named = alert.channels.iter().any(blames);
                *self.found.entry(fault.id.clone()).or_default() |= named;
            }
            None => self.wrong += u64::from(alert.phase == Phase::Opened),
        }
    }

    /// Faults that at least one episode found.
    pub fn found(&self) -> usize {
        self.found.len()
    }

    /// Faults that were found, but by no episode that names a channel of theirs: by chance, perhaps.
    pub fn unnamed(&self) -> impl Iterator<Item = &'a TrueEvent> {
        let is_unnamed = |event: &&TrueEvent| self.found.get(&event.id) == Some(&false);
        self.truth.events.iter().filter(is_unnamed)
    }

    /// Episodes that found no fault.
    pub fn wrong(&self) -> u64 {
        self.wrong
    }

    /// Faults that no episode found.
    pub fn missed(&self) -> impl Iterator<Item = &'a TrueEvent> {
        self.truth.events.iter().filter(|event| event.class == "fault" && !self.found.contains_key(&event.id))
    }
}

/// One line an alert's event, with the truth beside it.
pub fn beside(truth: &Truth, alert: &Alert) -> String {
    truth.of(alert).map_or_else(|| "no fault".to_owned(), TrueEvent::brief)
}

fn instant<'de, D: Deserializer<'de>>(deserializer: D) -> Result<jiff::Timestamp, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use eddy_schemas::alert::Severity;

    use super::*;

    fn alert(device: &str, phase: Phase, opened: &str) -> Alert {
        Alert {
            alert: "a".into(),
            phase,
            severity: Severity::Minor,
            site: "s".into(),
            device: device.into(),
            opened: opened.into(),
            score: 1.0,
            tail: 0.1,
            threshold: 0.1,
            tail_min: 0.1,
            channels: Vec::new(),
            heads: Vec::new(),
            bundle: String::new(),
        }
    }

    #[test]
    fn an_episode_counts_where_it_opens_and_a_fault_once() {
        let json = r#"{"seed": 1, "events": [
            {"id":"e1","device":"a","class":"fault","kind":"spike","pattern":"p","channels":["t"],
             "start":"2026-01-01T10:00:00Z","end":"2026-01-01T11:00:00Z","grace_s":3600},
            {"id":"e2","device":"a","class":"health","kind":"dropout","channels":["t"],
             "start":"2026-01-02T10:00:00Z","end":"2026-01-02T11:00:00Z","grace_s":0},
            {"id":"e3","device":"b","class":"fault","kind":"shift","channels":["t"],
             "start":"2026-01-01T10:00:00Z","end":"2026-01-01T11:00:00Z","grace_s":0}]}"#;
        let truth: Truth = serde_json::from_str(json).unwrap();
        let mut score = Score::new(&truth);
        for (device, phase, opened) in [
            ("a", Phase::Opened, "2026-01-01T10:00:00Z"),
            ("a", Phase::Updated, "2026-01-01T10:00:00Z"),
            ("a", Phase::Opened, "2026-01-01T12:00:00Z"),
            ("a", Phase::Opened, "2026-01-01T12:00:01Z"),
            ("a", Phase::Opened, "2026-01-02T10:30:00Z"),
            ("b", Phase::Opened, "2026-01-01T09:59:59Z"),
        ] {
            score.count(&alert(device, phase, opened));
        }
        assert_eq!((truth.faults(), score.found(), score.wrong()), (2, 1, 3));
        assert_eq!(score.unnamed().map(|event| event.id.as_str()).collect::<Vec<_>>(), ["e1"]);
        let mut named = alert("a", Phase::Updated, "2026-01-01T10:00:00Z");
        named.channels.push(Share { name: "t".into(), share: 0.0 });
        score.count(&named);
        assert_eq!(score.unnamed().count(), 1);
        named.channels[0].share = 1.0;
        score.count(&named);
        assert_eq!((score.unnamed().count(), score.found(), score.wrong()), (0, 1, 3));
        assert_eq!(score.missed().map(|event| event.id.as_str()).collect::<Vec<_>>(), ["e3"]);
    }
}
