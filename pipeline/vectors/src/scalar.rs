//! The coreset of a one-dimensional head: sorted values, found by bisection.

use half::f16;

use crate::{
    codec::{CodecError, Get, Put},
    growth::make_room,
};

/// Values of which no two are closer than epsilon.
///
/// A value within epsilon of a kept one is covered by it. When there is no room, epsilon grows and the values are swept
/// from below, keeping each that is epsilon past the last kept: the doubling algorithm of Charikar et al. (1997) for
/// streaming k-centre, so whatever was ever admitted stays within 3 epsilon of a kept value.
///
/// Values are kept as f16 under one scale, a power of two that grows to fit whatever is admitted; a query is never rounded. So kept
/// values are off by up to a 2,048th of themselves, and by more only where others are a billion times larger.
#[derive(Clone, Debug, PartialEq)]
pub struct ScalarCoreset {
    /// Ascending, in units of the scale.
    values: Vec<f16>,
    scale: f32,
    epsilon: f32,
    rows_max: usize,
    dirty: bool,
}

impl ScalarCoreset {
    /// An empty one that takes at most `bytes` in a record.
    pub fn new(bytes: usize) -> Self {
        let rows_max = (bytes.saturating_sub(12) / 2).max(4);
        Self { values: Vec::new(), scale: 1.0, epsilon: 0.0, rows_max, dirty: true }
    }

    /// How many values are kept.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Closer values than this count as one.
    pub fn epsilon(&self) -> f32 {
        self.epsilon
    }

    fn kept(&self, at: usize) -> f32 {
        self.values[at].to_f32() * self.scale
    }

    /// Index of the first kept value that is not below `value`.
    fn place(&self, value: f32) -> usize {
        self.values.partition_point(|kept| kept.to_f32() * self.scale < value)
    }

    /// The distance to the nearest kept value.
    pub fn nearest(&self, value: f32) -> Option<f32> {
        let at = self.place(value);
        let above = (at < self.len()).then(|| self.kept(at) - value);
        let below = at.checked_sub(1).map(|below| value - self.kept(below));
        match (below, above) {
            (Some(below), Some(above)) => Some(below.min(above)),
            (one, other) => one.or(other),
        }
    }

    /// Whether a kept value covers this one already.
    pub fn covers(&self, value: f32) -> bool {
        // What rounds to a kept value is no other.
        let value = f16::from_f32(value / self.scale).to_f32() * self.scale;
        self.nearest(value).is_some_and(|distance| distance <= self.epsilon)
    }

    /// Takes in a finite value. Returns whether it is kept: not so if a kept one covers it.
    pub fn admit(&mut self, value: f32) -> bool {
        if self.covers(value) {
            return false;
        }
        if self.values.len() >= self.rows_max {
            self.thin();
        }
        self.fit(value);
        let rounded = f16::from_f32(value / self.scale);
        let at = self.values.partition_point(|kept| *kept < rounded);
        make_room(&mut self.values, 1);
        self.values.insert(at, rounded);
        self.dirty = true;
        true
    }

    /// Doubles the scale until `value` fits.
    fn fit(&mut self, value: f32) {
        while value.abs() > f16::MAX.to_f32() * self.scale && self.scale < 1e30 {
            self.scale *= 2.0;
            self.values.iter_mut().for_each(|kept| *kept = f16::from_f32(kept.to_f32() / 2.0));
        }
    }

    fn thin(&mut self) {
        let enough = self.rows_max - (self.rows_max / 8).max(1);
        if self.epsilon == 0.0 {
            let range = self.kept(self.len() - 1) - self.kept(0);
            // A range of the smallest numbers there are would leave 0, which no factor makes larger.
            self.epsilon = (range / (4 * self.rows_max) as f32).max(f32::MIN_POSITIVE);
        }
        while self.values.len() > enough {
            self.epsilon *= 1.5;
            let mut last = f32::NEG_INFINITY;
            let (epsilon, scale) = (self.epsilon, self.scale);
            self.values.retain(|value| {
                let value = value.to_f32() * scale;
                let keep = value - last > epsilon;
                if keep {
                    last = value;
                }
                keep
            });
        }
    }

    /// Counts as changed.
    pub fn touch(&mut self) {
        self.dirty = true;
    }

    /// Whether it changed since it was last asked; a new one has.
    pub fn take_dirty(&mut self) -> bool {
        std::mem::take(&mut self.dirty)
    }

