//! Whether tail probabilities mean what they say: a device that spends too little of its budget gets a looser threshold.
//!
//! The site's budget allows so many alerts in so much time. A threshold that took tail probabilities at their word would spend
//! a tenth of it on many devices: heads agree, and a mean over them is careful. So the least tail probability of each *block*, a time
//! in which one alert can come, is counted, and the threshold is where blocks reach it as often as the budget allows (block
//! maxima: Coles 2001, ch. 3). Before there are many blocks it leans on the word.
//!
//! It is never stricter than the word: a device whose faults come again must not go deaf. Blocks that reach a thousandth of the word
//! are no chance, and not counted.

use eddy_vectors::codec::{CodecError, Get, Put};

/// Two bins to the octave, down to 2^-32; what is rarer counts as that.
const BINS: usize = 64;
/// Blocks' worth of belief in the word of the tail probabilities.
const PRIOR_BLOCKS: f64 = 5.0;
/// Past this many blocks all counts are halved: the recent past weighs more.
const BLOCKS_MAX: u32 = 4096;
/// The threshold is at most that many times its word, and what is that many times rarer than the word is no chance.
const FACTOR_MAX: f64 = 1000.0;

/// What one device spent, and what may follow.
#[derive(Clone, Debug, PartialEq)]
pub struct Budget {
    bins: Box<[u16; BINS]>,
    /// Threshold over its word.
    factor: f64,
    /// The present block: rows, event time of its beginning, its least tail probability, alerts that the budget allows in it.
    rows: u32,
    since: i64,
    least: f64,
    allowed: f64,
}

/// The length of a block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Block {
    /// At least that many rows ...
    pub rows: u32,
    /// ... and nanoseconds of event time.
    pub ns: i64,
}

impl Default for Budget {
    fn default() -> Self {
        Self { bins: Box::new([0; BINS]), factor: 1.0, rows: 0, since: i64::MIN, least: 1.0, allowed: 0.0 }
    }
}

/// The tail probability at the upper end of a bin.
fn edge(bin: usize) -> f64 {
    (-(bin as f64) / 2.0).exp2()
}

impl Budget {
    /// The threshold in place of `word`, the tail probability that would be reached as often as allowed.
    pub fn threshold(&self, word: f64) -> f64 {
        (word * self.factor).min(crate::device::THRESHOLD_MAX.max(word))
    }

    /// Takes in a row's tail probability; `allowed` is the alerts that the budget allows in the row's time, `word` as in
    /// [`Self::threshold`].
    pub fn note(&mut self, block: &Block, time: i64, tail: f64, word: f64, allowed: f64) {
        if self.rows == 0 {
            self.since = time;
        }
        self.rows = self.rows.saturating_add(1);
        self.least = self.least.min(tail);
        self.allowed += allowed;
        if self.rows < block.rows || time.saturating_sub(self.since) < block.ns {
            return;
        }
        if self.least > word / FACTOR_MAX {
            let bin = (-2.0 * self.least.log2()).clamp(0.0, BINS as f64 - 1.0) as usize;
            self.bins[bin] = self.bins[bin].saturating_add(1);
        }
        self.factor = (self.solve(word) / word).clamp(1.0, FACTOR_MAX);
        (self.rows, self.least, self.allowed) = (0, 1.0, 0.0);
        if self.blocks() > BLOCKS_MAX {
            self.bins.iter_mut().for_each(|count| *count = count.div_ceil(2));
        }
    }

    fn blocks(&self) -> u32 {
        self.bins.iter().map(|count| u32::from(*count)).sum()
    }

    /// Where as many blocks are below as are allowed, those of the prior among them.
    fn solve(&self, word: f64) -> f64 {
        let allowed = self.allowed * (f64::from(self.blocks()) + PRIOR_BLOCKS);
        let prior = |p: f64| PRIOR_BLOCKS * self.allowed * p / word;
        let (least, most) = (word / FACTOR_MAX, word * FACTOR_MAX);
        let (mut below, mut reached) = (0.0, least);
        for bin in (0..BINS).rev() {
            let (from, to) = (edge(bin + 1).max(least), edge(bin).min(most));
            if to <= from {
                below += f64::from(self.bins[bin]);
                continue;
            }
            let (spent, more) = (below + prior(from), f64::from(self.bins[bin]) + prior(to) - prior(from));
            let part = ((allowed - spent) / more.max(f64::MIN_POSITIVE)).clamp(0.0, 1.0);
            reached = from * (to / from).powf(part);
            if part < 1.0 {
                break;
            }
            below += f64::from(self.bins[bin]);
        }
        reached
    }

