//! Readiness is progress while something is pending, sink by sink.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How a sink is doing.
#[derive(Debug)]
pub struct Progress {
    name: String,
    inner: Mutex<(u64, Instant, String)>,
}

impl Progress {
    /// Nothing pending.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), inner: Mutex::new((0, Instant::now(), String::new())) }
    }

    /// So many alerts are pending; whether one was settled since the last time, and what went wrong, if anything did.
    pub fn tell(&self, pending: u64, moved: bool, problem: Option<&str>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if moved || inner.0 == 0 {
            inner.1 = Instant::now();
        }
        inner.0 = pending;
        if let Some(problem) = problem {
            problem.clone_into(&mut inner.2);
        }
    }

    /// Whether it goes on while something is pending.
    ///
    /// # Errors
    /// How many alerts wait, for how long, and what went wrong last.
    pub fn check(&self, stall_after: Duration) -> Result<(), String> {
        let (pending, since, problem) = &*self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if *pending == 0 || since.elapsed() <= stall_after {
            return Ok(());
        }
        let seconds = since.elapsed().as_secs();
        Err(format!("sink {}: {pending} alerts wait and none was settled for {seconds} s: {problem}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_stalls_when_something_waits_and_nothing_moves() {
        let progress = Progress::new("phone");
        assert_eq!(progress.check(Duration::ZERO), Ok(()), "nothing pending");
        progress.tell(3, false, Some("503 Service Unavailable"));
        std::thread::sleep(Duration::from_millis(2));
        let problem = progress.check(Duration::ZERO).unwrap_err();
        assert!(problem.contains("phone: 3 alerts wait") && problem.contains("503"), "{problem}");
        assert_eq!(progress.check(Duration::from_secs(60)), Ok(()), "not for long");
        progress.tell(0, true, None);
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(progress.check(Duration::ZERO), Ok(()));
    }
}
