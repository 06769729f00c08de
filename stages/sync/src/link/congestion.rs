//! Only what is urgent goes while alerts take too long: then it is not bulk's cap that is wrong, but the link.

use std::time::Duration;

use tokio::time::Instant;

/// How long bulk is held back, at first and at most.
const HOLD: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));
/// Congestion that comes back within so many holds is the same, and holds twice as long.
const RETURNS_WITHIN: u32 = 5;

/// See the module.
#[derive(Debug)]
pub struct Congestion {
    after: Duration,
    hold: Duration,
    /// Held back until then, unless an alert shows earlier that it is better.
    until: Option<Instant>,
    /// When it last got better.
    better: Option<Instant>,
}

impl Congestion {
    /// An alert that takes longer than `after` shows congestion.
    pub fn new(after: Duration) -> Self {
        Self { after, hold: HOLD.0, until: None, better: None }
    }

    /// What is urgent was acknowledged after `took`. Whether congestion begins.
    pub fn acked(&mut self, took: Duration, now: Instant) -> bool {
        if took >= self.after {
            return self.slow(now);
        }
        if self.until.is_some() && took < self.after / 2 {
            self.clear(now);
        }
        false
    }

    /// What is urgent has waited for `age` and goes on waiting. Whether congestion begins.
    pub fn waits(&mut self, age: Duration, now: Instant) -> bool {
        age >= self.after && self.slow(now)
    }

    fn slow(&mut self, now: Instant) -> bool {
        let begins = self.until.is_none();
        if begins {
            let returned = self.better.is_some_and(|better| now - better < self.hold * RETURNS_WITHIN);
            self.hold = if returned { (self.hold * 2).min(HOLD.1) } else { HOLD.0 };
        }
        self.until = Some(now + self.hold);
        begins
    }

    fn clear(&mut self, now: Instant) {
        (self.until, self.better) = (None, Some(now));
    }

    /// Ends it if its time is over.
    pub fn end(&mut self, now: Instant) {
        if self.until.is_some_and(|until| now >= until) {
            self.clear(now);
        }
    }

    /// Until when all but alerts is held back; `None`: it is not.
    pub fn until(&self) -> Option<Instant> {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_slow_alert_holds_bulk_back_until_a_fast_one_or_for_a_while() {
        let mut congestion = Congestion::new(500 * MS);
        let now = Instant::now();
        assert!(!congestion.acked(499 * MS, now));
        assert!(congestion.acked(500 * MS, now), "begins");
        assert!(!congestion.acked(700 * MS, now + 100 * MS), "goes on");
        assert_eq!(congestion.until(), Some(now + 100 * MS + HOLD.0));
        assert!(!congestion.acked(300 * MS, now) && congestion.until().is_some(), "not fast enough");
        congestion.acked(200 * MS, now);
        assert_eq!(congestion.until(), None);
        assert!(congestion.waits(500 * MS, now + 200 * MS), "one that is not answered yet shows it too");
        let twice = now + 200 * MS + 2 * HOLD.0;
        congestion.end(twice - MS);
        assert_eq!(congestion.until(), Some(twice), "twice as long, since it came back at once");
        congestion.end(twice);
        assert_eq!(congestion.until(), None);
    }

    #[test]
    fn holds_grow_to_a_bound_and_shrink_after_a_good_while() {
        let mut congestion = Congestion::new(MS);
        let mut now = Instant::now();
        for _ in 0..10 {
            congestion.acked(MS, now);
            now = congestion.until().unwrap();
            congestion.end(now);
        }
        congestion.acked(MS, now);
        assert_eq!(congestion.until(), Some(now + HOLD.1));
        now = congestion.until().unwrap();
        congestion.end(now);
        now += HOLD.1 * RETURNS_WITHIN;
        congestion.acked(MS, now);
        assert_eq!(congestion.until(), Some(now + HOLD.0));
    }
}
