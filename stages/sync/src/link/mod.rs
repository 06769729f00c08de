//! What the link to the region carries, and how much may be on its way.
//!
//! As BBR does it: the link's rate is the highest rate of delivery of late, its round trip the shortest of late, and so many bytes are
//! let out that they fill the round trip and queue for `target` at most: so long may bulk make an alert wait. Who has to wait for an
//! acknowledgement anyway can measure both without the kernel's help, and behind it all: proxies, TLS, the region's disk.
//!
//! What keeps it honest:
//! - A rate that was seen while there was nothing more to send says nothing against a higher one.
//! - A message takes its own bytes' time to pass, so that much is taken off a round trip. Messages are cut so that two fit `target`.
//! - While bulk queues, no round trip is short. When the shortest is old, one message is sent alone, for once.

mod congestion;
mod meter;
#[cfg(test)]
mod tests;

use std::time::Duration;

use tokio::time::Instant;

pub use self::{congestion::Congestion, meter::Meter};

/// What a message costs beside its payload: protocol lines, headers, the answer's subject, TLS and TCP.
const MESSAGE_BYTES: u64 = 320;
/// Bulk messages' payloads.
pub const BATCH_BYTES: (usize, usize) = (512, 256 << 10);
/// How much may be on its way before anything is known.
const FIRST_BYTES: u64 = 4 << 10;
/// How much may be, at least and at most.
const IN_FLIGHT_BYTES: (u64, u64) = (2 << 10, 4 << 20);
/// How much of what is urgent may be, at least: what is urgent waits only for its own kind.
const URGENT_BYTES: u64 = 16 << 10;
/// Rounds that the highest rate counts for.
const ROUNDS: usize = 10;
/// While the rate grows by this a round, that much more than fills the round trip is let out.
const GROWTH: f64 = 1.25;
const STARTUP: f64 = 1.5;
/// So many rounds without such growth, and the link is full.
const FULL_ROUNDS: u32 = 3;
/// What would be through in this part of the target latency is next to nothing.
const ALONE: f64 = 0.25;
/// So long a round trip is the shortest of late.
const ROUND_TRIP_LIFE: Duration = Duration::from_secs(30);

/// What a payload costs on the wire, about.
pub fn on_the_wire(payload: usize) -> u64 {
    payload as u64 + payload as u64 / 32 + MESSAGE_BYTES
}

/// A message on its way: what there was to know when it was sent.
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    bytes: u64,
    sent: Instant,
    /// What was delivered before it, and when the last of that was.
    delivered: u64,
    delivered_at: Instant,
    /// When the message was sent whose delivery that was.
    first_sent: Instant,
    /// Next to nothing else was on its way.
    alone: bool,
    /// More could have been sent if there had been more.
    starved: bool,
}

impl Ticket {
    /// When it was sent.
    pub fn sent(&self) -> Instant {
        self.sent
    }
}

/// The shortest round trip, and what made it.
#[derive(Clone, Copy, Debug)]
struct RoundTrip {
    took: Duration,
    bytes: u64,
    at: Instant,
}

/// The shortest round trip is in doubt: bulk is not let out until a message has met no queue.
#[derive(Clone, Copy, Debug)]
struct Probe {
    began: Instant,
    /// What was sent before has arrived.
    drained: Option<Instant>,
    /// It began because whole rounds took too long.
    late: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Link {
    target: Duration,
    in_flight: u64,
    delivered: u64,
    delivered_at: Instant,
    first_sent: Instant,
    /// Until so much is delivered, rates are those of a sender without work.
    starved_until: Option<u64>,
    /// The highest rate of each of the last rounds.
    rates: [f64; ROUNDS],
    round: usize,
    round_ends: u64,
    /// The shortest round trip of this round.
    round_least: Option<Duration>,
    /// While it grows: the highest rate so far, and the rounds since.
    grown: f64,
    grown_rounds: u32,
    round_trip: Option<RoundTrip>,
    /// One message is to go alone.
    probe: Option<Probe>,
}

impl Link {
    /// Nothing is known. Bulk may make an alert wait for `target`.
    pub fn new(target: Duration, now: Instant) -> Self {
        Self {
            target,
            in_flight: 0,
            delivered: 0,
            delivered_at: now,
            first_sent: now,
            starved_until: None,
            rates: [0.0; ROUNDS],
            round: 0,
            round_ends: 0,
            round_least: None,
            grown: 0.0,
            grown_rounds: 0,
            round_trip: None,
            probe: None,
        }
    }

