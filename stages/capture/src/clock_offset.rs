//! Whose clock is off: a *steady* difference between a device's newest time and its arrival.
//!
//! One old message says nothing: recordings are years old, a device that was offline sends its backlog, a replay runs at a
//! hundred times real time. All of them differ from the arrival by an amount that changes from message to message, or by more
//! than a clock ever is off. A wrong clock (or time zone) is wrong by the same amount each time. So the difference must
//! stay beyond the limit, within a band of twice the limit, for some messages and some time of arrival; and the end of it
//! needs as many messages within the limit.
//!
//! All times are event times and arrivals of the recording. What is reported goes out with the stage's tick: it is a
//! device's condition by the wall clock and stands outside the order. After a restart a condition that still holds is
//! reported once more.

use std::collections::HashMap;

use eddy_schemas::{
    Timestamp,
    health::{Condition, Health},
};

/// When a difference counts; durations in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Up to here a clock is right; 0 turns the watch off.
    pub limit: i64,
    /// So many messages in a row.
    pub messages: u32,
    /// Over at least so much arrival time.
    pub hold: i64,
    /// Beyond this it is a recording.
    pub max: i64,
    /// So many devices are followed.
    pub devices_max: usize,
}

/// A device that is off, or was until lately.
#[derive(Debug)]
struct Followed {
    since: Timestamp,
    first_arrival: Timestamp,
    last_arrival: Timestamp,
    least: i64,
    most: i64,
    messages: u32,
    right: u32,
    reported: bool,
}

/// A device that was not heard of for so long gives its place to another one.
const FORGET_AFTER: i64 = 3_600_000_000_000;
/// At the bound, places are looked for at most this often.
const SWEEP_EVERY: i64 = 60_000_000_000;

/// Follows the devices whose clocks seem off.
#[derive(Debug)]
pub(crate) struct ClockWatch {
    limits: Limits,
    followed: HashMap<String, Followed>,
    reports: Vec<Health>,
    swept: Timestamp,
}

impl ClockWatch {
    pub fn new(limits: Limits) -> Self {
        Self { limits, followed: HashMap::new(), reports: Vec::new(), swept: Timestamp::MIN }
    }

    /// Takes the newest time of one message of `device`. `false` if the device is off and there is no place to follow it.
    pub fn observe(&mut self, device: &str, newest: Timestamp, arrival: Timestamp) -> bool {
        let Limits { limit, max, .. } = self.limits;
        let offset = newest.saturating_sub(arrival);
        if limit == 0 {
            return true;
        }
        let off = offset.unsigned_abs() > limit.unsigned_abs();
        let recording = offset.unsigned_abs() > max.unsigned_abs();
        if !self.followed.contains_key(device) {
            if !off || recording {
                return true;
            }
            if !self.make_room(arrival) {
                return false;
            }
            self.followed.insert(device.to_owned(), Followed::new(newest, offset, arrival));
        } else if recording {
            // Neither right nor wrong by some amount: the run is broken, what was reported stands.
            self.followed.get_mut(device).into_iter().for_each(|followed| followed.messages = 0);
            return true;
        }
        let Some(followed) = self.followed.get_mut(device) else { return true };
        followed.last_arrival = arrival;
        let report =
            if off { followed.wrong(newest, offset, arrival, &self.limits) } else { followed.right(&self.limits) };
        let done = !off && (report || !followed.reported);
        if report {
            let since = if off { followed.since } else { newest };
            self.reports.push(Health {
                device: device.to_owned(),
                channel: None,
                condition: Condition::ClockOffset,
                active: off,
                since,
                value: offset as f64 / 1e9,
            });
        }
        if done {
            self.followed.remove(device);
        }
        true
    }

    /// Conditions that began or ended since the last call. At most two wait for each followed device between two calls.
    pub fn take(&mut self) -> Vec<Health> {
        std::mem::take(&mut self.reports)
    }

