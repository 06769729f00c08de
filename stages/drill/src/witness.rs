//! Who reads what comes out, while it does: a plain NATS client that knows the streams and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use async_nats::jetstream::{
    self,
    consumer::{DeliverPolicy, pull::OrderedConfig},
};
use eddy_cli::supervise::register::{self, MachineFile};
use eddy_runtime::dead_letter::DeadLetter;
use eddy_schemas::{Readings, names};
use futures_util::StreamExt as _;
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    feed::{self, Books},
    judge::Run,
    memory,
};

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long the next message may take, of those that are there.
const PATIENCE: Duration = Duration::from_secs(5);
/// Originals of dead letters that are kept in memory.
const LETTER_BYTES_MAX: usize = 10_000;

/// What it has read.
#[derive(Debug)]
pub struct Witness {
    site: String,
    devices: BTreeSet<String>,
    books: Books,
    context: jetstream::Context,
    next: u64,
    next_aside: u64,
    run: Run,
    letters: Vec<DeadLetter>,
}

impl Witness {
    /// Of the gateway at `url`; what is compared is said of `devices`.
    ///
    /// # Errors
    /// If nobody answers there.
    pub async fn new(url: &str, site: &str, devices: &[String], books: Books) -> Result<Self> {
        Ok(Self {
            site: names::encode(site),
            devices: devices.iter().map(|device| names::encode(device)).collect(),
            books,
            context: feed::connect(url).await?,
            next: 1,
            next_aside: 1,
            run: Run::default(),
            letters: Vec::new(),
        })
    }

    /// Reads all that is there.
    ///
    /// # Errors
    /// If the streams cannot be read; what was read stays read.
    pub async fn look(&mut self) -> Result<()> {
        let (scores, alerts) = (format!("scores.{}.", self.site), format!("alerts.{}.", self.site));
        let context = self.context.clone();
        let mut next = self.next;
        let reading = read(&context, "DETECTIONS", &mut next, |sequence, subject, payload, stored| {
            if subject.starts_with(&scores) || subject.starts_with(&alerts) {
                // What cannot be read is met again at the next look, and told at the last one.
                let scored = self.run.outcome.take(&self.devices, subject, payload)?;
                let mut books = feed::open(&self.books);
                scored.iter().for_each(|row| books.scored(&row.series, row.time, stored));
            }
            self.run.unseen += sequence - self.next;
            self.next = sequence + 1;
            Ok(())
        });
        reading.await?;
        let mut next = self.next_aside;
        let reading = read(&context, "SIDE", &mut next, |sequence, subject, payload, _| {
            self.put_aside(subject, payload)?;
            self.next_aside = sequence + 1;
            Ok(())
        });
        reading.await
    }

    /// Late rows, and refused messages: these count for every reading in them, as far as they can still be read.
    fn put_aside(&mut self, subject: &str, payload: &[u8]) -> Result<()> {
        let late = |batch: &Readings, books: &Books| {
            let mut books = feed::open(books);
            let rows = (0..batch.rows.len()).filter(|row| batch.rows.control(*row).is_none());
            rows.for_each(|row| books.aside(batch.rows.name(row), batch.rows.time[row]));
        };
        if subject.starts_with("late.") {
            late(&Readings::decode(payload)?, &self.books);
        } else if subject.starts_with("deadletter.") {
            for letter in DeadLetter::read(payload)? {
                if let Ok(batch) = Readings::decode(&letter.original()?) {
                    late(&batch, &self.books);
                }
                let is_large =
                    [&letter.text, &letter.base64].into_iter().flatten().any(|text| text.len() > LETTER_BYTES_MAX);
                // Of a large one that it is there is all that counts.
                self.letters.push(if is_large { DeadLetter { text: None, base64: None, ..letter } } else { letter });
            }
        }
        Ok(())
    }

    /// Forgets what it has read: the streams may not hold it any more.
    fn forget(&mut self) {
        (self.next, self.next_aside) = (1, 1);
        self.run = Run { pss_max: self.run.pss_max, ..Run::default() };
        self.letters.clear();
        feed::open(&self.books).unread();
    }
}

