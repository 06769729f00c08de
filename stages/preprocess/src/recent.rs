//! The times of a series' last samples: what tells a reading that comes twice from one that comes late.

use std::collections::VecDeque;

use eddy_schemas::Timestamp;

use crate::record::{Reader, put_varint};

/// How many times are remembered. A reading that comes twice with more than this many in between counts as late.
pub const RECENT_MAX: usize = 64;

/// The times of the last accepted readings, ascending.
#[derive(Debug, Default)]
pub struct Recent(VecDeque<Timestamp>);

impl Recent {
    /// The last one.
    pub fn last(&self) -> Option<Timestamp> {
        self.0.back().copied()
    }

    /// The steps from each to the next, the newest first.
    pub fn steps(&self) -> impl Iterator<Item = u64> {
        self.0.iter().rev().zip(self.0.iter().rev().skip(1)).map(|(later, time)| later.abs_diff(*time))
    }

    /// Whether one of them is within `first..=last`.
    pub fn any_within(&self, (first, last): (Timestamp, Timestamp)) -> bool {
        self.0.get(self.0.partition_point(|time| *time < first)).is_some_and(|time| *time <= last)
    }

    /// Remembers one more; it is later than all before.
    pub fn push(&mut self, time: Timestamp) {
        if self.0.len() == RECENT_MAX {
            self.0.pop_front();
        }
        self.0.push_back(time);
    }

    /// Writes the last time, then the distances back from it, in units of their greatest common divisor: a series that
    /// keeps its pace takes a byte for each.
    pub fn write(&self, record: &mut Vec<u8>) {
        put_varint(record, self.0.len() as u64);
        let Some(last) = self.last() else { return };
        record.extend(last.to_le_bytes());
        let unit = self.steps().fold(0, greatest_common_divisor).max(1);
        put_varint(record, unit);
        self.steps().for_each(|step| put_varint(record, step / unit));
    }

    /// Reads what [`Self::write`] wrote.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, String> {
        let count = reader.count("times", RECENT_MAX)?;
        let mut times = VecDeque::with_capacity(count);
        if count > 0 {
            let mut time = reader.i64()?;
            times.push_front(time);
            let unit = reader.varint()?;
            for _ in 1..count {
                let step = reader.varint()?.checked_mul(unit).filter(|step| *step > 0);
                time = step.and_then(|step| time.checked_sub_unsigned(step)).ok_or("times do not ascend")?;
                times.push_front(time);
            }
        }
        Ok(Self(times))
    }
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(times: &[i64]) -> Recent {
        let mut recent = Recent::default();
        times.iter().for_each(|time| recent.push(*time));
        recent
    }

    #[test]
    fn remembers_the_last_ones_only() {
        let recent = of(&(0..100).map(|i| i * 10).collect::<Vec<_>>());
        assert_eq!(recent.last(), Some(990));
        for (span, expected) in
            [((990, 990), true), ((360, 360), true), ((350, 350), false), ((361, 369), false), ((361, 370), true)]
        {
            assert_eq!(recent.any_within(span), expected, "{span:?}");
        }
        assert!(!Recent::default().any_within((i64::MIN, i64::MAX)));
    }

    #[test]
    fn a_record_is_small_and_comes_back() {
        let second = 1_000_000_000;
        let jitter = |i: i64| i * second + (i * i * 7_919) % 1_000_003;
        for (times, bytes_max) in [
            (vec![], 1),
            (vec![i64::MIN], 10),
            (vec![i64::MIN, -1, i64::MAX], 30),
            ((0..64).map(|i| i * second).collect(), 80),
            ((0..64).map(jitter).collect(), 340),
            ((-32..32).map(|i| i * (i64::MAX / 33) + i * i).collect(), 600),
        ] {
            let mut record = Vec::new();
            of(&times).write(&mut record);
            assert!(record.len() <= bytes_max, "{} bytes for {times:?}", record.len());
            let mut reader = Reader(&record);
            assert_eq!(Recent::read(&mut reader).unwrap().0, times);
            reader.end().unwrap();
        }
    }

    #[test]
    fn a_record_whose_times_do_not_ascend_is_refused() {
        let mut record = vec![2];
        record.extend(5i64.to_le_bytes());
        record.extend([0, 0]);
        assert!(Recent::read(&mut Reader(&record)).unwrap_err().contains("ascend"));
    }
}
