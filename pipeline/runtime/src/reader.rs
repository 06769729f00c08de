//! A durable reader whose owner keeps its position: for what brings a stream's messages out of the gateway, in its own
//! time and not in order.
//!
//! The owner takes messages by [`Reader::pull`], and once some are done with: writes [`Reader::kept`] to its own state,
//! then calls [`Reader::done`]. What is kept is the last sequence that was handed out and the sequences at or below it
//! that are not done; everything else at or below it is. The server's own record of acknowledgements (one by one) is the
//! second best: it is not written with every ack, so a server that dies forgets the latest ones. It is used only where
//! the owner's state is lost.
//!
//! On start, and whenever the feed lost its place, the consumer is reset to the oldest message that is not done: a
//! durable consumer's own cursor has moved past what its dead instance had pulled. What comes again and is done is
//! acknowledged again and not handed out.
//!
//! Such a reader holds no stream back. What was removed before it came there is told as [`Missed`].

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use async_nats::jetstream::{
    consumer::{AckPolicy, DeliverPolicy, pull},
    stream::Stream,
};

use crate::{
    bus::{
        AckToken, Bus, BusError, Delivery, Feed, PullBounds, Source, StreamState,
        nats::{NatsBus, NatsFeed},
    },
    position::Place,
};

/// How long a counting consumer may live if it cannot be deleted.
const COUNT_LIFE: Duration = Duration::from_secs(10);
/// The stream grows while its messages are counted: so often it is tried anew.
const COUNT_TRIES: u32 = 5;

/// Where a reader without any position begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StartAt {
    /// With what comes from now on.
    New,
    /// With the oldest message there is.
    Oldest,
}

/// A reader's position, as its owner keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Up to here everything was handed out, or is accounted for.
    pub place: Place,
    /// What of it is not done, in order.
    pub open: Vec<u64>,
}

/// What a pull brings.
#[derive(Debug)]
pub enum Turn {
    /// A message. It is open until the owner calls [`Reader::done`].
    Message(Delivery),
    /// Messages that were removed before they were read.
    Missed(Missed),
}

/// A range of sequences of which some, or all, were removed from the stream before they were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missed {
    /// The first one.
    pub from: u64,
    /// The last one.
    pub to: u64,
    /// Which stream it was: one that was created anew is another.
    pub incarnation: i64,
    /// What happened.
    pub problem: String,
}

/// A message that was handed out, or is to be handed out again, and is not done.
#[derive(Debug, Default)]
struct Open {
    /// What acknowledges it; void (`None`) between a reset and its next delivery.
    token: Option<AckToken>,
    /// The owner has it.
    handed: bool,
}

/// See the module.
pub struct Reader {
    bus: NatsBus,
    source: Source,
    start: StartAt,
    kept: Option<Kept>,
    incarnation: i64,
    /// The last sequence that was handed out or passed over.
    reached: u64,
    open: BTreeMap<u64, Open>,
    feed: Option<NatsFeed>,
    /// What the next pull tells first.
    missed: Vec<Missed>,
    /// Up to here what is missing was told.
    told_missed: u64,
    /// Of messages that came again although they are done.
    again: Vec<AckToken>,
    resets: u64,
    pending: u64,
    told_alive: Instant,
}

impl Reader {
    /// A reader of `source`, whose owner kept `kept`. Nothing is asked of the server before the first pull.
    pub fn new(bus: NatsBus, source: Source, start: StartAt, kept: Option<Kept>) -> Self {
        Self {
            bus,
            source,
            start,
            kept,
            incarnation: 0,
            reached: 0,
            open: BTreeMap::new(),
            feed: None,
            missed: Vec::new(),
            told_missed: 0,
            again: Vec::new(),
            resets: 0,
            pending: 0,
            told_alive: Instant::now(),
        }
    }

    /// What is pending, up to `bounds`; waits at most `wait` for the first message. Opens the feed if need be.
    /// May be cancelled: nothing that it would have returned is lost.
    ///
    /// # Errors
    /// That the server does not answer, or the feed lost its place: try again after a while.
    pub async fn pull(&mut self, bounds: PullBounds, wait: Duration) -> Result<Vec<Turn>, BusError> {
        // An ack that is lost costs another delivery after the next reset, no more.
        while let Some(token) = self.again.pop() {
            let _ = self.bus.ack(&token).await;
        }
        if self.feed.is_none() {
            self.open_feed().await?;
        }
        if !self.missed.is_empty() {
            return Ok(self.missed.drain(..).map(Turn::Missed).collect());
        }
        // Nothing is awaited once messages are here: a caller that gives up loses none.
        let pulled = match &mut self.feed {
            Some(feed) => feed.pull(bounds, wait).await,
            None => Ok(Vec::new()),
        };
        match pulled {
            Ok(pulled) => Ok(self.take(pulled)),
            Err(problem) => {
                self.close_feed();
                self.resets += 1;
                Err(problem)
            }
        }
    }

