//! Direct input over a bus that loses answers, is full at times, and loses its place.

use std::collections::BTreeMap;

use super::*;
use crate::{
    bus::Publication,
    direct::{self, Bounds, Entrance, NotStored},
    position::HEADER,
};

/// Passes readings on; 13 is refused, 666 panics.
struct Pass;

impl Stage for Pass {
    const SPEC: Spec = Spec {
        name: "pass",
        inputs: &[Input { stream: "READINGS", prefix: "readings", sharded: true }],
        output_stream: "DETECTIONS",
        output_prefix: "scores",
        stateful: false,
        state_version: 1,
    };
    const DEFAULTS: &'static str = "[pass]";
    type Config = NoConfig;
    type Input = Readings;
    type Output = SamplesBuilder;

    fn new(_: NoConfig, _: &Scope) -> Result<Self, Vec<String>> {
        Ok(Self)
    }

    fn outputs(&self) -> Vec<SamplesBuilder> {
        vec![SamplesBuilder::default()]
    }

    fn decode(&self, message: &Incoming) -> Result<Readings, (Reason, String)> {
        Readings::decode(&message.payload).map_err(|error| (Reason::Malformed, error.to_string()))
    }

    fn rows(input: &Readings) -> usize {
        input.rows.len()
    }

    fn process(
        &mut self,
        message: &Incoming,
        input: &Readings,
        rows: Range<usize>,
        out: &mut Outbox<SamplesBuilder>,
    ) -> usize {
        for row in rows.clone() {
            let value = input.value[row];
            assert!(value != 666.0, "poison");
            if value == 13.0 {
                out.reject(row, message, Reason::InvalidField, "13".into(), 1, Bytes::from_static(b"13"));
            } else {
                out.main[0].push(input.rows.name(row), input.rows.time[row], value, 0, 0);
            }
            if out.is_full() {
                return row + 1;
            }
        }
        rows.end
    }
}

type Door = Entrance<Readings>;

fn open(bus: &MemoryBus, folder: &Path, requests_max: usize) -> (Door, Instance) {
    let mut config = CommonConfig::for_tests(folder);
    config.limits.full_backoff_ms = 1;
    config.limits.output_bytes_max = 2_000;
    let (telemetry, clock) = (Arc::new(Telemetry::for_tests()), Arc::new(ManualClock::new(0)));
    let bounds = Bounds { requests_max, bytes_max: 1 << 20, linger: Duration::from_millis(1) };
    let (entrance, queue) = direct::entrance(bounds, telemetry.clone(), clock.clone());
    let (stop, stopped) = watch::channel(false);
    let outside = Outside { bus: bus.clone(), direct: queue, telemetry, clock };
    let scope = Scope { site: "site".into(), shard: 0, shards: 1 };
    let run = async move { super::run(Pass, scope, &config, outside, stopped).await };
    (entrance, Instance { stop, task: tokio::spawn(run) })
}

async fn submit(door: &Door, value: f64, rows: usize) -> Result<Receipt, NotStored> {
    let payload = batch(std::iter::repeat_n(value, rows), 1);
    let decoded = Readings::decode(&payload).unwrap();
    let message = direct::message("ingest.site.d".into(), None, payload, door.arrival());
    door.submit(door.lane(), message, Ok(decoded)).await
}

