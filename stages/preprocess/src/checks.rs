//! What a channel's values say about the channel: out of range, a spike, stuck. Flags only; no value is dropped.
//!
//! A **spike** is measured against the median of the five values before it, which one or two spikes do not move, in units
//! of the running spread: the exponentially weighted mean deviation from that median. A deviation enters the spread at
//! most at the size from which on it is a spike, so one outlier hardly widens it, while a real change of scale widens
//! it within some twenty rows. Everything looks back only, and costs a sort of five numbers.

use eddy_schemas::quality;

use crate::{
    config::Rule,
    record::{Reader, put_varint},
};

/// How many values the median is taken of.
const MEDIAN_ROWS: usize = 5;
/// So many deviations must be known before anything is a spike.
const WARM_UP_ROWS: u32 = 16;
/// The spread remembers about so many deviations.
const SPREAD_ROWS: u32 = 64;
/// Standard deviations in a mean absolute deviation, for a normal distribution.
const SIGMA: f64 = 1.253_314_137_315_5;

/// What is kept of a channel's values.
#[derive(Debug, Default)]
pub struct Checks {
    /// The last values, the newest at the end; `usable` of them.
    values: [f64; MEDIAN_ROWS],
    usable: usize,
    /// How many equal values in a row the newest ends; 0 before the first.
    run: u32,
    /// Mean deviation, and from how many deviations it is known.
    spread: f64,
    deviations: u32,
    /// Whether it was stuck, and out of range, at the last value.
    pub stuck: bool,
    /// See `stuck`.
    pub range: bool,
}

impl Checks {
    /// The last value.
    pub fn last(&self) -> f64 {
        self.values[MEDIAN_ROWS - 1]
    }

    /// Takes the next value; returns its flags. `after_break`: what came before is too old to compare with.
    /// `stuck_after`: equal values from which on the channel is stuck; 0 for never.
    pub fn observe(&mut self, value: f64, after_break: bool, rule: &Rule, stuck_after: u32) -> u16 {
        if after_break {
            self.usable = 0;
        }
        let spike = rule.spike_sigmas > 0.0 && self.is_spike(value, rule.spike_sigmas);
        self.run = if self.run > 0 && value == self.last() { self.run.saturating_add(1) } else { 1 };
        self.stuck = stuck_after > 0 && self.run >= stuck_after;
        self.range = value < rule.min || value > rule.max;
        self.values.rotate_left(1);
        self.values[MEDIAN_ROWS - 1] = value;
        self.usable = (self.usable + 1).min(MEDIAN_ROWS);
        let flag = |set: bool, flag: u16| if set { flag } else { 0 };
        flag(spike, quality::SPIKE) | flag(self.stuck, quality::STUCK) | flag(self.range, quality::RANGE)
    }

    /// Judges a value by what was before it, then lets its deviation into the spread.
    fn is_spike(&mut self, value: f64, sigmas: f64) -> bool {
        if self.usable < MEDIAN_ROWS {
            return false;
        }
        let mut sorted = self.values;
        sorted.sort_unstable_by(f64::total_cmp);
        // The difference of two finite values may be infinite.
        let deviation = (value - sorted[MEDIAN_ROWS / 2]).abs().min(f64::MAX);
        let limit = sigmas * SIGMA * self.spread;
        let known = self.deviations >= WARM_UP_ROWS && self.spread > 0.0;
        self.deviations = (self.deviations + 1).min(SPREAD_ROWS);
        let taken = if known { deviation.min(limit) } else { deviation };
        self.spread += (taken - self.spread) / f64::from(self.deviations);
        known && deviation > limit
    }

    /// Appends to a record.
    pub fn write(&self, record: &mut Vec<u8>) {
        record.push(u8::from(self.stuck) | u8::from(self.range) << 1);
        put_varint(record, self.run.into());
        put_varint(record, self.usable as u64);
        for value in &self.values[MEDIAN_ROWS - self.usable.max(1)..] {
            record.extend(value.to_le_bytes());
        }
        put_varint(record, self.deviations.into());
        record.extend(self.spread.to_le_bytes());
    }

