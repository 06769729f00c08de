//! What may leave the gateway beside alerts, contexts, conditions and the learned head's vectors: readings, if somebody says
//! of which series and what for (INV-7). Without a policy there is no reader of READINGS.

use std::collections::HashMap;

use bytes::Bytes;
use eddy_schemas::sync::wire::{self, entry::What};
use serde::Deserialize;

use super::plain;

/// Readings of an entry: a longer one would keep an alert waiting on a slow link.
pub(super) const READINGS_MAX: usize = 256;
/// Seconds around an alert at most.
const AROUND_S_MAX: f64 = 3600.0;
/// Series whose policy is remembered.
const REMEMBERED_MAX: usize = 100_000;

/// One of `[[sync.policy]]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Which series, as `device/channel`, both percent-encoded: `*` stands for any characters, `?` for one.
    pub series: String,
    /// Why they may leave: it goes with them.
    pub purpose: String,
    /// What of them.
    pub what: Share,
    /// Of snippets, seconds before an alert opens.
    #[serde(default = "around")]
    pub before_s: f64,
    /// And after that.
    #[serde(default = "around")]
    pub after_s: f64,
}

/// What of a series leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Share {
    /// Readings around each alert of the device.
    Snippets,
    /// All readings.
    Readings,
}

fn around() -> f64 {
    60.0
}

impl Policy {
    /// What is wrong with it, as the policy with this number.
    pub fn problems(&self, number: usize) -> Vec<String> {
        let mut problems = Vec::new();
        let key = |name: &str| format!("sync.policy[{number}].{name}");
        if !self.series.contains('/') {
            problems.push(format!(
                "{} = {:?}: device/channel is taken, as pump-*/vibration",
                key("series"),
                self.series
            ));
        }
        if self.purpose.trim().is_empty() || self.purpose.len() > 200 {
            problems.push(format!("{} = {:?}: 1 to 200 bytes that say why", key("purpose"), self.purpose));
        }
        for (name, seconds) in [("before_s", self.before_s), ("after_s", self.after_s)] {
            if !(0.0..=AROUND_S_MAX).contains(&seconds) {
                problems.push(format!("{} = {seconds}: 0 to {AROUND_S_MAX} is taken", key(name)));
            }
        }
        problems
    }
}

/// The policies of one share.
#[derive(Clone, Debug)]
pub(super) struct Policies {
    policies: Vec<Policy>,
    known: HashMap<String, Option<usize>>,
}

impl Policies {
    pub(super) fn of(policies: &[Policy], share: Share) -> Self {
        let policies = policies.iter().filter(|policy| policy.what == share).cloned().collect();
        Self { policies, known: HashMap::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.policies.is_empty()
    }

    pub(super) fn all(&self) -> &[Policy] {
        &self.policies
    }

    /// The first policy that names the series.
    pub(super) fn naming(&mut self, series: &str) -> Option<usize> {
        if let Some(known) = self.known.get(series) {
            return *known;
        }
        if self.known.len() >= REMEMBERED_MAX {
            self.known.clear();
        }
        let found = self.policies.iter().position(|policy| matches(&policy.series, series));
        self.known.insert(series.to_owned(), found);
        found
    }
}

/// Whether the pattern is the whole text.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut done) = (0, 0);
    // Where the last `*` stands, and how much of the text it has taken.
    let mut star: Option<(usize, usize)> = None;
    while done < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, done));
                at += 1;
            }
            Some(byte) if *byte == b'?' || *byte == text[done] => {
                at += 1;
                done += 1;
            }
            _ => match &mut star {
                Some((star, taken)) => {
                    *taken += 1;
                    (at, done) = (*star + 1, *taken);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

/// Readings as entries of [`READINGS_MAX`] each, in the order in which they are given.
pub(super) fn entries<'a>(
    series: &'a str,
    policy: &'a Policy,
    alert: &'a str,
    readings: &'a [(i64, f64)],
) -> impl Iterator<Item = wire::Entries> + use<'a> {
    readings.chunks(READINGS_MAX).map(move |chunk| {
        let mut last = 0i64;
        // What does not fit comes back by wrapping the same way.
        let mut since = |time: i64| time.wrapping_sub(std::mem::replace(&mut last, time));
        let mut entry = plain(What::Readings(wire::Readings {
            series: 1,
            purpose: policy.purpose.clone(),
            alert: alert.to_owned(),
            times: chunk.iter().map(|(time, _)| since(*time)).collect(),
            values: chunk.iter().map(|(_, value)| *value).collect(),
        }));
        entry.series = vec![series.to_owned()];
        entry.bundles = Vec::<Bytes>::new();
        entry
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_pattern_is_the_whole_name() {
        for (pattern, text, is) in [
            ("pump-*/vibration", "pump-17/vibration", true),
            ("pump-*/vibration", "pump-17/vibration2", false),
            ("pump-?/*", "pump-1/t", true),
            ("pump-?/*", "pump-12/t", false),
            ("*/*", "a/b", true),
            ("*", "a/b", true),
            ("a/b", "a/b", true),
            ("a/b", "a/bc", false),
            ("*a*a", "banana", true),
            ("*a*x", "banana", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, text), is, "{pattern} {text}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_key() {
        let text = "series = \"a/*\"\npurpose = \"bearing model\"\nwhat = \"snippets\"";
        let good: Policy = toml::from_str(text).unwrap();
        assert_eq!((good.problems(0), good.before_s), (vec![], 60.0));
        let wrong = Policy { series: "a".into(), purpose: " ".into(), after_s: f64::NAN, before_s: 3601.0, ..good };
        let problems = wrong.problems(3).join("\n");
        for key in
            ["policy[3].series = \"a\"", "policy[3].purpose", "policy[3].before_s = 3601", "policy[3].after_s = NaN"]
        {
            assert!(problems.contains(key), "{problems}");
        }
        assert!(toml::from_str::<Policy>(&text.replace("snippets", "everything")).is_err());
        assert!(toml::from_str::<Policy>(&format!("{text}\nwhy = 1")).is_err());
    }

    proptest! {
        #[test]
        fn a_pattern_is_what_the_slow_way_says(pattern in "[ab*?]{0,7}", text in "[ab]{0,7}") {
            fn slowly(pattern: &[u8], text: &[u8]) -> bool {
                match (pattern, text) {
                    ([], _) => text.is_empty(),
                    ([b'*', rest @ ..], _) => (0..=text.len()).any(|n| slowly(rest, &text[n..])),
                    ([one, rest @ ..], [byte, left @ ..]) => (*one == b'?' || one == byte) && slowly(rest, left),
                    _ => false,
                }
            }
            prop_assert_eq!(matches(&pattern, &text), slowly(pattern.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn times_come_back_whatever_they_are(readings in prop::collection::vec((any::<i64>(), any::<f64>()), 0..700)) {
            let policy = Policy {
                series: "*".into(), purpose: "p".into(), what: Share::Readings, before_s: 0.0, after_s: 0.0,
            };
            let mut back = Vec::new();
            for mut entry in entries("a/b", &policy, "", &readings) {
                let Some(What::Readings(told)) = entry.entries.remove(0).what else { unreachable!("it was made so") };
                prop_assert!(told.times.len() <= READINGS_MAX && told.times.len() == told.values.len());
                let mut time = 0i64;
                for (difference, value) in told.times.iter().zip(&told.values) {
                    time = time.wrapping_add(*difference);
                    back.push((time, value.to_bits()));
                }
            }
            prop_assert_eq!(back, readings.iter().map(|(time, value)| (*time, value.to_bits())).collect::<Vec<_>>());
        }
    }
}
