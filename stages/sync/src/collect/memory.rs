//! The last minutes of the series that a policy names.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
    time::Duration,
};

use eddy_runtime::bus::Delivery;
use eddy_schemas::{Readings, Timestamp, sync::wire};

use super::{
    noted::Noted,
    policy::{self, Policies, Policy},
};

/// How far the reader of DETECTIONS may lie behind; and how long a silent series is waited for.
pub(super) const BEHIND: Duration = Duration::from_secs(600);
/// Readings in memory.
const READINGS_MAX: usize = 1 << 20;

/// A reading, and the message that brought it.
#[derive(Clone, Copy, Debug)]
struct Kept {
    time: Timestamp,
    value: f64,
    sequence: u64,
    stored_at: Timestamp,
}

/// What is in memory of READINGS.
#[derive(Debug, Default)]
pub(super) struct Memory {
    series: BTreeMap<String, (usize, VecDeque<Kept>)>,
    newest_stored: Timestamp,
}

pub(super) fn nanoseconds(seconds: f64) -> i64 {
    (seconds * 1e9) as i64
}

impl Memory {
    pub(super) fn take(&mut self, delivery: &Delivery, readings: &Readings, policies: &mut Policies) {
        let rows = &readings.rows;
        self.newest_stored = self.newest_stored.max(delivery.stored_at);
        for row in (0..rows.len()).filter(|row| rows.control(*row).is_none()) {
            let name = rows.name(row);
            let Some(policy) = policies.naming(name) else { continue };
            if !self.series.contains_key(name) {
                self.series.insert(name.to_owned(), (policy, VecDeque::new()));
            }
            let (time, value) = (rows.time[row], readings.value[row]);
            let (sequence, stored_at) = (delivery.sequence, delivery.stored_at);
            if let Some((_, kept)) = self.series.get_mut(name) {
                kept.push_back(Kept { time, value, sequence, stored_at });
            }
        }
    }

    /// Drops what came after a message: it comes again.
    pub(super) fn back_to(&mut self, sequence: u64) {
        self.series.values_mut().for_each(|(_, kept)| kept.retain(|kept| kept.sequence <= sequence));
    }

    /// Drops what nobody will ask for any more, and what is too much: of each series the oldest.
    pub(super) fn forget(&mut self, keep: i64) {
        let each = (READINGS_MAX / self.series.len().max(1)).max(16);
        let oldest_stored = self.newest_stored.saturating_sub(keep);
        self.series.retain(|_, (_, kept)| {
            let oldest =
                kept.iter().map(|kept| kept.time).max().map_or(Timestamp::MIN, |newest| newest.saturating_sub(keep));
            let is_old = |one: &Kept| one.time < oldest || one.stored_at < oldest_stored;
            while kept.len() > each || kept.front().is_some_and(is_old) {
                kept.pop_front();
            }
            !kept.is_empty()
        });
    }

    /// The first message that anything here came from.
    pub(super) fn needs(&self) -> Option<u64> {
        self.series.values().filter_map(|(_, kept)| kept.front()).map(|kept| kept.sequence).min()
    }

    /// The named series of a device.
    fn device(&self, token: &str) -> impl Iterator<Item = (&String, usize, &VecDeque<Kept>)> {
        let prefix = format!("{token}/");
        let from = (Bound::Included(prefix.clone()), Bound::Unbounded);
        let all = self.series.range::<String, _>(from).take_while(move |(name, _)| name.starts_with(&prefix));
        all.map(|(name, (policy, kept))| (name, *policy, kept))
    }

    /// Whether anything of a device is here.
    pub(super) fn has(&self, token: &str) -> bool {
        self.device(token).next().is_some()
    }

    /// Whether all that lies around the alert is here, or will not come. What led to it was stored before it was.
    pub(super) fn is_complete(&self, noted: &Noted, policies: &[Policy]) -> bool {
        let is_behind = self.newest_stored < noted.stored_at;
        !is_behind
            && self.device(&noted.device).all(|(_, policy, kept)| {
                let after = nanoseconds(policies[policy].after_s);
                let waited = self.newest_stored.saturating_sub(noted.stored_at);
                let limit = after.saturating_add(BEHIND.as_nanos() as i64);
                kept.iter().any(|kept| kept.time > noted.time.saturating_add(after)) || waited > limit
            })
    }

    /// Entries of what lies around the alert.
    pub(super) fn around(&self, noted: &Noted, policies: &[Policy]) -> Vec<wire::Entries> {
        let mut entries = Vec::new();
        for (name, policy, kept) in self.device(&noted.device) {
            let policy = &policies[policy];
            let from = noted.time.saturating_sub(nanoseconds(policy.before_s));
            let to = noted.time.saturating_add(nanoseconds(policy.after_s));
            let within = kept.iter().filter(|kept| (from..=to).contains(&kept.time));
            let mut readings: Vec<(i64, f64)> = within.map(|kept| (kept.time, kept.value)).collect();
            readings.sort_by_key(|(time, _)| *time);
            entries.extend(policy::entries(name, policy, &noted.alert, &readings));
        }
        entries
    }
}
