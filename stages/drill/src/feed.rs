//! Readings into INGEST as devices send them: a plain NATS client, in order, each message again until it is acknowledged.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use async_nats::{HeaderMap, jetstream};
use bytes::Bytes;
use eddy_schemas::{ReadingsBuilder, Timestamp, names};
use tokio::task::JoinHandle;

use crate::{
    ledger::Ledger,
    recording::{Reading, Recording},
};

/// What falls due within this goes out together.
const TICK: Duration = Duration::from_millis(50);
/// Readings of a message at most.
const MESSAGE_READINGS_MAX: usize = 5_000;
/// How long an acknowledgement may take before the message is sent again.
const ACK_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two tries, growing.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));
/// How long nothing may be accepted.
const PATIENCE: Duration = Duration::from_secs(180);

/// A ledger that feeder and witness share.
pub type Books = Arc<Mutex<Ledger>>;

/// The ledger, for a moment.
pub fn open(books: &Books) -> MutexGuard<'_, Ledger> {
    books.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A message for INGEST, and the readings in it.
#[derive(Clone, Debug)]
pub struct Message {
    subject: String,
    payload: Bytes,
    keys: Vec<(u32, Timestamp)>,
}

/// A plain client at a gateway's bus, patient with a server that dies.
///
/// # Errors
/// If nobody answers there.
pub async fn connect(url: &str) -> Result<jetstream::Context> {
    let options = async_nats::ConnectOptions::new()
        .reconnect_delay_callback(|_| Duration::from_millis(50))
        .request_timeout(Some(ACK_TIMEOUT));
    let client = options.connect(url).await?;
    Ok(jetstream::context::ContextBuilder::new().timeout(ACK_TIMEOUT).ack_timeout(ACK_TIMEOUT).build(client))
}

/// Sends messages, all of them at once, again and again until each is acknowledged; tells how often one had to be sent again.
///
/// # Errors
/// That nothing was accepted for long.
pub async fn send(context: &jetstream::Context, books: &Books, mut left: Vec<Message>) -> Result<u64> {
    let (mut backoff, mut again, mut accepted) = (BACKOFF.0, 0, Instant::now());
    loop {
        let mut under_way = Vec::new();
        for message in &left {
            let mut headers = HeaderMap::new();
            headers.insert("Content-Type", "application/vnd.apache.arrow.stream");
            let sent = context.publish_with_headers(message.subject.clone(), headers, message.payload.clone()).await;
            under_way.push(sent);
        }
        let (mut refused, mut problem) = (Vec::new(), String::new());
        for (message, sent) in left.into_iter().zip(under_way) {
            let stored = match sent {
                Ok(ack) => ack.await.map(drop),
                Err(error) => Err(error),
            };
            match stored {
                Ok(()) => {
                    accepted = Instant::now();
                    let mut books = open(books);
                    message.keys.iter().for_each(|(series, time)| books.stored(*series, *time));
                }
                Err(error) => {
                    problem = error.to_string();
                    refused.push(message);
                }
            }
        }
        if refused.is_empty() {
            return Ok(again);
        }
        ensure!(accepted.elapsed() < PATIENCE, "nothing was accepted for {PATIENCE:?}: {problem}");
        again += refused.len() as u64;
        left = refused;
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF.1);
    }
}

/// A recording on its way.
#[derive(Debug)]
pub struct Feeding {
    task: JoinHandle<Result<u64>>,
    done: Arc<AtomicU64>,
    total: u64,
}

impl Feeding {
    /// Feeds `recording` to the site's devices at `url`, evenly over `over`, or as fast as it is taken; all times later by `shift`.
    pub fn start(
        url: &str,
        site: &str,
        recording: Arc<Recording>,
        over: Option<Duration>,
        shift: i64,
        books: Books,
    ) -> Self {
        let done = Arc::new(AtomicU64::new(0));
        let feeder = Feeder {
            url: url.to_owned(),
            prefix: format!("ingest.{}", names::encode(site)),
            total: recording.readings.len(),
            recording,
            over,
            shift,
            books,
            done: done.clone(),
        };
        let total = feeder.total as u64;
        Self { task: tokio::spawn(feeder.run()), done, total }
    }

    /// Whether all is sent, or it has ended.
    pub fn is_over(&self) -> bool {
        self.task.is_finished()
    }

    /// The share that is sent.
    pub fn share(&self) -> f64 {
        self.done.load(Ordering::Relaxed) as f64 / self.total.max(1) as f64
    }

    /// Waits for the end; how often a message had to be sent again.
    ///
    /// # Errors
    /// See [`send`].
    pub async fn end(&mut self) -> Result<u64> {
        (&mut self.task).await?
    }
}

impl Drop for Feeding {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Feeder {
    url: String,
    prefix: String,
    recording: Arc<Recording>,
    total: usize,
    over: Option<Duration>,
    shift: i64,
    books: Books,
    done: Arc<AtomicU64>,
}

impl Feeder {
    async fn run(self) -> Result<u64> {
        let context = connect(&self.url).await?;
        let ids: Vec<u32> = {
            let mut books = open(&self.books);
            self.recording.series.iter().map(|(name, _)| books.series(name)).collect()
        };
        let (begun, mut at, mut again) = (Instant::now(), 0, 0);
        while at < self.total {
            let due = self.over.map_or(self.total, |over| {
                (self.total as f64 * begun.elapsed().as_secs_f64() / over.as_secs_f64().max(1e-3)) as usize
            });
            // A message of each device at most: whatever has to be sent again, a device's readings stay in their order.
            let to = due.min(at + MESSAGE_READINGS_MAX).min(self.total);
            if to > at {
                let messages = self.messages(&self.recording.readings[at..to], &ids);
                again += send(&context, &self.books, messages).await?;
                at = to;
                self.done.store(at as u64, Ordering::Relaxed);
            }
            if self.over.is_some() && at < self.total {
                tokio::time::sleep(TICK).await;
            }
        }
        Ok(again)
    }

    fn messages(&self, readings: &[Reading], ids: &[u32]) -> Vec<Message> {
        let mut batches: BTreeMap<u32, (ReadingsBuilder, Vec<(u32, Timestamp)>)> = BTreeMap::new();
        let (now, mut books) = (eddy_cli::now(), open(&self.books));
        for reading in readings {
            let ((name, device), id) = (&self.recording.series[reading.series as usize], ids[reading.series as usize]);
            let time = reading.time + self.shift;
            let (batch, keys) = batches.entry(*device).or_default();
            batch.push(name, time, reading.value, 0, time);
            keys.push((id, time));
            books.offer(id, time, now);
        }
        let message = |(device, (mut batch, keys)): (u32, (ReadingsBuilder, _))| Message {
            subject: format!("{}.{}", self.prefix, names::encode(&self.recording.devices[device as usize])),
            payload: batch.encode().into(),
            keys,
        };
        batches.into_iter().map(message).collect()
    }
}