fn counts(bus: &MemoryBus) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for row in sums(bus) {
        let value = row.split("value=").nth(1).unwrap().split(' ').next().unwrap().to_owned();
        *counts.entry(value).or_default() += 1;
    }
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_answered_is_out_once_whatever_the_bus_loses_and_streams_go_on_beside_it() {
    for seed in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let faults = Faults { answer_lost: 100, publish_lost: 100, full: 50, feed_lost: 50, slow: 100 };
        let bus = MemoryBus::new(seed, faults);
        ["READINGS", "DETECTIONS", "SIDE", "HEALTH"].iter().for_each(|stream| bus.create(stream, 7));
        let (door, instance) = open(&bus, folder.path(), 1_000);
        let mut tasks = Vec::new();
        for value in 100..160 {
            let door = door.clone();
            tasks.push(tokio::spawn(async move { submit(&door, f64::from(value), 1 + value as usize % 7).await }));
            if value % 5 == 0 {
                bus.store("READINGS", "readings.site.0", batch([f64::from(value) + 1_000.0], 1));
            }
            tokio::task::yield_now().await;
        }
        for (task, value) in tasks.into_iter().zip(100..160) {
            let receipt = task.await.unwrap().unwrap();
            assert_eq!(receipt, Receipt { rows: 1 + value % 7, rejected: Vec::new() });
        }
        bus.set_faults(Faults::default());
        reaches(&bus, 12).await;
        instance.stop().await.unwrap();
        let mut expected: BTreeMap<String, usize> = (100..160).map(|v| (format!("{v}.0"), 1 + v % 7)).collect();
        expected.extend((100..160).step_by(5).map(|v| (format!("{}.0", v + 1_000), 1)));
        assert_eq!(counts(&bus), expected, "seed {seed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_tells_what_was_refused_and_poison_becomes_a_dead_letter() {
    let folder = tempfile::tempdir().unwrap();
    let bus = gateway(&[], Faults::default());
    let (door, instance) = open(&bus, folder.path(), 10);
    let refused = submit(&door, 13.0, 2).await.unwrap();
    assert_eq!((refused.rows, refused.rejected.len(), refused.rejected[0].detail.as_str()), (2, 2, "13"));
    for _ in 0..3 {
        assert_eq!(submit(&door, 666.0, 1).await, Err(NotStored::Unknown));
    }
    let poisoned = submit(&door, 666.0, 1).await.unwrap();
    assert_eq!(poisoned.rejected[0].reason, Reason::Panic);
    let whole = direct::message("ingest.site.d".into(), None, Bytes::from_static(b"?"), 1);
    let told = door.offer(whole, Err((Reason::Malformed, "rubbish".into())), None).await.unwrap();
    assert_eq!(told.rejected[0].detail, "rubbish");
    instance.stop().await.unwrap();
    let letters =
        bus.payloads("SIDE", "deadletter").iter().flat_map(|p| DeadLetter::read(p).unwrap()).collect::<Vec<_>>();
    assert_eq!(letters.len(), 4);
    assert!(letters.iter().all(|letter| letter.stream == "DIRECT" && letter.rejection.subject == "ingest.site.d"));
    assert_eq!(submit(&door, 1.0, 1).await, Err(NotStored::Unknown), "nobody is there any more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_stream_turns_offers_away_and_answers_what_it_holds_once_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let bus = gateway(&[], Faults { full: 1_000, ..Faults::default() });
    let (door, instance) = open(&bus, folder.path(), 10);
    let held = tokio::spawn({
        let door = door.clone();
        async move { submit(&door, 1.0, 1).await }
    });
    for _ in 0..1_000 {
        if door.is_full() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let late = direct::message("ingest.site.d".into(), None, Bytes::from_static(b"?"), 1);
    assert_eq!(door.offer(late, Err((Reason::Malformed, "?".into())), None).await, Err(NotStored::Busy));
    bus.set_faults(Faults::default());
    assert_eq!(held.await.unwrap().unwrap().rows, 1);
    instance.stop().await.unwrap();
    assert_eq!(counts(&bus).values().sum::<usize>(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_was_full_before_another_instance_wrote_is_not_taken_for_full_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let bus = gateway(&[], Faults { full: 1_000, ..Faults::default() });
    let (door, instance) = open(&bus, folder.path(), 10);
    let held = tokio::spawn({
        let door = door.clone();
        async move { submit(&door, 1.0, 1).await }
    });
    while !door.is_full() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let incarnation = bus.stream("READINGS").await.unwrap().incarnation;
    bus.set_faults(Faults::default());
    let other = Publication {
        stream: "DETECTIONS".into(),
        subject: "scores.site.0".into(),
        headers: vec![(HEADER.into(), format!("READINGS@{incarnation}:0"))],
        payload: SamplesBuilder::default().encode().into(),
        guard: None,
    };
    bus.publish(vec![other]).await.unwrap();
    let _ = held.await.unwrap();
    // Nothing but direct input comes: if that is turned away, nothing is ever published that would show the room there is.
    while submit(&door, 2.0, 1).await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    instance.stop().await.unwrap();
    assert_eq!(counts(&bus)["2.0"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stage_with_state_takes_no_direct_input() {
    let folder = tempfile::tempdir().unwrap();
    let bus = gateway(&[], Faults::default());
    let (telemetry, clock) = (Arc::new(Telemetry::for_tests()), Arc::new(ManualClock::new(0)));
    let bounds = Bounds { requests_max: 1, bytes_max: 1, linger: Duration::ZERO };
    let (_door, queue) = direct::entrance(bounds, telemetry.clone(), clock.clone());
    let scope = Scope { site: "site".into(), shard: 0, shards: 1 };
    let (_stop, stopped) = watch::channel(false);
    let outside = Outside { bus, direct: queue, telemetry, clock };
    let error = super::run(Sums::default(), scope, &CommonConfig::for_tests(folder.path()), outside, stopped).await;
    assert!(matches!(error, Err(LoopError::Failed(_))));
}
