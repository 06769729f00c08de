//! A circuit breaker: whoever did not answer lately is not asked for a while, then once, and only when that is answered as before.

use std::time::Duration;

use tokio::time::Instant;

/// See the module.
#[derive(Debug)]
pub struct Breaker {
    failures_max: u32,
    pause: Duration,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Questions go out; so many failed one after the other.
    Closed(u32),
    /// None does before then.
    Open(Instant),
    /// One is out, of which it depends; if nothing is heard of it by then, another one goes.
    Trying(Instant),
}

impl Breaker {
    /// Opens when `failures_max` questions failed one after the other, for `pause`.
    pub fn new(failures_max: u32, pause: Duration) -> Self {
        Self { failures_max, pause, state: State::Closed(0) }
    }

    /// Whether a question may go out now; if so, it must be told what came of it.
    pub fn may_ask(&mut self, now: Instant) -> bool {
        match self.state {
            State::Closed(_) => true,
            State::Open(until) | State::Trying(until) if now < until => false,
            State::Open(_) | State::Trying(_) => {
                self.state = State::Trying(now + self.pause);
                true
            }
        }
    }

    /// A question was answered.
    pub fn answered(&mut self) {
        self.state = State::Closed(0);
    }

    /// A question was not.
    pub fn failed(&mut self, now: Instant) {
        let failures = match self.state {
            State::Closed(failures) => failures + 1,
            // One that was out when it opened says nothing new.
            State::Open(_) => return,
            State::Trying(_) => self.failures_max,
        };
        self.state =
            if failures >= self.failures_max { State::Open(now + self.pause) } else { State::Closed(failures) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_failures_in_a_row_and_closes_with_the_first_answer() {
        let (mut breaker, start) = (Breaker::new(3, Duration::from_secs(30)), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        for _ in 0..2 {
            breaker.failed(start);
            breaker.failed(start);
            breaker.answered();
        }
        (0..3).for_each(|_| breaker.failed(start));
        assert!(!breaker.may_ask(at(29)));
        breaker.failed(at(29));
        assert!(breaker.may_ask(at(30)), "the late failure is of before");
        assert!(!breaker.may_ask(at(31)), "one is out");
        breaker.failed(at(32));
        assert!(!breaker.may_ask(at(61)) && breaker.may_ask(at(62)));
        assert!(!breaker.may_ask(at(91)) && breaker.may_ask(at(92)), "nothing was heard of the one before");
        breaker.answered();
        assert!(breaker.may_ask(at(92)) && breaker.may_ask(at(92)));
        breaker.failed(at(93));
        assert!(breaker.may_ask(at(93)), "it counts anew");
    }
}
