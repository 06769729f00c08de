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
const IN_FLIGHT_BYTES: (u64, u64) = (1_664, 4 << 20);
/// How much of what is urgent may be, at least: what is urgent waits only for its own kind.
const URGENT_BYTES: u64 = 16 << 10;
/// Rounds that the highest rate counts for.
const ROUNDS: usize = 10;
/// While the rate grows by this a round, twice as much is let out.
const GROWTH: f64 = 1.25;
/// So many rounds without such growth, and the link is full.
const FULL_ROUNDS: u32 = 3;
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
    /// Nothing else was on its way.
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

/// See the module.
#[derive(Debug)]
pub struct Link {
    target: Duration,
    in_flight: u64,
    delivered: u64,
    delivered_at: Instant,
    first_sent: Instant,
    /// Until so much is delivered, rates are those of a sender without work.
    starved_until: u64,
    /// The highest rate of each of the last rounds.
    rates: [f64; ROUNDS],
    round: usize,
    round_ends: u64,
    /// While it grows: the highest rate so far, and the rounds since.
    grown: f64,
    grown_rounds: u32,
    round_trip: Option<RoundTrip>,
    /// One message is to go alone.
    probing: bool,
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
            starved_until: 0,
            rates: [0.0; ROUNDS],
            round: 0,
            round_ends: 0,
            grown: 0.0,
            grown_rounds: 0,
            round_trip: None,
            probing: false,
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
            alone: self.in_flight == 0,
            starved: self.starved_until > self.delivered,
        };
        self.in_flight += bytes;
        ticket
    }

    /// It has arrived.
    pub fn acked(&mut self, ticket: &Ticket, now: Instant) {
        self.in_flight = self.in_flight.saturating_sub(ticket.bytes);
        self.delivered += ticket.bytes;
        self.delivered_at = now;
        self.first_sent = ticket.sent;
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

    /// There is nothing more to send, although more could be.
    pub fn starved(&mut self) {
        self.starved_until = self.delivered + self.in_flight.max(1);
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
        }
        let highest = &mut self.rates[self.round % ROUNDS];
        *highest = highest.max(rate);
        if rate >= self.grown * GROWTH && self.grown_rounds < FULL_ROUNDS {
            (self.grown, self.grown_rounds) = (rate, 0);
        }
    }

    fn take_round_trip(&mut self, ticket: &Ticket, now: Instant) {
        let taken = RoundTrip { took: now - ticket.sent, bytes: ticket.bytes, at: now };
        self.probing &= !ticket.alone;
        match self.round_trip {
            Some(old) if self.empty(taken) > self.empty(old) => {
                match (now - old.at >= ROUND_TRIP_LIFE, ticket.alone) {
                    (true, true) => self.round_trip = Some(taken),
                    // It has queued, as whatever comes now.
                    (true, false) => self.probing = true,
                    (false, _) => {}
                }
            }
            _ => self.round_trip = Some(taken),
        }
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
        let full = rate * (self.empty(shortest) + self.target).as_secs_f64();
        let cap =
            if self.grown_rounds < FULL_ROUNDS { full.max(2.0 * rate * shortest.took.as_secs_f64()) } else { full };
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
        self.in_flight == 0 || (!self.probing && self.in_flight + on_the_wire(self.batch()) <= self.cap())
    }

    /// Whether one that is urgent may, while so many bytes of its kind are on their way.
    pub fn has_urgent_room(&self, urgent_in_flight: u64) -> bool {
        urgent_in_flight == 0 || urgent_in_flight + on_the_wire(self.batch()) <= self.cap().max(URGENT_BYTES)
    }
}
