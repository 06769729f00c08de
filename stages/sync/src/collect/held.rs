//! Messages that were read and wait for their commit. The loop holds them too, and brings them again with more: each is read
//! once.

use std::time::Duration;

use eddy_runtime::{
    bus::Delivery,
    position::{Place, Position},
    store_loop::{Gap, Turn},
};
use tokio::time::Instant;

/// Bytes of messages that wait at most: on the way through a backlog they come faster than time passes.
const MESSAGES_BYTES_MAX: usize = 8 << 20;

/// A run of messages.
pub(super) struct Held {
    /// What the first of them reaches: others that begin elsewhere, or in another stream, are read anew.
    begins: Position,
    /// What follows the last one that was read.
    next: u64,
    /// The last one that is complete.
    pub(super) reached: Option<u64>,
    since: Instant,
    /// Bytes of the messages that were read.
    bytes: usize,
}

/// How long a run may wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub(super) interval: Duration,
    /// Of messages the server delivers no more before some are acknowledged.
    pub(super) messages_max: usize,
}

impl Held {
    /// Of a turn's messages, the first of which reaches `begins`.
    pub(super) fn new(turn: &Turn<'_>, begins: Position) -> Self {
        Self { begins, next: expected(turn), reached: None, since: Instant::now(), bytes: 0 }
    }

    /// Whether the turn goes on with this run.
    pub(super) fn goes_on(&self, begins: &Position) -> bool {
        self.begins == *begins
    }

    /// A message was read.
    pub(super) fn read(&mut self, delivery: &Delivery, is_complete: bool) {
        if is_complete {
            self.reached = Some(delivery.sequence);
        }
        self.next = delivery.sequence + 1;
        self.bytes += delivery.payload.len();
    }

    /// Whether it has waited long enough, or is enough.
    pub(super) fn is_due(&self, turn: &Turn<'_>, patience: Patience) -> bool {
        self.since.elapsed() >= patience.interval
            || turn.deliveries.len() >= patience.messages_max
            || self.bytes >= MESSAGES_BYTES_MAX
    }

    /// The turn's messages that were not read yet, each with what was removed before it.
    pub(super) fn news<'a>(&self, turn: &Turn<'a>) -> impl Iterator<Item = (Option<Gap>, &'a Delivery)> + use<'a> {
        let mut next = self.next;
        let new = turn.deliveries.iter().skip_while(move |delivery| delivery.sequence < next);
        new.map(move |delivery| {
            let gap = hole(next, delivery);
            next = delivery.sequence + 1;
            (gap, delivery)
        })
    }
}

/// The sequence that follows what the store has; where it has nothing it begins with what there is.
pub(super) fn expected(turn: &Turn<'_>) -> u64 {
    let place = turn.before.and_then(|position| position.0.values().next());
    place.map(Place::next_sequence).or(turn.deliveries.first().map(|first| first.sequence)).unwrap_or(1)
}

/// What lay between `next` and the message that came. A reader has the whole stream, so that only what was removed is not
/// there. (What the loop knows to be missing at the front of a stream is part of it: another subject's last message may
/// still lie before it.)
pub(super) fn hole(next: u64, delivery: &Delivery) -> Option<Gap> {
    (delivery.sequence > next).then(|| Gap { from: next, to: delivery.sequence - 1 })
}

/// The sequence in a position of one stream; 0 where there is none.
pub(super) fn sequence(position: Option<&Position>) -> u64 {
    position.and_then(|position| position.0.values().next()).map_or(0, |place| place.sequence)
}
