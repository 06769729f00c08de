//! A region in memory behind a link of a given rate and round trip, whose answers, messages and connections get lost.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use eddy_runtime::bus::{BusError, Publication, PublishError, Stored, StreamState};
use eddy_schemas::sync::{Class, subject_of, wire};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{
    link::on_the_wire,
    send::{Pending, Uplink},
};

/// How long the client waits for an answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How often, out of 1,000 messages each, something happens to it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    pub message_lost: u32,
    pub answer_lost: u32,
    pub full: u32,
    /// The connection breaks, and is back after a while.
    pub cut: u32,
}

/// A message that the region has.
#[derive(Clone, Debug)]
pub struct Taken {
    pub subject: String,
    pub payload: bytes::Bytes,
    pub at: Instant,
}

struct Shipment {
    connection: u64,
    arrives: Instant,
    message: Publication,
    answer: oneshot::Sender<Result<u64, PublishError>>,
}

pub struct State {
    pub rate: f64,
    pub round_trip: Duration,
    pub faults: Faults,
    pub taken: Vec<Taken>,
    pub incarnation: i64,
    /// Sent and neither arrived nor lost, and the most there ever was.
    pub on_the_way: (u64, u64),
    /// How long the link was busy.
    pub busy: Duration,
    /// Messages of more bytes are refused.
    pub payload_max: usize,
    pub is_full: bool,
    connected: bool,
    connections: u64,
    free_at: Instant,
    arrived: Instant,
    random: StdRng,
}

impl State {
    fn chance(&mut self, per_mille: u32) -> bool {
        self.random.random_range(0..1_000) < per_mille
    }

    /// What is last on a subject, with its sequence.
    pub fn last(&self, subject: &str) -> Option<(u64, &Taken)> {
        let at = self.taken.iter().rposition(|taken| taken.subject == subject)?;
        Some((at as u64 + 1, &self.taken[at]))
    }

    fn store(&mut self, message: &Publication) -> Result<u64, PublishError> {
        let Publication { stream, subject, payload, guard, .. } = message;
        let faults = self.faults;
        if self.is_full || self.chance(faults.full) {
            return Err(PublishError::Full { stream: stream.clone(), reason: "10077".into() });
        }
        if payload.len() > self.payload_max {
            return Err(PublishError::Fatal(format!("{} bytes", payload.len())));
        }
        let there = self.last(subject).map_or(0, |(sequence, _)| sequence);
        if let Some(expected) = guard.filter(|guard| *guard != there) {
            return Err(PublishError::Refused { subject: subject.clone(), expected });
        }
        self.taken.push(Taken { subject: subject.clone(), payload: payload.clone(), at: Instant::now() });
        Ok(self.taken.len() as u64)
    }

    /// All batches of a class, in order.
    pub fn batches(&self, site: &str, class: Class) -> Vec<(wire::Batch, wire::Entries)> {
        let subject = subject_of(site, class);
        let of_class = self.taken.iter().filter(|taken| taken.subject == subject);
        of_class.map(|taken| wire::Batch::read(&taken.payload).unwrap()).collect()
    }
}

/// A gateway's connection to it; clones share it.
#[derive(Clone)]
pub struct Region {
    state: Arc<Mutex<State>>,
    wire: mpsc::Sender<Shipment>,
}

