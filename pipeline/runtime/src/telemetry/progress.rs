//! Health by progress: whether something moves while something is pending.

use std::{
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{Metric, Telemetry};

/// What was seen to move last, and what waits.
pub(super) struct Progress {
    moved: Mutex<Instant>,
    busy: AtomicBool,
    stall_after: Duration,
    /// Last told, to name what stalls.
    lag: AtomicU64,
    in_flight: AtomicU64,
    full: AtomicBool,
    also: OnceLock<Box<dyn Fn() -> Result<(), String> + Send + Sync>>,
}

impl Progress {
    pub(super) fn new(stall_after: Duration) -> Self {
        Self {
            moved: Mutex::new(Instant::now()),
            busy: AtomicBool::new(false),
            stall_after,
            lag: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            full: AtomicBool::new(false),
            also: OnceLock::new(),
        }
    }

    /// For how long nothing has moved although something is pending; nothing is: no time.
    pub(super) fn age(&self) -> Duration {
        let moved = || self.moved.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        if self.busy.load(Ordering::Relaxed) { moved() } else { Duration::ZERO }
    }
}

impl Telemetry {
    /// What else [`Self::health_check`] asks, where one instance does several things at once. Only the first call counts.
    pub fn also_check(&self, health: impl Fn() -> Result<(), String> + Send + Sync + 'static) {
        let _ = self.progress.also.set(Box::new(health));
    }

    /// What the last pull left behind it, and how old its newest message was.
    pub fn lag(&self, messages: u64, seconds: f64) {
        self.progress.lag.store(messages, Ordering::Relaxed);
        self.set(Metric::LagMessages, messages as f64);
        self.set(Metric::LagSeconds, seconds);
    }

    /// Messages that are not acknowledged yet.
    pub fn in_flight(&self, messages: u64) {
        self.progress.in_flight.store(messages, Ordering::Relaxed);
        self.set(Metric::InFlightMessages, messages as f64);
    }

    /// A stream was full.
    pub fn backpressure(&self) {
        self.progress.full.store(true, Ordering::Relaxed);
        self.add(Metric::Backpressure, None, 1);
    }

    /// A stream answered otherwise than that it is full.
    pub fn has_room(&self) {
        self.progress.full.store(false, Ordering::Relaxed);
    }

    /// Whether the output stream refused what was published last.
    pub fn is_full(&self) -> bool {
        self.progress.full.load(Ordering::Relaxed)
    }

    /// The checkpoint or the state moved.
    pub fn progress(&self) {
        *self.progress.moved.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// All that was pulled is through, and nothing is left to pull.
    pub fn idle(&self) {
        self.progress.busy.store(false, Ordering::Relaxed);
        self.caught_up();
    }

    /// Something was pulled and is not through yet.
    pub fn busy(&self) {
        // The first message after a quiet time starts the clock.
        if !self.progress.busy.swap(true, Ordering::Relaxed) {
            self.progress();
        }
    }

    /// Readiness is progress while something is pending.
    ///
    /// # Errors
    /// For how long nothing moved, and what waits.
    pub fn health_check(&self) -> Result<(), String> {
        let Progress { stall_after, lag, in_flight, full, also, .. } = &self.progress;
        if let Some(check) = also.get() {
            check()?;
        }
        let age = self.progress.age();
        if age <= *stall_after {
            return Ok(());
        }
        let full = if full.load(Ordering::Relaxed) { "; the output stream is full" } else { "" };
        Err(format!(
            "messages are pending and nothing moved for {} s: {} not acknowledged, {} not pulled{full}",
            age.as_secs(),
            in_flight.load(Ordering::Relaxed),
            lag.load(Ordering::Relaxed)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_is_progress_while_something_is_pending() {
        let telemetry = Telemetry::new("detect", 0, Duration::ZERO);
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(telemetry.health_check(), Ok(()), "nothing pending");
        telemetry.busy();
        std::thread::sleep(Duration::from_millis(2));
        telemetry.lag(5, 0.0);
        telemetry.backpressure();
        let problem = telemetry.health_check().unwrap_err();
        assert!(problem.contains("nothing moved") && problem.contains("5 not pulled; the output stream is full"));
        telemetry.idle();
        assert_eq!(telemetry.health_check(), Ok(()));
    }
}
