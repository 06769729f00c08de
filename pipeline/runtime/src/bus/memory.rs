//! A bus in memory with JetStream's rules and scripted faults, for tests: nothing in production uses it.
//!
//! It keeps what matters to the stage contract: guards, atomic batches, durable consumers with their own cursor and
//! consumer sequence, resets. Faults come from a seed, so that a failing run can be repeated.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;

use super::{
    AckToken, Bus, BusError, Delivery, Feed, Publication, PublishError, PullBounds, Source, Stored, StreamState,
};
use crate::trace::Provenance;

/// How often, out of 1,000 operations each, a fault happens.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// A publish is stored but its answer is lost.
    pub answer_lost: u32,
    /// A publish is lost before it is stored.
    pub publish_lost: u32,
    /// The stream says that it is full.
    pub full: u32,
    /// A feed loses its place.
    pub feed_lost: u32,
    /// A publish takes its time before it is stored, and its answer too.
    pub slow: u32,
}

/// What is slow takes so long.
const SLOW: Duration = Duration::from_millis(2);

#[derive(Clone, Debug)]
struct Message {
    sequence: u64,
    subject: String,
    headers: Vec<(String, String)>,
    payload: Bytes,
    guard: Option<u64>,
}

#[derive(Debug, Default)]
struct Stream {
    incarnation: i64,
    last: u64,
    messages: Vec<Message>,
    /// Per durable: its cursor, its generation, its ack floor.
    consumers: BTreeMap<String, Consumer>,
}

#[derive(Debug, Default)]
struct Consumer {
    generation: u64,
    ack_floor: u64,
}

#[derive(Debug)]
struct Server {
    streams: BTreeMap<String, Stream>,
    faults: Faults,
    seed: u64,
}

impl Server {
    /// xorshift64*: enough for choosing faults.
    fn chance(&mut self, per_mille: u32) -> bool {
        self.seed ^= self.seed >> 12;
        self.seed ^= self.seed << 25;
        self.seed ^= self.seed >> 27;
        (self.seed.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % 1000 < u64::from(per_mille)
    }

    fn stream(&mut self, name: &str) -> Result<&mut Stream, BusError> {
        self.streams.get_mut(name).ok_or_else(|| BusError::Missing(format!("stream {name}")))
    }
}

fn named<'h>(headers: &'h [(String, String)], name: &str) -> Option<&'h str> {
    headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// The bus; clones share one server.
#[derive(Clone, Debug)]
pub struct MemoryBus(Arc<Mutex<Server>>);

impl MemoryBus {
    /// A server without streams.
    pub fn new(seed: u64, faults: Faults) -> Self {
        let server = Server { streams: BTreeMap::new(), faults, seed: seed.max(1) };
        Self(Arc::new(Mutex::new(server)))
    }

    fn lock(&self) -> MutexGuard<'_, Server> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Creates (or recreates, empty) a stream.
    pub fn create(&self, name: &str, incarnation: i64) {
        self.lock().streams.insert(name.to_owned(), Stream { incarnation, ..Stream::default() });
    }

    /// Changes the faults from here on.
    pub fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// Removes the messages below `below`, as the janitor does.
    pub fn purge(&self, name: &str, below: u64) {
        self.purge_subject(name, "", below);
    }

    /// The same of the subjects that begin with `prefix`.
    pub fn purge_subject(&self, name: &str, prefix: &str, below: u64) {
        if let Some(stream) = self.lock().streams.get_mut(name) {
            stream.messages.retain(|message| message.sequence >= below || !message.subject.starts_with(prefix));
        }
    }

    /// Stores a message as a device would.
    pub fn store(&self, stream: &str, subject: &str, payload: Bytes) -> u64 {
        self.store_with(stream, subject, &[], payload)
    }

    /// The same with headers.
    pub fn store_with(&self, stream: &str, subject: &str, headers: &[(&str, &str)], payload: Bytes) -> u64 {
        let mut server = self.lock();
        let stream = server.streams.entry(stream.to_owned()).or_default();
        stream.last += 1;
        let sequence = stream.last;
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let subject = subject.to_owned();
        stream.messages.push(Message { sequence, subject, headers, payload, guard: None });
        sequence
    }