    fn take(&mut self, pulled: Vec<Delivery>) -> Vec<Turn> {
        let mut turns = Vec::new();
        for delivery in pulled {
            self.pending = delivery.pending;
            self.pass_over(delivery.sequence);
            turns.extend(self.missed.drain(..).map(Turn::Missed));
            if delivery.sequence > self.reached {
                self.reached = delivery.sequence;
                self.open.insert(delivery.sequence, Open { token: Some(delivery.token.clone()), handed: true });
                turns.push(Turn::Message(delivery));
            } else if let Some(open) = self.open.get_mut(&delivery.sequence) {
                open.token = Some(delivery.token.clone());
                if !std::mem::replace(&mut open.handed, true) {
                    turns.push(Turn::Message(delivery));
                }
            } else {
                self.again.push(delivery.token);
            }
        }
        turns
    }

    /// What is open below `sequence`, was never handed out by this process, and did not come: it was removed.
    fn pass_over(&mut self, sequence: u64) {
        let gone = self.open.range(..sequence).filter(|(_, open)| !open.handed).map(|(sequence, _)| *sequence);
        for sequence in gone.collect::<Vec<u64>>() {
            self.open.remove(&sequence);
            let problem = format!("message {sequence} of {} was removed before it was done", self.source.stream);
            self.missed.push(Missed { from: sequence, to: sequence, incarnation: self.incarnation, problem });
        }
    }

    /// Where the reader stands once `done` are done. `None` before the feed was opened for the first time.
    pub fn kept(&self, done: &[u64]) -> Option<Kept> {
        let open = self.open.keys().filter(|sequence| !done.contains(sequence)).copied().collect();
        (self.incarnation != 0).then(|| Kept { place: Place::whole(self.incarnation, self.reached), open })
    }

    /// These are done, and the owner's state says so.
    pub async fn done(&mut self, sequences: &[u64]) {
        for sequence in sequences {
            if let Some(Open { token: Some(token), .. }) = self.open.remove(sequence) {
                let _ = self.bus.ack(&token).await;
            }
        }
    }

    /// How often the feed was opened after it had lost its place.
    pub fn resets(&self) -> u64 {
        self.resets
    }

    /// How many messages wait behind the last one pulled, as far as is known.
    pub fn pending(&self) -> u64 {
        self.pending
    }

    /// The owner will not pull for a while. The feed is closed, so that what is removed meanwhile is noticed when it opens
    /// again.
    pub fn pause(&mut self) {
        self.close_feed();
    }

    fn close_feed(&mut self) {
        self.feed = None;
        self.open.values_mut().for_each(|open| open.token = None);
    }

    /// Says that work on open messages goes on, so that they are not delivered again. Call it more often than a third of
    /// `ack_wait`; it sends at most that often.
    pub async fn keep_alive(&mut self) {
        if self.told_alive.elapsed() < self.source.ack_wait / 3 {
            return;
        }
        self.told_alive = Instant::now();
        for token in self.open.values().filter_map(|open| open.token.as_ref()) {
            if self.bus.in_progress(token).await.is_err() {
                return;
            }
        }
    }

    /// If everything there is was handed out: moves the position to the stream's end, over messages that this reader does
    /// not filter, so that their removal is no gap.
    ///
    /// # Errors
    /// That the server does not answer.
    pub async fn catch_up(&mut self) -> Result<(), BusError> {
        if self.feed.is_none() {
            return Ok(());
        }
        // In this order: what comes in between is pending or delivered.
        let stream = self.stream().await?;
        let info = stream.consumer_info(&self.source.durable).await.map_err(unavailable)?;
        self.pending = info.num_pending;
        if info.num_pending == 0 && info.delivered.stream_sequence <= self.reached {
            self.pass_over(u64::MAX);
            self.reached = self.reached.max(stream.cached_info().state.last_sequence);
        }
        Ok(())
    }

    async fn stream(&self) -> Result<Stream, BusError> {
        self.bus.jetstream().get_stream(&self.source.stream).await.map_err(unavailable)
    }

