//! How the gateway is, minute by minute; and whether its memory is flat.

use std::{fmt, time::Duration};

use serde::Serialize;

use crate::{feed, ledger::Account, memory, trial::Trial};

/// How often memory is looked at.
const SAMPLE_EVERY: Duration = Duration::from_secs(5);
const MINUTE: Duration = Duration::from_secs(60);
/// What may be growth over half a soak and still be flat, as a share of the mean.
const GROWTH_MAX: f64 = 0.05;

/// A minute.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Minute {
    /// From the soak's beginning.
    pub minute: u64,
    /// Readings that the gateway acknowledged within it.
    pub received: u64,
    /// Readings that were scored.
    pub scored: u64,
    /// Scored on time / received.
    pub availability: f64,
    /// Readings that were acknowledged so far and are neither scored nor put aside.
    pub backlog: u64,
    /// Memory of all of the gateway's processes at its end (PSS), in MB of 2^20 bytes.
    pub pss_mb: f64,
    /// The part of it that no file holds.
    pub anonymous_mb: f64,
    /// What was done to the gateway so far.
    pub strikes: u64,
}

impl fmt::Display for Minute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "minute {:>3}: received={} scored={} availability={:.4} backlog={} pss_mb={:.1} anonymous_mb={:.1} strikes={}",
            self.minute,
            self.received,
            self.scored,
            self.availability,
            self.backlog,
            self.pss_mb,
            self.anonymous_mb,
            self.strikes
        )
    }
}

/// A look at memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sample {
    pub(super) seconds: f64,
    pub(super) pss_mb: f64,
    pub(super) anonymous_mb: f64,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Minutes {
    pub(super) all: Vec<Minute>,
    pub(super) samples: Vec<Sample>,
    before: Account,
}

impl Minutes {
    /// Looks, if it is time; the minute that has gone by, if one has.
    pub(super) fn look(&mut self, trial: &Trial<'_>, elapsed: Duration) -> Option<Minute> {
        if elapsed < SAMPLE_EVERY * (self.samples.len() as u32 + 1) {
            return None;
        }
        let pids = trial.sandbox.pids();
        let memory = memory::of(pids.into_values());
        let mb = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let sample =
            Sample { seconds: elapsed.as_secs_f64(), pss_mb: mb(memory.pss), anonymous_mb: mb(memory.anonymous) };
        self.samples.push(sample);
        if elapsed < MINUTE * (self.all.len() as u32 + 1) {
            return None;
        }
        let now = feed::open(&trial.books).account();
        let since = |what: fn(&Account) -> u64| what(&now).saturating_sub(what(&self.before));
        let (received, on_time, aside) = (since(|a| a.received), since(|a| a.on_time), since(|a| a.aside));
        let minute = Minute {
            minute: self.all.len() as u64 + 1,
            received,
            scored: since(|a| a.scored),
            // What was received a moment before it may be scored in this minute.
            availability: (on_time as f64 / received.saturating_sub(aside).max(1) as f64).min(1.0),
            backlog: now.lost,
            pss_mb: sample.pss_mb,
            anonymous_mb: sample.anonymous_mb,
            strikes: trial.done.values().sum(),
        };
        self.before = now;
        self.all.push(minute.clone());
        Some(minute)
    }

    /// What memory does in the second half.
    pub(super) fn trend(&self) -> Trend {
        let half = &self.samples[self.samples.len() / 2..];
        Trend::of(&half.iter().map(|sample| (sample.seconds, sample.anonymous_mb)).collect::<Vec<_>>())
    }
}

/// A straight line through the samples of anonymous memory: it is flat if it grows by less than a twentieth of its mean from its first to
/// its last sample, or by less than two standard deviations of what the line leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Trend {
    /// In MB.
    pub mean_mb: f64,
    /// The line's end less its beginning, in MB.
    pub growth_mb: f64,
    /// Standard deviation of what it leaves, in MB.
    pub noise_mb: f64,
    /// Whether that is flat.
    pub is_flat: bool,
}

impl Trend {
    fn of(samples: &[(f64, f64)]) -> Self {
        let n = samples.len() as f64;
        let (Some(first), Some(last)) = (samples.first(), samples.last()) else { return Self::default() };
        let mean = |of: fn(&(f64, f64)) -> f64| samples.iter().map(of).sum::<f64>() / n;
        let (at, mean_mb) = (mean(|s| s.0), mean(|s| s.1));
        let spread = samples.iter().map(|s| (s.0 - at).powi(2)).sum::<f64>();
        let slope = samples.iter().map(|s| (s.0 - at) * (s.1 - mean_mb)).sum::<f64>() / spread.max(1e-9);
        let left = samples.iter().map(|s| (s.1 - mean_mb - slope * (s.0 - at)).powi(2)).sum::<f64>();
        let (growth_mb, noise_mb) = (slope * (last.0 - first.0), (left / n).sqrt());
        Self { mean_mb, growth_mb, noise_mb, is_flat: growth_mb <= (GROWTH_MAX * mean_mb).max(2.0 * noise_mb) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_is_not_flat_and_what_jitters_is() {
        let line = |growth: f64, jitter: f64| {
            let sample = |n: u32| {
                let sign = if n.is_multiple_of(2) { 1.0 } else { -1.0 };
                (f64::from(n), 100.0 + growth * f64::from(n) / 99.0 + sign * jitter)
            };
            Trend::of(&(0..100).map(sample).collect::<Vec<_>>())
        };
        let growing = line(10.0, 0.5);
        assert!((growing.growth_mb - 10.0).abs() < 0.1 && !growing.is_flat, "{growing:?}");
        assert!(line(1.0, 0.5).is_flat && line(0.0, 0.0).is_flat && line(-30.0, 0.5).is_flat);
        assert!(line(8.0, 5.0).is_flat, "within what it jitters");
    }
}
