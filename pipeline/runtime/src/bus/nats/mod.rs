//! The bus over JetStream.

mod feed;
mod tail;
mod tls;
mod upkeep;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::{
    HeaderMap, HeaderValue,
    jetstream::{
        self, ErrorCode,
        consumer::PullConsumer,
        context::{ContextBuilder, PublishAckFuture, PublishErrorKind},
        message::PublishMessage,
        response::Response,
        stream::DirectGetErrorKind,
    },
};
use bytes::Bytes;

pub use self::{
    feed::NatsFeed,
    tail::{Listener, Read},
    upkeep::PlannedStream,
};
use super::{
    AckToken, Bus, BusError, Delivery, Feed, Publication, PublishError, PullBounds, Source, Stored, StreamState,
};
use crate::{
    client::Client,
    config::{BusConfig, servers},
    identity::Identity,
};

/// A connection to the gateway's server.
#[derive(Clone, Debug)]
pub struct NatsBus {
    client: async_nats::Client,
    jetstream: jetstream::Context,
    /// What the subjects of its API begin with.
    api: String,
    reconnects: Arc<AtomicU64>,
    request_timeout: Duration,
}

/// What the subjects of JetStream's API begin with, unless a server gives it another name.
const API_PREFIX: &str = "$JS.API";

fn unavailable(error: impl std::fmt::Display) -> BusError {
    BusError::Unavailable(error.to_string())
}

impl NatsBus {
    /// Connects; keeps trying while the server is not there, and again whenever the connection is lost.
    ///
    /// # Errors
    /// If a certificate or credentials file cannot be read.
    pub async fn connect(config: &BusConfig, name: &str) -> Result<Self, BusError> {
        let reconnects = Arc::new(AtomicU64::new(0));
        let counter = reconnects.clone();
        let identity = Identity::new(&config.credentials_file, &config.nkey_file);
        let mut options = identity
            .options()
            .map_err(BusError::Fatal)?
            .name(name)
            .retry_on_initial_connect()
            .connection_timeout(Duration::from_millis(config.connect_timeout_ms))
            .request_timeout(Some(Duration::from_millis(config.request_timeout_ms)))
            .ping_interval(Duration::from_secs(10))
            .reconnect_delay_callback(|attempts| Duration::from_millis((50 << attempts.min(6)).min(2_000)))
            .event_callback(move |event| {
                let counter = counter.clone();
                async move {
                    match event {
                        async_nats::Event::Connected => {
                            counter.fetch_add(1, Ordering::Relaxed);
                            tracing::info!("bus connected");
                        }
                        event => tracing::warn!(%event, "bus"),
                    }
                }
            });
        options = tls::identify(options, config).map_err(BusError::Fatal)?;
        let told = Some(config.inbox_prefix.clone()).filter(|prefix| !prefix.is_empty());
        if let Some(prefix) = told.or(identity.inbox_prefix()) {
            options = options.custom_inbox_prefix(prefix);
        }
        let client = options
            .connect(servers(&config.url))
            .await
            .map_err(|error| BusError::Fatal(format!("bus.url {:?}: {error}", config.url)))?;
        let request_timeout = Duration::from_millis(config.request_timeout_ms);
        let api = if config.api_prefix.is_empty() { API_PREFIX } else { &config.api_prefix }.to_owned();
        let jetstream = ContextBuilder::new().timeout(request_timeout).api_prefix(&api).build(client.clone());
        Ok(Self { client, jetstream, api, reconnects, request_timeout })
    }

    pub(crate) fn client(&self) -> &async_nats::Client {
        &self.client
    }

    /// The same connection, for what reads streams as a tool does.
    pub fn reader(&self) -> Client {
        let server = self.client.server_info();
        Client::over(format!("nats://{}:{}", server.host, server.port), self.jetstream.clone())
    }

    /// How often a connection was made so far.
    pub fn connections(&self) -> u64 {
        self.reconnects.load(Ordering::Relaxed)
    }

    /// For the runtime's own modules.
    pub(crate) fn jetstream(&self) -> &jetstream::Context {
        &self.jetstream
    }

