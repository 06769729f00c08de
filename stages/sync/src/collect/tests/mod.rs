//! The collectors over a bus in memory: whatever fails, each thing is queued once.

mod faults;
mod meaning;
mod policies;
mod product;
mod recorded;

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use eddy_runtime::{
    bus::{
        Delivery, Feed as _, PullBounds, Source,
        memory::{Faults, MemoryBus},
    },
    config::{CommonConfig, LimitsConfig},
    position::Place,
    store_loop::Turn,
};
use eddy_schemas::{
    Control, ControlKind, ScoresBuilder, Told,
    alert::{Alert, CloudEvent, Phase, Severity},
    flags, rfc3339,
    sync::wire::entry::What,
};

use super::*;
use crate::queue::{Bounds, Slice};

const MINUTE: i64 = 60_000_000_000;
/// A bundle's digest.
const BUNDLE: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const INCARNATION: i64 = 7;

fn open(folder: &Path) -> Arc<Queue> {
    let bounds = Bounds { bytes: [1 << 30; 7], entries_max: 1 << 30, map_bytes: 256 << 20 };
    Arc::new(Queue::open(folder, &bounds).unwrap())
}

fn limits() -> LimitsConfig {
    toml::from_str::<CommonConfig>(eddy_runtime::config::DEFAULTS).unwrap().limits
}

fn telemetry() -> Arc<Telemetry> {
    Arc::new(Telemetry::new("sync", 0, Duration::from_secs(30)))
}

fn config() -> CollectConfig {
    CollectConfig {
        commit_interval: Duration::from_secs(3600),
        hold_bytes_max: 1 << 20,
        period_s: 300,
        coder: Box::new(Int8),
        policies: Vec::new(),
    }
}

fn alert(device: &str, minute: i64, phase: Phase) -> Bytes {
    let time = rfc3339(minute * MINUTE);
    let alert = Alert {
        alert: format!("{device}-alert"),
        phase,
        severity: Severity::Minor,
        site: "s".into(),
        device: device.into(),
        opened: time.clone(),
        score: 1.0,
        tail: 1e-6,
        threshold: 1e-4,
        tail_min: 1e-6,
        channels: vec![],
        heads: vec![],
        bundle: BUNDLE.into(),
    };
    CloudEvent::new(alert, minute as usize as _, time).to_json().into()
}

fn control(origin: &str, kind: ControlKind) -> Control {
    Control { id: "c".into(), origin: origin.into(), time: 5, kind }
}

fn label(origin: &str, alert: &str) -> Control {
    let (device, label) = ("a".to_owned(), "normal".to_owned());
    control(origin, ControlKind::Label { device, alert: alert.into(), label })
}

/// A bus with the gateway's streams.
fn bus(seed: u64) -> MemoryBus {
    let bus = MemoryBus::new(seed, Faults::default());
    ["DETECTIONS", "CONTEXT", "HEALTH"].iter().for_each(|stream| bus.create(stream, INCARNATION));
    bus
}

/// What a stream holds, as a feed delivers it.
async fn deliveries(bus: &MemoryBus, stream: &str) -> Vec<Delivery> {
    let source = Source {
        stream: stream.into(),
        durable: "test".into(),
        filter: ">".into(),
        ack_pending_max: 1_000_000,
        ack_wait: Duration::from_secs(60),
    };
    let mut feed = bus.open(&source, 1).await.unwrap();
    feed.pull(PullBounds { messages: usize::MAX, bytes: usize::MAX }, Duration::ZERO).await.unwrap()
}

fn reaches(sequence: u64) -> Position {
    Position([("DETECTIONS".to_owned(), Place::whole(INCARNATION, sequence))].into())
}

fn sink(queue: &Arc<Queue>, config: CollectConfig) -> DetectionsSink {
    let stand = Stand { queue: queue.clone(), reader: "sync-detections" };
    let patience = Patience { interval: config.commit_interval, messages_max: 10_000 };
    DetectionsSink::new(stand, config, patience, telemetry(), Progress::channel().0).unwrap()
}

/// Offers messages to the sink as the loop does, from its position on; returns what it reached.
async fn offer(sink: &mut DetectionsSink, all: &[Delivery]) -> Option<u64> {
    let before = sink.position().unwrap();
    let next = before.as_ref().and_then(|position| position.place("DETECTIONS")).map_or(1, Place::next_sequence);
    let from = all.partition_point(|delivery| delivery.sequence < next);
    let turn = Turn { deliveries: &all[from..], gap: None, before: before.as_ref() };
    sink.write(&turn, reaches).await.unwrap()
}

fn slice(queue: &Queue, class: Class) -> Slice {
    let done = queue.depth(class).unwrap().oldest - 1;
    queue.next(class, done, usize::MAX, usize::MAX).unwrap()
}

/// The entries of a class, without their numbers.
fn entries(queue: &Queue, class: Class) -> Vec<wire::Entries> {
    let bare = |(number, mut entries): (u64, wire::Entries)| {
        assert_eq!(std::mem::take(&mut entries.entries[0].id), number);
        entries
    };
    slice(queue, class).entries.into_iter().map(bare).collect()
}

fn whats(queue: &Queue, class: Class) -> Vec<What> {
    entries(queue, class).into_iter().map(|mut entries| entries.entries.remove(0).what.unwrap()).collect()
}

fn deltas(queue: &Queue) -> Vec<(String, wire::VectorDelta)> {
    let one = |mut entries: wire::Entries| match entries.entries.remove(0).what {
        Some(What::Delta(delta)) => (entries.series.remove(0), delta),
        what => panic!("{what:?}"),
    };
    entries(queue, Class::Deltas).into_iter().map(one).collect()
}

fn summaries(queue: &Queue) -> Vec<wire::Summary> {
    let one = |what| match what {
        What::Summary(summary) => summary,
        what => panic!("{what:?}"),
    };
    whats(queue, Class::Summaries).into_iter().map(one).collect()
}
