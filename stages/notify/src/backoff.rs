//! How long a sink waits before it tries again.

use std::time::Duration;

use serde::Deserialize;

/// Exponential, with jitter: try n waits between half and all of `min * 2^(n-1)`, at most `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Backoff {
    /// After the first failure.
    pub min: Duration,
    /// At most.
    pub max: Duration,
}

impl Backoff {
    /// The wait after failure number `tries` (from 1). The jitter comes from `key`, so that a schedule can be repeated, and
    /// those who failed together do not come back together.
    pub fn wait(&self, tries: u32, key: &str) -> Duration {
        let doubled = self.min.saturating_mul(1 << tries.saturating_sub(1).min(30));
        let full = doubled.min(self.max);
        full / 2 + full.mul_f64(fraction(key, tries) / 2.0)
    }
}

/// In 0 to 1, spread evenly: FNV-1a, then the finish of splitmix64.
fn fraction(key: &str, tries: u32) -> f64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ u64::from(tries);
    for byte in key.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((hash ^ (hash >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_bound_and_differ() {
        let backoff = Backoff { min: Duration::from_millis(100), max: Duration::from_secs(5) };
        let mut different = std::collections::BTreeSet::new();
        for key in ["a-0", "a-1", "b-0"] {
            for tries in 1..60 {
                let full = Duration::from_millis(100 * (1 << (tries - 1).min(20))).min(backoff.max);
                let wait = backoff.wait(tries, key);
                assert!(wait >= full / 2 && wait <= full, "try {tries}: {wait:?} of {full:?}");
                assert_eq!(wait, backoff.wait(tries, key), "the schedule can be repeated");
            }
            different.insert(backoff.wait(10, key));
        }
        assert_eq!(different.len(), 3);
    }
}