    /// Reads what [`Self::write`] wrote.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, String> {
        let flags = reader.u8()?;
        if flags > 3 {
            return Err(format!("flags {flags} are not known"));
        }
        let run = reader.count("equal values", u32::MAX as usize)? as u32;
        let usable = reader.count("values", MEDIAN_ROWS)?;
        let mut values = [0.0; MEDIAN_ROWS];
        for value in &mut values[MEDIAN_ROWS - usable.max(1)..] {
            *value = reader.f64()?;
        }
        let deviations = reader.count("deviations", SPREAD_ROWS as usize)? as u32;
        let spread = reader.f64()?;
        Ok(Self { values, usable, run, spread, deviations, stuck: flags & 1 != 0, range: flags & 2 != 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Gap;

    const RULE: Rule = Rule {
        period: 0,
        learns: false,
        gap: Gap::Hold,
        gap_limit: 0,
        min: -1e300,
        max: 100.0,
        spike_sigmas: 6.0,
        stuck_after: 3,
        silence_after: i64::MAX,
    };

    const NONE: [usize; 0] = [];

    /// Which rows get `flag`.
    fn flagged(values: impl IntoIterator<Item = f64>, flag: u16) -> Vec<usize> {
        let mut checks = Checks::default();
        let flags = values.into_iter().map(|value| checks.observe(value, false, &RULE, RULE.stuck_after));
        flags.enumerate().filter(|(_, flags)| flags & flag != 0).map(|(row, _)| row).collect()
    }

    /// Noise without a trend, in -0.5 to 0.5.
    fn noise(row: usize) -> f64 {
        (row * 7_919 % 101) as f64 / 101.0 - 0.5
    }

    #[test]
    fn out_of_range_and_stuck_by_value() {
        assert_eq!(flagged([100.0, 100.1, 0.0, -1e301], quality::RANGE), [1, 3]);
        assert_eq!(flagged([1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 1.0, 0.0, -0.0, 0.0], quality::STUCK), [2, 3, 9]);
    }

    #[test]
    fn spikes_stand_out_from_noise_and_do_not_hide_each_other() {
        let spikes = [(40, 9.0), (41, -9.0), (60, 5.0)];
        let value = |row| noise(row) + spikes.iter().find(|(at, _)| *at == row).map_or(0.0, |(_, height)| *height);
        assert_eq!(flagged((0..200).map(value), quality::SPIKE), [40, 41, 60]);
        assert_eq!(flagged((0..200).map(noise), quality::SPIKE), NONE);
    }

    #[test]
    fn a_step_is_a_spike_only_until_it_is_the_median() {
        let step = |row| noise(row) + if row < 50 { 0.0 } else { 20.0 };
        assert_eq!(flagged((0..120).map(step), quality::SPIKE), [50, 51, 52]);
    }

    #[test]
    fn a_slow_wave_a_ramp_and_a_quantised_value_have_no_spikes() {
        assert_eq!(flagged((0..500).map(|row| (row as f64 / 30.0).sin()), quality::SPIKE), NONE);
        assert_eq!(flagged((0..500).map(|row| row as f64 * 0.1), quality::SPIKE), NONE);
        assert_eq!(flagged((0..500).map(|row| (row as f64 / 9.0).sin().round()), quality::SPIKE), NONE);
    }

    #[test]
    fn a_change_of_scale_is_learned() {
        let louder = |row| if row < 100 { noise(row) } else { noise(row) * 40.0 };
        let spikes = flagged((0..400).map(louder), quality::SPIKE);
        assert!(!spikes.is_empty() && spikes.iter().all(|row| *row < 180), "{spikes:?}");
    }

    #[test]
    fn the_largest_values_break_nothing() {
        let mut checks = Checks::default();
        for row in 0..100 {
            checks.observe(if row % 3 == 0 { f64::MAX } else { -f64::MAX }, false, &RULE, 3);
            assert!(checks.spread.is_finite(), "row {row}");
        }
    }

    #[test]
    fn a_record_comes_back_at_any_row() {
        let mut checks = Checks::default();
        for row in 0..100 {
            let mut record = Vec::new();
            checks.write(&mut record);
            assert!(record.len() <= 70, "{}", record.len());
            let mut reader = Reader(&record);
            let mut read = Checks::read(&mut reader).unwrap();
            reader.end().unwrap();
            let mut again = Vec::new();
            read.write(&mut again);
            assert_eq!((&again, read.last()), (&record, checks.last()), "row {row}");
            // Read back, it goes on alike.
            let (next, after_break) = (noise(row), row % 30 == 29);
            let observe = |checks: &mut Checks| checks.observe(next, after_break, &RULE, RULE.stuck_after);
            assert_eq!(observe(&mut read), observe(&mut checks), "row {row}");
        }
    }
}
