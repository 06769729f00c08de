//! A class on its way: what its next batch builds on, and what is not acknowledged.

use std::collections::VecDeque;

use bytes::Bytes;
use eddy_runtime::trace::Open;
use eddy_schemas::sync::Class;
use tokio::time::{Duration, Instant};

use super::{
    End,
    batch::Cut,
    checkpoint::{Found, Head, Identity, fenced},
};
use crate::{
    link::{Ticket, on_the_wire},
    queue::Depth,
};

/// Batches of one's own that may still arrive, at most; older ones are forgotten.
const TRAIL_MAX: usize = 1_024;
/// How often in a row the region may seem to be set back.
const DOUBTS_MAX: u32 = 8;
/// Stored bytes that are taken for one of a message's, at first and at most.
const RATIO: (f64, f64) = (2.0, 16.0);
/// How much the last batch's counts for the next one's.
const RATIO_WEIGHT: f64 = 0.3;

/// A batch on its way.
#[derive(Debug)]
pub struct Flight {
    /// Its number in the chain.
    pub number: u64,
    /// The last entry's number that it covers.
    pub last: u64,
    /// Entries in it.
    pub entries: u64,
    /// Entries that its gaps stand for.
    pub missing: u64,
    /// Its payload's bytes.
    pub bytes: usize,
    /// The sequence that it will have, if nobody else writes.
    pub sequence: u64,
    /// What the link knows of it.
    pub ticket: Ticket,
    /// Its spans, where it is part of traces.
    pub traced: Option<Open>,
    /// It is stored.
    stored: bool,
}

/// See the module. It outlives a connection.
#[derive(Debug)]
pub struct Lane {
    /// The class.
    pub class: Class,
    /// What the next batch builds on; `None`: the region has to be asked.
    pub head: Option<Head>,
    /// It is being asked.
    pub reading: bool,
    /// In order.
    pub flights: VecDeque<Flight>,
    /// What the queue holds.
    pub depth: Depth,
    /// Up to which number the region has all; the queue still holds it.
    pub done: Option<u64>,
    /// Stored bytes that become one of a message's.
    pub ratio: f64,
    /// Nothing is sent until then: the region does not take the next batch.
    pub blocked: Option<Instant>,
    /// Since when there is something to send.
    since: Option<Instant>,
    /// What the region had last, and what was sent since: one of these is what it has now.
    trail: VecDeque<Known>,
    /// The region has something that this process sent. What a dead one had sent comes no more: its guards do not hold.
    is_own: bool,
    /// How often in a row the region seemed to be set back.
    doubts: u32,
    /// How many lost entries were last told of.
    told_lost: u64,
}

/// A batch of this chain.
#[derive(Debug)]
struct Known {
    number: u64,
    receipt: Bytes,
    /// This process sent it.
    is_own: bool,
}

impl Lane {
    /// Nothing is known.
    pub fn new(class: Class) -> Self {
        Self {
            class,
            head: None,
            reading: false,
            flights: VecDeque::new(),
            depth: Depth::default(),
            done: None,
            ratio: RATIO.0,
            blocked: None,
            since: None,
            trail: VecDeque::new(),
            is_own: false,
            doubts: 0,
            told_lost: 0,
        }
    }

    /// The connection is another: answers to what is on its way do not come.
    pub fn interrupt(&mut self) {
        self.reading = false;
        if !self.flights.is_empty() {
            self.flights.clear();
            self.head = None;
        }
    }

    /// The region was asked, and this is there.
    ///
    /// # Errors
    /// That another gateway writes, or that the region has less than it had.
    pub fn found(&mut self, found: Found, identity: &Identity, before: &[u8]) -> Result<(), End> {
        // Only a chain's first batch replaces another chain.
        let has_begun = self.is_own || self.done.is_some() || self.depth.oldest > 1;
        let before = if has_begun { None } else { Some(before) };
        let head = found.head(identity, self.class, before).map_err(End::Contract)?;
        let (number, token) = (head.number, self.class.token());
        if let Some(had) = self.trail.front().map(|known| known.number).filter(|had| number < *had) {
            return Err(self.doubt(format!(
                "the region had {token} up to batch {had} and now has them up to batch {number}: it was set back; \
                 `eddy-sync recover` starts a new chain"
            )));
        }
        match self.trail.iter().position(|known| known.number == number && known.receipt == head.receipt) {
            Some(at) => {
                self.trail.drain(..at);
                self.is_own |= self.trail.front().is_some_and(|known| known.is_own);
            }
            // At first it may be what a dead process had on its way.
            None if !self.is_own => {
                self.trail.clear();
                self.trail.push_back(Known { number, receipt: head.receipt.clone(), is_own: false });
            }
            None => {
                let seen = format!("batch {number} has this gateway's chain but is not its: its state was copied");
                return Err(End::Contract(fenced(identity, self.class, &seen)));
            }
        }
        if head.last > 0 {
            self.done = self.done.max(Some(head.last));
        }
        self.head = Some(head);
        Ok(())
    }