    /// All payloads of a stream whose subject starts with `prefix`, in order.
    pub fn payloads(&self, stream: &str, prefix: &str) -> Vec<Bytes> {
        let server = self.lock();
        let Some(stream) = server.streams.get(stream) else { return Vec::new() };
        stream.messages.iter().filter(|m| m.subject.starts_with(prefix)).map(|m| m.payload.clone()).collect()
    }

    /// Subjects and payloads of a stream whose subject starts with `prefix`, in order.
    pub fn messages(&self, stream: &str, prefix: &str) -> Vec<(String, Bytes)> {
        let server = self.lock();
        let Some(stream) = server.streams.get(stream) else { return Vec::new() };
        let matching = stream.messages.iter().filter(|m| m.subject.starts_with(prefix));
        matching.map(|m| (m.subject.clone(), m.payload.clone())).collect()
    }

    /// A header of the last message of a stream whose subject starts with `prefix`.
    pub fn last_header(&self, stream: &str, prefix: &str, header: &str) -> Option<String> {
        let server = self.lock();
        let last = server.streams.get(stream)?.messages.iter().rev().find(|m| m.subject.starts_with(prefix))?;
        named(&last.headers, header).map(str::to_owned)
    }

    /// The provenance of each message of a stream whose subject starts with `prefix`, in order.
    pub fn provenances(&self, stream: &str, prefix: &str) -> Vec<Provenance> {
        let server = self.lock();
        let Some(stream) = server.streams.get(stream) else { return Vec::new() };
        let matching = stream.messages.iter().filter(|m| m.subject.starts_with(prefix));
        matching.map(|m| Provenance::read(|name| named(&m.headers, name))).collect()
    }

    /// The ack floor of a durable.
    pub fn ack_floor(&self, stream: &str, durable: &str) -> u64 {
        let server = self.lock();
        server.streams.get(stream).and_then(|s| s.consumers.get(durable)).map_or(0, |c| c.ack_floor)
    }
}

impl MemoryBus {
    fn store_all(&self, messages: Vec<Publication>) -> Result<u64, PublishError> {
        let mut server = self.lock();
        let Some(last) = messages.last() else { return Err(PublishError::Fatal("nothing to publish".into())) };
        let (name, subject) = (last.stream.clone(), last.subject.clone());
        let faults = server.faults;
        if server.chance(faults.full) {
            return Err(PublishError::Full { stream: name, reason: "scripted".into() });
        }
        let ambiguous = PublishError::Ambiguous { subject: subject.clone(), reason: "scripted".into() };
        if server.chance(faults.publish_lost) {
            return Err(ambiguous);
        }
        let answer_lost = server.chance(faults.answer_lost);
        let stream = server.stream(&name).map_err(|error| PublishError::Fatal(error.to_string()))?;
        for message in &messages {
            if let Some(guard) = message.guard {
                let there =
                    stream.messages.iter().rev().find(|m| m.subject == message.subject).map_or(0, |m| m.sequence);
                if there != guard {
                    return Err(PublishError::Refused { subject: message.subject.clone(), expected: guard });
                }
            }
        }
        for message in messages {
            stream.last += 1;
            let Publication { subject, headers, payload, guard, .. } = message;
            stream.messages.push(Message { sequence: stream.last, subject, headers, payload, guard });
        }
        if answer_lost { Err(ambiguous) } else { Ok(stream.last) }
    }
}

impl Bus for MemoryBus {
    type Feed = MemoryFeed;

    async fn stream(&self, name: &str) -> Result<StreamState, BusError> {
        let mut server = self.lock();
        let stream = server.stream(name)?;
        let first = stream.messages.first().map_or(stream.last + 1, |m| m.sequence);
        Ok(StreamState { incarnation: stream.incarnation, first_sequence: first, last_sequence: stream.last })
    }

