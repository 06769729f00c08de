//! From the queue to the region: each class in its chain, the classes in strict priority.
//!
//! A batch is published with a guard, the sequence of its class's batch before it. That is known ahead, since nobody else writes into the
//! site's stream, so batches follow each other without waiting for answers. Whatever is not as expected (a refusal, no answer, another
//! sequence, another connection) ends the session: nothing more is sent, what is on its way is waited for, and the region is asked
//! where each class stands that had something on its way. So a resend changes nothing: it builds on what is there, or is refused.
//!
//! | what | when it is sent |
//! |---|---|
//! | alerts, labels | at once, whatever else is on its way |
//! | contexts, health | at once, if it fits what the link carries within the target latency |
//! | deltas and below | the same, once a batch is full or has waited; metered links make it wait for the day's budget |
//!
//! `uplink.rs` (the region's NATS), `checkpoint.rs` (where a class stands there), `batch.rs` (the next batch), `lane.rs` (a class on its
//! way), `session.rs` (a connection's life), `answers.rs` (what comes back).

mod answers;
mod batch;
mod checkpoint;
mod health;
mod lane;
mod session;
#[cfg(test)]
mod tests;
mod uplink;

use std::{sync::Arc, time::Duration};

use eddy_runtime::{
    bus::BusError,
    telemetry::{Metric, Telemetry},
};
use eddy_schemas::sync::Class;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use self::{checkpoint::Identity, lane::Lane, session::Session};
pub use self::{
    health::Health,
    uplink::{Pending, Uplink},
};
use crate::{
    link::Meter,
    queue::{Queue, QueueError},
};

/// How long is waited before something that failed is tried again: at first, and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How often what waits is told while there is none.
const QUEUE_TOLD: Duration = Duration::from_secs(5);
/// How often is looked whether there is a connection.
const CONNECTION_POLL: Duration = Duration::from_millis(200);

/// How it is sent.
#[derive(Clone, Debug)]
pub struct SendConfig {
    /// How long bulk may make an alert wait.
    pub target_latency: Duration,
    /// An alert that takes longer than that stops all else.
    pub congested_after: Duration,
    /// How long deltas and below wait for a batch to fill.
    pub linger: Duration,
    /// Bytes a day; 0: any number.
    pub metered_bytes: u64,
}

/// What the sender has to do with the world.
pub struct Outside<U> {
    /// What is sent.
    pub queue: Arc<Queue>,
    /// Where it goes.
    pub uplink: U,
    /// The site.
    pub site: String,
    /// How it is sent.
    pub config: SendConfig,
    /// What it tells about itself.
    pub telemetry: Arc<Telemetry>,
    /// Whether it gets on.
    pub health: Arc<Health>,
}

/// What outlives a connection.
struct Life<U> {
    outside: Outside<U>,
    identity: Identity,
    lanes: Vec<Lane>,
    meter: Meter,
    /// Which stream of that name the region had.
    incarnation: Option<i64>,
}

impl<U: Uplink> Life<U> {
    fn lane(&mut self, class: Class) -> &mut Lane {
        // Lanes stand in the order of Class::ALL, whose numbers go from 1 on.
        &mut self.lanes[class as usize - 1]
    }

    /// Sees what the queue holds.
    fn look(&mut self, now: Instant) -> Result<(), QueueError> {
        for lane in &mut self.lanes {
            lane.look(self.outside.queue.depth(lane.class)?, now);
        }
        Ok(())
    }

    fn tell_queue(&self) {
        for lane in &self.lanes {
            self.outside.telemetry.gauge_class(Metric::SyncQueueEntries, lane.class.token(), lane.depth.entries);
            self.outside.telemetry.gauge_class(Metric::SyncQueueBytes, lane.class.token(), lane.depth.bytes);
            self.outside.telemetry.gauge_class(Metric::SyncQueueGapEntries, lane.class.token(), lane.depth.lost());
        }
    }

    /// Without a connection the queue is all there is to tell.
    async fn wait_for_connection(&mut self, stop: &mut watch::Receiver<bool>) -> Option<u64> {
        let mut told: Option<Instant> = None;
        while !*stop.borrow() {
            if let Some(connection) = self.outside.uplink.connection() {
                return Some(connection);
            }
            let now = Instant::now();
            if told.is_none() {
                tracing::info!("no connection to the region: entries wait in the queue");
                self.outside.health.offline();
            }
            if told.is_none_or(|told| now - told >= QUEUE_TOLD) {
                told = Some(now);
                if let Err(error) = self.look(now) {
                    tracing::warn!(%error, "the queue cannot be read");
                }
                self.tell_queue();
            }
            pause(CONNECTION_POLL, stop).await;
        }
        None
    }
}

/// Why a session ended.
#[derive(Debug)]
enum End {
    /// It may go on.
    Again(String),
    /// It must not.
    Contract(String),
}

impl From<BusError> for End {
    fn from(error: BusError) -> Self {
        Self::Again(error.to_string())
    }
}

impl From<QueueError> for End {
    fn from(error: QueueError) -> Self {
        if error.may_pass() { Self::Again(error.to_string()) } else { Self::Contract(error.to_string()) }
    }
}

/// Sends until `stop` says true.
///
/// # Errors
/// That another gateway writes as this site, or that queue and region contradict each other: the message names the way out.
pub async fn run<U: Uplink>(outside: Outside<U>, mut stop: watch::Receiver<bool>) -> Result<(), String> {
    let identity = Identity { site: outside.site.clone(), chain: outside.queue.chain() };
    let meter = Meter::new(outside.config.metered_bytes, Instant::now());
    let lanes = Class::ALL.into_iter().map(Lane::new).collect();
    let mut life = Life { outside, identity, lanes, meter, incarnation: None };
    let mut backoff = BACKOFF.0;
    while let Some(connection) = life.wait_for_connection(&mut stop).await {
        let mut session = Session::new(&mut life, connection);
        let ended = session.run(&mut stop).await;
        let progressed = session.progressed();
        match ended {
            Ok(()) => break,
            Err(End::Contract(problem)) => return Err(problem),
            Err(End::Again(problem)) => {
                tracing::warn!(problem, "asking the region where it stands");
                life.outside.health.trouble(problem);
            }
        }
        backoff = if progressed { BACKOFF.0 } else { (backoff * 2).min(BACKOFF.1) };
        pause(backoff, &mut stop).await;
    }
    Ok(())
}

/// Waits, but not for long once it should stop.
async fn pause(time: Duration, stop: &mut watch::Receiver<bool>) {
    tokio::select! {
        () = sleep(time) => {}
        // An error means that the sender is gone, which is a stop too.
        _ = stop.wait_for(|stop| *stop) => {}
    }
}