    /// Finds the position, notes what is gone, and resets the consumer to the oldest message that is not done.
    async fn open_feed(&mut self) -> Result<(), BusError> {
        // Says which stream is missing, where one is.
        let state = self.bus.stream(&self.source.stream).await?;
        let stream = self.stream().await?;
        let acked = self.provision(&stream).await?;
        let known = self.kept(&[]).or_else(|| self.kept.take());
        let kept = known.unwrap_or_else(|| self.begin(acked, &state));
        if kept.place.incarnation == state.incarnation {
            self.incarnation = state.incarnation;
            self.reached = kept.place.sequence;
            for sequence in kept.open {
                self.open.entry(sequence).or_default();
            }
        } else if self.incarnation == 0 {
            self.created_anew(&kept, &state);
        } else {
            // What the owner has in hand bears the old one's sequences: it has to begin again.
            return Err(BusError::Fatal(format!("stream {} was created anew", self.source.stream)));
        }
        if self.reached > state.last_sequence {
            let (from, to) = (state.last_sequence + 1, self.reached);
            let problem = format!("{} ends at {}, before the position {to}", self.source.stream, state.last_sequence);
            self.missed.push(Missed { from, to, incarnation: self.incarnation, problem });
            self.reached = state.last_sequence;
        }
        self.pass_over(state.first_sequence);
        let from = self.reached.max(self.told_missed) + 1;
        if let Some(to) = removed_from(&stream, from).await? {
            let problem = format!("messages between {from} and {to} of {} were removed", self.source.stream);
            self.missed.push(Missed { from, to, incarnation: self.incarnation, problem });
            self.told_missed = to;
            self.reached = self.reached.max(state.first_sequence.saturating_sub(1));
        }
        let oldest = self.open.keys().next().copied().unwrap_or(u64::MAX).min(self.reached + 1);
        self.feed = Some(self.bus.open(&self.source, oldest).await?);
        Ok(())
    }

    /// Another stream of the same name: nothing of the old one is open any more, and all of the new one is new.
    fn created_anew(&mut self, kept: &Kept, state: &StreamState) {
        self.open.clear();
        self.incarnation = state.incarnation;
        (self.reached, self.told_missed) = (0, 0);
        let from = kept.open.first().copied().unwrap_or(kept.place.sequence + 1);
        let name = &self.source.stream;
        let problem = format!("{name} was created anew; what the old one held from message {from} on is not known");
        let to = from.max(kept.place.sequence);
        self.missed.push(Missed { from, to, incarnation: kept.place.incarnation, problem });
    }

    /// Without a position of its owner: what the server knows, else where it was told to start.
    fn begin(&self, acked: Option<u64>, state: &StreamState) -> Kept {
        let sequence = acked.unwrap_or(match self.start {
            StartAt::New => state.last_sequence,
            StartAt::Oldest => state.first_sequence.saturating_sub(1),
        });
        tracing::info!(
            stream = self.source.stream,
            consumer = self.source.durable,
            sequence,
            "no position: begins here"
        );
        Kept { place: Place::whole(state.incarnation, sequence), open: Vec::new() }
    }

    /// Creates or updates the consumer; its ack floor if it was there and used.
    async fn provision(&self, stream: &Stream) -> Result<Option<u64>, BusError> {
        let config = pull::Config {
            ack_policy: AckPolicy::Explicit,
            // A pull's worth is on its way while as much is open.
            max_ack_pending: self.source.ack_pending_max,
            ..crate::provision::durable(&self.source)
        };
        let consumer = stream.create_consumer(config).await.map_err(unavailable)?;
        let info = consumer.cached_info();
        Ok(Some(info.ack_floor.stream_sequence).filter(|floor| *floor > 0))
    }
}

/// The last sequence of a range that begins at `from` and in which messages were removed; `None` if all are there.
async fn removed_from(stream: &Stream, from: u64) -> Result<Option<u64>, BusError> {
    for _ in 0..COUNT_TRIES {
        let state = stream.get_info().await.map_err(unavailable)?.state;
        if state.first_sequence > from {
            return Ok(Some(state.first_sequence - 1));
        }
        if state.last_sequence < from || state.deleted_count.unwrap_or(0) == 0 {
            return Ok(None);
        }
        // Some are missing somewhere. A consumer from here on knows how many there are.
        let config = pull::Config {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: from },
            ack_policy: AckPolicy::None,
            inactive_threshold: COUNT_LIFE,
            memory_storage: true,
            ..Default::default()
        };
        let counting = stream.create_consumer(config).await.map_err(unavailable)?;
        let there = counting.cached_info().num_pending;
        let _ = stream.delete_consumer(&counting.cached_info().name).await;
        let last = stream.get_info().await.map_err(unavailable)?.state.last_sequence;
        if last == state.last_sequence {
            return Ok((there < last + 1 - from).then_some(last));
        }
    }
    Ok(None)
}

fn unavailable(error: impl std::fmt::Display) -> BusError {
    BusError::Unavailable(error.to_string())
}
