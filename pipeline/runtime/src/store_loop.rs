//! The loop of a stage whose output is a store (index, and later export and hub): exactly once, without a checkpoint on the bus.
//!
//! The order: pull; decode; write what came and the position that it reaches in one transaction of the store; acknowledge; tell.
//! What died before the transaction comes again; what died after it is not taken again, since the feed is opened at the
//! store's position. What must go out after a transaction is noted in it, and tried until it is noted as sent.
//!
//! Such a stage is not on the path to an alert and holds no stream back: messages that were removed before it came there are a
//! [`Gap`], told to the store, which goes on behind it.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};

use crate::{
    bus::{Bus, BusError, Delivery, Feed, PullBounds, Source},
    config::LimitsConfig,
    position::{Place, Position},
    telemetry::Telemetry,
    trace::current,
};

/// How long a pull waits for its first message.
const PULL_WAIT: Duration = Duration::from_millis(200);
/// How often [`Sink::tick`] is called.
const TICK: Duration = Duration::from_secs(1);
/// How long it is waited before something that failed is tried again: at first, and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Messages that were removed before they were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The first one.
    pub from: u64,
    /// The last one.
    pub to: u64,
}

/// What goes into one transaction.
#[derive(Debug)]
pub struct Turn<'a> {
    /// Messages, in their order; each next one follows the one before it.
    pub deliveries: &'a [Delivery],
    /// What was missed before the first of them.
    pub gap: Option<Gap>,
    /// The position that the store must stand at.
    pub before: Option<&'a Position>,
}

/// A store, as the loop sees it.
pub trait Sink: Send {
    /// Where it stands.
    ///
    /// # Errors
    /// That it cannot be read: the stage ends.
    fn position(&self) -> Result<Option<Position>, SinkError>;

    /// The furthest position that it reflects: past [`Self::position`] where it takes some messages again.
    ///
    /// # Errors
    /// That it cannot be read: the stage ends.
    fn furthest(&self) -> Result<Option<Position>, SinkError> {
        self.position()
    }

    /// Writes what came, and the position that `reaches` makes of the sequence up to which it has taken the messages (the last of
    /// them, unless it waits for what belongs together). `None`: nothing was taken yet; they come again with more, and every
    /// second without more.
    ///
    /// # Errors
    /// That nothing was written.
    fn write(
        &mut self,
        turn: &Turn<'_>,
        reaches: impl Fn(u64) -> Position + Send,
    ) -> impl Future<Output = Result<Option<u64>, SinkError>> + Send;

    /// After a write, and every second: what is to go out, and upkeep.
    ///
    /// # Errors
    /// What should be tried again.
    fn tick(&mut self) -> impl Future<Output = Result<(), SinkError>> + Send;
}

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// Trying again may help: a full disk, a bus that is away.
    #[error("{0}")]
    Again(String),
    /// It will not, but a process that is started anew may go on.
    #[error("{0}")]
    Restart(String),
    /// It will not: the message names the way out.
    #[error("{0}")]
    Fatal(String),
}

/// Why the loop ended.
#[derive(Debug, thiserror::Error)]
pub enum StoreLoopError {
    /// Positions, store and stream do not fit, or another instance writes.
    #[error("{0}")]
    Contract(String),
    /// What only a process that is started anew can put right.
    #[error("{0}")]
    Restart(String),
}

/// What the loop has to do with the world.
pub struct Outside<B> {
    /// Streams.
    pub bus: B,
    /// What is read.
    pub source: Source,
    /// Bounds of a pull.
    pub limits: LimitsConfig,
    /// What it tells about itself.
    pub telemetry: Arc<Telemetry>,
    /// The command that accepts that the stream is another one.
    pub way_out: String,
}

/// Runs until `stop` says true.
///
/// # Errors
/// See [`StoreLoopError`].
pub async fn run<B: Bus, S: Sink>(
    sink: S,
    outside: Outside<B>,
    stop: watch::Receiver<bool>,
) -> Result<(), StoreLoopError> {
    current::scope(run_traced(sink, outside, stop)).await
}

async fn run_traced<B: Bus, S: Sink>(
    mut sink: S,
    outside: Outside<B>,
    stop: watch::Receiver<bool>,
) -> Result<(), StoreLoopError> {
    let mut backoff = BACKOFF.0;
    while !*stop.borrow() {
        let started = Instant::now();
        match session(&mut sink, &outside, &stop).await {
            Ok(()) => break,
            Err(End::Contract(problem)) => return Err(StoreLoopError::Contract(problem)),
            Err(End::Restart(problem)) => return Err(StoreLoopError::Restart(problem)),
            Err(End::Again(reason)) => {
                tracing::warn!(reason, "opening the feed anew");
                outside.telemetry.consumer_reset();
            }
        }
        backoff = if started.elapsed() > BACKOFF.1 { BACKOFF.0 } else { (backoff * 2).min(BACKOFF.1) };
        tokio::time::sleep(backoff).await;
    }
    Ok(())
}

