//! A series' own period, where none is configured: learned from the steps between its readings' event times.
//!
//! **Found** by the largest group of steps of about one length (the longest at most 5/3 of the shortest, so within a
//! quarter of their middle): jitter widens the group, missing readings and strays stand outside of it. The fewer steps
//! there are, the more of them have to agree ([`EVIDENCE`]): a series that keeps its pace has a period after 8 steps, one
//! that loses a quarter of its readings after some 32. The period is the length that most of the group share to the
//! nanosecond; without one it is their mean, and a round value where one is within the mean's own uncertainty.
//!
//! **Kept** while at least 14 of each 32 steps fit, and at most four are long pauses; and dropped for another one on the same evidence: 8 steps on end that
//! do not fit and agree with each other are a new pace. A period that differs by less than a sixteenth is no news.
//!
//! **Irregular** is a series without a period after 32 steps: events, reports by exception, bursts. It has no gaps, and
//! its silence is measured by its own longest steps.
//!
//! A learned period says how far readings lie apart, never where: no reading is moved or dropped by it. All in whole
//! nanoseconds from one reading to the next, so nothing adds up over days. All from what the state holds, so a restart
//! at any row changes nothing.

use eddy_schemas::Timestamp;

use crate::{
    recent::Recent,
    record::{Reader, put_varint},
};

/// So many steps, of which so many have to agree.
const EVIDENCE: [(u8, usize); 3] = [(8, 8), (16, 14), (BLOCK_STEPS, 22)];
/// After every so many steps the period is looked at again.
const BLOCK_STEPS: u8 = 32;
/// Of a block so many have to fit for the period to stay.
const KEPT_STEPS: u8 = 14;
/// A step of more than so many periods is a pause; a block with more of them than a period may have is bursts.
const PAUSE_PERIODS: u64 = 16;
const PAUSES_MAX: usize = 2;
const KEPT_PAUSES_MAX: usize = 4;
/// A period that changes by less than this part is no other one.
const SAME_PART: u64 = 16;
/// Shortest and longest period that is learned: as for configured ones, a microsecond and a leap year.
const PERIODS: (u64, u64) = (1_000, 31_622_400_000_000_000);
/// So many periods without a reading are silence, at the least; of an irregular series so many of its longest steps.
const PATIENCE: i64 = 4;

const SECOND: u64 = 1_000_000_000;
/// Round periods of a second or more, in seconds.
const ROUND_S: [u64; 33] = [
    1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 30, 60, 120, 180, 240, 300, 360, 600, 720, 900, 1_200, 1_800, 3_600, 7_200,
    10_800, 14_400, 21_600, 28_800, 43_200, 86_400, 172_800, 604_800,
];
/// Round periods below: these times 10, 100, … 1,000,000 ns.
const ROUND_TIMES: [u64; 7] = [100, 125, 200, 250, 400, 500, 800];

/// What is known of a series' steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// Nanoseconds; 0 while none is known.
    period: i64,
    is_irregular: bool,
    /// Steps on end that do not fit, up to a block.
    strange: u8,
    /// Steps of the block at hand, and how many of them fit.
    steps: u8,
    fitting: u8,
    /// Of an irregular series, the longest step but one of the last block.
    longest: i64,
}

/// What a reading showed of its series' pace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// The first period, or one after a time without.
    Learned,
    /// Another period than before.
    Changed,
    /// That there is none (any more).
    Irregular,
}

impl Shown {
    /// Its kind among the stage's decisions.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Learned => "period_learned",
            Self::Changed => "period_changed",
            Self::Irregular => "irregular",
        }
    }
}

impl Pace {
    /// The learned period in nanoseconds; 0 while there is none.
    pub fn period(&self) -> i64 {
        self.period
    }

    /// Nanoseconds of silence that are nothing special for this series; 0 where nothing is known yet.
    pub fn patience(&self) -> i64 {
        if self.is_irregular { self.longest } else { self.period }.saturating_mul(PATIENCE)
    }

    /// Takes the step to the reading that was just added to `recent`; tells what that shows.
    pub fn observe(&mut self, recent: &Recent) -> Option<Shown> {
        let step = recent.steps().next()?;
        self.steps += 1;
        if self.period > 0 && is_near(step, self.period.unsigned_abs()) {
            self.fitting += 1;
            self.strange = 0;
        } else {
            self.strange += 1;
        }
        let is_due = self.steps >= BLOCK_STEPS;
        let on_end = EVIDENCE.into_iter().find(|(steps, _)| *steps == self.strange);
        let whole = EVIDENCE.into_iter().next_back().filter(|_| is_due);
        let period = on_end.and_then(|evidence| period_of(recent, evidence));
        let period = period.or_else(|| whole.and_then(|evidence| period_of(recent, evidence)));
        let is_kept = !is_due || (self.fitting >= KEPT_STEPS && self.pauses(recent) <= KEPT_PAUSES_MAX);
        if is_due {
            (self.steps, self.fitting) = (0, 0);
        }
        if self.strange >= BLOCK_STEPS {
            self.strange = 0;
        }
        match period {
            Some(period) => self.take(period),
            None if is_kept => None,
            None => self.give_up(recent),
        }
    }

    /// Pauses of the block, without those that may be a new pace.
    fn pauses(&self, recent: &Recent) -> usize {
        let steps = recent.steps().take(BLOCK_STEPS.into()).skip(self.strange.into());
        steps.filter(|step| is_pause(*step, self.period.unsigned_abs())).count()
    }

    fn take(&mut self, period: i64) -> Option<Shown> {
        let before = self.period.unsigned_abs();
        if before > 0 && period.abs_diff(self.period) <= before / SAME_PART {
            return None;
        }
        *self = Self { period, ..Self::default() };
        Some(if before > 0 { Shown::Changed } else { Shown::Learned })
    }

