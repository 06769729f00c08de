//! The stage loop: the only place that knows in which order a stage pulls, publishes, saves and acknowledges.
//!
//! Read in this order: [`run`] and `Runner::session` (the loop), `recover.rs` (where a stage goes on), `process.rs` (one
//! message), `direct.rs` (input without a stream), `publish.rs` (the guarded output that is the checkpoint), `on_its_way.rs` (the loop
//! goes on meanwhile), `health.rs` (conditions, beside it), `commit.rs` (state, then acks); `hop.rs` says in headers where an output
//! comes from.
//!
//! The order, and what a crash at each point does:
//! 1. pull, decode, process: nothing is out; the messages come again.
//! 2. side outputs, guarded on their own subjects: what of them is out is not published again (their header says how far).
//! 3. ONE merged output, guarded: out or not; if out it is the checkpoint, and the replay of its input is silent. A stage with state
//!    pulls and processes meanwhile; what comes of that waits until it is known which.
//! 4. state and position, whole with the last of its transactions, never ahead of the checkpoint: the replay starts here.
//! 5. the ack, once that is committed: the ack floor is the oldest position that a restart needs.

mod commit;
mod direct;
mod health;
mod hop;
mod interrupt;
mod on_its_way;
mod process;
mod publish;
mod recover;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc, time::Duration};

use eddy_schemas::Timestamp;
use futures_util::future::select_all;
use tokio::{sync::watch, time::Instant};

use crate::{
    bus::{AckToken, Bus, BusError, Delivery, Feed, PullBounds, Source},
    clock::Clock,
    config::CommonConfig,
    direct::{Answer, Queue, Receipt, Request},
    position::Position,
    stage::{LateRow, Outbox, Rejected, Scope, Stage},
    state::{self, StateStore, StoreError},
    telemetry::Telemetry,
    trace::current,
};

pub(crate) use self::recover::check_state;
use self::{direct::DIRECT, interrupt::Interrupt};
pub use self::{interrupt::LoopError, recover::start_afresh};

/// How long a pull waits for its first message; also how soon a stop is noticed.
const PULL_WAIT: Duration = Duration::from_millis(200);
/// How often [`Stage::tick`] is called, and progress without output is published.
const TICK: Duration = Duration::from_secs(1);

/// What the loop has to do with the world.
pub struct Outside<I, B> {
    /// Streams.
    pub bus: B,
    /// Input that comes without a stream; [`Queue::none`] for most stages.
    pub direct: Queue<I>,
    /// What it tells about itself.
    pub telemetry: Arc<Telemetry>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
}

/// Runs `stage` until it is told to stop, or must.
///
/// # Errors
/// See [`LoopError`].
pub async fn run<S: Stage, B: Bus>(
    stage: S,
    scope: Scope,
    config: &CommonConfig,
    outside: Outside<S::Input, B>,
    stop: watch::Receiver<bool>,
) -> Result<(), LoopError> {
    current::scope(run_traced(stage, scope, config, outside, stop)).await
}

async fn run_traced<S: Stage, B: Bus>(
    stage: S,
    scope: Scope,
    config: &CommonConfig,
    outside: Outside<S::Input, B>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), LoopError> {
    let mut runner = Runner::new(stage, scope, config, outside)?;
    let mut backoff = BACKOFF_MIN;
    let mut reload = true;
    while !*stop.borrow_and_update() {
        let started = Instant::now();
        let opened = if reload { runner.recover().await } else { runner.reopen(&stop).await };
        let ended = match opened {
            Ok(()) => {
                reload = false;
                runner.session(&stop).await
            }
            Err(error) => error,
        };
        current::set(None);
        // At once: what still waits at the server would take the messages of whoever resets the consumer meanwhile.
        runner.feeds.clear();
        match ended {
            Interrupt::Stop => break,
            Interrupt::Fail(error) => return Err(error),
            Interrupt::Unavailable(reason) => tracing::warn!(reason, "the bus is not available"),
            Interrupt::Reopen(reason) => {
                tracing::warn!(reason, "opening the feeds anew");
                runner.telemetry.consumer_reset();
            }
            Interrupt::Recover(reason) => {
                tracing::warn!(reason, "recovering from the saved state");
                reload = true;
                runner.give_up_direct();
            }
        }
        // A session that lived was healthy; one that ends at once makes the next one wait.
        backoff = if started.elapsed() > BACKOFF_MAX { BACKOFF_MIN } else { (backoff * 2).min(BACKOFF_MAX) };
        tokio::select! {
            () = tokio::time::sleep(jittered(backoff)) => {}
            _ = stop.changed() => {}
        }
    }
    Ok(())
}

/// Waits for the answer to an output, for ever if none is on its way.
async fn answered(output: &mut Option<on_its_way::OnItsWay>) {
    match output {
        Some(output) => output.wait().await,
        None => std::future::pending().await,
    }
}

