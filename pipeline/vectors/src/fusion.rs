//! Many tail probabilities into one: the weighted harmonic mean (Wilson 2019).
//!
//! The harmonic mean p-value needs no independence: heads look at the same samples, channels at the same weather. One
//! strong witness among `n` equal ones gives about `n` times its own p, as Bonferroni would; several add up.

/// The least tail probability that is told: below it extrapolation says nothing.
pub const TAIL_MIN: f64 = 1e-30;

/// A weighted harmonic mean under construction.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct HarmonicMean {
    weights: f64,
    inverse: f64,
}

impl HarmonicMean {
    /// Takes in `p`, in (0, 1], with a weight of at least 0.
    pub fn add(&mut self, p: f64, weight: f64) {
        self.weights += weight;
        self.inverse += weight / p.clamp(TAIL_MIN, 1.0);
    }

    /// The mean, in (0, 1]; 1 where nothing had weight.
    pub fn p(&self) -> f64 {
        if self.weights > 0.0 { (self.weights / self.inverse).clamp(TAIL_MIN, 1.0) } else { 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(parts: &[(f64, f64)], expected: f64) {
        let mut mean = HarmonicMean::default();
        parts.iter().for_each(|(p, weight)| mean.add(*p, *weight));
        assert!((mean.p() - expected).abs() <= 1e-9 * expected, "{parts:?}: {} not {expected}", mean.p());
    }

    #[test]
    fn is_the_weighted_harmonic_mean() {
        check(&[], 1.0);
        check(&[(0.5, 0.0)], 1.0);
        check(&[(0.25, 2.0)], 0.25);
        check(&[(1.0, 1.0), (0.001, 1.0)], 2.0 / 1001.0);
        check(&[(1.0, 3.0), (0.001, 1.0)], 4.0 / 1003.0);
        check(&[(0.0, 1.0)], TAIL_MIN);
    }
}
