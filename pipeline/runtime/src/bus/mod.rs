//! The bus as the stage loop sees it: streams, guarded publishes, and a feed of one durable consumer.
//!
//! Two implementations: [`nats`] for JetStream, and [`memory`] with the same rules and scripted faults, for tests.

pub mod asked;
pub mod memory;
pub mod nats;

use std::{future::Future, time::Duration};

use bytes::Bytes;
use eddy_schemas::Timestamp;

use crate::trace::Provenance;

/// Something about the bus that does not work now; trying again is right.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BusError {
    /// Connection, time-out, a server that is starting.
    #[error("{0}")]
    Unavailable(String),
    /// A stream or consumer that must be provisioned first.
    #[error("{0} does not exist: `eddy up` makes a gateway's streams, `eddy hub up` a region's")]
    Missing(String),
    /// The feed lost its place: a gap, a redelivery, a stalled pull. Reset the consumer and go on.
    #[error("feed of {stream} lost its place: {problem}")]
    LostPlace {
        /// The stream.
        stream: String,
        /// What was seen.
        problem: String,
    },
    /// Refused for good: a config that the server does not take.
    #[error("{0}")]
    Fatal(String),
}

/// Why a publish did not go through.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PublishError {
    /// The guard did not hold: somebody else, or an earlier try of our own, has published.
    #[error("refused: the last sequence on {subject} is not {expected}")]
    Refused {
        /// The subject.
        subject: String,
        /// The sequence that was expected.
        expected: u64,
    },
    /// The stream is at its bound (10077): push back, and try the same again.
    #[error("stream {stream} is full: {reason}")]
    Full {
        /// The stream.
        stream: String,
        /// The server's words.
        reason: String,
    },
    /// No answer: it may or may not be stored. Read the last message before trying again.
    #[error("no answer to a publish on {subject}: {reason}")]
    Ambiguous {
        /// The subject.
        subject: String,
        /// What happened.
        reason: String,
    },
    /// The message is larger than the server takes: a bug in a bound, or a bound set too high.
    #[error("{0}")]
    Fatal(String),
}

/// A stream's identity and extent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamState {
    /// When it was created: nanoseconds since the Unix epoch.
    pub incarnation: i64,
    /// The first sequence that it still holds (last + 1 where it is empty).
    pub first_sequence: u64,
    /// The last sequence that was given out; 0 where none was.
    pub last_sequence: u64,
}

/// A stored message, as the last of its subject.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its sequence in the stream.
    pub sequence: u64,
    /// Its headers.
    pub headers: Vec<(String, String)>,
    /// Its payload.
    pub payload: Bytes,
}

impl Stored {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// A message to publish.
#[derive(Clone, Debug)]
pub struct Publication {
    /// The stream that must take it.
    pub stream: String,
    /// The subject.
    pub subject: String,
    /// Headers.
    pub headers: Vec<(String, String)>,
    /// Payload.
    pub payload: Bytes,
    /// The last sequence on `subject` must be this (0: none), or it is refused.
    pub guard: Option<u64>,
}

/// A message delivered by a feed.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Its subject.
    pub subject: String,
    /// Its sequence in the stream.
    pub sequence: u64,
    /// When the server stored it.
    pub stored_at: Timestamp,
    /// The `Content-Type` header.
    pub content_type: Option<String>,
    /// The last sequence on its subject before it, where it was published with a guard: the server held it to that.
    pub predecessor: Option<u64>,
    /// Where it comes from.
    pub provenance: Provenance,
    /// Payload.
    pub payload: Bytes,
    /// What acknowledges it (and, with ack-all, everything before it).
    pub token: AckToken,
    /// How many messages the consumer has not delivered yet.
    pub pending: u64,
}

/// Acknowledges a delivery. Void once its feed is opened anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AckToken(pub(crate) String);

/// What a durable consumer reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The stream.
    pub stream: String,
    /// The consumer.
    pub durable: String,
    /// The subjects it filters.
    pub filter: String,
    /// Unacknowledged messages at most.
    pub ack_pending_max: i64,
    /// After how long an unacknowledged message comes again.
    pub ack_wait: Duration,
}

/// Bounds of one pull.
#[derive(Clone, Copy, Debug)]
pub struct PullBounds {
    /// Messages.
    pub messages: usize,
    /// Payload bytes.
    pub bytes: usize,
}

/// Streams and publishes.
pub trait Bus: Clone + Send + Sync + 'static {
    /// Delivers the messages of one source.
    type Feed: Feed;

    /// A stream's state.
    fn stream(&self, name: &str) -> impl Future<Output = Result<StreamState, BusError>> + Send;

    /// The last message on a subject without wildcards.
    fn last(&self, stream: &str, subject: &str) -> impl Future<Output = Result<Option<Stored>, BusError>> + Send;

    /// Publishes one message, or several as one atomic batch whose guard is the last one's; answers once the stream has
    /// it on disk, with the sequence of the last.
    fn publish(&self, messages: Vec<Publication>) -> impl Future<Output = Result<u64, PublishError>> + Send;

    /// Resets the durable consumer so that it delivers from sequence `from` on, and opens it.
    fn open(&self, source: &Source, from: u64) -> impl Future<Output = Result<Self::Feed, BusError>> + Send;

    /// Acknowledges.
    fn ack(&self, token: &AckToken) -> impl Future<Output = Result<(), BusError>> + Send;

    /// Says that work on it goes on, so that it is not delivered again.
    fn in_progress(&self, token: &AckToken) -> impl Future<Output = Result<(), BusError>> + Send;
}

/// One durable consumer, contiguous by construction: it fails rather than skip or repeat.
pub trait Feed: Send + 'static {
    /// What is pending, up to the bounds; waits at most `wait` for the first message.
    fn pull(
        &mut self,
        bounds: PullBounds,
        wait: Duration,
    ) -> impl Future<Output = Result<Vec<Delivery>, BusError>> + Send;
}
