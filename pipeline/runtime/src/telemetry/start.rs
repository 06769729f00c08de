//! How a process came up, and how new what it tells is.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use eddy_schemas::Timestamp;

use super::{Metric, Telemetry};

/// What is known once, and what only rises.
pub(super) struct Start {
    began: Instant,
    first_output: OnceLock<Duration>,
    caught_up: OnceLock<Duration>,
    newest: AtomicI64,
}

impl Start {
    pub(super) fn now() -> Self {
        Self {
            began: Instant::now(),
            first_output: OnceLock::new(),
            caught_up: OnceLock::new(),
            newest: AtomicI64::new(Timestamp::MIN),
        }
    }
}

impl Telemetry {
    /// Something went out: only the first time counts.
    pub(super) fn first_output(&self) {
        self.once(&self.start.first_output, Metric::FirstOutput);
    }

    /// Nothing is left to pull: only the first time counts.
    pub fn caught_up(&self) {
        self.once(&self.start.caught_up, Metric::CaughtUp);
    }

    fn once(&self, cell: &OnceLock<Duration>, metric: Metric) {
        if cell.get().is_none() {
            self.set(metric, cell.get_or_init(|| self.start.began.elapsed()).as_secs_f64());
        }
    }

    /// The newest event time of what went out: an older one changes nothing.
    pub fn newest_event(&self, time: Timestamp) {
        if time > self.start.newest.fetch_max(time, Ordering::Relaxed) {
            self.set(Metric::NewestEvent, time as f64 / 1e9);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_time_counts_and_the_newest_event() {
        let telemetry = Telemetry::new("detect", 0, Duration::from_secs(1));
        let of = |name: &str| {
            let text = telemetry.render();
            let line = text.lines().find(|line| line.starts_with(&format!("{name}{{")));
            line.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap())
        };
        assert_eq!((of("eddy_first_output_seconds"), of("eddy_caught_up_seconds")), (None, None));
        telemetry.emitted(1, 0);
        telemetry.idle();
        let first = (of("eddy_first_output_seconds").unwrap(), of("eddy_caught_up_seconds").unwrap());
        std::thread::sleep(Duration::from_millis(2));
        telemetry.emitted(1, 0);
        telemetry.idle();
        assert_eq!((of("eddy_first_output_seconds").unwrap(), of("eddy_caught_up_seconds").unwrap()), first);
        telemetry.newest_event(2_500_000_000);
        telemetry.newest_event(1_000_000_000);
        assert_eq!(of("eddy_newest_event_seconds"), Some(2.5));
    }
}
