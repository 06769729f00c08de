//! What the region hears of ordinary scores: of each device and period of event time, how many rows there were, and five
//! quantiles of them.
//!
//! A summary tells scores in 256 steps. What is carried between messages is how many rows there were of each step, so its
//! quantiles are those of all rows, not estimates. It goes out when a row of a later period comes; a row that comes later than
//! that counts in the period that is open. A device that falls silent keeps its last one until it speaks again, or is reset.
//! How many devices there are detect bounds (`detect.series_max`).

use std::collections::HashMap;

use eddy_schemas::{Timestamp, names, sync::wire};
use eddy_vectors::codec::{CodecError, Get, Put as _};

use crate::queue::{Queue, QueueError, Write};

/// What it keeps in the queue begins so; the device's token follows.
const PREFIX: &[u8] = b"summary/";
/// In parts of all rows: minimum, median, maximum, and what lies between.
const QUANTILES: [f64; 5] = [0.0, 0.5, 0.9, 0.99, 1.0];

/// A score's step.
pub(super) fn step(score: f32) -> u8 {
    // No number is 0.
    (255.0 * score.clamp(0.0, 1.0).sqrt()).round() as u8
}

/// A device's rows within the period that is open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Period {
    /// Seconds since the Unix epoch.
    end_s: i64,
    period_s: u32,
    /// Steps that rows had, ascending, and how many.
    steps: Vec<(u8, u32)>,
}

impl Period {
    fn add(&mut self, step: u8) {
        match self.steps.binary_search_by_key(&step, |(known, _)| *known) {
            Ok(at) => self.steps[at].1 = self.steps[at].1.saturating_add(1),
            Err(at) => self.steps.insert(at, (step, 1)),
        }
    }

    fn rows(&self) -> u64 {
        self.steps.iter().map(|(_, rows)| u64::from(*rows)).sum()
    }

    /// The step that `part` of the rows do not exceed.
    fn quantile(&self, part: f64) -> u8 {
        let rank = ((part * self.rows() as f64).ceil() as u64).max(1);
        let mut seen = 0;
        let reaches = |(_, rows): &&(u8, u32)| {
            seen += u64::from(*rows);
            seen >= rank
        };
        self.steps.iter().find(reaches).or(self.steps.last()).map_or(0, |(step, _)| *step)
    }

    fn summary(&self, token: &str) -> wire::Summary {
        wire::Summary {
            device: names::decode(token),
            end_s: self.end_s,
            period_s: self.period_s,
            rows: u32::try_from(self.rows()).unwrap_or(u32::MAX),
            quantiles: QUANTILES.iter().map(|part| self.quantile(*part)).collect(),
        }
    }

    fn record(&self) -> Vec<u8> {
        let mut record = Vec::with_capacity(16 + 2 * self.steps.len());
        record.put_i64(self.end_s);
        record.put_varint(self.period_s);
        for (step, rows) in &self.steps {
            record.put_u8(*step);
            record.put_varint(*rows);
        }
        record
    }

    fn read(record: &[u8]) -> Result<Self, CodecError> {
        let mut get = Get::new(record);
        let mut period = Self { end_s: get.i64()?, period_s: get.varint()?, steps: Vec::new() };
        while get.left() > 0 {
            period.steps.push((get.u8()?, get.varint()?));
        }
        if !period.steps.is_sorted_by(|one, other| one.0 < other.0) {
            return Err(get.error("its steps do not ascend"));
        }
        Ok(period)
    }
}

/// A device: what is on disk, and what came since.
#[derive(Debug)]
struct Slot {
    token: String,
    kept: Period,
    now: Period,
    changed: bool,
}

/// All devices.
#[derive(Debug)]
pub(super) struct Summaries {
    period_s: u32,
    slots: Vec<Slot>,
    by_token: HashMap<String, usize>,
    /// Slots that are not as on disk.
    changed: Vec<usize>,
    /// Summaries that go out with the next commit.
    due: Vec<wire::Summary>,
}

impl Summaries {
    /// As the queue keeps them.
    pub(super) fn load(queue: &Queue, period_s: u32) -> Result<Self, QueueError> {
        let mut all =
            Self { period_s, slots: Vec::new(), by_token: HashMap::new(), changed: Vec::new(), due: Vec::new() };
        queue.kept(PREFIX, |token, record| {
            let token = String::from_utf8_lossy(token).into_owned();
            let period = Period::read(record);
            let period = period.map_err(|error| queue.damaged(format!("summary of {token}: {error}")))?;
            let slot = all.slot(&token);
            all.slots[slot].kept.clone_from(&period);
            all.slots[slot].now = period;
            Ok::<_, QueueError>(())
        })?;
        Ok(all)
    }

    /// The slot of a device.
    pub(super) fn slot(&mut self, token: &str) -> usize {
        if let Some(slot) = self.by_token.get(token) {
            return *slot;
        }
        let (kept, now) = (Period::default(), Period::default());
        self.slots.push(Slot { token: token.to_owned(), kept, now, changed: false });
        self.by_token.insert(token.to_owned(), self.slots.len() - 1);
        self.slots.len() - 1
    }

    /// A row of a device.
    pub(super) fn add(&mut self, slot: usize, time: Timestamp, score: f32) {
        let end_s = self.end_of(time);
        let now = &self.slots[slot].now;
        if now.steps.is_empty() || end_s > now.end_s || now.period_s != self.period_s {
            self.end(slot);
            let now = &mut self.slots[slot].now;
            (now.end_s, now.period_s) = (end_s, self.period_s);
        }
        self.slots[slot].now.add(step(score));
        self.change(slot);
    }

    /// The device's open period ends here, and with it what is carried of it.
    pub(super) fn end(&mut self, slot: usize) {
        let Slot { token, now, .. } = &mut self.slots[slot];
        if !now.steps.is_empty() {
            self.due.push(now.summary(token));
            *now = Period::default();
            self.change(slot);
        }
    }

    fn change(&mut self, slot: usize) {
        if !std::mem::replace(&mut self.slots[slot].changed, true) {
            self.changed.push(slot);
        }
    }

    /// A period ends with its last second: what lies at its beginning is of the one before.
    fn end_of(&self, time: Timestamp) -> i64 {
        let period = i64::from(self.period_s.max(1));
        let second = time.div_euclid(1_000_000_000) + i64::from(time.rem_euclid(1_000_000_000) > 0);
        (second - 1).div_euclid(period).saturating_add(1).saturating_mul(period)
    }

    /// What is carried on, into a transaction; returns what goes out with it. It may fail and be tried again.
    pub(super) fn write(&self, write: &mut Write<'_>) -> Result<&[wire::Summary], QueueError> {
        for slot in &self.changed {
            let Slot { token, now, .. } = &self.slots[*slot];
            let record = (!now.steps.is_empty()).then(|| now.record());
            write.keep(&[PREFIX, token.as_bytes()].concat(), record.as_deref())?;
        }
        Ok(&self.due)
    }

    /// The transaction is committed.
    pub(super) fn committed(&mut self) {
        self.due.clear();
        for slot in self.changed.drain(..) {
            let Slot { kept, now, changed, .. } = &mut self.slots[slot];
            kept.clone_from(now);
            *changed = false;
        }
    }

    /// What came since the last commit comes again.
    pub(super) fn rolled_back(&mut self) {
        self.due.clear();
        for slot in self.changed.drain(..) {
            let Slot { kept, now, changed, .. } = &mut self.slots[slot];
            now.clone_from(kept);
            *changed = false;
        }
    }
}