    /// Sends a message; what comes of it is asked of what is returned, so that several can be on their way at once.
    ///
    /// # Errors
    /// As [`Bus::publish`].
    pub async fn send(&self, message: Publication) -> Result<Sent, PublishError> {
        let mut publish = PublishMessage::build()
            .headers(headers(&message.headers))
            .payload(message.payload.clone())
            .expected_stream(&message.stream);
        if let Some(guard) = message.guard {
            publish = publish.expected_last_subject_sequence(guard);
        }
        match self.jetstream.send_publish(message.subject.clone(), publish).await {
            Ok(ack) => Ok(Sent { message, ack }),
            Err(error) => Err(not_published(&error, &message)),
        }
    }

    async fn publish_one(&self, message: Publication) -> Result<u64, PublishError> {
        self.send(message).await?.stored().await
    }

    /// ADR-50: all messages but the last are staged without an answer; the last commits and is answered for all.
    async fn publish_batch(&self, messages: Vec<Publication>) -> Result<u64, PublishError> {
        let id = batch_id();
        let last = messages.len();
        for (index, message) in messages.into_iter().enumerate() {
            let ambiguous = |reason: String| PublishError::Ambiguous { subject: message.subject.clone(), reason };
            let mut headers = headers(&message.headers);
            headers.insert("Nats-Batch-Id", id.as_str());
            headers.insert("Nats-Batch-Sequence", (index + 1).to_string());
            headers.insert("Nats-Expected-Stream", message.stream.as_str());
            if let Some(guard) = message.guard {
                headers.insert("Nats-Expected-Last-Subject-Sequence", guard.to_string());
            }
            if index + 1 < last {
                self.client
                    .publish_with_headers(message.subject.clone(), headers, message.payload.clone())
                    .await
                    .map_err(|error| ambiguous(error.to_string()))?;
                continue;
            }
            headers.insert("Nats-Batch-Commit", "1");
            let request = async_nats::Request::new()
                .headers(headers)
                .payload(message.payload.clone())
                .timeout(Some(self.request_timeout));
            let answer = self.client.send_request(message.subject.clone(), request).await;
            let answer = answer.map_err(|error| ambiguous(error.to_string()))?;
            return match serde_json::from_slice::<Response<BatchAck>>(&answer.payload) {
                Ok(Response::Ok(ack)) => Ok(ack.seq),
                Ok(Response::Err { error }) => Err(classify(&error, &message)),
                Err(error) => Err(ambiguous(format!("answer is not JSON: {error}"))),
            };
        }
        Err(PublishError::Fatal("an atomic batch of no messages".into()))
    }
}

/// A message that is on its way.
pub struct Sent {
    message: Publication,
    ack: PublishAckFuture,
}

impl Sent {
    /// Waits until the stream has it on disk: its sequence.
    ///
    /// # Errors
    /// As [`Bus::publish`].
    pub async fn stored(self) -> Result<u64, PublishError> {
        self.ack.await.map(|ack| ack.sequence).map_err(|error| not_published(&error, &self.message))
    }
}

fn not_published(error: &jetstream::context::PublishError, message: &Publication) -> PublishError {
    match error.kind() {
        PublishErrorKind::WrongLastSequence => {
            PublishError::Refused { subject: message.subject.clone(), expected: message.guard.unwrap_or(0) }
        }
        PublishErrorKind::MaxPayloadExceeded => PublishError::Fatal(format!(
            "a message of {} bytes on {} exceeds the server's max_payload: lower limits.output_bytes_max",
            message.payload.len(),
            message.subject
        )),
        _ => match std::error::Error::source(error).and_then(|source| source.downcast_ref::<jetstream::Error>()) {
            Some(refusal) => classify(refusal, message),
            None => PublishError::Ambiguous { subject: message.subject.clone(), reason: error.to_string() },
        },
    }
}

#[derive(serde::Deserialize)]
struct BatchAck {
    seq: u64,
}

/// A batch's id must be new among the batches in flight; it is never stored or compared.
fn batch_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn headers(pairs: &[(String, String)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.insert(name.as_str(), HeaderValue::from(value.as_str()));
    }
    map
}

