//! The real stage loop over a bus in memory, on one thread: pull, decode, process, publish, save, acknowledge.
//!
//! Nothing of it may depend on how fast it runs: it commits once, when it is stopped, and it is stopped by its last publish. Writing
//! state is another thread's work, which is not counted (`state.commit` is).

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use bytes::Bytes;
use eddy_detect::Detect;
use eddy_preprocess::Preprocess;
use eddy_runtime::{
    bus::{
        AckToken, Bus, BusError, Publication, PublishError, Source, Stored, StreamState,
        memory::{Faults, MemoryBus, MemoryFeed},
    },
    clock::ManualClock,
    config,
    direct::Queue,
    position::HEADER,
    stage::Stage,
    stage_loop::{self, Outside},
    telemetry::Telemetry,
};
use tokio::sync::watch;

use super::{
    detect as windows,
    preprocess::{self as readings, SERIES},
    staged::{scope, stage},
};
use crate::{counted::counted, made::START};

/// Messages of a pull: an output each.
const PULL: &str = "4";

/// A bus that tells the loop to stop once an output covers all of the input.
#[derive(Clone)]
struct Ending {
    bus: MemoryBus,
    last: u64,
    stream: &'static str,
    stop: watch::Sender<bool>,
}

impl Bus for Ending {
    type Feed = MemoryFeed;

    async fn stream(&self, name: &str) -> Result<StreamState, BusError> {
        self.bus.stream(name).await
    }

    async fn last(&self, stream: &str, subject: &str) -> Result<Option<Stored>, BusError> {
        self.bus.last(stream, subject).await
    }

    async fn publish(&self, messages: Vec<Publication>) -> Result<u64, PublishError> {
        let header = messages.last().and_then(|message| message.headers.iter().find(|(name, _)| name == HEADER));
        let position = header.and_then(|(_, value)| value.parse::<eddy_runtime::position::Position>().ok());
        let next = position.and_then(|position| Some(position.place(self.stream)?.next_sequence()));
        let published = self.bus.publish(messages).await;
        if next.is_some_and(|next| next > self.last) {
            self.stop.send_replace(true);
        }
        published
    }

    async fn open(&self, source: &Source, from: u64) -> Result<MemoryFeed, BusError> {
        self.bus.open(source, from).await
    }

    async fn ack(&self, token: &AckToken) -> Result<(), BusError> {
        self.bus.ack(token).await
    }

    async fn in_progress(&self, token: &AckToken) -> Result<(), BusError> {
        self.bus.in_progress(token).await
    }
}

/// Counts a whole life of `stage` on `payloads`; returns how many outputs it published.
fn life<S: Stage>(stage: S, payloads: Vec<Vec<u8>>, folder: &Path) -> Result<usize> {
    let input = S::SPEC.inputs[0];
    let bus = MemoryBus::new(1, Faults::default());
    for stream in [input.stream, S::SPEC.output_stream, "SIDE", "HEALTH"] {
        bus.create(stream, START);
    }
    let mut last = 0;
    for payload in payloads {
        last = bus.store(input.stream, &format!("{}.smoke.0", input.prefix), Bytes::from(payload));
    }
    let changes = [("EDDY_STATE_COMMIT_INTERVAL_MS", "3600000"), ("EDDY_LIMITS_PULL_MESSAGES_MAX", PULL)];
    let changes = changes.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let (mut common, _) = config::load::<S::Config>(S::SPEC.name, S::DEFAULTS, None, changes)?;
    common.state.dir = folder.join("state");
    let (stop, stopped) = watch::channel(false);
    let outside = Outside {
        bus: Ending { bus: bus.clone(), last, stream: input.stream, stop },
        direct: Queue::none(),
        telemetry: Arc::new(Telemetry::new("smoke", 0, Duration::from_secs(30))),
        clock: Arc::new(ManualClock::new(START)),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    counted(|| runtime.block_on(stage_loop::run(stage, scope(), &common, outside, stopped)))?;
    let floor = bus.ack_floor(input.stream, &format!("{}-0", S::SPEC.name));
    ensure!(floor == last, "acknowledged up to {floor} of {last}");
    Ok(bus.payloads(S::SPEC.output_stream, &format!("{}.", S::SPEC.output_prefix)).len())
}

pub fn preprocess(folder: &Path) -> Result<u64> {
    const ROWS: usize = 60;
    let outputs = life::<Preprocess>(stage(&[])?, readings::messages(0..ROWS, |_, _| true), folder)?;
    ensure!(outputs >= ROWS / 4, "{outputs} outputs");
    Ok((ROWS * SERIES) as u64)
}

pub fn detect(folder: &Path) -> Result<u64> {
    const ROWS: usize = 640;
    let outputs = life::<Detect>(windows::detect()?, windows::messages(0..ROWS)?, folder)?;
    ensure!(outputs >= ROWS / windows::MESSAGE / 4, "{outputs} outputs");
    Ok((ROWS * windows::SERIES) as u64)
}
