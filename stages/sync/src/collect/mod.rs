//! From the gateway's streams into the queue.
//!
//! Each reader is a store loop with a durable and a position of its own, which moves in the transaction that adds what was
//! read. What a stream had dropped before it was read is a gap in each class that its reader feeds.
//!
//! | reader | stream | classes |
//! |---|---|---|
//! | `sync-detections` | DETECTIONS | alerts and labels at once; deltas and summaries every now and then |
//! | `sync-contexts` | CONTEXT | contexts |
//! | `sync-health` | HEALTH | health |
//!
//! Alerts have no reader to themselves: one that saw only them would stand still while scores pass by, and could not tell
//! whether an alert was among those that the janitor removed.

mod coder;
mod detections;
mod message;
mod summaries;
#[cfg(test)]
mod tests;
mod verbatim;

use std::{sync::Arc, time::Duration};

use eddy_runtime::{
    bus::{Bus, Delivery, Source},
    config::LimitsConfig,
    position::{Place, Position},
    store_loop::{self, Gap, Sink, SinkError, StoreLoopError, Turn},
    telemetry::Telemetry,
};
use eddy_schemas::sync::{Class, wire};
use tokio::{sync::watch, task::JoinSet};

pub use self::coder::{Coded, Int8, VectorCoder};
use self::{detections::DetectionsSink, verbatim::VerbatimSink};
use crate::queue::{Queue, QueueError, Write};

/// What the collectors are told.
pub struct CollectConfig {
    /// Deltas and summaries are written so often.
    pub commit_interval: Duration,
    /// Or when what waits takes so many bytes.
    pub hold_bytes_max: usize,
    /// A summary's period of event time.
    pub period_s: u32,
    /// How vectors are written.
    pub coder: Box<dyn VectorCoder>,
}

/// Runs all readers until `stop` says true.
///
/// # Errors
/// What ended the first one that failed; the others are ended with it.
pub async fn run<B: Bus>(
    queue: Arc<Queue>,
    bus: B,
    config: CollectConfig,
    limits: LimitsConfig,
    telemetry: Arc<Telemetry>,
    stop: watch::Receiver<bool>,
) -> Result<(), StoreLoopError> {
    let mut readers = JoinSet::new();
    let start = Start { bus, limits, telemetry: telemetry.clone(), stop };
    for (reader, stream, class) in
        [("sync-contexts", "CONTEXT", Class::Contexts), ("sync-health", "HEALTH", Class::Health)]
    {
        let sink = VerbatimSink { stand: Stand { queue: queue.clone(), reader }, class, telemetry: telemetry.clone() };
        start.reader(&mut readers, reader, stream, sink);
    }
    let reader = "sync-detections";
    let unusable = |error: QueueError| StoreLoopError::Contract(error.to_string());
    let sink = DetectionsSink::new(Stand { queue, reader }, config, &start.limits, telemetry).map_err(unusable)?;
    start.reader(&mut readers, reader, "DETECTIONS", sink);
    while let Some(ended) = readers.join_next().await {
        // A panic of a reader is one of the program.
        ended.map_err(|panic| StoreLoopError::Contract(panic.to_string()))??;
    }
    Ok(())
}

struct Start<B> {
    bus: B,
    limits: LimitsConfig,
    telemetry: Arc<Telemetry>,
    stop: watch::Receiver<bool>,
}

impl<B: Bus> Start<B> {
    fn reader<S: Sink + 'static>(
        &self,
        readers: &mut JoinSet<Result<(), StoreLoopError>>,
        durable: &str,
        stream: &str,
        sink: S,
    ) {
        let source = Source {
            stream: stream.into(),
            durable: durable.into(),
            // Every shard in its one order, and no hole that is none.
            filter: ">".into(),
            ack_pending_max: self.limits.ack_pending_max as i64,
            ack_wait: Duration::from_secs(self.limits.ack_wait_s),
        };
        let outside = store_loop::Outside {
            bus: self.bus.clone(),
            source,
            limits: self.limits.clone(),
            telemetry: self.telemetry.clone(),
            way_out: "eddy-sync recover".into(),
        };
        readers.spawn(store_loop::run(sink, outside, self.stop.clone()));
    }
}

/// Where a reader stands.
struct Stand {
    queue: Arc<Queue>,
    reader: &'static str,
}

impl Stand {
    fn position(&self) -> Result<Option<Position>, SinkError> {
        self.queue.position(self.reader).map_err(|error| sink_error(&error))
    }
}

/// A full disk may have room again; what is damaged stays so.
fn sink_error(error: &QueueError) -> SinkError {
    if error.may_pass() { SinkError::Again(error.to_string()) } else { SinkError::Fatal(error.to_string()) }
}

/// An entry without tables.
fn plain(what: wire::entry::What) -> wire::Entries {
    wire::Entries { entries: vec![wire::Entry { id: 0, what: Some(what) }], ..Default::default() }
}

/// The sequence that follows what the store has; where it has nothing it begins with what there is.
fn expected(turn: &Turn<'_>) -> u64 {
    let place = turn.before.and_then(|position| position.0.values().next());
    place.map(Place::next_sequence).or(turn.deliveries.first().map(|first| first.sequence)).unwrap_or(1)
}

/// What lay between `next` and the message that came. A reader has the whole stream, so that only what was removed is not
/// there. (What the loop knows to be missing at the front of a stream is part of it: another subject's last message may
/// still lie before it.)
fn hole(next: u64, delivery: &Delivery) -> Option<Gap> {
    (delivery.sequence > next).then(|| Gap { from: next, to: delivery.sequence - 1 })
}

/// Notes in `class` that messages of `stream` were gone before they were read.
fn missed(write: &mut Write<'_>, class: Class, stream: &str, gap: Gap) -> Result<(), QueueError> {
    let Gap { from, to } = gap;
    let detail = format!("{stream} {from} to {to}");
    let cause = wire::Cause::Source.into();
    write.gap(class, wire::Gap { count: (to + 1).saturating_sub(from), cause, detail, ..Default::default() })?;
    Ok(())
}