    /// Appends it to a record.
    pub fn save(&self, record: &mut Vec<u8>) {
        record.put_f32(self.scale);
        record.put_f32(self.epsilon);
        record.put_count(self.values.len());
        record.put_u16s(self.values.iter().map(|value| value.to_bits()));
    }

    /// Reads what [`Self::save`] wrote into an empty coreset of the same budget.
    ///
    /// # Errors
    /// If the record is not one of this budget.
    pub fn load(&mut self, record: &mut Get<'_>) -> Result<(), CodecError> {
        (self.scale, self.epsilon) = (record.f32()?, record.f32()?);
        let count = record.count(self.rows_max)?;
        self.values = (0..count).map(|_| record.u16().map(f16::from_bits)).collect::<Result<_, _>>()?;
        if !(self.scale.is_normal() && self.scale > 0.0 && self.epsilon.is_finite() && self.epsilon >= 0.0) {
            return Err(record.error("a scale or an epsilon is none"));
        }
        if !self.values.iter().all(|value| value.is_finite()) || !self.values.is_sorted() {
            return Err(record.error("the values of a coreset do not ascend"));
        }
        self.dirty = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_exact_until_it_is_full() {
        let mut coreset = ScalarCoreset::new(1024);
        assert_eq!(coreset.nearest(1.0), None);
        for i in 0..200 {
            coreset.admit((i * 37 % 200) as f32);
        }
        assert_eq!((coreset.len(), coreset.nearest(10.25), coreset.nearest(250.0)), (200, Some(0.25), Some(51.0)));
        assert!(!coreset.admit(10.0), "a duplicate is covered");
    }

    #[test]
    fn a_value_far_outside_is_kept_and_the_others_stay_where_they_are() {
        let mut coreset = ScalarCoreset::new(1024);
        coreset.admit(1.5);
        assert!(coreset.admit(1e9), "the scale grows to hold it");
        assert!(coreset.nearest(1e9).unwrap() < 1e9 / 2048.0 && coreset.nearest(1.5).unwrap() < 0.01);
        assert!(!coreset.admit(1e9) && coreset.nearest(3e9).unwrap() > 1e9, "a query is never rounded");
    }

    #[test]
    fn everything_ever_admitted_stays_covered_within_three_epsilon() {
        let mut coreset = ScalarCoreset::new(256);
        let values: Vec<f32> = (0..5000u32).map(|i| (i.wrapping_mul(2654435761) >> 8) as f32 / 1e6).collect();
        values.iter().for_each(|value| _ = coreset.admit(*value));
        let mut record = Vec::new();
        coreset.save(&mut record);
        assert!(record.len() <= 256);
        assert!(values.iter().all(|value| coreset.nearest(*value).unwrap() <= 3.0 * coreset.epsilon()));
    }

    /// Thinning never ended: the range of these, divided, is 0.
    #[test]
    fn values_at_the_end_of_the_number_line_are_thinned_too() {
        let mut coreset = ScalarCoreset::new(32);
        (0..100).for_each(|step| _ = coreset.admit(f32::from_bits(step)));
        assert!((1..=6).contains(&coreset.len()), "{}", coreset.len());
    }

    #[test]
    fn a_record_that_thinning_could_not_end_with_is_refused() {
        for (scale, epsilon, values) in [
            (1.0, -1.0, [0.0, 1.0]),
            (1.0, f32::NAN, [0.0, 1.0]),
            (0.0, 0.5, [0.0, 1.0]),
            (1.0, 0.5, [1.0, 0.0]),
            (1.0, 0.5, [0.0, f32::NAN]),
        ] {
            let mut record = Vec::new();
            record.put_f32(scale);
            record.put_f32(epsilon);
            record.put_count(values.len());
            values.iter().for_each(|value| record.put_u16(f16::from_f32(*value).to_bits()));
            assert!(ScalarCoreset::new(128).load(&mut Get::new(&record)).is_err(), "{scale} {epsilon} {values:?}");
        }
    }

    #[test]
    fn survives_a_record_and_goes_on_alike() {
        let mut one = ScalarCoreset::new(128);
        (0..100).for_each(|i| _ = one.admit((i as f32).sin() * 1e5));
        let mut record = Vec::new();
        one.save(&mut record);
        let mut two = ScalarCoreset::new(128);
        two.load(&mut Get::new(&record)).unwrap();
        (100..300).for_each(|i| assert_eq!(one.admit((i as f32).sin() * 2e5), two.admit((i as f32).sin() * 2e5)));
        assert_eq!((one.take_dirty(), one.take_dirty(), two.take_dirty()), (true, false, true));
        assert_eq!(one, two);
    }
}
