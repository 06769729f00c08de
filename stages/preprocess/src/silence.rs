//! Silence: a device from which nothing came for too long.
//!
//! It shows in two ways. **In the recording**, when a reading comes after a gap, in arrival or in event time: told as
//! begun and ended at once, whatever the speed of the replay. **By the wall clock**, while the gap still lasts: nothing
//! but the passing of time can tell that, so it is kept out of the saved state, and out of the samples altogether.
//!
//! "Now" is read off the recording as long as rows come (the newest arrival), and goes on with the wall clock from
//! there when none do. So a stage that catches up on an hour's backlog does not take every device for silent. Nor does
//! one that was held up (a full stream, a server that was away, a machine that slept): it is asked once a second while
//! it is free to hear, and a longer time in between counts for [`STEP_MAX`] only.

use eddy_schemas::Timestamp;

/// Most that "now" goes on from one time that it is asked for to the next.
pub const STEP_MAX: i64 = 15_000_000_000;

/// The stage's notion of now, in arrival time.
#[derive(Debug, Default)]
pub struct ArrivalClock {
    newest: Option<Timestamp>,
    moved: bool,
    /// The wall clock when it was last asked.
    asked_at: Option<Timestamp>,
    /// How long `newest` has not moved.
    since: i64,
}

impl ArrivalClock {
    /// A row arrived at `arrival`.
    pub fn heard(&mut self, arrival: Timestamp) {
        self.newest = self.newest.max(Some(arrival));
        self.moved = true;
    }

    /// Now, given the wall clock; `None` if nothing has ever arrived.
    pub fn now(&mut self, wall: Timestamp) -> Option<Timestamp> {
        let step = wall.saturating_sub(self.asked_at.replace(wall).unwrap_or(wall)).clamp(0, STEP_MAX);
        self.since = if std::mem::take(&mut self.moved) { 0 } else { self.since.saturating_add(step) };
        Some(self.newest?.saturating_add(self.since))
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
        for (wall, expected) in [(2_000, 50), (2_300, 350), (2_100, 350), (2_150, 400)] {
            assert_eq!(clock.now(wall), Some(expected), "at {wall}");
        }
        clock.heard(60);
        assert_eq!((clock.now(2_500), clock.now(2_501)), (Some(60), Some(61)));
    }

    #[test]
    fn an_hour_in_which_the_stage_was_held_up_is_no_hour_of_silence() {
        let mut clock = ArrivalClock::default();
        clock.heard(50);
        let hour = 3_600_000_000_000;
        assert_eq!((clock.now(0), clock.now(hour)), (Some(50), Some(50 + STEP_MAX)));
        assert_eq!(clock.now(hour + 1), Some(51 + STEP_MAX));
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