    /// A message of `bytes` on the wire goes out.
    pub fn sent(&mut self, bytes: u64, now: Instant) -> Ticket {
        if self.in_flight == 0 {
            self.delivered_at = now;
            self.first_sent = now;
        }
        let ticket = Ticket {
            bytes,
            sent: now,
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            first_sent: self.first_sent,
            alone: self.in_flight as f64 <= self.rate() * self.target.as_secs_f64() * ALONE,
            starved: self.starved_until.is_some() || self.probe.is_some(),
        };
        self.in_flight += bytes;
        ticket
    }

    /// It has arrived, as was seen at `now`.
    pub fn acked(&mut self, ticket: &Ticket, now: Instant) {
        // Answers may be taken in another order than they came.
        let now = now.max(self.delivered_at).max(ticket.sent);
        self.in_flight = self.in_flight.saturating_sub(ticket.bytes);
        self.delivered += ticket.bytes;
        self.delivered_at = now;
        self.first_sent = ticket.sent;
        self.starved_until = self.starved_until.filter(|until| *until >= self.delivered);
        let elapsed = (now - ticket.delivered_at).max(ticket.sent - ticket.first_sent);
        if elapsed > Duration::ZERO {
            self.take_rate((self.delivered - ticket.delivered) as f64 / elapsed.as_secs_f64(), ticket);
        }
        self.take_round_trip(ticket, now);
    }

    /// It will not be answered.
    pub fn lost(&mut self, ticket: &Ticket) {
        self.in_flight = self.in_flight.saturating_sub(ticket.bytes);
    }

    /// What is known is not believed any more: it begins small again.
    pub fn forget(&mut self) {
        self.rates = [0.0; ROUNDS];
        (self.grown, self.grown_rounds) = (0.0, 0);
        (self.round_trip, self.round_least, self.probe) = (None, None, None);
    }

    /// There is nothing more to send, although more could be.
    pub fn starved(&mut self) {
        self.starved_until = Some(self.delivered + self.in_flight);
    }

    fn take_rate(&mut self, rate: f64, ticket: &Ticket) {
        if ticket.starved {
            if rate > self.rate() {
                self.rates[self.round % ROUNDS] = rate;
            }
            return;
        }
        if ticket.delivered >= self.round_ends {
            self.round_ends = self.delivered;
            self.round += 1;
            self.rates[self.round % ROUNDS] = 0.0;
            self.grown_rounds += 1;
            self.end_round();
        }
        let highest = &mut self.rates[self.round % ROUNDS];
        *highest = highest.max(rate);
        if rate >= self.grown * GROWTH && self.grown_rounds < FULL_ROUNDS {
            (self.grown, self.grown_rounds) = (rate, 0);
        }
        let took = self.delivered_at - ticket.sent;
        self.round_least = Some(self.round_least.map_or(took, |least| least.min(took)));
    }

    /// If nothing of a round came back in good time, the link is slower than thought, or longer: which one, a probe tells.
    fn end_round(&mut self) {
        let least = self.round_least.take();
        let (Some(least), Some(shortest)) = (least, self.round_trip) else { return };
        let is_late = least > 2 * (self.empty(shortest) + self.target);
        if is_late && self.probe.is_none() && self.grown_rounds >= FULL_ROUNDS {
            self.probe = Some(Probe { began: self.delivered_at, drained: None, late: true });
        }
    }