fn classify(error: &jetstream::Error, message: &Publication) -> PublishError {
    match error.error_code() {
        ErrorCode::STREAM_WRONG_LAST_SEQUENCE => {
            PublishError::Refused { subject: message.subject.clone(), expected: message.guard.unwrap_or(0) }
        }
        // 10071 has a sibling for a guard that does not name its sequence.
        code if code.0 == 10164 => {
            PublishError::Refused { subject: message.subject.clone(), expected: message.guard.unwrap_or(0) }
        }
        ErrorCode::STREAM_STORE_FAILED | ErrorCode::INSUFFICIENT_RESOURCES => {
            PublishError::Full { stream: message.stream.clone(), reason: error.to_string() }
        }
        ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM | ErrorCode::ATOMIC_PUBLISH_DISABLED => {
            PublishError::Fatal(format!("publish on {}: {error}", message.subject))
        }
        // A batch that was abandoned or crowded out was not stored; the guard makes trying again safe.
        _ => PublishError::Ambiguous { subject: message.subject.clone(), reason: error.to_string() },
    }
}

impl Bus for NatsBus {
    type Feed = NatsFeed;

    async fn stream(&self, name: &str) -> Result<StreamState, BusError> {
        let stream = self.jetstream.get_stream(name).await.map_err(|error| missing_or_unavailable(name, &error))?;
        let info = stream.cached_info();
        Ok(StreamState {
            incarnation: crate::incarnation::of(info),
            first_sequence: info.state.first_sequence.max(1),
            last_sequence: info.state.last_sequence,
        })
    }

    async fn last(&self, stream: &str, subject: &str) -> Result<Option<Stored>, BusError> {
        let handle = self.jetstream.get_stream_no_info(stream).await.map_err(unavailable)?;
        match handle.direct_get_last_for_subject(subject).await {
            Ok(message) => Ok(Some(Stored {
                sequence: message.sequence,
                headers: message
                    .headers
                    .iter()
                    .flat_map(|(name, values)| values.iter().map(|value| (name.to_string(), value.to_string())))
                    .collect(),
                payload: message.payload,
            })),
            Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(None),
            Err(error) => Err(unavailable(error)),
        }
    }

    async fn publish(&self, mut messages: Vec<Publication>) -> Result<u64, PublishError> {
        match messages.len() {
            1 => self.publish_one(messages.remove(0)).await,
            _ => self.publish_batch(messages).await,
        }
    }

    async fn open(&self, source: &Source, from: u64) -> Result<NatsFeed, BusError> {
        let stream = self
            .jetstream
            .get_stream(&source.stream)
            .await
            .map_err(|error| missing_or_unavailable(&source.stream, &error))?;
        let mut consumer: PullConsumer = match stream.get_consumer(&source.durable).await {
            Ok(consumer) => consumer,
            Err(_) => stream.create_consumer(crate::provision::durable(source)).await.map_err(unavailable)?,
        };
        consumer.reset(Some(from.max(1))).await.map_err(unavailable)?;
        let messages = consumer
            .stream()
            .max_messages_per_batch(1_000)
            .expires(Duration::from_secs(5))
            .heartbeat(Duration::from_secs(2))
            .messages()
            .await
            .map_err(unavailable)?;
        Ok(NatsFeed::new(self.clone(), source, consumer, messages, from))
    }

    async fn ack(&self, token: &AckToken) -> Result<(), BusError> {
        self.client.publish(token.0.clone(), Bytes::from_static(b"+ACK")).await.map_err(unavailable)
    }

    async fn in_progress(&self, token: &AckToken) -> Result<(), BusError> {
        self.client.publish(token.0.clone(), Bytes::from_static(b"+WPI")).await.map_err(unavailable)
    }
}

fn missing_or_unavailable(stream: &str, error: &async_nats::jetstream::context::GetStreamError) -> BusError {
    let missing = std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<jetstream::Error>())
        .is_some_and(|error| error.error_code() == ErrorCode::STREAM_NOT_FOUND);
    if missing || error.to_string().contains("stream not found") {
        BusError::Missing(format!("stream {stream}"))
    } else {
        unavailable(error)
    }
}

fn nanoseconds(time: async_nats::datetime::DateTime) -> i64 {
    // The server's clock lies within i64's 292 years around 1970.
    time.unix_timestamp_nanos() as i64
}
