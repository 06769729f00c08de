//! Leadership: of several processes one at a time does something, and another takes over when it dies.
//!
//! The last message on the lease's subject says who holds it. A holder publishes heartbeats, each guarded by the one before
//! it; whoever wants to take over waits until no new one came for a stated time by its own clock, and publishes a claim
//! guarded by the last one it saw. Of two claims, or a claim and a heartbeat, the guard lets one through.
//!
//! Two never believe at once that they hold it, without comparing clocks: a holder stops believing `lapse_after` from when it *sent*
//! its last heartbeat that was stored; a candidate claims `takeover_after` from when it first *saw* that one, which cannot be
//! earlier; and the former is shorter. What is left to chance is that two monotonic clocks run that differently within seconds.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{Instant, timeout};

use crate::bus::{Bus, BusError, Publication, PublishError, Stored};

/// Who published it: unique to a run of a process.
const HOLDER: &str = "Eddy-Holder";
/// Counts a holder's own tries, so that it knows one again whose answer was lost.
const BEAT: &str = "Eddy-Beat";
/// Set where the holder gave it back.
const RELEASED: &str = "Eddy-Released";
/// Tries that are remembered; older ones have lapsed.
const TRIES: usize = 8;

/// What is leased, and how long it holds.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The stream.
    pub stream: String,
    /// The lease's own subject there; nothing else is published on it.
    pub subject: String,
    /// How often [`Lease::step`] renews it.
    pub renew_every: Duration,
    /// From sending a heartbeat, how long its holder believes in it. Several of `renew_every`.
    pub lapse_after: Duration,
    /// From seeing a heartbeat, how long a candidate waits for the next. Longer than `lapse_after`.
    pub takeover_after: Duration,
}

/// Whether this process holds the lease now. Clones share it; asking costs nothing.
#[derive(Clone, Debug, Default)]
pub struct Held(Arc<Mutex<Option<Instant>>>);

impl Held {
    /// Whether it does.
    pub fn is_held(&self) -> bool {
        self.until().is_some_and(|until| Instant::now() < until)
    }

    fn until(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, until: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }

    /// Held for good, for tests of what asks.
    #[cfg(any(test, feature = "contract"))]
    pub fn for_ever() -> Self {
        let held = Self::default();
        held.set(Some(Instant::now() + Duration::from_secs(1 << 30)));
        held
    }
}

/// Who holds it, as far as was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The process's run.
    pub name: String,
    /// What it says of itself.
    pub payload: Bytes,
}

/// What a step came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether this process holds it.
    pub held: bool,
    /// Who does, or did last, unless it was given back. `None` also where nobody ever did.
    pub holder: Option<Holder>,
    /// No new heartbeat of that holder was seen for `takeover_after`: it is taken to be dead.
    pub stale: bool,
}

/// The last message on the subject, as this process first saw it.
#[derive(Debug)]
struct Seen {
    sequence: u64,
    since: Instant,
    holder: Option<Holder>,
}

/// One process's part in a lease.
#[derive(Debug)]
pub struct Lease<B> {
    bus: B,
    terms: Terms,
    me: String,
    held: Held,
    /// The sequence of the last heartbeat of this process that is known to be stored, while it holds the lease.
    own: Option<u64>,
    beat: u64,
    /// When its last tries were sent, whatever became of them.
    tries: VecDeque<(u64, Instant)>,
    /// The answer to the last one was lost.
    pending: bool,
    seen: Option<Seen>,
}

impl<B: Bus> Lease<B> {
    /// `me` must be unique to this run of this process: one that was started anew is not the one that died.
    pub fn new(bus: B, terms: Terms, me: String) -> Self {
        debug_assert!(terms.lapse_after < terms.takeover_after, "two would believe at once");
        Self {
            bus,
            terms,
            me,
            held: Held::default(),
            own: None,
            beat: 0,
            tries: VecDeque::new(),
            pending: false,
            seen: None,
        }
    }

    /// To ask whether this process holds it.
    pub fn held(&self) -> Held {
        self.held.clone()
    }

    /// What it is and how long it holds.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Looks who holds it; renews it if this process does, and takes it over if its holder is gone and has been so for `patience`
    /// beyond the terms. To be called every `renew_every` while held, and more often while not.
    ///
    /// # Errors
    /// That the bus does not answer; what is held stays so until it lapses.
    pub async fn step(&mut self, payload: Bytes, patience: Duration) -> Result<Standing, BusError> {
        if self.own.is_some() && !self.held.is_held() {
            self.lose("its heartbeats were not stored in time");
        }
        match self.own {
            Some(own) if !self.pending => self.publish(own, payload).await,
            _ => self.look(payload, patience).await,
        }
    }

    /// Looks who holds it, and takes no part.
    ///
    /// # Errors
    /// That the bus does not answer.
    pub async fn watch(&mut self) -> Result<Standing, BusError> {
        let last = self.last().await?;
        self.see(last.as_ref());
        Ok(self.standing())
    }

    /// Gives it back, so that another one need not wait. Without an answer it lapses.
    pub async fn release(&mut self) {
        let own = self.own.take();
        self.held.set(None);
        if let Some(own) = own {
            let message = self.message(own, Bytes::new(), true);
            if let Err(error) = self.bus.publish(vec![message]).await {
                tracing::debug!(%error, subject = self.terms.subject, "a lease was not given back; it lapses");
            }
        }
    }