    /// The region seems to have less than it had. A server that lags behind the others may have answered: only what lasts is
    /// believed.
    pub fn doubt(&mut self, problem: String) -> End {
        self.head = None;
        self.doubts += 1;
        if self.doubts < DOUBTS_MAX { End::Again(problem) } else { End::Contract(problem) }
    }

    /// Takes what the queue holds now.
    pub fn look(&mut self, depth: Depth, now: Instant) {
        self.depth = depth;
        self.tell_lost();
        match (self.has_unsent(), self.since) {
            (true, None) => self.since = Some(now),
            (false, Some(_)) => self.since = None,
            _ => {}
        }
    }

    /// Says what will never come, whenever it has doubled: a budget that is full for weeks takes something every few seconds.
    fn tell_lost(&mut self) {
        let lost = self.depth.lost();
        if lost == 0 {
            self.told_lost = 0;
        } else if lost >= 2 * self.told_lost.max(1) || self.told_lost == 0 {
            self.told_lost = lost;
            let (class, waiting, oldest) = (self.class.token(), self.depth.entries, self.depth.oldest);
            tracing::warn!(class, lost, waiting, oldest, "entries expired before the region had them; it will be told");
        }
    }

    /// The last number that was sent, or that the region has, as far as is known.
    fn sent_to(&self) -> u64 {
        self.head.as_ref().map_or(self.depth.oldest.saturating_sub(1), |head| head.last).max(self.done.unwrap_or(0))
    }

    /// Whether the queue has more.
    pub fn has_unsent(&self) -> bool {
        self.depth.next > self.sent_to() + 1
    }

    /// Until when it waits for more, so that a batch of `batch` bytes is worth its costs; `None`: it does not.
    pub fn waits(&self, batch: usize, linger: Duration, now: Instant) -> Option<Instant> {
        let due = self.since? + linger;
        let unsent = self.depth.next.saturating_sub(self.sent_to() + 1);
        let each = self.depth.bytes as f64 / self.depth.entries.max(1) as f64;
        let is_full = unsent as f64 * each / self.ratio >= batch as f64;
        (!is_full && now < due).then_some(due)
    }

    /// A batch goes out, and will have `sequence`.
    pub fn sent(&mut self, cut: &Cut, sequence: u64, ticket: Ticket, traced: Option<Open>) {
        let receipt = Bytes::copy_from_slice(&cut.receipt);
        self.trail.push_back(Known { number: cut.number, receipt: receipt.clone(), is_own: true });
        if self.trail.len() > TRAIL_MAX {
            self.trail.pop_front();
        }
        self.head = Some(Head { number: cut.number, last: cut.last, receipt, sequence, replaces: Bytes::new() });
        self.ratio = (RATIO_WEIGHT * cut.ratio + (1.0 - RATIO_WEIGHT) * self.ratio).clamp(1.0, RATIO.1);
        self.since = None;
        self.flights.push_back(Flight {
            number: cut.number,
            last: cut.last,
            entries: cut.entries,
            missing: cut.missing,
            bytes: cut.message.len(),
            sequence,
            ticket,
            traced,
            stored: false,
        });
    }

    /// A batch is stored. What is done with it: itself, and those before it.
    pub fn stored(&mut self, number: u64) -> Vec<Flight> {
        if let Some(flight) = self.flights.iter_mut().find(|flight| flight.number == number) {
            flight.stored = true;
        }
        let mut done = Vec::new();
        while let Some(flight) = self.flights.pop_front_if(|flight| flight.stored) {
            self.done = Some(flight.last);
            while self.trail.front().is_some_and(|known| known.number < flight.number) {
                self.trail.pop_front();
            }
            (self.is_own, self.doubts) = (true, 0);
            done.push(flight);
        }
        done
    }

    /// A batch is not stored, or nobody knows: what comes after it is in vain, and the region has to be asked.
    pub fn failed(&mut self, number: u64) -> Option<Flight> {
        self.head = None;
        let at = self.flights.iter().position(|flight| flight.number == number)?;
        self.flights.remove(at)
    }

    /// Bytes on the wire that are not acknowledged.
    pub fn in_flight(&self) -> u64 {
        self.flights.iter().filter(|flight| !flight.stored).map(|flight| on_the_wire(flight.bytes)).sum()
    }

    /// Since when the oldest of them is on its way.
    pub fn oldest(&self) -> Option<Instant> {
        self.flights.iter().find(|flight| !flight.stored).map(|flight| flight.ticket.sent())
    }
}
