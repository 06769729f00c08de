//! Samples of a series that is being commissioned, in few bytes.
//!
//! 30,000 series hold 400 samples each at worst, so a sample is written as it differs from the one before: a tag; the
//! change of the time step; period and quality where they change; and the value, which from a sensor is a decimal of few
//! digits, as the difference of two integers, or as it is. That is 3 bytes for a regular sample of a sensor, 10 for any
//! value at regular times. The bytes are also what is saved: what was written never changes, so only their end is saved again.

use eddy_schemas::Timestamp;

use crate::shape::HeldShapes;

const PERIOD_CHANGED: u8 = 1;
const QUALITY_CHANGED: u8 = 2;
/// From this bit of the tag on: 0 where the value stands as it is, else 1 + its decimals.
const DECIMALS_SHIFT: u32 = 2;
/// Decimals that are tried: 0 to 4.
const POWERS: [f64; 5] = [1.0, 10.0, 100.0, 1000.0, 10_000.0];
/// Differences past this would take more bytes than the value itself.
const DIFFERENCE_MAX: i64 = 1 << 48;
/// Bytes that the log grows by: doubling would waste half of it in thousands of series.
const GROWTH_BYTES: usize = 256;

/// One sample.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sample {
    pub(crate) time: Timestamp,
    pub(crate) value: f64,
    pub(crate) quality: u16,
    pub(crate) period: i64,
}

/// What the next sample is written against.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Before {
    sample: Sample,
    step: i64,
}

/// The samples so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Held {
    rows: usize,
    before: Before,
    log: Vec<u8>,
    /// Of those that are bursts; saved apart.
    pub(crate) shapes: HeldShapes,
}

impl Held {
    pub(crate) fn len(&self) -> usize {
        self.rows
    }

    pub(crate) fn log(&self) -> &[u8] {
        &self.log
    }

    pub(crate) fn push(&mut self, sample: Sample) {
        if self.log.capacity() - self.log.len() < 40 {
            self.log.reserve_exact(GROWTH_BYTES);
        }
        let last = self.before.sample;
        let step = sample.time.wrapping_sub(last.time);
        let period_changed = if sample.period == last.period { 0 } else { PERIOD_CHANGED };
        let quality_changed = if sample.quality == last.quality { 0 } else { QUALITY_CHANGED };
        let decimal = decimal(sample.value, last.value);
        let decimals = decimal.map_or(0, |(decimals, _)| decimals + 1);
        self.log.push(period_changed | quality_changed | decimals << DECIMALS_SHIFT);
        write_signed(&mut self.log, step.wrapping_sub(self.before.step));
        if period_changed != 0 {
            self.log.extend_from_slice(&sample.period.to_le_bytes());
        }
        if quality_changed != 0 {
            self.log.extend_from_slice(&sample.quality.to_le_bytes());
        }
        match decimal {
            Some((_, difference)) => write_signed(&mut self.log, difference),
            None => self.log.extend_from_slice(&sample.value.to_le_bytes()),
        }
        self.before = Before { sample, step };
        self.rows += 1;
    }

    /// The samples, in order; less than [`Self::len`] if the log is damaged.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Sample> + '_ {
        let mut reader = Reader(&self.log);
        let mut before = Before::default();
        (0..self.rows).map_while(move |_| {
            before = reader.next(before)?;
            Some(before.sample)
        })
    }

    /// Rebuilds from a log that was saved in pieces.
    ///
    /// # Errors
    /// If the log does not hold exactly `rows` samples.
    pub(crate) fn from_log(log: Vec<u8>, rows: usize) -> Result<Self, String> {
        let mut reader = Reader(&log);
        let mut before = Before::default();
        for row in 0..rows {
            before = reader.next(before).ok_or_else(|| format!("its log ends in sample {row} of {rows}"))?;
            if !before.sample.value.is_finite() {
                return Err(format!("sample {row} of its log is {}, not finite", before.sample.value));
            }
        }
        if !reader.0.is_empty() {
            return Err(format!("its log has {} bytes more than its {rows} samples", reader.0.len()));
        }
        Ok(Self { rows, before, log, shapes: HeldShapes::default() })
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn next(&mut self, before: Before) -> Option<Before> {
        let [tag] = self.take()?;
        let step = before.step.wrapping_add(self.signed()?);
        let mut sample = before.sample;
        sample.time = sample.time.wrapping_add(step);
        if tag & PERIOD_CHANGED != 0 {
            sample.period = i64::from_le_bytes(self.take()?);
        }
        if tag & QUALITY_CHANGED != 0 {
            sample.quality = u16::from_le_bytes(self.take()?);
        }
        sample.value = match usize::from(tag >> DECIMALS_SHIFT) {
            0 => f64::from_le_bytes(self.take()?),
            decimals => {
                let power = *POWERS.get(decimals - 1)?;
                scaled(sample.value, power).wrapping_add(self.signed()?) as f64 / power
            }
        };
        Some(Before { sample, step })
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    fn signed(&mut self) -> Option<i64> {
        let mut zigzag = 0u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.take()?;
            zigzag |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64));
            }
        }
        None
    }
}

