//! The stage contract.
//!
//! A [`Stage`] turns decoded input into output: no NATS types, no sockets, no wall clock. Everything else is the
//! loop's ([`crate::stage_loop`]), in this order: pull what is pending; decode; process; publish side outputs, then ONE
//! merged output whose header names the input position that it reaches, guarded by the last sequence on its subject;
//! await its ack; save state; ack the input only once the state that contains it is committed.
//!
//! What that asks of a stage:
//! - **Deterministic by row.** The same rows in the same order give the same output rows, however they are cut into
//!   messages, pulls and calls, and however often the stage was saved and loaded in between (INV-3).
//! - **No output but through the [`Outbox`]**, at the row that caused it: after a crash the loop replays rows whose
//!   output is out already, and throws the output away.
//! - **State is what [`Stage::save`] tells and [`Stage::load`] takes**; the loop keeps it in LMDB with its position.
//! - Bad input is a [`Rejected`], never an error that stops the stage (INV-6). A panic counts as one after three tries.

use std::ops::Range;

use bytes::Bytes;
use eddy_schemas::{
    EmbeddingsBuilder, ReadingsBuilder, SamplesBuilder, ScoresBuilder, Timestamp,
    health::Health,
    side::{Reason, Rejection},
};
use serde::de::DeserializeOwned;

use crate::{position::Seen, telemetry::Tails};

/// One message of an input stream.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// The stream, `INGEST` for example.
    pub stream: String,
    /// The subject that it was published on.
    pub subject: String,
    /// Its sequence in the stream.
    pub sequence: u64,
    /// When the server stored it: part of the recording, so not a wall clock.
    pub stored_at: Timestamp,
    /// The `Content-Type` header.
    pub content_type: Option<String>,
    /// The bytes.
    pub payload: Bytes,
}

/// An input stream of a stage.
#[derive(Clone, Copy, Debug)]
pub struct Input {
    /// The stream.
    pub stream: &'static str,
    /// First token of its subjects.
    pub prefix: &'static str,
    /// Whether its subjects end in a shard (`prefix.<site>.<shard>`); if not, all of `prefix.<site>.>` is taken.
    pub sharded: bool,
}

impl Input {
    /// Whether devices and operators write it, and not another stage: there readings arrive.
    pub fn is_from_outside(&self) -> bool {
        !self.sharded
    }
}

/// What the loop needs to know of a stage before it runs.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// The stage's name: its config table, its durable consumer, a token of its side subjects.
    pub name: &'static str,
    /// Where it reads.
    pub inputs: &'static [Input],
    /// The stream that it writes.
    pub output_stream: &'static str,
    /// First token of its output subject, `prefix.<site>.<shard>`.
    pub output_prefix: &'static str,
    /// Whether it keeps state that [`Stage::save`] tells.
    pub stateful: bool,
    /// Version of the state's encoding; another one is refused at start.
    pub state_version: u32,
}

/// Which part of the site a stage instance serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The site's name, as its operator calls it.
    pub site: String,
    /// The shard that this instance reads (and, but for capture, writes).
    pub shard: u32,
    /// How many shards the site has; fixed at provisioning.
    pub shards: u32,
}

/// A merged output under construction: one of the batch builders of `eddy-schemas`.
pub trait Batch: Send + Sync {
    /// Rows so far, controls included.
    fn rows(&self) -> usize;
    /// About how many bytes it takes once encoded.
    fn bytes(&self) -> usize;
    /// Writes it and leaves it empty.
    fn encode(&mut self) -> Vec<u8>;
}

macro_rules! batch {
    ($($builder:ty),*) => {$(
        impl Batch for $builder {
            fn rows(&self) -> usize {
                self.len()
            }
            fn bytes(&self) -> usize {
                <$builder>::bytes(self)
            }
            fn encode(&mut self) -> Vec<u8> {
                <$builder>::encode(self)
            }
        }
    )*};
}
batch!(ReadingsBuilder, SamplesBuilder, EmbeddingsBuilder, ScoresBuilder);

/// Input that cannot be used, or a part of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Rejected {
    /// The row of the input message; 0 where there are none.
    pub row: usize,
    /// Why, and what it came on.
    pub rejection: Rejection,
    /// The original bytes: the whole message, or the part of it that was refused.
    pub original: Bytes,
}