    fn give_up(&mut self, recent: &Recent) -> Option<Shown> {
        let (mut first, mut second) = (0, 0);
        for step in recent.steps().take(BLOCK_STEPS.into()) {
            (first, second) = if step > first { (step, first) } else { (first, second.max(step)) };
        }
        // The longest alone may be an outage.
        self.longest = i64::try_from(second).unwrap_or(i64::MAX);
        self.period = 0;
        (!std::mem::replace(&mut self.is_irregular, true)).then_some(Shown::Irregular)
    }

    /// Appends to a record.
    pub fn write(&self, record: &mut Vec<u8>) {
        record.extend([u8::from(self.is_irregular), self.strange, self.steps, self.fitting]);
        put_varint(record, self.period.unsigned_abs());
        put_varint(record, self.longest.unsigned_abs());
    }

    /// Reads what [`Self::write`] wrote.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, String> {
        let flag = reader.u8()?;
        let mut steps =
            || reader.u8().and_then(|steps| if steps < BLOCK_STEPS { Ok(steps) } else { Err(too_many(steps)) });
        let (strange, steps, fitting) = (steps()?, steps()?, steps()?);
        let (period, longest) = (reader.varint()?, reader.varint()?);
        if flag > 1 || period > PERIODS.1 || longest > i64::MAX as u64 {
            return Err(format!("a pace of kind {flag}, period {period} and longest step {longest} is none"));
        }
        Ok(Self { period: period as i64, is_irregular: flag == 1, strange, steps, fitting, longest: longest as i64 })
    }
}

fn too_many(steps: u8) -> String {
    format!("{steps} steps of a block, fewer than {BLOCK_STEPS} expected")
}

/// Whether a step is one period: within a quarter of it.
fn is_near(step: u64, period: u64) -> bool {
    step.abs_diff(period) <= period / 4
}

fn is_pause(step: u64, period: u64) -> bool {
    step / PAUSE_PERIODS > period
}

/// The period that the last `steps` steps show if `needed` of them agree.
fn period_of(recent: &Recent, (steps, needed): (u8, usize)) -> Option<i64> {
    let mut lengths = [0; BLOCK_STEPS as usize];
    let mut count = 0;
    for (length, step) in lengths.iter_mut().zip(recent.steps().take(steps.into())) {
        *length = step;
        count += 1;
    }
    let lengths = &mut lengths[..count];
    lengths.sort_unstable();
    let group = largest_group(lengths);
    if group.len() < needed {
        return None;
    }
    let period = middle(group);
    let count = |is: fn(u64, u64) -> bool| lengths.iter().filter(|step| is(**step, period)).count();
    let is_steady = count(is_near) >= needed && count(is_pause) <= PAUSES_MAX;
    // In range, so it fits.
    (is_steady && (PERIODS.0..=PERIODS.1).contains(&period)).then_some(period as i64)
}

/// The most steps of about one length, of ascending ones; the shorter of two such groups.
fn largest_group(ascending: &[u64]) -> &[u64] {
    let (mut from, mut best) = (0, 0..0);
    for (last, step) in ascending.iter().enumerate() {
        while *step > ascending[from].saturating_add(ascending[from] / 3 * 2) {
            from += 1;
        }
        if last + 1 - from > best.len() {
            best = from..last + 1;
        }
    }
    &ascending[best]
}

/// The length that most of a group share, or else a round value for their mean, or the mean.
fn middle(group: &[u64]) -> u64 {
    let [first, .., last] = group else { return group.first().copied().unwrap_or(0) };
    let median = group[group.len() / 2];
    if group.iter().filter(|step| **step == median).count() * 2 > group.len() {
        return median;
    }
    let (sum, count) = (group.iter().map(|step| u128::from(*step)).sum::<u128>(), group.len() as u128);
    // A mean of u64 is one.
    let mean = ((sum + count / 2) / count) as u64;
    // Jitter of the first and last time is what is left in the mean of steps on end.
    let uncertainty = ((last - first) / group.len() as u64).clamp(mean / 64, mean / 12);
    round_near(mean, uncertainty).unwrap_or(mean)
}

/// The round period nearest to `length`, if it is within `uncertainty`. Round ones lie a fifth apart at least.
fn round_near(length: u64, uncertainty: u64) -> Option<u64> {
    let below = (1..=6).flat_map(|power| ROUND_TIMES.map(|times| times * 10_u64.pow(power)));
    let above = ROUND_S.map(|seconds| seconds * SECOND);
    let nearest = below.chain(above).min_by_key(|round| round.abs_diff(length))?;
    (nearest.abs_diff(length) <= uncertainty).then_some(nearest)
}

/// How many readings are missing between two that are `before` < `after`, at a period (0: none are); halfway between two
/// numbers it is the smaller.
pub fn missing(period: i64, before: Timestamp, after: Timestamp) -> i64 {
    let (period, step) = (period.unsigned_abs(), after.abs_diff(before));
    if period == 0 {
        return 0;
    }
    let (twice, period) = (u128::from(step) * 2, u128::from(period));
    let periods = twice.saturating_sub(period).div_ceil(period * 2);
    i64::try_from(periods.saturating_sub(1)).unwrap_or(i64::MAX)
}

/// The time of the `number`-th (from 1) of `missing` readings, evenly between two readings.
pub fn between(before: Timestamp, after: Timestamp, number: i64, missing: i64) -> Timestamp {
    let step = i128::from(after.abs_diff(before)) * i128::from(number) / i128::from(missing + 1);
    // Less than after - before.
    before.saturating_add_unsigned(step as u64)
}

#[cfg(test)]
mod tests;
