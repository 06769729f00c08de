//! Which rows of a stream are exported, and where the stream is cut.

use std::collections::BTreeSet;

use eddy_schemas::Timestamp;
use serde::{Deserialize, Serialize};

/// Rows of a class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Sequences of the stream, both inclusive.
    pub sequences: Option<(u64, u64)>,
    /// Which of their rows.
    pub filter: Filter,
}

/// Which rows of a message are taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// Of this event time or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Before this event time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Of these devices; of all if empty.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub devices: BTreeSet<String>,
}

impl Filter {
    /// Whether rows of `device` are taken.
    pub fn takes_device(&self, device: &str) -> bool {
        self.devices.is_empty() || self.devices.contains(device)
    }

    /// Whether rows of that event time are taken.
    pub fn takes_time(&self, time: Timestamp) -> bool {
        self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time < until)
    }

    /// What tells the files of this filter from those of another; `None` where every row is taken.
    pub fn tag(&self) -> Option<String> {
        if *self == Self::default() {
            return None;
        }
        let text = serde_json::to_vec(self).expect("a filter has string keys and numbers only");
        Some(blake3::hash(&text).to_hex()[..8].to_owned())
    }
}

/// Where a stream is cut into ranges: behind the message with which one of these is reached. So the places follow from the stream
/// and the selection alone, and what is held in memory has a bound whatever is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Rows that were taken.
    pub rows: usize,
    /// Bytes that they take in memory.
    pub bytes: usize,
    /// In nanoseconds: a range ends where the server's time of storing passes a multiple of this.
    pub age: Option<i64>,
}

/// Messages of a range at most.
pub const MESSAGES_MAX: u64 = 65_536;

impl Cut {
    /// The window of storing times that a message stored then belongs to.
    pub fn window(&self, stored_at: Timestamp) -> Option<i64> {
        self.age.map(|age| stored_at.div_euclid(age))
    }

    /// When the window of `stored_at` is over.
    pub fn window_end(&self, stored_at: Timestamp) -> Option<Timestamp> {
        self.age.map(|age| (stored_at.div_euclid(age) + 1).saturating_mul(age))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_takes_everything_has_no_tag_and_others_differ() {
        let since = Filter { since: Some(5), ..Filter::default() };
        let device = Filter { devices: ["a".to_owned()].into(), ..Filter::default() };
        assert_eq!(Filter::default().tag(), None);
        assert!(since.tag().is_some() && since.tag() != device.tag());
        assert!(since.takes_time(5) && !since.takes_time(4) && since.takes_device("x"));
        assert!(device.takes_device("a") && !device.takes_device("x"));
        assert!(!Filter { until: Some(5), ..Filter::default() }.takes_time(5));
    }

    #[test]
    fn windows_of_storing_times_are_multiples_of_the_age() {
        let cut = Cut { rows: 1, bytes: 1, age: Some(100) };
        assert_eq!((cut.window(199), cut.window(200), cut.window_end(199)), (Some(1), Some(2), Some(200)));
    }
}