    /// Appends it to a record.
    pub fn save(&self, record: &mut Vec<u8>) {
        record.put_f64(self.factor);
        record.put_u32(self.rows);
        record.put_i64(self.since);
        record.put_f64(self.least);
        record.put_f64(self.allowed);
        let end = self.bins.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
        record.put_u8(end as u8);
        self.bins[..end].iter().for_each(|count| record.put_varint(u32::from(*count)));
    }

    /// Reads what [`Self::save`] wrote.
    ///
    /// # Errors
    /// If the record is not one.
    pub fn load(record: &mut Get<'_>) -> Result<Self, CodecError> {
        let mut budget = Self {
            factor: record.f64()?,
            rows: record.u32()?,
            since: record.i64()?,
            least: record.f64()?,
            allowed: record.f64()?,
            ..Self::default()
        };
        let is_sound = (1.0..=FACTOR_MAX).contains(&budget.factor)
            && (0.0..=1.0).contains(&budget.least)
            && budget.allowed.is_finite()
            && budget.allowed >= 0.0;
        let end = usize::from(record.u8()?);
        if !is_sound || end > BINS {
            return Err(record.error("a budget is none"));
        }
        for bin in &mut budget.bins[..end] {
            let count = record.varint()?;
            *bin = u16::try_from(count).map_err(|_| record.error("a count of blocks is too large"))?;
        }
        Ok(budget)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: Block = Block { rows: 10, ns: 0 };
    const WORD: f64 = 1e-3;

    /// Of `blocks` blocks of ten rows, each allowing `allowed` alerts, the last half's alerts. `tail(block)` is a block's least.
    fn alerts(blocks: u32, allowed: f64, tail: impl Fn(u32) -> f64) -> (Budget, u32) {
        let (mut budget, mut alerts) = (Budget::default(), 0);
        for block in 0..blocks {
            let mut record = Vec::new();
            budget.save(&mut record);
            let mut get = Get::new(&record);
            budget = Budget::load(&mut get).unwrap();
            get.end().unwrap();
            alerts += u32::from(block >= blocks / 2 && tail(block) <= budget.threshold(WORD));
            for row in 0..10 {
                budget.note(&BLOCK, i64::from(row), if row == 5 { tail(block) } else { 1.0 }, WORD, allowed / 10.0);
            }
        }
        (budget, alerts)
    }

    /// Evenly spread over (0, 1], in no order.
    fn uniform(block: u32) -> f64 {
        f64::from(block.wrapping_mul(2_654_435_761).max(1)) / f64::from(u32::MAX)
    }

    #[test]
    fn as_many_blocks_reach_the_threshold_as_are_allowed_where_tails_are_told_too_large() {
        for (name, tail) in
            [("right", (|x| 0.01 * x) as fn(f64) -> f64), ("large", |x| 0.1 * x + 1e-3), ("bent", |x| x * x)]
        {
            for allowed in [0.1, 0.3] {
                let (_, alerts) = alerts(2000, allowed, |block| tail(uniform(block)));
                let ratio = f64::from(alerts) / (1000.0 * allowed);
                assert!((0.6..=1.6).contains(&ratio), "{name} {allowed}: {ratio}");
            }
        }
    }

    #[test]
    fn at_first_the_word_is_taken_and_what_is_no_chance_is_not_counted() {
        assert_eq!(Budget::default().threshold(WORD), WORD);
        // A fault in every block.
        let (budget, alerts) = alerts(200, 0.01, |_| 1e-7);
        assert_eq!((alerts, budget.blocks()), (100, 0));
        assert_eq!(budget.threshold(WORD), WORD);
    }

    #[test]
    fn a_threshold_is_never_stricter_than_its_word_and_never_next_to_ordinary() {
        let (quiet, _) = alerts(3000, 0.5, |_| 0.9);
        assert_eq!(quiet.threshold(WORD), crate::device::THRESHOLD_MAX);
        let (loud, _) = alerts(3000, 1e-6, |_| WORD / 500.0);
        assert_eq!(loud.threshold(WORD), WORD);
    }

    #[test]
    fn a_record_that_is_none_is_refused() {
        for budget in [
            Budget { factor: 0.0, ..Budget::default() },
            Budget { least: f64::NAN, ..Budget::default() },
            Budget { allowed: f64::INFINITY, ..Budget::default() },
        ] {
            let mut record = Vec::new();
            budget.save(&mut record);
            assert!(Budget::load(&mut Get::new(&record)).is_err(), "{budget:?}");
        }
    }
}
