//! How many traces begin.

use eddy_schemas::Timestamp;

/// A bucket of tokens: so many traces a second, one at least at once.
#[derive(Debug)]
pub struct Sampler {
    per_second: f64,
    tokens: f64,
    seen: Timestamp,
}

impl Sampler {
    /// That lets through `per_second`; 0: none.
    pub fn new(per_second: f64) -> Self {
        let per_second = per_second.max(0.0);
        Self { per_second, tokens: Self::most(per_second), seen: Timestamp::MIN }
    }

    /// What the bucket holds: a second's worth.
    fn most(per_second: f64) -> f64 {
        if per_second > 0.0 { per_second.max(1.0) } else { 0.0 }
    }

    /// Whether a trace may begin now.
    pub fn takes(&mut self, now: Timestamp) -> bool {
        // A clock that was set back fills nothing.
        let passed = now.saturating_sub(self.seen).max(0) as f64 / 1e9;
        self.seen = now;
        self.tokens = (self.tokens + passed * self.per_second).min(Self::most(self.per_second));
        let takes = self.tokens >= 1.0;
        if takes {
            self.tokens -= 1.0;
        }
        takes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    /// How many of `per_step` asked in each of `steps` steps of `step` begin.
    fn taken(per_second: f64, (steps, step): (i64, i64), per_step: usize) -> usize {
        let mut sampler = Sampler::new(per_second);
        (0..steps).map(|n| (0..per_step).filter(|_| sampler.takes(n * step)).count()).sum()
    }

    #[test]
    fn no_more_begin_than_may() {
        for (per_second, expected) in [(1.0, 10), (3.0, 30), (0.1, 1), (0.0, 0), (-1.0, 0)] {
            let taken = taken(per_second, (1_000, SECOND / 100), 7);
            let most = expected + Sampler::most(per_second) as usize;
            assert!((expected..=most).contains(&taken), "{per_second}: {taken}");
        }
    }

    #[test]
    fn what_is_rare_is_all_taken() {
        assert_eq!(taken(1.0, (50, 2 * SECOND), 1), 50);
        assert_eq!(taken(1e6, (50, 1), 1_000), 50_000);
    }

    #[test]
    fn a_clock_that_is_set_back_lets_no_more_through() {
        let mut sampler = Sampler::new(1.0);
        assert!(sampler.takes(100 * SECOND) && !sampler.takes(100 * SECOND));
        assert!(!sampler.takes(0) && !sampler.takes(SECOND / 2));
        assert!(sampler.takes(2 * SECOND));
    }
}