/// `value` as an integer of its last decimal; what does not fit is cut off.
fn scaled(value: f64, power: f64) -> i64 {
    (value * power).round() as i64
}

/// The decimals of `value` and its difference from `last` in units of the last one, if that gives back its every bit.
fn decimal(value: f64, last: f64) -> Option<(u8, i64)> {
    let exact = |power: &f64| (scaled(value, *power) as f64 / *power).to_bits() == value.to_bits();
    let decimals = POWERS.iter().position(exact)?;
    let power = POWERS[decimals];
    let difference = scaled(value, power).wrapping_sub(scaled(last, power));
    (-DIFFERENCE_MAX..DIFFERENCE_MAX).contains(&difference).then_some((decimals as u8, difference))
}

/// Seven bits a byte, lowest first, the sign in bit 0: small numbers of either sign are short.
fn write_signed(log: &mut Vec<u8>, number: i64) {
    let mut zigzag = ((number << 1) ^ (number >> 63)) as u64;
    while zigzag >= 0x80 {
        log.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    log.push(zigzag as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Sample> {
        let mut samples: Vec<Sample> = (0..100)
            .map(|i| Sample {
                time: 1_700_000_000_000_000_000 + i * 1_000_000_000,
                value: i as f64 / 7.0,
                quality: 0,
                period: 9,
            })
            .collect();
        samples[50].quality = 0b101;
        samples[60].time += 123_456_789;
        samples[70].period = -1;
        samples[80].value = -0.0;
        for (i, value) in
            [23.45, 23.5, -7.0, 1e15, 0.1 + 0.2, 4e-5, 1e300, 0.0001, 9_007_199_254_740_993.0].into_iter().enumerate()
        {
            samples[90 + i].value = value;
        }
        samples.push(Sample { time: i64::MAX, value: f64::MAX, quality: u16::MAX, period: i64::MIN });
        samples.push(Sample { time: i64::MIN, value: f64::MIN_POSITIVE, quality: 0, period: 0 });
        samples
    }

    #[test]
    fn gives_back_every_bit_also_after_a_save() {
        let mut held = Held::default();
        samples().into_iter().for_each(|sample| held.push(sample));
        let bits =
            |held: &Held| held.iter().map(|s| (s.time, s.value.to_bits(), s.quality, s.period)).collect::<Vec<_>>();
        let expected: Vec<_> = samples().iter().map(|s| (s.time, s.value.to_bits(), s.quality, s.period)).collect();
        assert_eq!(bits(&held), expected);
        assert_eq!(Held::from_log(held.log().to_vec(), held.len()).unwrap(), held);
    }

    #[test]
    fn a_regular_sample_takes_three_bytes_as_a_decimal_and_ten_as_it_is() {
        for (value, bytes) in [(21.37, 3), (21.0, 3), (-0.0, 10), (1.0 / 3.0, 10)] {
            let mut held = Held::default();
            for i in 0..3 {
                held.push(Sample { time: i * 1_000_000_000, value: 21.4, quality: 0, period: 9 });
            }
            let before = held.log().len();
            held.push(Sample { time: 3_000_000_000, value, quality: 0, period: 9 });
            assert_eq!(held.log().len() - before, bytes, "{value}");
        }
    }

    #[test]
    fn a_damaged_log_is_refused() {
        let mut held = Held::default();
        samples().into_iter().for_each(|sample| held.push(sample));
        let log = held.log().to_vec();
        assert!(Held::from_log(log[..log.len() - 1].to_vec(), held.len()).is_err());
        assert!(Held::from_log(log.clone(), held.len() - 1).is_err());
        assert!(Held::from_log(vec![0xff; 64], 1).is_err());
    }
}
