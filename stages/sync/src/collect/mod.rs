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
//! | `sync-snippets` | READINGS | snippets, if a policy asks for them |
//! | `sync-readings` | READINGS | readings, if a policy asks for them |
//!
//! Alerts have no reader to themselves: one that saw only them would stand still while scores pass by, and could not tell
//! whether an alert was among those that the janitor removed.

mod coder;
mod detections;
mod held;
mod memory;
mod message;
mod noted;
mod policy;
mod product;
mod readings;
mod snippets;
mod summaries;
#[cfg(test)]
mod tests;
mod verbatim;

use std::{sync::Arc, time::Duration};

use eddy_runtime::{
    bus::{Bus, Source},
    config::LimitsConfig,
    position::Position,
    store_loop::{self, Gap, Sink, SinkError, StoreLoopError},
    telemetry::Telemetry,
    trace::Tracer,
};
use eddy_schemas::{
    Timestamp,
    sync::{Class, wire},
};
use tokio::{sync::watch, task::JoinSet};

pub use self::{
    coder::{Coded, Int8, VectorCoder},
    policy::{Policy, Share},
    product::Product,
};
use self::{
    detections::DetectionsSink, held::Patience, noted::Progress, policy::Policies, readings::ReadingsSink,
    snippets::SnippetsSink, verbatim::VerbatimSink,
};
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
    /// Which readings leave.
    pub policies: Vec<Policy>,
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
    let unusable = |error: QueueError| StoreLoopError::Contract(error.to_string());
    let mut start = Start { queue, bus, limits, telemetry, stop, readers: JoinSet::new() };
    start.verbatim("sync-contexts", "CONTEXT", Class::Contexts);
    start.verbatim("sync-health", "HEALTH", Class::Health);
    start.readings(&config);
    let (progress, followed) = Progress::channel();
    start.snippets(&config, followed).map_err(unusable)?;
    start.detections(config, progress).map_err(unusable)?;
    while let Some(ended) = start.readers.join_next().await {
        // A panic of a reader is one of the program.
        ended.map_err(|panic| StoreLoopError::Contract(panic.to_string()))??;
    }
    Ok(())
}

/// What readers are started with, and those that are.
struct Start<B> {
    queue: Arc<Queue>,
    bus: B,
    limits: LimitsConfig,
    telemetry: Arc<Telemetry>,
    stop: watch::Receiver<bool>,
    readers: JoinSet<Result<(), StoreLoopError>>,
}

impl<B: Bus> Start<B> {
    fn verbatim(&mut self, reader: &'static str, stream: &str, class: Class) {
        let sink = VerbatimSink { stand: self.stand(reader), class, telemetry: self.telemetry.clone() };
        self.run(reader, stream, sink);
    }

    fn detections(&mut self, config: CollectConfig, progress: watch::Sender<Progress>) -> Result<(), QueueError> {
        let (stand, patience) = (self.stand("sync-detections"), self.patience(&config));
        let sink = DetectionsSink::new(stand, config, patience, self.telemetry.clone(), progress)?;
        self.run("sync-detections", "DETECTIONS", sink);
        Ok(())
    }

    fn readings(&mut self, config: &CollectConfig) {
        let policies = Policies::of(&config.policies, Share::Readings);
        if !policies.is_empty() {
            let bounds = (self.patience(config), config.hold_bytes_max);
            let sink = ReadingsSink::new(self.stand("sync-readings"), policies, bounds, self.telemetry.clone());
            self.run("sync-readings", "READINGS", sink);
        }
    }

    fn snippets(&mut self, config: &CollectConfig, progress: watch::Receiver<Progress>) -> Result<(), QueueError> {
        let policies = Policies::of(&config.policies, Share::Snippets);
        if !policies.is_empty() {
            let (stand, patience) = (self.stand("sync-snippets"), self.patience(config));
            let (telemetry, stop) = (self.telemetry.clone(), self.stop.clone());
            let sink = SnippetsSink::new(stand, policies, patience, telemetry, progress, stop)?;
            self.run("sync-snippets", "READINGS", sink);
        }
        Ok(())
    }

    fn patience(&self, config: &CollectConfig) -> Patience {
        let messages_max = (self.limits.ack_pending_max / 2).max(1) as usize;
        Patience { interval: config.commit_interval, messages_max }
    }

    fn stand(&self, reader: &'static str) -> Stand {
        Stand { queue: self.queue.clone(), reader }
    }

    fn run<S: Sink + 'static>(&mut self, durable: &str, stream: &str, sink: S) {
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
        self.readers.spawn(store_loop::run(sink, outside, self.stop.clone()));
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

/// When what is queued now was queued, for its span.
fn now(telemetry: &Telemetry) -> Timestamp {
    telemetry.tracer().map_or(0, Tracer::now)
}

/// An entry without tables.
fn plain(what: wire::entry::What) -> wire::Entries {
    wire::Entries { entries: vec![wire::Entry { id: 0, what: Some(what) }], ..Default::default() }
}

/// Notes in `class` that messages of `stream` were gone before they were read.
fn missed(write: &mut Write<'_>, class: Class, stream: &str, gap: Gap) -> Result<(), QueueError> {
    let Gap { from, to } = gap;
    let detail = format!("{stream} {from} to {to}");
    let cause = wire::Cause::Source.into();
    write.gap(class, wire::Gap { count: (to + 1).saturating_sub(from), cause, detail, ..Default::default() })?;
    Ok(())
}