impl Region {
    /// An empty one; everything that happens to it follows from `seed`.
    pub fn new(seed: u64, rate: f64, round_trip: Duration) -> Self {
        let now = Instant::now();
        let state = State {
            rate,
            round_trip,
            faults: Faults::default(),
            taken: Vec::new(),
            incarnation: 1,
            on_the_way: (0, 0),
            busy: Duration::ZERO,
            payload_max: usize::MAX,
            is_full: false,
            connected: true,
            connections: 1,
            free_at: now,
            arrived: now,
            random: StdRng::seed_from_u64(seed),
        };
        let (wire, mut shipments) = mpsc::channel::<Shipment>(10_000);
        let region = Self { state: Arc::new(Mutex::new(state)), wire };
        let there = region.state.clone();
        tokio::spawn(async move {
            while let Some(shipment) = shipments.recv().await {
                sleep_until(shipment.arrives).await;
                arrive(&there, shipment);
            }
        });
        region
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The connection breaks, and is back after `time`.
    pub fn cut(&self, time: Duration) {
        cut(&self.state, time);
    }
}

fn cut(state: &Arc<Mutex<State>>, time: Duration) {
    if !std::mem::replace(&mut state.lock().unwrap().connected, false) {
        return;
    }
    let state = state.clone();
    tokio::spawn(async move {
        sleep(time).await;
        let mut state = state.lock().unwrap();
        state.connected = true;
        state.connections += 1;
        let now = Instant::now();
        (state.free_at, state.arrived) = (now, now);
    });
}

fn arrive(there: &Arc<Mutex<State>>, shipment: Shipment) {
    let Shipment { connection, message, answer, .. } = shipment;
    let mut state = there.lock().unwrap();
    state.on_the_way.0 -= on_the_wire(message.payload.len());
    let faults = state.faults;
    if state.chance(faults.message_lost) {
        return;
    }
    // What a broken connection had on its way arrives, or not.
    if state.connections != connection && state.chance(500) {
        return;
    }
    let result = state.store(&message);
    if state.chance(faults.cut) {
        let time = Duration::from_millis(state.random.random_range(1..5_000));
        drop(state);
        cut(there, time);
        return;
    }
    if state.chance(faults.answer_lost) {
        return;
    }
    let (way, there) = (state.round_trip / 2, there.clone());
    drop(state);
    tokio::spawn(async move {
        sleep(way).await;
        let state = there.lock().unwrap();
        if state.connected && state.connections == connection {
            let _ = answer.send(result);
        }
    });
}

impl Uplink for Region {
    fn connection(&self) -> Option<u64> {
        let state = self.state();
        state.connected.then_some(state.connections)
    }

    async fn stream(&self, _: &str) -> Result<StreamState, BusError> {
        let way = self.state().round_trip;
        sleep(way).await;
        let state = self.state();
        if !state.connected {
            return Err(BusError::Unavailable("cut".into()));
        }
        Ok(StreamState { incarnation: state.incarnation, first_sequence: 1, last_sequence: state.taken.len() as u64 })
    }

    async fn last(&self, _: &str, subject: &str) -> Result<Option<Stored>, BusError> {
        let way = self.state().round_trip / 2;
        sleep(way).await;
        let (found, lost) = {
            let mut state = self.state();
            let lost = state.faults.answer_lost;
            let lost = !state.connected || state.chance(lost);
            let found = state.last(subject).map(|(sequence, taken)| Stored {
                sequence,
                headers: Vec::new(),
                payload: taken.payload.clone(),
            });
            (found, lost)
        };
        if lost {
            sleep(REQUEST_TIMEOUT).await;
            return Err(BusError::Unavailable("no answer".into()));
        }
        sleep(way).await;
        Ok(found)
    }

    async fn send(&self, message: Publication) -> Result<Pending, PublishError> {
        let bytes = on_the_wire(message.payload.len());
        let (answer, answered) = oneshot::channel();
        let subject = message.subject.clone();
        let shipment = {
            let mut state = self.state();
            let takes = Duration::from_secs_f64(bytes as f64 / state.rate);
            state.free_at = state.free_at.max(Instant::now()) + takes;
            state.busy += takes;
            state.arrived = state.arrived.max(state.free_at + state.round_trip / 2);
            state.on_the_way.0 += bytes;
            state.on_the_way.1 = state.on_the_way.1.max(state.on_the_way.0);
            Shipment { connection: state.connections, arrives: state.arrived, message, answer }
        };
        self.wire.try_send(shipment).unwrap_or_else(|_| panic!("more than 10,000 messages on their way"));
        Ok(Box::pin(async move {
            match timeout(REQUEST_TIMEOUT, answered).await {
                Ok(Ok(result)) => result,
                _ => Err(PublishError::Ambiguous { subject, reason: "no answer".into() }),
            }
        }))
    }
}
