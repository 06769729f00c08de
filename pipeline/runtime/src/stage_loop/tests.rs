//! The loop, with a small stage that uses everything a stage can do.

mod direct;
mod hop;

use std::{collections::BTreeMap, ops::Range, path::Path};

use bytes::Bytes;
use eddy_schemas::{Readings, ReadingsBuilder, SamplesBuilder, side::Reason};

use super::*;
use crate::{
    bus::memory::{Faults, MemoryBus},
    clock::ManualClock,
    contract::{Message, assert_stage_contract},
    dead_letter::DeadLetter,
    position::Seen,
    stage::{AlertMessage, Incoming, Input, Spec, StateError},
};

/// Sums up each series; every seventh reading of a series is late, 13 is refused, multiples of 50 alert, 666 panics. Its state is told in
/// turns, a series at a time.
#[derive(Default)]
struct Sums {
    sums: BTreeMap<String, Sum>,
    dirty: std::collections::BTreeSet<String>,
    pending: Vec<String>,
    seen: Seen,
}

/// What a series came to, and how far in the input.
#[derive(Default)]
struct Sum {
    count: u64,
    sum: f64,
    seen: Seen,
}

#[derive(serde::Deserialize)]
struct NoConfig {}

impl Stage for Sums {
    const SPEC: Spec = Spec {
        name: "sums",
        inputs: &[Input { stream: "READINGS", prefix: "readings", sharded: true }],
        output_stream: "DETECTIONS",
        output_prefix: "scores",
        stateful: true,
        state_version: 1,
    };
    const DEFAULTS: &'static str = "[sums]";
    type Config = NoConfig;
    type Input = Readings;
    type Output = SamplesBuilder;

