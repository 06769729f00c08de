//! How the tail probabilities of scored rows are spread: a histogram by decades, counted by the stage and told per output.

use metrics::Recorder as _;

use super::{METADATA, Metric, Telemetry};

/// The upper bounds of the decades, as they stand in the label; what is below the smallest counts in it.
const DECADES: [(f64, &str); TAIL_DECADES] = [
    (1e-8, "1e-8"),
    (1e-7, "1e-7"),
    (1e-6, "1e-6"),
    (1e-5, "1e-5"),
    (1e-4, "1e-4"),
    (1e-3, "1e-3"),
    (1e-2, "1e-2"),
    (1e-1, "1e-1"),
    (1.0, "1"),
];
/// How many there are.
pub const TAIL_DECADES: usize = 9;

/// Rows by the decade of their tail probability.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tails([u64; TAIL_DECADES]);

impl Tails {
    /// Counts a row; what is no probability counts as 1.
    pub fn count(&mut self, tail: f64) {
        // So many bounds lie below it: no branch a row.
        let below = DECADES.iter().map(|(bound, _)| usize::from(tail > *bound)).sum::<usize>();
        self.0[if tail.is_nan() { TAIL_DECADES - 1 } else { below.min(TAIL_DECADES - 1) }] += 1;
    }

    /// Adds what was counted elsewhere.
    pub fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, more)| *sum += more);
    }
}

impl Telemetry {
    /// Scored rows went out.
    pub fn scored(&self, tails: &Tails) {
        for ((_, decade), rows) in DECADES.iter().zip(tails.0) {
            self.recorder.register_counter(&self.key(Metric::ScoredRows, Some(decade)), &METADATA).increment(rows);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_counts_in_the_decade_whose_bound_it_does_not_pass() {
        let mut tails = Tails::default();
        for tail in [1.0, 0.11, 0.1, 0.01, 1e-8, 1e-30, 0.0, f64::NAN, 2.0] {
            tails.count(tail);
        }
        let mut both = tails;
        both.add(&tails);
        assert_eq!(tails.0, [3, 0, 0, 0, 0, 0, 1, 1, 4]);
        let telemetry = Telemetry::for_tests();
        telemetry.scored(&both);
        let text = telemetry.render();
        for line in ["tail=\"1e-8\"} 6", "tail=\"1e-3\"} 0", "tail=\"1\"} 8"] {
            assert!(text.contains(line), "{line:?} is missing in:\n{text}");
        }
    }
}
