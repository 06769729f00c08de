//! Silence: a device from which nothing came for too long.
//!
//! It shows in two ways. **In the recording**, when a reading comes after a gap, in arrival or in event time: told as
//! begun and ended at once, whatever the speed of the replay. **By the wall clock**, while the gap still lasts: nothing
//! but the passing of time can tell that, so it is kept out of the saved state, and out of the samples altogether.
//!
//! "Now" is read off the recording as long as rows come (the newest arrival), and goes on with the wall clock from
//! there when none do. So a stage that catches up on an hour's backlog does not take every device for silent.

use eddy_schemas::Timestamp;

/// The stage's notion of now, in arrival time.
#[derive(Debug, Default)]
pub struct ArrivalClock {
    newest: Option<Timestamp>,
    /// The wall clock when `newest` was found to have moved.
    moved_at: Option<Timestamp>,
    moved: bool,
}

impl ArrivalClock {
    /// A row arrived at `arrival`.
    pub fn heard(&mut self, arrival: Timestamp) {
        self.newest = self.newest.max(Some(arrival));
        self.moved = true;
    }

    /// Now, given the wall clock; `None` if nothing has ever arrived.
    pub fn now(&mut self, wall: Timestamp) -> Option<Timestamp> {
        if std::mem::take(&mut self.moved) || self.moved_at.is_none() {
            self.moved_at = Some(wall);
        }
        let since = wall.saturating_sub(self.moved_at?).max(0);
        Some(self.newest?.saturating_add(since))
    }
}

/// When a device was last heard.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LastHeard {
    /// The newest event time among its rows.
    pub newest: Timestamp,
    /// The newest arrival.
    pub arrival: Timestamp,
}

impl LastHeard {
    /// How long it had been silent, in nanoseconds, when a row comes.
    pub fn silence_before(&self, time: Timestamp, arrival: Timestamp) -> i64 {
        time.saturating_sub(self.newest).max(arrival.saturating_sub(self.arrival)).max(0)
    }

    /// With one more row.
    pub fn and(&self, time: Timestamp, arrival: Timestamp) -> Self {
        Self { newest: self.newest.max(time), arrival: self.arrival.max(arrival) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn now_follows_the_recording_and_runs_on_when_it_stops() {
        let mut clock = ArrivalClock::default();
        assert_eq!(clock.now(1_000), None);
        clock.heard(50);
        clock.heard(40);
        for (wall, expected) in [(2_000, 50), (2_300, 350), (2_100, 150)] {
            assert_eq!(clock.now(wall), Some(expected), "at {wall}");
        }
        clock.heard(60);
        assert_eq!((clock.now(2_500), clock.now(2_501)), (Some(60), Some(61)));
    }

    #[test]
    fn silence_is_the_longer_of_two_gaps() {
        let heard = LastHeard { newest: 100, arrival: 200 };
        for (time, arrival, expected) in
            [(110, 205, 10), (110, 250, 50), (90, 200, 0), (i64::MAX, i64::MIN, i64::MAX - 100)]
        {
            assert_eq!(heard.silence_before(time, arrival), expected, "{time} {arrival}");
        }
        assert_eq!(heard.and(90, 300), LastHeard { newest: 100, arrival: 300 });
    }
}