    fn new(_: NoConfig, _: &Scope) -> Result<Self, Vec<String>> {
        Ok(Self::default())
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
            let (series, value) = (input.rows.name(row).to_owned(), input.value[row]);
            assert!(value != 666.0, "poison");
            let Sum { count, sum, seen } = self.sums.entry(series.clone()).or_default();
            if self.seen.covers(message.sequence, row) && seen.covers(message.sequence, row) {
                continue;
            }
            *seen = Seen::row(message.sequence, row);
            *count += 1;
            self.dirty.insert(series.clone());
            if *count % 7 == 0 {
                let (time, quality, arrival) = (input.rows.time[row], 0, 0);
                out.late.push(LateRow { row, series, time, value, quality, arrival });
            } else if value % 13.0 == 0.0 {
                // Large enough that a part's dead letters need several messages.
                let (detail, original) = (format!("13 at {}", input.rows.time[row]), Bytes::from(vec![b'x'; 300]));
                out.reject(row, message, Reason::InvalidField, detail, 1, original);
            } else {
                *sum += value;
                if value % 50.0 == 0.0 {
                    let payload = format!("{series} {sum}").into_bytes();
                    out.alerts.push(AlertMessage { subject: "alerts.site.minor.d".into(), payload });
                }
                out.main[0].push(&series, input.rows.time[row], *sum, 0, 0);
            }
            if out.is_full() {
                return row + 1;
            }
        }
        rows.end
    }

    fn begin_save(&mut self) {
        self.pending.extend(std::mem::take(&mut self.dirty));
    }

    fn save_some(&mut self, at_most: usize, record: &mut crate::stage::SaveRecord<'_>) -> bool {
        for series in self.pending.drain(self.pending.len().saturating_sub(at_most)..) {
            let Sum { count, sum, seen } = &self.sums[&series];
            let numbers = [*count, sum.to_bits(), seen.sequence, seen.rows];
            record(series.as_bytes(), Some(&numbers.map(u64::to_le_bytes).concat()));
        }
        self.pending.is_empty()
    }

    fn load(&mut self, key: &[u8], value: &[u8]) -> Result<(), StateError> {
        let (numbers, _) = value.as_chunks::<8>();
        let &[count, sum, sequence, rows] = numbers else { panic!("{value:?}") };
        let [count, sum, sequence, rows] = [count, sum, sequence, rows].map(u64::from_le_bytes);
        let sum = Sum { count, sum: f64::from_bits(sum), seen: Seen { sequence, rows } };
        self.sums.insert(String::from_utf8(key.to_vec()).unwrap(), sum);
        Ok(())
    }

    fn loaded(&mut self, seen: Seen) {
        self.seen = seen;
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

fn batch(values: impl IntoIterator<Item = f64>, series: usize) -> Bytes {
    let mut builder = ReadingsBuilder::default();
    for (time, value) in values.into_iter().enumerate() {
        builder.push(&format!("d{}/t", time % series), time as i64, value, 0, 0);
    }
    builder.encode().into()
}

fn gateway(values: &[f64], faults: Faults) -> MemoryBus {
    let bus = MemoryBus::new(7, faults);
    for stream in ["READINGS", "DETECTIONS", "SIDE", "HEALTH"] {
        bus.create(stream, 7);
    }
    for value in values {
        bus.store("READINGS", "readings.site.0", batch([*value], 1));
    }
    bus
}

struct Instance {
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<Result<(), LoopError>>,
}

fn start(bus: &MemoryBus, folder: &Path, change: impl FnOnce(&mut CommonConfig)) -> Instance {
    let mut config = CommonConfig::for_tests(folder);
    config.state.commit_interval_ms = 1;
    config.limits.full_backoff_ms = 1;
    change(&mut config);
    let (stop, stopped) = watch::channel(false);
    let scope = Scope { site: "site".into(), shard: 0, shards: 1 };
    let (telemetry, clock) = (Arc::new(Telemetry::for_tests()), Arc::new(ManualClock::new(0)));
    let outside = Outside { bus: bus.clone(), direct: Queue::none(), telemetry, clock };
    let run = async move { super::run(Sums::default(), scope, &config, outside, stopped).await };
    Instance { stop, task: tokio::spawn(run) }
}

impl Instance {
    async fn stop(self) -> Result<(), LoopError> {
        self.stop.send_replace(true);
        self.task.await.unwrap()
    }
}

/// Waits until the checkpoint covers message `sequence`.
async fn reaches(bus: &MemoryBus, sequence: u64) {
    for _ in 0..2_000 {
        let position: Position =
            bus.last_header("DETECTIONS", "scores", crate::position::HEADER).unwrap_or_default().parse().unwrap();
        if position.place("READINGS").is_some_and(|place| place.next_sequence() > sequence) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the checkpoint never covered message {sequence}");
}

fn sums(bus: &MemoryBus) -> Vec<String> {
    bus.payloads("DETECTIONS", "scores").iter().flat_map(|p| eddy_schemas::dump::rows(p).unwrap()).collect()
}

#[test]
fn whatever_dies_the_output_is_that_of_one_undisturbed_pass() {
    let message = |payload: Bytes| Message { stream: "READINGS", subject: "readings.site.0".into(), payload };
    let mut messages: Vec<Message> =
        (0..150).map(|n| message(batch((0..=n % 30).map(|i| f64::from((n * 7 + i) % 101)), 9))).collect();
    messages.insert(20, message(Bytes::from_static(b"rubbish")));
    messages.insert(30, message(batch([], 1)));
    assert_stage_contract(Sums::default, &messages, 0..25);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_panics_is_put_aside_after_three_tries_and_the_rest_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let bus = gateway(&[1.0, 2.0, 666.0, 4.0], Faults::default());
    let instance = start(&bus, folder.path(), |_| {});
    reaches(&bus, 4).await;
    instance.stop().await.unwrap();
    assert!(sums(&bus).last().unwrap().contains("value=7.0"), "{:?}", sums(&bus));
    let letters = DeadLetter::read(&bus.payloads("SIDE", "deadletter")[0]).unwrap();
    assert_eq!((letters[0].rejection.reason, letters[0].sequence), (Reason::Panic, 3));
    assert_eq!(letters[0].original().unwrap(), batch([666.0], 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_message_that_panics_behind_a_part_that_is_out_the_rest_is_put_aside() {
    let folder = tempfile::tempdir().unwrap();
    let bus = gateway(&[], Faults::default());
    let values: Vec<f64> = (1..=40).map(f64::from).chain([666.0, 1.0]).collect();
    bus.store("READINGS", "readings.site.0", batch(values.clone(), 50));
    bus.store("READINGS", "readings.site.0", batch([7.0], 1));
    let instance = start(&bus, folder.path(), |config| config.limits.output_bytes_max = 400);
    reaches(&bus, 2).await;
    instance.stop().await.unwrap();
    let letters = DeadLetter::read(&bus.payloads("SIDE", "deadletter").last().unwrap()[..]).unwrap();
    let last = letters.last().unwrap();
    assert_eq!((last.rejection.reason, last.sequence), (Reason::Panic, 1));
    // The first series had 1 in the part that is out.
    assert!(sums(&bus).last().unwrap().contains("value=8.0"), "{:?}", sums(&bus).last());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_instances_one_stops_and_nothing_is_doubled() {
    let (mine, yours) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let bus = gateway(&[1.0; 50], Faults::default());
    let slow = |config: &mut CommonConfig| config.limits.pull_messages_max = 1;
    let (one, two) = (start(&bus, mine.path(), slow), start(&bus, yours.path(), slow));
    let mut stored = 50;
    while !one.task.is_finished() && !two.task.is_finished() && stored < 3_000 {
        bus.store("READINGS", "readings.site.0", batch([1.0], 1));
        stored += 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (dead, alive) = if one.task.is_finished() { (one, two) } else { (two, one) };
    assert!(matches!(dead.task.await.unwrap(), Err(LoopError::Fenced { .. })));
    reaches(&bus, stored).await;
    alive.stop().await.unwrap();
    let (rows, late) = (sums(&bus).len() as u64, bus.payloads("SIDE", "late").len() as u64);
    let late: u64 = if late == 0 {
        0
    } else {
        bus.payloads("SIDE", "late").iter().map(|p| Readings::decode(p).unwrap().rows.len() as u64).sum()
    };
    assert_eq!(rows + late, stored, "every reading once");
    assert!(sums(&bus).last().unwrap().contains(&format!("value={rows}.0")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_acknowledged_before_its_state_is_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let bus = gateway(&[1.0, 2.0], Faults::default());
    let instance = start(&bus, folder.path(), |config| config.state.commit_interval_ms = 3_600_000);
    reaches(&bus, 2).await;
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert_eq!(bus.ack_floor("READINGS", "sums-0"), 0, "published, but not yet saved");
    instance.stop().await.unwrap();
    assert_eq!(bus.ack_floor("READINGS", "sums-0"), 2, "a stop saves");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_stream_pushes_back_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let bus = gateway(&[1.0, 2.0, 3.0], Faults { full: 1_000, ..Faults::default() });
    let instance = start(&bus, folder.path(), |_| {});
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert!(sums(&bus).is_empty());
    bus.set_faults(Faults::default());
    reaches(&bus, 3).await;
    instance.stop().await.unwrap();
    assert_eq!(sums(&bus).len(), 3);
}

/// Runs to the end of the input, lets `change` tamper with streams or state, starts again, and returns why it stops.
async fn after(change: impl FnOnce(&MemoryBus, &Path)) -> Result<(), LoopError> {
    let folder = tempfile::tempdir().unwrap();
    let bus = gateway(&[1.0, 2.0, 3.0], Faults::default());
    let instance = start(&bus, folder.path(), |_| {});
    reaches(&bus, 3).await;
    instance.stop().await.unwrap();
    change(&bus, folder.path());
    let instance = start(&bus, folder.path(), |_| {});
    tokio::time::sleep(Duration::from_millis(60)).await;
    instance.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reimaged_gateway_is_not_taken_for_the_old_one() {
    let told = |result: Result<(), LoopError>, part: &str| {
        let error = result.unwrap_err();
        assert_eq!(error.exit_code(), 70);
        let error = error.to_string();
        assert!(error.contains(part) && error.contains("eddy-sums recover"), "{error}");
    };
    after(|_, _| {}).await.unwrap();
    // Every stream new, the state old.
    told(
        after(|bus, _| ["READINGS", "DETECTIONS", "SIDE"].iter().for_each(|stream| bus.create(stream, 8))).await,
        "was created at",
    );
    // The output lost, input and state old.
    told(after(|bus, _| bus.create("DETECTIONS", 8)).await, "the output was lost");
    // The input new, output and state old.
    told(after(|bus, _| bus.create("READINGS", 8)).await, "was created at");
    // The state lost: made again from the input, which is still there from its first message on.
    after(|_, folder| std::fs::remove_dir_all(folder).unwrap()).await.unwrap();
    // The state lost, and the input's beginning with it.
    told(
        after(|bus, folder| {
            std::fs::remove_dir_all(folder).unwrap();
            bus.purge("READINGS", 2);
        })
        .await,
        "no longer holds its messages from 1 on",
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recover_accepts_what_a_stop_had_refused() {
    let folder = tempfile::tempdir().unwrap();
    let bus = gateway(&[1.0, 2.0, 3.0], Faults::default());
    let instance = start(&bus, folder.path(), |_| {});
    reaches(&bus, 3).await;
    instance.stop().await.unwrap();
    bus.create("READINGS", 8);
    bus.store("READINGS", "readings.site.0", batch([40.0], 1));
    let scope = Scope { site: "site".into(), shard: 0, shards: 1 };
    let config = CommonConfig::for_tests(folder.path());
    start_afresh(&Sums::default(), &scope, &config, &bus, false).await.unwrap();
    let instance = start(&bus, folder.path(), |_| {});
    reaches(&bus, 1).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    instance.stop().await.unwrap();
    assert!(sums(&bus).last().unwrap().contains("value=40.0"), "{:?}", sums(&bus));
}