/// Why a session ended.
enum End {
    Again(String),
    Restart(String),
    Contract(String),
}

impl From<BusError> for End {
    fn from(error: BusError) -> Self {
        match error {
            BusError::Fatal(problem) => Self::Contract(problem),
            error => Self::Again(error.to_string()),
        }
    }
}

impl From<SinkError> for End {
    fn from(error: SinkError) -> Self {
        match error {
            SinkError::Again(problem) => Self::Again(problem),
            SinkError::Restart(problem) => Self::Restart(problem),
            SinkError::Fatal(problem) => Self::Contract(problem),
        }
    }
}

/// From the store's position on, until something ends it.
async fn session<B: Bus, S: Sink>(sink: &mut S, outside: &Outside<B>, stop: &watch::Receiver<bool>) -> Result<(), End> {
    let Outside { bus, source, limits, telemetry, way_out } = outside;
    let stream = bus.stream(&source.stream).await?;
    let mut position = sink.position()?;
    let furthest = sink.furthest()?;
    if let Some(place) = furthest.as_ref().and_then(|position| position.place(&source.stream))
        && (place.incarnation != stream.incarnation || place.sequence > stream.last_sequence)
    {
        return Err(End::Contract(format!(
            "the store stands at {}@{place}, but that stream was created at {} and ends at {}: if the stream was lost, \
             run `{way_out}`",
            source.stream, stream.incarnation, stream.last_sequence
        )));
    }
    let place = position.as_ref().and_then(|position| position.place(&source.stream));
    let next = place.map_or(1, Place::next_sequence);
    let mut gap = None;
    if next < stream.first_sequence {
        // A store that is new begins with what there is.
        gap = place.is_some().then_some(Gap { from: next, to: stream.first_sequence - 1 });
        if let Some(Gap { from, to }) = gap {
            tracing::warn!(from, to, stream = source.stream, "messages were removed before they were read");
        }
    }
    let mut feed = bus.open(source, next.max(stream.first_sequence)).await?;
    let reaches = |sequence| Position([(source.stream.clone(), Place::whole(stream.incarnation, sequence))].into());
    let bounds = PullBounds { messages: limits.pull_messages_max, bytes: limits.pull_bytes_max };
    // Messages of which the store wants to see what follows.
    let mut held: Vec<Delivery> = Vec::new();
    let mut ticked = Instant::now();
    while !*stop.borrow() {
        let pulled = feed.pull(bounds, PULL_WAIT).await?;
        let is_time = ticked.elapsed() >= TICK;
        let came = !pulled.is_empty() || (is_time && !held.is_empty());
        if came {
            let started = Instant::now();
            telemetry.busy();
            telemetry.received(pulled.len() as u64, pulled.iter().map(|one| one.payload.len() as u64).sum());
            let left = pulled.last().map_or(0, |last| last.pending);
            held.extend(pulled);
            let traced = held.iter().find_map(|delivery| delivery.provenance.contexts.first());
            current::set(traced.map(|context| context.trace));
            let turn = Turn { deliveries: &held, gap, before: position.as_ref() };
            if let Some(reached) = write(sink, &turn, reaches, telemetry, stop).await? {
                let taken = held.iter().take_while(|delivery| delivery.sequence <= reached).count();
                if let Some(last) = held.drain(..taken).last() {
                    position = Some(reaches(reached));
                    gap = None;
                    if let Err(error) = bus.ack(&last.token).await {
                        tracing::debug!(%error, "an ack was lost; the next one covers it");
                    }
                }
            }
            telemetry.batch_seconds(started.elapsed());
            telemetry.progress();
            telemetry.lag(left, 0.0);
            if left == 0 {
                telemetry.idle();
            }
        }
        if !came {
            telemetry.caught_up();
        }
        if came || is_time {
            if let Err(error) = sink.tick().await {
                match error {
                    SinkError::Again(problem) => tracing::warn!(problem, "trying again"),
                    ends => return Err(ends.into()),
                }
            }
            ticked = Instant::now();
            current::set(None);
        }
    }
    Ok(())
}

/// Writes, and where the disk is full waits and writes the same again: the stream keeps what is not taken.
async fn write<S: Sink>(
    sink: &mut S,
    turn: &Turn<'_>,
    reaches: impl Fn(u64) -> Position + Copy + Send,
    telemetry: &Telemetry,
    stop: &watch::Receiver<bool>,
) -> Result<Option<u64>, End> {
    let mut wait = BACKOFF.0;
    loop {
        match sink.write(turn, reaches).await {
            Ok(reached) => {
                telemetry.has_room();
                return Ok(reached);
            }
            Err(ends @ (SinkError::Fatal(_) | SinkError::Restart(_))) => return Err(ends.into()),
            Err(SinkError::Again(problem)) => {
                telemetry.backpressure();
                tracing::error!(problem, "nothing was written; trying again");
                if *stop.borrow() {
                    return Ok(None);
                }
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(BACKOFF.1);
            }
        }
    }
}
