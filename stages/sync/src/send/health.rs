//! Whether sending gets on. A link that is down is no illness: that is what the queue is for.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// See the module.
#[derive(Debug, Default)]
pub struct Health(Mutex<Option<(Instant, String)>>);

impl Health {
    fn state(&self) -> MutexGuard<'_, Option<(Instant, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is no connection.
    pub fn offline(&self) {
        *self.state() = None;
    }

    /// The region has taken something.
    pub fn progress(&self) {
        *self.state() = None;
    }

    /// Something failed although there is a connection.
    pub fn trouble(&self, problem: String) {
        let mut state = self.state();
        let since = state.as_ref().map_or_else(Instant::now, |(since, _)| *since);
        *state = Some((since, problem));
    }

    /// Readiness is that nothing has failed for `stall_after` without anything getting through.
    ///
    /// # Errors
    /// For how long, and what.
    pub fn check(&self, stall_after: Duration) -> Result<(), String> {
        match &*self.state() {
            Some((since, problem)) if since.elapsed() > stall_after => {
                Err(format!("the region has taken nothing for {} s: {problem}", since.elapsed().as_secs()))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_counts_from_its_beginning_and_ends_with_progress() {
        let health = Health::default();
        assert_eq!(health.check(Duration::ZERO), Ok(()));
        health.trouble("one".into());
        std::thread::sleep(Duration::from_millis(2));
        health.trouble("two".into());
        assert_eq!(health.check(Duration::from_secs(60)), Ok(()));
        assert!(health.check(Duration::from_millis(1)).unwrap_err().contains("two"));
        health.progress();
        assert_eq!(health.check(Duration::ZERO), Ok(()));
    }
}