    fn standing(&self) -> Standing {
        let held = self.held.is_held();
        let stale = !held && self.seen.as_ref().is_some_and(|seen| seen.since.elapsed() >= self.terms.takeover_after);
        Standing { held, holder: self.seen.as_ref().and_then(|seen| seen.holder.clone()), stale }
    }

    async fn last(&self) -> Result<Option<Stored>, BusError> {
        let (stream, subject) = (&self.terms.stream, &self.terms.subject);
        let late = |_| BusError::Unavailable(format!("no answer to what is last on {subject} of {stream}"));
        timeout(self.terms.renew_every, self.bus.last(stream, subject)).await.map_err(late)?
    }

    /// Keeps since when the last message has been the last one.
    fn see(&mut self, last: Option<&Stored>) {
        let sequence = last.map_or(0, |last| last.sequence);
        if self.seen.as_ref().is_none_or(|seen| seen.sequence != sequence) {
            let holder = last.filter(|last| last.header(RELEASED).is_none()).map(|last| Holder {
                name: last.header(HOLDER).unwrap_or_default().to_owned(),
                payload: last.payload.clone(),
            });
            self.seen = Some(Seen { sequence, since: Instant::now(), holder });
        }
    }

    /// Learns what became of a try, or waits for the holder to be gone.
    async fn look(&mut self, payload: Bytes, patience: Duration) -> Result<Standing, BusError> {
        let last = self.last().await?;
        self.see(last.as_ref());
        self.pending = false;
        let sequence = last.as_ref().map_or(0, |last| last.sequence);
        if let Some(last) = last.filter(|last| self.is_mine(last)) {
            let beat = last.header(BEAT).and_then(|beat| beat.parse::<u64>().ok());
            let sent = self.tries.iter().find(|(known, _)| Some(*known) == beat).map(|(_, sent)| *sent);
            if let Some(sent) = sent {
                self.keep(sequence, sent, last.payload);
            }
            if self.own.is_some() && beat == Some(self.beat) {
                return Ok(self.standing());
            }
            // Nobody else can believe in it.
            return self.publish(sequence, payload).await;
        }
        if self.own.is_some() {
            self.lose("another one has taken it");
        }
        let (waited, is_free) = match &self.seen {
            Some(seen) => (seen.since.elapsed(), seen.holder.is_none()),
            None => (Duration::ZERO, true),
        };
        let wait = if is_free { patience } else { self.terms.takeover_after + patience };
        if waited >= wait { self.publish(sequence, payload).await } else { Ok(self.standing()) }
    }

    /// Whether this process published it, and not to give it back.
    fn is_mine(&self, last: &Stored) -> bool {
        last.header(HOLDER) == Some(self.me.as_str()) && last.header(RELEASED).is_none()
    }

    /// A heartbeat or a claim: the guard says which one it follows.
    async fn publish(&mut self, guard: u64, payload: Bytes) -> Result<Standing, BusError> {
        self.beat += 1;
        let sent = Instant::now();
        self.tries.push_back((self.beat, sent));
        if self.tries.len() > TRIES {
            self.tries.pop_front();
        }
        let message = self.message(guard, payload.clone(), false);
        match timeout(self.terms.renew_every, self.bus.publish(vec![message])).await {
            Ok(Ok(sequence)) => self.keep(sequence, sent, payload),
            // By another one, or by an earlier try of its own whose answer was lost: the next look tells.
            Ok(Err(PublishError::Refused { .. })) => self.lose("its heartbeat was refused"),
            Ok(Err(PublishError::Fatal(problem))) => return Err(BusError::Fatal(problem)),
            Ok(Err(error)) => {
                tracing::debug!(%error, "no heartbeat");
                self.pending = true;
            }
            Err(_) => self.pending = true,
        }
        Ok(self.standing())
    }

    fn message(&self, guard: u64, payload: Bytes, released: bool) -> Publication {
        let mut headers = vec![(HOLDER.to_owned(), self.me.clone()), (BEAT.to_owned(), self.beat.to_string())];
        if released {
            headers.push((RELEASED.to_owned(), "1".to_owned()));
        }
        let (stream, subject) = (self.terms.stream.clone(), self.terms.subject.clone());
        Publication { stream, subject, headers, payload, guard: Some(guard) }
    }

    /// A heartbeat is stored.
    fn keep(&mut self, sequence: u64, sent: Instant, payload: Bytes) {
        let until = sent + self.terms.lapse_after;
        let holder = Some(Holder { name: self.me.clone(), payload });
        self.seen = Some(Seen { sequence, since: Instant::now(), holder });
        if Instant::now() < until {
            if self.own.is_none() {
                tracing::info!(subject = self.terms.subject, "leads");
            }
            self.own = Some(sequence);
            self.held.set(Some(until));
        } else {
            self.lose("its heartbeats were not stored in time");
        }
    }

    fn lose(&mut self, why: &str) {
        if self.own.take().is_some() {
            tracing::warn!(subject = self.terms.subject, why, "leads no more");
        }
        self.held.set(None);
    }
}

#[cfg(test)]
mod tests;
