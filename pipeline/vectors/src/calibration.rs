//! From a distance to its tail probability among the series' own past.
//!
//! A histogram with four bins to the octave says how often a distance was exceeded; past its upper twentieth, a Pareto
//! tail whose index is Hill's estimate (1975) extrapolates, as POT does for streams (Siffer et al. 2017).

use crate::codec::{CodecError, Get, Put};
use crate::fusion::TAIL_MIN;

/// Bins of the histogram: four to the octave, from 2^-12 to 2^12.
pub const BINS: usize = 96;
/// `to_bits() >> SHIFT` of a positive f32 numbers quarter octaves.
const SHIFT: u32 = 21;
/// The number of the first bin: that of 2^-12.
const FIRST: u32 = (127 - 12) << 2;
/// The tail begins where at most this part of the past lies above.
const TAIL_SHARE: f64 = 0.05;
/// At least that many distances make a tail.
const TAIL_COUNT_MIN: u32 = 8;
/// Below this many distances nothing is told: p is 1.
pub const COUNT_MIN: u32 = 100;
/// Pseudo-observations of a tail of index [`PRIOR_INDEX`]: short pasts lean on it.
const PRIOR_COUNT: f64 = 8.0;
/// A tail index usual for distances of ordinary sensors.
const PRIOR_INDEX: f64 = 4.0;
/// Past this many distances, all counts are halved: the recent past weighs more.
const COUNT_MAX: u32 = 40_000;

/// The distribution of a head's standardised distances.
///
/// A gateway has hundreds of thousands of these, so only the bins between the first and the last that anything fell into are kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    /// The first bin that is kept, and from there on.
    first: u8,
    bins: Box<[u16]>,
    count: u32,
    /// Where the tail begins, the part of the past at or above it, and its index: functions of the bins.
    tail_from: f32,
    tail_share: f64,
    tail_index: f64,
}

impl Default for Calibration {
    fn default() -> Self {
        let (tail_from, tail_share, tail_index) = (f32::INFINITY, 1.0, PRIOR_INDEX);
        Self { first: 0, bins: Box::default(), count: 0, tail_from, tail_share, tail_index }
    }
}

/// The bin of a standardised distance; what is below the first (0, negative, NaN) counts as the first.
pub fn bin_of(distance: f32) -> u8 {
    if distance > 0.0 { ((distance.to_bits() >> SHIFT).clamp(FIRST, FIRST + BINS as u32 - 1) - FIRST) as u8 } else { 0 }
}

/// Lower edge of a bin.
fn edge(bin: usize) -> f32 {
    f32::from_bits((FIRST + bin as u32) << SHIFT)
}

impl Calibration {
    /// Takes in bins of distances ([`bin_of`]), then fits the tail once.
    pub fn extend(&mut self, bins: &[u8]) {
        let wanted = bins.iter().map(|bin| usize::from(*bin).min(BINS - 1));
        if let (Some(least), Some(most)) = (wanted.clone().min(), wanted.clone().max()) {
            self.reach(least, most);
        }
        for bin in wanted {
            let bin = &mut self.bins[bin - usize::from(self.first)];
            *bin = bin.saturating_add(1);
            self.count += 1;
        }
        if self.count > COUNT_MAX {
            self.bins.iter_mut().for_each(|bin| *bin = bin.div_ceil(2));
        }
        self.fit();
    }

    /// How many distances weigh in it.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Keeps the bins from `least` to `most` too.
    fn reach(&mut self, least: usize, most: usize) {
        let (first, end) = self.kept();
        if self.bins.is_empty() {
            (self.first, self.bins) = (least as u8, vec![0; most + 1 - least].into());
        } else if least < first || most >= end {
            let (from, to) = (least.min(first), (most + 1).max(end));
            let mut bins = vec![0; to - from];
            bins[first - from..end - from].copy_from_slice(&self.bins);
            (self.first, self.bins) = (from as u8, bins.into());
        }
    }

    /// The first bin that is kept, and the one behind the last.
    fn kept(&self) -> (usize, usize) {
        (self.first.into(), usize::from(self.first) + self.bins.len())
    }

    /// What fell into a bin.
    fn inside(&self, bin: usize) -> u32 {
        bin.checked_sub(self.first.into()).and_then(|at| self.bins.get(at)).map_or(0, |bin| u32::from(*bin))
    }

    fn above(&self, bin: usize) -> u32 {
        let from = bin.saturating_sub(self.first.into()).min(self.bins.len());
        self.bins[from..].iter().map(|bin| u32::from(*bin)).sum()
    }

    fn fit(&mut self) {
        self.count = self.above(0);
        let (first, end) = self.kept();
        // There is nothing above the last one.
        let (mut from, mut above) = (end, 0);
        // Downwards to the last bin edge that keeps the share above it small; one more if that leaves too few.
        while from > 0 {
            let next = above + self.inside(from - 1);
            if above >= TAIL_COUNT_MIN && f64::from(next) > TAIL_SHARE * f64::from(self.count) {
                break;
            }
            (from, above) = (from - 1, next);
        }
        self.tail_from = if from == 0 { f32::INFINITY } else { edge(from) };
        self.tail_share = f64::from(above + 1) / f64::from(self.count + 1);
        let (mut logs, base) = (0.0, f64::from(edge(from)).ln());
        for bin in from.max(first)..end {
            if self.inside(bin) > 0 {
                let middle = (f64::from(edge(bin)) * f64::from(edge(bin + 1))).sqrt();
                logs += f64::from(self.inside(bin)) * (middle.ln() - base);
            }
        }
        self.tail_index = (f64::from(above) + PRIOR_COUNT) / (logs + PRIOR_COUNT / PRIOR_INDEX);
    }