/// Between half and one and a half times `wait`: two instances that take the consumer from each other must not do so in step,
/// or neither ever comes to publish, which is what tells them apart.
fn jittered(wait: Duration) -> Duration {
    use std::hash::{BuildHasher, RandomState};
    let random = RandomState::new().hash_one(0) >> 32;
    wait / 2 + wait.mul_f64(random as f64 / f64::from(u32::MAX))
}

const BACKOFF_MIN: Duration = Duration::from_millis(25);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// One output subject (a shard's) and the sequence of its last message.
#[derive(Debug)]
struct OutputSubject {
    subject: String,
    last_sequence: u64,
}

/// A side subject: what of its rows is out already.
#[derive(Debug)]
struct Side {
    subject: String,
    last_sequence: u64,
    reached: Position,
}

/// Where a side output comes from: input, message. Direct input comes from [`DIRECT`].
type Origin = (usize, u64);

/// What came next.
enum Pulled<I> {
    /// Messages of an input.
    Stream(usize, Vec<Delivery>),
    /// Direct input.
    Direct(Vec<Request<I>>),
}

impl<I> Pulled<I> {
    fn is_empty(&self) -> bool {
        matches!(self, Self::Stream(_, deliveries) if deliveries.is_empty())
    }
}

struct Runner<S: Stage, B: Bus> {
    stage: S,
    config: CommonConfig,
    bus: B,
    direct: Queue<S::Input>,
    /// Direct input whose rows are processed, to be answered once they are out.
    waiting: Vec<(Answer, Receipt)>,
    telemetry: Arc<Telemetry>,
    clock: Arc<dyn Clock>,
    store: Option<StateStore>,
    sources: Vec<Source>,
    /// Per input: the incarnation of its stream, as found at start.
    incarnations: Vec<i64>,
    feeds: Vec<B::Feed>,
    outputs: Vec<OutputSubject>,
    late_side: Side,
    dead_side: Side,
    /// What the stage in memory has processed.
    reached: Position,
    /// What its output covers.
    checkpoint: Position,
    /// What all of the state on disk reflects ...
    saved: Option<Position>,
    /// ... and what some of it does.
    seen: Option<Position>,
    saving: Option<commit::Saving>,
    committed_at: Instant,
    checkpointed_at: Instant,
    /// The output that is not acknowledged yet.
    on_its_way: Option<on_its_way::OnItsWay>,
    /// When the pull in hand came, or the last output of it left.
    held_since: Instant,
    ticked_at: Instant,
    /// Per input the token of the last message that is processed; acking it acks all before.
    tokens: Vec<Option<AckToken>>,
    in_flight: commit::InFlight,
    health: health::HealthLane,
    outbox: Outbox<S::Output>,
    hop: hop::Hop,
    late: Vec<(Origin, LateRow)>,
    rejected: Vec<(Origin, Rejected)>,
    refusals: u32,
    /// Rows processed since the last output.
    rows: u64,
    /// Per input the messages that are left to pull, as of its last pull.
    left: Vec<u64>,
    /// Tries of messages that made the stage panic.
    poison: HashMap<(usize, u64), u32>,
    instance: String,
}

impl<S: Stage, B: Bus> Runner<S, B> {
    fn new(stage: S, scope: Scope, config: &CommonConfig, outside: Outside<S::Input, B>) -> Result<Self, LoopError> {
        let Outside { bus, direct, telemetry, clock } = outside;
        if S::SPEC.stateful && direct.is_open() {
            // State with rows that no replay could bring back would be ahead of its position.
            return Err(LoopError::Failed(format!("{} keeps state, so it can take no direct input", S::SPEC.name)));
        }
        let store = recover::open_store::<S>(&scope, config)?;
        let site = eddy_schemas::names::encode(&scope.site);
        let sources = recover::sources::<S>(&scope, config);
        let side = |kind: &str| Side {
            subject: format!("{kind}.{site}.{}.{}", S::SPEC.name, scope.shard),
            last_sequence: 0,
            reached: Position::default(),
        };
        let in_flight = commit::InFlight::new(bus.clone(), sources[0].ack_wait);
        let instance = format!("{}-{}", std::process::id(), clock.now());
        let now = Instant::now();
        Ok(Self {
            outputs: recover::output_subjects::<S>(&stage, &scope),
            outbox: Outbox::new(stage.outputs(), config.limits.output_bytes_max),
            hop: hop::Hop::default(),
            late_side: side("late"),
            dead_side: side("deadletter"),
            incarnations: vec![0; sources.len()],
            tokens: vec![None; sources.len()],
            feeds: Vec::new(),
            reached: Position::default(),
            checkpoint: Position::default(),
            saved: None,
            seen: None,
            saving: None,
            committed_at: now,
            checkpointed_at: now,
            on_its_way: None,
            held_since: now,
            ticked_at: now,
            late: Vec::new(),
            rejected: Vec::new(),
            refusals: 0,
            rows: 0,
            left: vec![0; sources.len()],
            poison: HashMap::new(),
            config: config.clone(),
            health: health::HealthLane::new(bus.clone(), &scope.site),
            stage,
            bus,
            direct,
            waiting: Vec::new(),
            telemetry,
            clock,
            store,
            sources,
            in_flight,
            instance,
        })
    }