/// A reading that came after its place had gone out.
#[derive(Clone, Debug, PartialEq)]
pub struct LateRow {
    /// The row of the input message.
    pub row: usize,
    /// Series, canonical text.
    pub series: String,
    /// Event time.
    pub time: Timestamp,
    /// Value.
    pub value: f64,
    /// [`eddy_schemas::quality`] flags.
    pub quality: u16,
    /// Arrival.
    pub arrival: Timestamp,
}

/// An alert to go out atomically with the output that it came with.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertMessage {
    /// Its subject.
    pub subject: String,
    /// The CloudEvents JSON.
    pub payload: Vec<u8>,
}

/// Most alerts in one output: they commit in one atomic batch of at most 1,000 messages.
pub const ALERTS_MAX: usize = 900;

/// What the scored rows of an output are like, for metrics alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scored {
    /// Rows past commissioning, by their tail probability.
    pub tails: Tails,
    /// The newest event time of all rows.
    pub newest: Timestamp,
}

/// What a stage emits while it processes rows.
#[derive(Debug)]
pub struct Outbox<B> {
    /// The merged output: one batch per shard that the stage writes (capture: all of them; others: one).
    pub main: Vec<B>,
    /// Alerts, in order. Only detect has any.
    pub alerts: Vec<AlertMessage>,
    /// Late rows.
    pub late: Vec<LateRow>,
    /// Rejected input.
    pub rejected: Vec<Rejected>,
    /// Conditions of devices that began or ended.
    pub health: Vec<Health>,
    /// Rows dropped because they came twice.
    pub duplicates: u64,
    /// Counts of what the stage decided, for the `eddy_decisions_total{kind}` metric; kinds are a closed list of the stage.
    pub decisions: Vec<(&'static str, u64)>,
    /// What its scored rows are like; only detect has any.
    pub scored: Option<Scored>,
    bytes_max: usize,
    ended: bool,
    stopped: Option<String>,
}

impl<B: Batch> Outbox<B> {
    /// An empty outbox whose output is full at about `bytes_max` bytes.
    pub fn new(main: Vec<B>, bytes_max: usize) -> Self {
        Self {
            main,
            alerts: Vec::new(),
            late: Vec::new(),
            rejected: Vec::new(),
            health: Vec::new(),
            duplicates: 0,
            decisions: Vec::new(),
            scored: None,
            bytes_max,
            ended: false,
            stopped: None,
        }
    }

    /// The row in hand is the last one of this output: the next one finds it empty, and may give it another shape.
    pub fn end_output(&mut self) {
        self.ended = true;
    }

    /// The row in hand cannot be processed here, and must not be left out: the stage stops with this reason, and comes back to the
    /// row when it is started again.
    pub fn stop(&mut self, reason: String) {
        self.stopped = Some(reason);
    }

    /// Why the stage has to stop, if it has to.
    pub fn stopped(&mut self) -> Option<String> {
        self.stopped.take()
    }

    /// Whether the stage ended this output.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// The output went out: the next one begins.
    pub fn begin_output(&mut self) {
        self.ended = false;
    }

    /// Whether the stage should return at the next row's end, so that this part can go out (INV-5).
    pub fn is_full(&self) -> bool {
        self.ended
            || self.main.iter().any(|batch| batch.bytes() >= self.bytes_max)
            || self.alerts.len() >= ALERTS_MAX
            || self.late.len() >= 10_000
            || self.health.len() >= 10_000
            || self.rejected.iter().map(|rejected| rejected.original.len() + 256).sum::<usize>() >= self.bytes_max / 2
    }

    /// Puts input aside with its reason. `readings`: how many readings are lost with it (1 where unknown).
    pub fn reject(
        &mut self,
        row: usize,
        message: &Incoming,
        reason: Reason,
        detail: String,
        readings: u64,
        original: Bytes,
    ) {
        let rejection = Rejection { reason, detail, subject: message.subject.clone(), readings };
        self.rejected.push(Rejected { row, rejection, original });
    }

    /// Counts a decision.
    pub fn count(&mut self, kind: &'static str, n: u64) {
        match self.decisions.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, total)) => *total += n,
            None => self.decisions.push((kind, n)),
        }
    }

    /// Adds what more scored rows are like.
    pub fn score(&mut self, tails: &Tails, newest: Timestamp) {
        let scored = self.scored.get_or_insert(Scored { tails: Tails::default(), newest });
        scored.tails.add(tails);
        scored.newest = scored.newest.max(newest);
    }

    /// Forgets everything: the rows behind it are out already.
    pub fn clear(&mut self) {
        for batch in &mut self.main {
            if batch.rows() > 0 {
                batch.encode();
            }
        }
        self.alerts.clear();
        self.late.clear();
        self.rejected.clear();
        self.health.clear();
        self.decisions.clear();
        self.scored = None;
        self.duplicates = 0;
        self.ended = false;
    }
}