    /// The probability that an ordinary distance is at least `distance`: in (0, 1], never rising with it.
    ///
    /// 1 while there are fewer than [`COUNT_MIN`] distances to judge by.
    pub fn tail(&self, distance: f32) -> f64 {
        if self.count < COUNT_MIN || distance <= edge(0) || distance.is_nan() {
            return 1.0;
        }
        if distance >= self.tail_from {
            let times = f64::from(distance) / f64::from(self.tail_from);
            return (self.tail_share * times.powf(-self.tail_index)).max(TAIL_MIN);
        }
        let bin = usize::from(bin_of(distance));
        let (low, high) = (edge(bin), edge(bin + 1));
        let part = f64::from(((high - distance) / (high - low)).clamp(0.0, 1.0));
        let above = f64::from(self.above(bin + 1)) + part * f64::from(self.inside(bin));
        (above + 1.0) / (f64::from(self.count) + 1.0)
    }

    /// The distance that a part `share` of the past lies above; 0 where there is no past.
    pub fn quantile_above(&self, share: f64) -> f32 {
        let mut above = 0;
        let (first, end) = self.kept();
        for bin in (first..end).rev() {
            let inside = self.inside(bin);
            let wanted = share * f64::from(self.count);
            if f64::from(above + inside) >= wanted && inside > 0 {
                let part = ((wanted - f64::from(above)) / f64::from(inside)) as f32;
                return edge(bin + 1) - part * (edge(bin + 1) - edge(bin));
            }
            above += inside;
        }
        0.0
    }

    /// Most bytes in a record.
    pub const BYTES_MAX: usize = 2 + 3 * BINS;

    /// Appends it to a record: the bins between the first and the last that are not empty.
    pub fn save(&self, record: &mut Vec<u8>) {
        let first = self.bins.iter().position(|bin| *bin > 0).unwrap_or(0);
        let end = self.bins.iter().rposition(|bin| *bin > 0).map_or(first, |last| last + 1);
        record.put_u8(self.first + first as u8);
        record.put_u8(self.first + end as u8);
        self.bins[first..end].iter().for_each(|bin| record.put_varint(u32::from(*bin)));
    }

    /// Reads what [`Self::save`] wrote into a new one.
    ///
    /// # Errors
    /// If the record is not one of a calibration.
    pub fn load(record: &mut Get<'_>) -> Result<Self, CodecError> {
        let mut calibration = Self::default();
        let (first, end) = (usize::from(record.u8()?), usize::from(record.u8()?));
        if first > end || end > BINS {
            return Err(record.error("a range of bins is not one"));
        }
        if end > first {
            calibration.reach(first, end - 1);
            for bin in &mut calibration.bins {
                let count = record.varint()?;
                *bin = u16::try_from(count).map_err(|_| record.error("a count of a bin is too large"))?;
            }
            calibration.fit();
        }
        Ok(calibration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `n` distances of a Pareto tail of index 3 from 0.1 on, evenly by probability.
    fn pareto(n: u32) -> Calibration {
        let bins: Vec<u8> =
            (1..=n).map(|i| bin_of(0.1 * (f64::from(i) / f64::from(n + 1)).powf(-1.0 / 3.0) as f32)).collect();
        let mut calibration = Calibration::default();
        bins.chunks(10).for_each(|bins| calibration.extend(bins));
        calibration
    }

    #[test]
    fn bins_are_in_order_and_bounded() {
        assert_eq!((bin_of(0.0), bin_of(-1.0), bin_of(f32::NAN), bin_of(f32::INFINITY)), (0, 0, 0, 95));
        let bins: Vec<u8> = (0..2000).map(|i| bin_of(1e-5 * 1.01f32.powi(i))).collect();
        assert!(bins.is_sorted());
        assert!((0..BINS).all(|bin| bin_of(edge(bin)) as usize == bin));
    }

    #[test]
    fn tells_probabilities_inside_and_past_the_sample() {
        let calibration = pareto(2000);
        for (distance, expected) in [(0.12, 0.58), (0.2, 0.125), (0.4, 0.0156), (2.0, 1.25e-4), (10.0, 1e-6)] {
            let p = calibration.tail(distance);
            assert!((p / expected).ln().abs() < 0.7, "{distance}: {p} not {expected}");
        }
        assert!((calibration.quantile_above(0.01) / 0.464 - 1.0).abs() < 0.15);
    }

    #[test]
    fn never_rises_and_stays_above_zero() {
        for n in [120, 500, 5000] {
            let calibration = pareto(n);
            let p: Vec<f64> = (0..4000).map(|i| calibration.tail(1e-4 * 1.006f32.powi(i))).collect();
            assert!(p.windows(2).all(|pair| pair[0] >= pair[1]), "{n}");
            assert!(p.iter().all(|p| *p > 0.0 && *p <= 1.0));
        }
    }

    #[test]
    fn says_nothing_before_it_knows_enough() {
        assert_eq!(pareto(90).tail(100.0), 1.0);
        assert_eq!(Calibration::default().tail(100.0), 1.0);
    }

    #[test]
    fn a_record_tells_the_same() {
        let one = pareto(700);
        let mut record = Vec::new();
        one.save(&mut record);
        assert!(record.len() <= Calibration::BYTES_MAX);
        assert_eq!(Calibration::load(&mut Get::new(&record)).unwrap(), one);
        assert!(Calibration::load(&mut Get::new(&[9, 3])).is_err());
    }
}