    /// Pulls and processes until something ends it.
    async fn session(&mut self, stop: &watch::Receiver<bool>) -> Interrupt {
        loop {
            let turn = self.turn(stop).await;
            if let Err(interrupt) = turn {
                return interrupt;
            }
        }
    }

    async fn turn(&mut self, stop: &watch::Receiver<bool>) -> Result<(), Interrupt> {
        if *stop.borrow() {
            self.drain(stop).await?;
            return Err(Interrupt::Stop);
        }
        let Some(mut pulled) = self.pull().await? else {
            self.arrived(stop).await?;
            self.note_idle();
            return Ok(());
        };
        if !pulled.is_empty() {
            let started = Instant::now();
            self.held_since = started;
            self.telemetry.busy();
            self.arrive(&mut pulled);
            match pulled {
                Pulled::Stream(input, deliveries) => {
                    self.note_pull(input, &deliveries);
                    for delivery in deliveries {
                        self.take(input, delivery, stop).await?;
                        self.send_ripe(stop).await?;
                        self.collect_in_turn();
                    }
                }
                Pulled::Direct(requests) => self.take_direct(requests, stop).await?,
            }
            self.send(stop).await?;
            self.telemetry.batch_seconds(started.elapsed());
        }
        self.note_idle();
        self.tick().await;
        self.settle(stop).await?;
        current::set(None);
        Ok(())
    }

    /// Notes that nothing is left to do, if that is so.
    fn note_idle(&self) {
        if self.on_its_way.is_none() && self.left.iter().all(|left| *left == 0) {
            self.telemetry.idle();
        }
    }

    /// What is pending on whichever input has something first; `None`: the output on its way is answered.
    async fn pull(&mut self) -> Result<Option<Pulled<S::Input>>, Interrupt> {
        let limits = &self.config.limits;
        let bounds = PullBounds { messages: limits.pull_messages_max, bytes: limits.pull_bytes_max };
        let wait = self.saving.as_ref().map_or(PULL_WAIT, |saving| saving.wait(&self.config.state));
        // A pull that loses the race is dropped while it waits for its first message: nothing was taken from its feed.
        let pulls = self.feeds.iter_mut().map(|feed| Box::pin(feed.pull(bounds, wait)));
        tokio::select! {
            (result, input, _) = select_all(pulls) => match result {
                Ok(deliveries) => Ok(Some(Pulled::Stream(input, deliveries))),
                Err(error) => Err(Interrupt::from_bus(error)),
            },
            first = self.direct.next() => {
                let requests = self.direct.gather(first, limits.ack_pending_max as usize, limits.pull_bytes_max).await;
                Ok(Some(Pulled::Direct(requests)))
            }
            () = answered(&mut self.on_its_way) => Ok(None),
        }
    }

    /// Notes what was pulled and what is left.
    fn note_pull(&mut self, input: usize, deliveries: &[Delivery]) {
        let Some(last) = deliveries.last() else { return };
        let age = (self.clock.now() - last.stored_at) as f64 / 1e9;
        self.left[input] = last.pending;
        let bytes: usize = deliveries.iter().map(|delivery| delivery.payload.len()).sum();
        self.telemetry.received(deliveries.len() as u64, bytes as u64);
        self.telemetry.lag(self.left.iter().sum(), age.max(0.0));
    }

    /// Once a second: conditions that only the wall clock shows.
    async fn tick(&mut self) {
        if self.ticked_at.elapsed() < TICK {
            return;
        }
        self.ticked_at = Instant::now();
        let now: Timestamp = self.clock.now();
        let health = self.stage.tick(now);
        // A device's conditions go out in their order.
        match &mut self.on_its_way {
            Some(output) => output.add(health),
            None => self.publish_health(health).await,
        }
        self.telemetry.in_flight(self.in_flight.len() as u64);
        self.telemetry.bundles(self.stage.bundles());
        if let Some(store) = &self.store {
            self.telemetry.state_bytes(store.bytes());
        }
    }

    /// Finishes what is in hand, within the bound that the caller sets.
    async fn drain(&mut self, stop: &watch::Receiver<bool>) -> Result<(), Interrupt> {
        // First what others wait for: a commit may have no room.
        self.flush(true, stop).await?;
        self.health.drained().await;
        self.finish_commit(Some(stop)).await?;
        if self.store.is_some() && self.saved.as_ref() != Some(&self.reached) {
            self.start_commit(stop).await?;
            self.finish_commit(Some(stop)).await?;
        }
        self.ack_stateless().await;
        Ok(())
    }
}
