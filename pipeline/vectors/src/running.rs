//! Mean and deviation of a stream, one value at a time (Welford 1962).

use crate::codec::{CodecError, Get, Put};

/// Count, mean and sum of squared deviations of the values so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Running {
    count: u32,
    mean: f64,
    squares: f64,
}

impl Running {
    /// Bytes in a record.
    pub const BYTES: usize = 20;

    /// Takes in a finite value.
    pub fn add(&mut self, value: f64) {
        self.count = self.count.saturating_add(1);
        let delta = value - self.mean;
        self.mean += delta / f64::from(self.count);
        self.squares += delta * (value - self.mean);
    }

    /// How many values there were.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Their mean; 0 before the first.
    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// Their standard deviation (of the population), at least a billionth of `1 + |mean|`: never 0, so it can divide.
    pub fn deviation(&self) -> f64 {
        let variance = self.squares / f64::from(self.count.max(1));
        variance.max(0.0).sqrt().max(1e-9 * (1.0 + self.mean.abs()))
    }

    /// Appends it to a record.
    pub fn save(&self, record: &mut Vec<u8>) {
        record.put_u32(self.count);
        record.put_f64(self.mean);
        record.put_f64(self.squares);
    }

    /// Reads it from a record.
    ///
    /// # Errors
    /// If the record ends before.
    pub fn load(record: &mut Get<'_>) -> Result<Self, CodecError> {
        let running = Self { count: record.u32()?, mean: record.f64()?, squares: record.f64()? };
        if running.mean.is_finite() && running.squares.is_finite() {
            Ok(running)
        } else {
            Err(record.error("a mean or deviation is no number"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_two_pass_formula_far_from_zero() {
        let values: Vec<f64> = (0..1000).map(|i| 1e6 + f64::from(i % 7)).collect();
        let mut running = Running::default();
        values.iter().for_each(|value| running.add(*value));
        let mean = values.iter().sum::<f64>() / 1000.0;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 1000.0;
        assert!((running.mean() - mean).abs() < 1e-6 && (running.deviation() - variance.sqrt()).abs() < 1e-6);
    }

    #[test]
    fn a_constant_has_a_deviation_that_can_divide() {
        let mut running = Running::default();
        (0..5).for_each(|_| running.add(2.0));
        assert!(running.deviation() > 0.0);
    }
}
