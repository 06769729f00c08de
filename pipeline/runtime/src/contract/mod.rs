//! What every stage must hold to, as one assertion that each stage's tests call (style: "a written component contract
//! that tests enforce").
//!
//! A stage is run by the real loop over a bus in memory whose seed loses answers, publishes and places, and is killed at
//! random moments with random batch sizes; whatever happens, its output must be, row for row, what one undisturbed pass
//! gives (INV-2, INV-3), everything put aside must be there once (INV-4), and nothing may be acknowledged before the
//! state that contains it is on disk (INV-1).

pub mod damage;

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::watch;

use crate::{
    bus::memory::{Faults, MemoryBus},
    clock::ManualClock,
    config::CommonConfig,
    dead_letter::DeadLetter,
    direct::Queue,
    position::HEADER,
    stage::{Incoming, Outbox, Scope, Stage},
    stage_loop,
    telemetry::Telemetry,
};

/// An input message of a contract test.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its stream, one of the stage's inputs.
    pub stream: &'static str,
    /// Its subject.
    pub subject: String,
    /// Its payload.
    pub payload: Bytes,
}

/// What a stage made of its input, row by row.
#[derive(Debug, Default, PartialEq)]
struct Made {
    rows: Vec<String>,
    alerts: Vec<String>,
    late: Vec<String>,
    dead: Vec<String>,
}

fn scope() -> Scope {
    Scope { site: "site".into(), shard: 0, shards: 1 }
}

fn dump(payload: &[u8]) -> Vec<String> {
    eddy_schemas::dump::rows(payload).unwrap_or_else(|error| panic!("a stage wrote what cannot be read: {error}"))
}

/// One undisturbed pass, without a bus.
fn reference<S: Stage>(stage: &mut S, messages: &[Message]) -> Made {
    let mut made = Made::default();
    let mut out = Outbox::new(stage.outputs(), usize::MAX);
    let mut next = std::collections::BTreeMap::<&str, u64>::new();
    for message in messages {
        let sequence = next.entry(message.stream).and_modify(|sequence| *sequence += 1).or_insert(1);
        let incoming = Incoming {
            stream: message.stream.to_owned(),
            subject: message.subject.clone(),
            sequence: *sequence,
            stored_at: *sequence as i64,
            content_type: None,
            payload: message.payload.clone(),
        };
        match stage.decode(&incoming) {
            Err((_, detail)) => made.dead.push(detail),
            Ok(input) => {
                let mut row = 0;
                while row < S::rows(&input) {
                    row = stage.process(&incoming, &input, row..S::rows(&input), &mut out);
                    let late = out.late.drain(..);
                    made.late.extend(late.map(|row| format!("{} {} {:?}", row.series, row.time, row.value)));
                    made.dead.extend(out.rejected.drain(..).map(|one| one.rejection.detail));
                    made.alerts.extend(
                        out.alerts
                            .drain(..)
                            .map(|alert| format!("{} {}", alert.subject, String::from_utf8_lossy(&alert.payload))),
                    );
                    for batch in &mut out.main {
                        made.rows.extend(dump(&crate::stage::Batch::encode(batch)));
                    }
                }
            }
        }
    }
    made
}

fn read_back<S: Stage>(bus: &MemoryBus) -> Made {
    let stream = S::SPEC.output_stream;
    let mut made = Made::default();
    for payload in bus.payloads(stream, &format!("{}.", S::SPEC.output_prefix)) {
        made.rows.extend(dump(&payload));
    }
    made.alerts = bus
        .messages(stream, "alerts.")
        .into_iter()
        .map(|(subject, payload)| format!("{subject} {}", String::from_utf8_lossy(&payload)))
        .collect();
    for payload in bus.payloads("SIDE", "late.") {
        let batch = eddy_schemas::Readings::decode(&payload).unwrap_or_else(|error| panic!("late rows: {error}"));
        for row in 0..batch.rows.len() {
            made.late.push(format!("{} {} {:?}", batch.rows.name(row), batch.rows.time[row], batch.value[row]));
        }
    }
    for payload in bus.payloads("SIDE", "deadletter.") {
        let letters = DeadLetter::read(&payload).unwrap_or_else(|error| panic!("dead letters: {error}"));
        made.dead.extend(letters.into_iter().map(|letter| letter.rejection.detail));
    }
    made
}

