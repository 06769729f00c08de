//! The coreset of a one-dimensional head: sorted values, found by bisection.

use crate::codec::{CodecError, Get, Put};

/// Values of which no two are closer than epsilon.
///
/// A value within epsilon of a kept one is covered by it. When there is no room, epsilon grows and the values are swept
/// from below, keeping each that is epsilon past the last kept: the doubling algorithm of Charikar et al. (1997) for
/// streaming k-centre, so whatever was ever admitted stays within 3 epsilon of a kept value.
#[derive(Clone, Debug, PartialEq)]
pub struct ScalarCoreset {
    values: Vec<f32>,
    epsilon: f32,
    rows_max: usize,
    dirty: bool,
}

impl ScalarCoreset {
    /// An empty one that takes at most `bytes` in a record.
    pub fn new(bytes: usize) -> Self {
        let rows_max = (bytes.saturating_sub(8) / 4).max(4);
        Self { values: Vec::new(), epsilon: 0.0, rows_max, dirty: true }
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

    /// The distance to the nearest kept value.
    pub fn nearest(&self, value: f32) -> Option<f32> {
        let at = self.values.partition_point(|kept| *kept < value);
        let above = self.values.get(at).map(|kept| kept - value);
        let below = at.checked_sub(1).map(|below| value - self.values[below]);
        match (below, above) {
            (Some(below), Some(above)) => Some(below.min(above)),
            (one, other) => one.or(other),
        }
    }

    /// Whether a kept value covers this one already.
    pub fn covers(&self, value: f32) -> bool {
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
        let at = self.values.partition_point(|kept| *kept < value);
        self.values.insert(at, value);
        self.dirty = true;
        true
    }

    fn thin(&mut self) {
        let enough = self.rows_max - (self.rows_max / 8).max(1);
        if self.epsilon == 0.0 {
            let range = self.values[self.values.len() - 1] - self.values[0];
            // A range of the smallest numbers there are would leave 0, which no factor makes larger.
            self.epsilon = (range / (4 * self.rows_max) as f32).max(f32::MIN_POSITIVE);
        }
        while self.values.len() > enough {
            self.epsilon *= 1.5;
            let mut last = f32::NEG_INFINITY;
            let epsilon = self.epsilon;
            self.values.retain(|value| {
                let keep = value - last > epsilon;
                if keep {
                    last = *value;
                }
                keep
            });
        }
    }

    /// Whether it changed since it was last asked; a new one has.
    pub fn take_dirty(&mut self) -> bool {
        std::mem::take(&mut self.dirty)
    }

    /// Appends it to a record.
    pub fn save(&self, record: &mut Vec<u8>) {
        record.put_f32(self.epsilon);
        record.put_count(self.values.len());
        self.values.iter().for_each(|value| record.put_f32(*value));
    }

    /// Reads what [`Self::save`] wrote into an empty coreset of the same budget.
    ///
    /// # Errors
    /// If the record is not one of this budget.
    pub fn load(&mut self, record: &mut Get<'_>) -> Result<(), CodecError> {
        self.epsilon = record.f32()?;
        let count = record.count(self.rows_max)?;
        self.values = (0..count).map(|_| record.f32()).collect::<Result<_, _>>()?;
        if !(self.epsilon.is_finite() && self.epsilon >= 0.0) {
            return Err(record.error("an epsilon is no distance"));
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
        for (epsilon, values) in [(-1.0, [0.0, 1.0]), (f32::NAN, [0.0, 1.0]), (0.5, [1.0, 0.0]), (0.5, [0.0, f32::NAN])]
        {
            let mut record = Vec::new();
            record.put_f32(epsilon);
            record.put_count(values.len());
            values.iter().for_each(|value| record.put_f32(*value));
            assert!(ScalarCoreset::new(128).load(&mut Get::new(&record)).is_err(), "{epsilon} {values:?}");
        }
    }

    #[test]
    fn survives_a_record_and_goes_on_alike() {
        let mut one = ScalarCoreset::new(128);
        (0..100).for_each(|i| _ = one.admit((i as f32).sin()));
        let mut record = Vec::new();
        one.save(&mut record);
        let mut two = ScalarCoreset::new(128);
        two.load(&mut Get::new(&record)).unwrap();
        (100..300).for_each(|i| assert_eq!(one.admit((i as f32).sin()), two.admit((i as f32).sin())));
        assert_eq!((one.take_dirty(), one.take_dirty(), two.take_dirty()), (true, false, true));
        assert_eq!(one, two);
    }
}