    async fn last(&self, stream: &str, subject: &str) -> Result<Option<Stored>, BusError> {
        let mut server = self.lock();
        let found = server.stream(stream)?.messages.iter().rev().find(|m| m.subject == subject).cloned();
        Ok(found.map(|m| Stored { sequence: m.sequence, headers: m.headers, payload: m.payload }))
    }

    async fn publish(&self, messages: Vec<Publication>) -> Result<u64, PublishError> {
        tokio::task::yield_now().await;
        let is_slow = {
            let mut server = self.lock();
            let slow = server.faults.slow;
            server.chance(slow)
        };
        if is_slow {
            tokio::time::sleep(SLOW).await;
        }
        let result = self.store_all(messages);
        if is_slow {
            tokio::time::sleep(SLOW).await;
        }
        result
    }

    async fn open(&self, source: &Source, from: u64) -> Result<MemoryFeed, BusError> {
        let mut server = self.lock();
        let consumer = server.stream(&source.stream)?.consumers.entry(source.durable.clone()).or_default();
        consumer.generation += 1;
        consumer.ack_floor = from.saturating_sub(1);
        let generation = consumer.generation;
        Ok(MemoryFeed { bus: self.clone(), source: source.clone(), next: from, generation })
    }

    async fn ack(&self, token: &AckToken) -> Result<(), BusError> {
        let mut parts = token.0.split(' ');
        let (Some(stream), Some(durable), Some(generation), Some(sequence)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(BusError::Fatal(format!("token {:?}", token.0)));
        };
        let mut server = self.lock();
        let consumer = server.stream(stream)?.consumers.entry(durable.to_owned()).or_default();
        if consumer.generation.to_string() != generation {
            return Err(BusError::Fatal("a token of an earlier feed: it must never be used".into()));
        }
        consumer.ack_floor = sequence.parse().unwrap_or(0).max(consumer.ack_floor);
        Ok(())
    }

    async fn in_progress(&self, _token: &AckToken) -> Result<(), BusError> {
        Ok(())
    }
}

/// A feed of a [`MemoryBus`].
#[derive(Debug)]
pub struct MemoryFeed {
    bus: MemoryBus,
    source: Source,
    next: u64,
    generation: u64,
}

impl Feed for MemoryFeed {
    async fn pull(&mut self, bounds: PullBounds, wait: Duration) -> Result<Vec<Delivery>, BusError> {
        let pulled = {
            let mut server = self.bus.lock();
            let faults = server.faults;
            if server.chance(faults.feed_lost) {
                return Err(BusError::LostPlace { stream: self.source.stream.clone(), problem: "scripted".into() });
            }
            let stream = server.stream(&self.source.stream)?;
            let mine = stream.consumers.get(&self.source.durable).is_some_and(|c| c.generation == self.generation);
            if !mine {
                let problem = "another instance reset the consumer".into();
                return Err(BusError::LostPlace { stream: self.source.stream.clone(), problem });
            }
            let prefix = self.source.filter.trim_end_matches('>').to_owned();
            let matches = |m: &&Message| m.sequence >= self.next && m.subject.starts_with(&prefix);
            stream.messages.iter().filter(matches).take(bounds.messages).cloned().collect::<Vec<_>>()
        };
        if pulled.is_empty() {
            tokio::time::sleep(wait.min(Duration::from_millis(5))).await;
        }
        let token = |sequence| {
            AckToken(format!("{} {} {} {sequence}", self.source.stream, self.source.durable, self.generation))
        };
        let mut bytes = 0;
        let mut deliveries = Vec::new();
        for message in pulled {
            if bytes >= bounds.bytes {
                break;
            }
            bytes += message.payload.len();
            self.next = message.sequence + 1;
            deliveries.push(Delivery {
                subject: message.subject,
                sequence: message.sequence,
                stored_at: message.sequence as i64,
                content_type: None,
                predecessor: message.guard,
                provenance: Provenance::of(&self.source.stream, |name| named(&message.headers, name)),
                payload: message.payload,
                token: token(message.sequence),
                pending: 0,
            });
        }
        Ok(deliveries)
    }
}