    pub fn clear(&mut self) {
        *self = Self::new(self.limits);
    }

    fn make_room(&mut self, arrival: Timestamp) -> bool {
        if self.followed.len() < self.limits.devices_max {
            return true;
        }
        if arrival.saturating_sub(self.swept) >= SWEEP_EVERY {
            self.swept = arrival;
            self.followed.retain(|_, followed| arrival.saturating_sub(followed.last_arrival) < FORGET_AFTER);
        }
        self.followed.len() < self.limits.devices_max
    }
}

impl Followed {
    fn new(since: Timestamp, offset: i64, arrival: Timestamp) -> Self {
        Self {
            since,
            first_arrival: arrival,
            last_arrival: arrival,
            least: offset,
            most: offset,
            messages: 0,
            right: 0,
            reported: false,
        }
    }

    /// One more message beyond the limit; whether the condition begins with it.
    fn wrong(&mut self, newest: Timestamp, offset: i64, arrival: Timestamp, limits: &Limits) -> bool {
        self.right = 0;
        let (least, most) = (self.least.min(offset), self.most.max(offset));
        if self.messages == 0 || most - least > 2 * limits.limit {
            let reported = self.reported;
            *self = Self { messages: 1, reported, ..Self::new(newest, offset, arrival) };
        } else {
            (self.least, self.most, self.messages) = (least, most, self.messages.saturating_add(1));
        }
        let steady = self.messages >= limits.messages && arrival.saturating_sub(self.first_arrival) >= limits.hold;
        let begins = steady && !self.reported;
        self.reported |= begins;
        begins
    }

    /// One more message within the limit; whether the condition ends with it.
    fn right(&mut self, limits: &Limits) -> bool {
        self.messages = 0;
        self.right += 1;
        self.reported && self.right >= limits.messages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000_000;
    const LIMITS: Limits = Limits { limit: 60 * S, messages: 3, hold: 10 * S, max: 86_400 * S, devices_max: 2 };

    /// Messages as (arrival, offset) in seconds; reports as (active, offset).
    fn check(messages: impl IntoIterator<Item = (i64, i64)>, expected: &[(bool, f64)]) {
        let mut watch = ClockWatch::new(LIMITS);
        for (arrival, offset) in messages {
            assert!(watch.observe("d", (arrival + offset) * S, arrival * S));
        }
        let reports: Vec<_> = watch.take().iter().map(|health| (health.active, health.value)).collect();
        assert_eq!(reports, expected);
    }

    #[test]
    fn a_steady_offset_begins_and_ends_once() {
        let messages = (0..100).map(|t| (t, if t < 50 { 3600 } else { 1 }));
        check(messages, &[(true, 3600.0), (false, 1.0)]);
        check((0..100).map(|t| (t, -7200 + t % 5)), &[(true, -7200.0)]);
    }

    #[test]
    fn what_is_no_clock_is_not_reported() {
        check((0..100).map(|t| (t, 30)), &[]);
        check((0..5).map(|t| (t, 3600)), &[]); // Not for long enough.
        check((0..1000).map(|t| (t, -300_000_000)), &[]); // A recording at its own speed.
        check((0..1000).map(|t| (t, -50_000 + 99 * t)), &[]); // A replay at 100 times real time.
        check((0..1000).map(|t| (1000, -50_000 + t)), &[]); // A backlog at once.
        check((0..100).map(|t| (t, if t % 2 == 0 { 100 } else { 0 })), &[]);
    }

    #[test]
    fn at_the_bound_no_further_device_is_followed_until_one_is_silent() {
        let mut watch = ClockWatch::new(LIMITS);
        assert!(watch.observe("a", 3600 * S, 0) && watch.observe("b", 3600 * S, 0));
        assert!(!watch.observe("c", 3600 * S, 0));
        assert!(watch.observe("c", 9000 * S, 4000 * S));
    }
}