/// State that cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[error("state record {key:?}: {problem}")]
pub struct StateError {
    /// The record.
    pub key: String,
    /// What is wrong with it.
    pub problem: String,
}

/// Takes the records of a stage's state that changed: a key, and its value or `None` if it is gone.
pub type SaveRecord<'a> = dyn FnMut(&[u8], Option<&[u8]>) + 'a;

/// A stage: see the module's documentation for what it must hold to.
pub trait Stage: Sized + Send + Sync + 'static {
    /// What the loop needs to know.
    const SPEC: Spec;
    /// The stage's part of the commented default config: a table `[name]` with every key.
    const DEFAULTS: &'static str;
    /// What `[name]` deserializes to; with `deny_unknown_fields`.
    type Config: DeserializeOwned;
    /// A decoded input message.
    type Input: Send + Sync;
    /// The builder of its merged output.
    type Output: Batch;

    /// Builds the stage.
    ///
    /// # Errors
    /// Every problem of the config, each naming the key, the value and what is taken.
    fn new(config: Self::Config, scope: &Scope) -> Result<Self, Vec<String>>;

    /// One empty output batch per shard that the stage writes.
    fn outputs(&self) -> Vec<Self::Output>;

    /// Decodes one message. Pure: it may run ahead of, or more often than, [`Self::process`].
    ///
    /// # Errors
    /// A reason and detail: the message goes to the dead letters as it is.
    fn decode(&self, message: &Incoming) -> Result<Self::Input, (Reason, String)>;

    /// How many rows a decoded message has.
    fn rows(input: &Self::Input) -> usize;

    /// Processes rows `rows.start..` of `input` in order, up to `rows.end` or, if [`Outbox::is_full`] after a row, less.
    /// Returns the row that it reached (exclusive); at least one row is processed, unless the output had to end before it
    /// ([`Outbox::end_output`]).
    fn process(
        &mut self,
        message: &Incoming,
        input: &Self::Input,
        rows: Range<usize>,
        out: &mut Outbox<Self::Output>,
    ) -> usize;

    /// Called about once a second with the wall clock, for conditions that only it can show. Nothing else may use it.
    fn tick(&mut self, _now: Timestamp) -> Vec<Health> {
        Vec::new()
    }

    /// The model bundles that it runs, as role (`active`, `shadow`) and digest; for the metric `eddy_bundles`.
    fn bundles(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// Tells every record that changed since the last call (or since [`Self::load`]).
    fn save(&mut self, _record: &mut SaveRecord<'_>) {}

    /// A snapshot begins: of what has changed so far, which [`Self::save_some`] tells in parts while rows are processed. For stages
    /// whose records take long to make.
    fn begin_save(&mut self) {}

    /// Tells a part of the snapshot, the records of `at_most` things (devices), and returns whether all of it is told. Each thing is told
    /// once, as it is at its turn, with how far it has come ([`Seen`]): a replay begins where the snapshot began, and must leave out
    /// the rows that the thing has seen. What depends on more than one thing's rows must be told as it was at [`Self::begin_save`], or say
    /// itself up to which row it counts. A stage that tells like this has one input.
    ///
    /// Called at once after [`Self::begin_save`], so that a stage that does nothing of this tells everything there.
    fn save_some(&mut self, _at_most: usize, record: &mut SaveRecord<'_>) -> bool {
        self.save(record);
        true
    }

    /// Takes one record back. Called for all of them on a stage that is new or was [`Self::clear`]ed.
    ///
    /// # Errors
    /// If the record does not decode: the stage does not start.
    fn load(&mut self, key: &[u8], _value: &[u8]) -> Result<(), StateError> {
        Err(StateError { key: String::from_utf8_lossy(key).into_owned(), problem: "this stage keeps no state".into() })
    }

    /// All records are taken back. Some of them may have seen rows of the input up to `seen` that come again, none of them more.
    fn loaded(&mut self, _seen: Seen) {}

    /// Back to the state of a new stage.
    fn clear(&mut self) {}
}