    fn take_round_trip(&mut self, ticket: &Ticket, now: Instant) {
        let taken = RoundTrip { took: now - ticket.sent, bytes: ticket.bytes, at: now };
        let Some(old) = self.round_trip.filter(|old| self.empty(*old) < self.empty(taken)) else {
            return self.settle(taken);
        };
        let Some(mut probe) = self.probe else {
            if now - old.at >= ROUND_TRIP_LIFE {
                match ticket.alone {
                    true => self.settle(taken),
                    false => self.probe = Some(Probe { began: now, drained: None, late: false }),
                }
            }
            return;
        };
        let is_after = ticket.sent >= probe.began;
        if is_after && (ticket.alone || probe.drained.is_some_and(|drained| ticket.sent >= drained)) {
            return self.settle(taken);
        }
        if probe.drained.is_none() && (is_after || self.in_flight == 0) {
            probe.drained = Some(now);
        }
        self.probe = Some(probe);
    }

    /// So short is a round trip now.
    fn settle(&mut self, taken: RoundTrip) {
        let late = self.probe.take().is_some_and(|probe| probe.late);
        let longest = |old: RoundTrip| 2 * (self.empty(old) + self.target);
        if late && self.round_trip.is_some_and(|old| self.empty(taken) <= longest(old)) {
            // It is no longer than before, so the link is slower: only its rate of late counts.
            let latest = self.rates[self.round % ROUNDS];
            self.rates = [0.0; ROUNDS];
            self.rates[self.round % ROUNDS] = latest;
        }
        self.round_trip = Some(taken);
    }

    /// The round trip of an empty message.
    fn empty(&self, taken: RoundTrip) -> Duration {
        match self.rate() {
            rate if rate > 0.0 => taken.took.saturating_sub(Duration::from_secs_f64(taken.bytes as f64 / rate)),
            _ => taken.took,
        }
    }

    /// Bytes a second; 0 while nothing is known.
    pub fn rate(&self) -> f64 {
        self.rates.iter().copied().fold(0.0, f64::max)
    }

    /// The shortest round trip of late, without what its bytes took.
    pub fn round_trip(&self) -> Duration {
        self.round_trip.map_or(Duration::ZERO, |taken| self.empty(taken))
    }

    /// Bytes on their way.
    pub fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// How much may be on its way.
    pub fn cap(&self) -> u64 {
        let rate = self.rate();
        let Some(shortest) = self.round_trip.filter(|_| rate > 0.0) else { return FIRST_BYTES };
        // With less than two messages in the queue it would run empty between them.
        let queue = (rate * self.target.as_secs_f64()).max(2.0 * on_the_wire(self.batch()) as f64);
        let full = rate * self.empty(shortest).as_secs_f64() + queue;
        let cap =
            if self.grown_rounds < FULL_ROUNDS { full.max(STARTUP * rate * shortest.took.as_secs_f64()) } else { full };
        (cap as u64).clamp(IN_FLIGHT_BYTES.0, IN_FLIGHT_BYTES.1)
    }

    /// What a message should carry.
    pub fn batch(&self) -> usize {
        let half = self.rate() * self.target.as_secs_f64() / 2.0;
        // A float's cast saturates; a payload of that size fits any usize.
        (half as u64).saturating_sub(MESSAGE_BYTES).clamp(BATCH_BYTES.0 as u64, BATCH_BYTES.1 as u64) as usize
    }

    /// Whether a message of about [`Self::batch`] bytes may go.
    pub fn has_room(&self) -> bool {
        self.in_flight == 0 || (self.probe.is_none() && self.in_flight + on_the_wire(self.batch()) <= self.cap())
    }

    /// Whether one that is urgent may, while so many bytes of its kind are on their way.
    pub fn has_urgent_room(&self, urgent_in_flight: u64) -> bool {
        urgent_in_flight == 0 || urgent_in_flight + on_the_wire(self.batch()) <= self.cap().max(URGENT_BYTES)
    }
}