/// Gives every message that is there now from `next` on to `take`: sequence, subject, payload, and when it was stored.
///
/// # Errors
/// If the stream cannot be read on, or `take` fails.
pub(crate) async fn read(
    context: &jetstream::Context,
    stream: &str,
    next: &mut u64,
    mut take: impl FnMut(u64, &str, &[u8], i64) -> Result<()>,
) -> Result<()> {
    let deliver_policy = DeliverPolicy::ByStartSequence { start_sequence: *next };
    let config = OrderedConfig { deliver_policy, ..Default::default() };
    let consumer = context.create_consumer_on_stream(config, stream).await?;
    if consumer.cached_info().num_pending == 0 {
        return Ok(());
    }
    let mut messages = consumer.messages().await?;
    loop {
        let message = tokio::time::timeout(PATIENCE, messages.next()).await;
        let Some(message) = message.with_context(|| format!("{stream}: no message for {PATIENCE:?}"))? else {
            bail!("{stream}: the messages ended")
        };
        let message = message?;
        let info = message.info().map_err(|error| anyhow::anyhow!("{error}"))?;
        let (pending, sequence) = (info.pending, info.stream_sequence);
        let stored = i64::try_from(info.published.unix_timestamp_nanos()).unwrap_or(i64::MAX);
        // An ordered consumer that was made anew may begin before it.
        if sequence >= *next {
            *next = sequence + 1;
            let taken = take(sequence, &message.subject, &message.payload, stored);
            taken.with_context(|| format!("{stream} message {sequence}"))?;
        }
        if pending == 0 {
            return Ok(());
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Look,
    Rest,
    End,
}

/// A witness at work, who watches the processes' memory too.
#[derive(Debug)]
pub struct Watching {
    order: watch::Sender<Order>,
    obeys: watch::Receiver<Order>,
    task: JoinHandle<Witness>,
}

impl Watching {
    /// Starts; `machines` are the folders and files that say which processes run.
    pub fn start(witness: Witness, machines: Vec<(PathBuf, &'static str)>) -> Self {
        let (order, orders) = watch::channel(Order::Look);
        let (obey, obeys) = watch::channel(Order::Look);
        let task = tokio::spawn(work(witness, machines, orders, obey));
        Self { order, obeys, task }
    }

    async fn order(&mut self, order: Order) {
        self.order.send_replace(order);
        // Who has ended obeys nothing any more.
        let _ = self.obeys.wait_for(|obeyed| *obeyed == order).await;
    }

    /// Stops reading, and forgets what was read: the streams may not hold it any more. Returns once it has.
    pub async fn rest(&mut self) {
        self.order(Order::Rest).await;
    }

    /// Goes on, from the streams' beginning.
    pub async fn resume(&mut self) {
        self.order(Order::Look).await;
    }

    /// Reads the rest, and ends: what came of the run, and the dead letters.
    ///
    /// # Errors
    /// If the streams cannot be read.
    pub async fn end(mut self) -> Result<(Run, Vec<DeadLetter>)> {
        self.order(Order::End).await;
        let mut witness = self.task.await?;
        witness.look().await?;
        witness.run.account = feed::open(&witness.books).account();
        Ok((witness.run, witness.letters))
    }
}

async fn work(
    mut witness: Witness,
    machines: Vec<(PathBuf, &'static str)>,
    mut orders: watch::Receiver<Order>,
    obey: watch::Sender<Order>,
) -> Witness {
    loop {
        let order = *orders.borrow_and_update();
        let is_new = *obey.borrow() != order;
        match order {
            Order::Rest if is_new => witness.forget(),
            Order::Rest | Order::End => {}
            // A server that is away is asked again.
            Order::Look => drop(witness.look().await),
        }
        obey.send_replace(order);
        if order == Order::End {
            return witness;
        }
        witness.run.pss_max = witness.run.pss_max.max(memory::of(pids(&machines).into_values()).pss);
        let _ = tokio::time::timeout(LOOK_EVERY, orders.changed()).await;
    }
}

/// The processes of machines, but for this one.
pub fn pids(machines: &[(PathBuf, &'static str)]) -> BTreeMap<String, u32> {
    let files = machines.iter().filter_map(|(dir, name)| register::read::<MachineFile>(dir, name));
    files.flat_map(|file| file.pids).filter(|(name, _)| name != "eddy").collect()
}
