//! Bursts: what a vibration sensor sends every minute or so, many values sampled fast, in one row.
//!
//! The row's value is the burst's RMS about its mean, its time that of the first value. The burst ends at preprocess,
//! which makes a *spectrum* of fixed size of it: from SAMPLES on a row has that.

/// Fewest values of a burst.
pub const VALUES_MIN: usize = 64;
/// Most values of a burst.
pub const VALUES_MAX: usize = 65_536;
/// Lowest sampling rate, in hertz.
pub const RATE_HZ_MIN: f64 = 1e-3;
/// Highest sampling rate, in hertz.
pub const RATE_HZ_MAX: f64 = 100_000.0;
/// Bands of a spectrum.
pub const BANDS: usize = 32;

/// Power in decibels (of the reading's unit, squared) in each of [`BANDS`] bands between 0 and half the sampling rate.
pub type Spectrum = [f32; BANDS];

/// The values of one burst.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Burst<'a> {
    /// How often the sensor sampled, in hertz.
    pub rate_hz: f64,
    /// What it sampled.
    pub values: &'a [f32],
}

impl Burst<'_> {
    /// What is wrong with it, if something is: too few or too many values, one that is not finite, a rate out of range.
    pub fn problem(&self) -> Option<String> {
        if let Some(problem) = rate_problem(self.rate_hz) {
            return Some(problem);
        }
        let count = self.values.len();
        if !(VALUES_MIN..=VALUES_MAX).contains(&count) {
            return Some(format!("a burst of {count} values: {VALUES_MIN} to {VALUES_MAX} are taken"));
        }
        let at = self.values.iter().position(|value| !value.is_finite())?;
        Some(format!("a burst whose value {at} is {}, not finite", self.values[at]))
    }

    /// The mean of the values, summed in their order; 0 of none.
    pub fn mean(&self) -> f64 {
        self.values.iter().map(|value| f64::from(*value)).sum::<f64>() / self.values.len().max(1) as f64
    }

    /// The root of their mean square about the mean.
    pub fn rms(&self) -> f64 {
        let mean = self.mean();
        let squares = self.values.iter().map(|value| (f64::from(*value) - mean).powi(2)).sum::<f64>();
        (squares / self.values.len().max(1) as f64).sqrt()
    }
}

/// What is wrong with a sampling rate, if something is.
pub fn rate_problem(rate_hz: f64) -> Option<String> {
    let taken = (RATE_HZ_MIN..=RATE_HZ_MAX).contains(&rate_hz);
    (!taken).then(|| format!("a burst sampled at {rate_hz} Hz: {RATE_HZ_MIN} to {RATE_HZ_MAX} is taken"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rms_is_about_the_mean() {
        let values: Vec<f32> = (0..100).map(|i| 1000.0 + if i % 2 == 0 { 3.0 } else { -3.0 }).collect();
        let burst = Burst { rate_hz: 100.0, values: &values };
        assert_eq!((burst.mean(), burst.rms(), burst.problem()), (1000.0, 3.0, None));
        let largest = [f32::MAX, -f32::MAX].repeat(50);
        assert!(Burst { rate_hz: 1.0, values: &largest }.rms().is_finite());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_value() {
        let mut values = vec![1.0; 64];
        for (rate_hz, part) in [(0.0, "at 0 Hz"), (f64::NAN, "NaN Hz"), (100_001.0, "100001 Hz")] {
            let problem = Burst { rate_hz, values: &values }.problem().unwrap();
            assert!(problem.contains(part), "{problem}");
        }
        for (count, part) in [(0, "of 0 values"), (63, "of 63 values"), (65_537, "of 65537 values")] {
            let problem = Burst { rate_hz: 1.0, values: &vec![1.0; count] }.problem().unwrap();
            assert!(problem.contains(part), "{problem}");
        }
        values[7] = f32::INFINITY;
        assert!(Burst { rate_hz: 1.0, values: &values }.problem().unwrap().contains("value 7 is inf"));
    }
}
