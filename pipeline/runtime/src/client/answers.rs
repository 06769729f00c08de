//! What the bus answers: messages, the state of streams and consumers, refusals; and how NATS's own words become these.

use std::{collections::BTreeMap, error::Error as _};

use async_nats::{
    HeaderMap,
    jetstream::{
        self,
        context::{PublishError, PublishErrorKind},
    },
};
use bytes::Bytes;
use eddy_schemas::Timestamp;

/// Why the bus did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers there, or refuses.
    #[error("cannot connect to {url}: {problem}; is the gateway up (`eddy up`), and is --url right?")]
    Connect {
        /// Where.
        url: String,
        /// What went wrong.
        problem: String,
    },
    /// The stream is not there.
    #[error("no stream takes {what}: was the gateway provisioned (`eddy up`)?")]
    NoStream {
        /// The stream or subject.
        what: String,
    },
    /// Nobody answers on the subject.
    #[error("nobody answers on {subject}: does that stage run (`eddy status`)?")]
    NoService {
        /// The subject.
        subject: String,
    },
    /// The stream is at its bound: come again later (10077).
    #[error("stream of {subject} is full: {problem}")]
    Full {
        /// The subject of the publish.
        subject: String,
        /// What the server said.
        problem: String,
    },
    /// The message is larger than the server takes.
    #[error("a message of {bytes} bytes for {subject} is over the server's bound of {bytes_max}")]
    TooLarge {
        /// The subject of the publish.
        subject: String,
        /// Its size.
        bytes: usize,
        /// The server's bound.
        bytes_max: usize,
    },
    /// No answer: it may or may not have happened.
    #[error("no answer in time to {what}")]
    TimedOut {
        /// What was asked.
        what: String,
    },
    /// Refused for any other reason: what was asked, and what the server or client said.
    #[error("{0}")]
    Refused(String),
}

impl ClientError {
    /// Whether the same request can succeed later: a full stream, a time-out, a lost connection.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::TimedOut { .. })
    }

    pub(crate) fn refused(what: impl Into<String>, error: impl std::fmt::Display) -> Self {
        Self::Refused(format!("{}: {error}", what.into()))
    }
}

/// A message as it lies in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMessage {
    /// Its subject.
    pub subject: String,
    /// Its sequence in the stream.
    pub sequence: u64,
    /// When the server stored it.
    pub stored_at: Timestamp,
    /// Its headers; of a repeated one the first value.
    pub headers: BTreeMap<String, String>,
    /// Its bytes.
    pub payload: Bytes,
    /// How many messages of the same reader follow it, as far as the server knew then; 0 for a single get.
    pub pending: u64,
}

impl StoredMessage {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// A stream's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamInfo {
    /// Its name.
    pub name: String,
    /// The subjects it takes.
    pub subjects: Vec<String>,
    /// When it was created, nanoseconds since the Unix epoch: its incarnation in positions.
    pub incarnation: i64,
    /// Messages in it.
    pub messages: u64,
    /// Bytes in it.
    pub bytes: u64,
    /// Its bound in bytes; `None` where there is none.
    pub bytes_max: Option<u64>,
    /// The oldest message's sequence.
    pub first_sequence: u64,
    /// The newest message's sequence.
    pub last_sequence: u64,
    /// When the newest message was stored; `None` while there is none.
    pub last_at: Option<Timestamp>,
}

/// A consumer's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerInfo {
    /// Its name: the stage's.
    pub name: String,
    /// Its stream.
    pub stream: String,
    /// Messages that it has not been handed.
    pub pending: u64,
    /// Messages that it was handed and has not acked.
    pub ack_pending: u64,
    /// The newest message that it was handed.
    pub delivered: u64,
    /// The message below which all are acked.
    pub ack_floor: u64,
    /// Whether it outlives its reader: a stage's does, a tool's does not.
    pub durable: bool,
    /// Whether a pull is waiting: a stage is connected and asks for more.
    pub pulls_waiting: usize,
}

/// Where a reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFrom {
    /// With the oldest message there is.
    Start,
    /// With what comes after now.
    New,
    /// With the first message at or after this sequence.
    Sequence(u64),
    /// With the first message stored at or after this time.
    Time(Timestamp),
}

pub(super) fn publish_error(subject: &str, error: &PublishError) -> ClientError {
    let what = || format!("publishing on {subject}");
    match error.kind() {
        PublishErrorKind::StreamNotFound => ClientError::NoStream { what: format!("subject {subject}") },
        // A broken pipe is a reconnect between publish and ack: stored or not.
        PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe => ClientError::TimedOut { what: what() },
        _ => {
            let server = error.source().and_then(|source| source.downcast_ref::<jetstream::Error>());
            match server {
                Some(problem)
                    if problem.error_code() == jetstream::ErrorCode::STREAM_STORE_FAILED
                        || problem.error_code() == jetstream::ErrorCode::INSUFFICIENT_RESOURCES =>
                {
                    ClientError::Full { subject: subject.to_owned(), problem: problem.to_string() }
                }
                _ => ClientError::refused(what(), chain(error)),
            }
        }
    }
}

pub(super) fn stream_info(info: &jetstream::stream::Info) -> StreamInfo {
    let state = &info.state;
    StreamInfo {
        name: info.config.name.clone(),
        subjects: info.config.subjects.clone(),
        incarnation: crate::incarnation::of(info),
        messages: state.messages,
        bytes: state.bytes,
        bytes_max: u64::try_from(info.config.max_bytes).ok().filter(|bytes| *bytes > 0),
        first_sequence: state.first_sequence,
        last_sequence: state.last_sequence,
        last_at: (state.last_sequence > 0).then(|| nanoseconds(state.last_timestamp.unix_timestamp_nanos())),
    }
}

pub(super) fn consumer_info(info: &jetstream::consumer::Info) -> ConsumerInfo {
    ConsumerInfo {
        name: info.name.clone(),
        stream: info.stream_name.clone(),
        pending: info.num_pending,
        ack_pending: info.num_ack_pending as u64,
        delivered: info.delivered.stream_sequence,
        ack_floor: info.ack_floor.stream_sequence,
        durable: info.config.durable_name.is_some(),
        pulls_waiting: info.num_waiting,
    }
}

pub(super) fn header_map(headers: &HeaderMap) -> BTreeMap<String, String> {
    let first = |values: &Vec<async_nats::HeaderValue>| values.first().map(|value| value.as_str().to_owned());
    headers.iter().filter_map(|(name, values)| Some((name.to_string(), first(values)?))).collect()
}

/// Saturates: a server's clock outside 1678 to 2262 is wrong anyway.
pub(super) fn nanoseconds(time: i128) -> Timestamp {
    Timestamp::try_from(time).unwrap_or(if time < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

/// An error with its causes: the client's own messages leave out what the server said.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