/// Runs the stage that `make` builds over `messages`, killed and restarted at random from each of `seeds`, and compares.
///
/// # Panics
/// If the output differs from an undisturbed pass's: the message names the seed.
pub fn assert_stage_contract<S: Stage>(make: impl Fn() -> S, messages: &[Message], seeds: std::ops::Range<u64>) {
    let expected = reference(&mut make(), messages);
    assert!(!expected.rows.is_empty(), "the input must make the stage emit something");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap_or_else(|error| panic!("a tokio runtime: {error}"));
    for seed in seeds {
        let made = runtime.block_on(disturbed(&make, messages, seed));
        let same = |what: &str, expected: &[String], made: &[String]| {
            let at = expected.iter().zip(made).position(|(a, b)| a != b).unwrap_or(expected.len().min(made.len()));
            assert!(
                expected == made,
                "seed {seed}: {what}: {} expected, {} made, first difference at {at}:\n{:?}\n{:?}",
                expected.len(),
                made.len(),
                expected.get(at),
                made.get(at)
            );
        };
        same("rows", &expected.rows, &made.rows);
        same("alerts", &expected.alerts, &made.alerts);
        same("late rows", &expected.late, &made.late);
        same("dead letters", &expected.dead, &made.dead);
    }
}

/// Random numbers that a seed repeats (xorshift64*).
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// Other numbers for each seed.
    pub fn of(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// The next one, below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % n
    }
}

async fn disturbed<S: Stage>(make: &impl Fn() -> S, messages: &[Message], seed: u64) -> Made {
    let mut dice = Dice::of(seed);
    let faults = Faults {
        answer_lost: dice.below(150) as u32,
        publish_lost: dice.below(100) as u32,
        full: dice.below(100) as u32,
        feed_lost: dice.below(100) as u32,
        slow: dice.below(500) as u32,
    };
    let bus = MemoryBus::new(seed + 1, faults);
    for stream in S::SPEC.inputs.iter().map(|input| input.stream).chain([S::SPEC.output_stream, "SIDE", "HEALTH"]) {
        bus.create(stream, 7);
    }
    for message in messages {
        bus.store(message.stream, &message.subject, message.payload.clone());
    }
    let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("a temporary folder: {error}"));
    for life in 0..1_000 {
        if life == 12 {
            bus.set_faults(Faults::default());
        }
        live(make(), &bus, folder.path(), &mut dice, life < 12).await;
        if covers_all::<S>(&bus, messages) {
            return read_back::<S>(&bus);
        }
    }
    panic!("seed {seed}: the stage does not come to the end of its input");
}

/// One life of the stage: some milliseconds, then a stop or a kill.
async fn live<S: Stage>(stage: S, bus: &MemoryBus, folder: &Path, dice: &mut Dice, kill: bool) {
    let mut config = CommonConfig::for_tests(folder);
    config.limits.pull_messages_max = 1 + dice.below(40) as usize;
    config.limits.output_bytes_max = 400 << dice.below(10);
    config.limits.full_backoff_ms = 1;
    config.state.commit_interval_ms = dice.below(15);
    config.state.collect_devices_max = 1 + dice.below(3) as usize;
    config.state.collect_every_ms = dice.below(2);
    config.state.piece_kb = 1;
    config.state.map_size_mb = 64;
    let (stop, stopped) = watch::channel(false);
    let clock = Arc::new(ManualClock::new(0));
    let telemetry = Arc::new(Telemetry::for_tests());
    let outside = stage_loop::Outside { bus: bus.clone(), direct: Queue::none(), telemetry, clock };
    let task = tokio::spawn(async move { stage_loop::run(stage, scope(), &config, outside, stopped).await });
    tokio::time::sleep(Duration::from_millis(3 + dice.below(40))).await;
    if kill && dice.below(3) > 0 {
        task.abort();
    } else {
        stop.send_replace(true);
    }
    match task.await {
        Ok(Ok(())) => {}
        // A commit of the killed instance may still hold the store, or land after it was read.
        Ok(Err(stage_loop::LoopError::State(_) | stage_loop::LoopError::Fenced { .. })) => {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(Err(error)) => panic!("the stage stopped: {error}"),
        Err(error) if error.is_cancelled() => {}
        Err(error) => panic!("the loop panicked: {error}"),
    }
}

fn covers_all<S: Stage>(bus: &MemoryBus, messages: &[Message]) -> bool {
    let Some(text) = bus.last_header(S::SPEC.output_stream, S::SPEC.output_prefix, HEADER) else { return false };
    let position: crate::position::Position = text.parse().unwrap_or_default();
    S::SPEC.inputs.iter().all(|input| {
        let last = messages.iter().filter(|message| message.stream == input.stream).count() as u64;
        position.place(input.stream).is_some_and(|place| place.next_sequence() > last)
    })
}
