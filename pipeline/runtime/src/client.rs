//! What tools need of a gateway's bus: publish with a typed refusal, read and follow streams, ask for their state.
//!
//! Stages do not use this: they run under the loop ([`crate::stage`]). Nothing of the NATS client shows through.

use std::{collections::BTreeMap, future::IntoFuture as _, path::PathBuf, time::Duration};

use async_nats::{
    HeaderMap, RequestErrorKind,
    jetstream::{
        self,
        consumer::{DeliverPolicy, pull},
        context::{GetStreamErrorKind, PublishAckFuture, PublishError, PublishErrorKind},
        message::PublishMessage,
        stream::DirectGetErrorKind,
    },
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use tokio::time::Instant;

use crate::{config::servers, identity::Identity};

mod answers;
mod objects;
mod snapshot;
pub use answers::{ClientError, ConsumerInfo, ReadFrom, StoredMessage, StreamInfo};
use answers::{chain, consumer_info, header_map, nanoseconds, publish_error, stream_info};
pub use objects::Object;
pub use snapshot::Snapshot;

/// How long a publish waits for its ack.
const ACK_TIMEOUT: Duration = Duration::from_secs(10);
/// How long any other request waits.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Publishes of one client that are not acked yet; past it, [`Client::send`] waits.
const ACKS_IN_FLIGHT_MAX: usize = 256;
/// Messages that a reader has asked for ahead; at 4 MB a message the bound on its memory.
const READ_AHEAD_MAX: i64 = 64;
/// A pull's life; half of it is the heartbeat, two missed ones recreate the consumer.
const PULL_EXPIRES: Duration = Duration::from_secs(3);

/// How to reach a gateway's bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `nats://127.0.0.1:4222`.
    pub url: String,
    /// Shown in the server's list of connections.
    pub name: String,
    /// Who asks.
    pub identity: Identity,
    /// For TLS with a client certificate.
    pub tls: Option<TlsFiles>,
}

/// PEM files.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TlsFiles {
    /// Whom the server's certificate is to be signed by.
    pub ca: PathBuf,
    /// The client's certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Endpoint {
    /// Without credentials and without TLS.
    pub fn new(url: impl Into<String>, name: impl Into<String>) -> Self {
        Self { url: url.into(), name: name.into(), identity: Identity::Nobody, tls: None }
    }
}

/// A connection to a gateway's bus. Cheap to clone; reconnects by itself.
#[derive(Clone, Debug)]
pub struct Client {
    url: String,
    context: jetstream::Context,
}

impl Client {
    /// Connects, waiting at most five seconds.
    ///
    /// # Errors
    /// [`ClientError::Connect`].
    pub async fn connect(endpoint: &Endpoint) -> Result<Self, ClientError> {
        let failed = |problem: String| ClientError::Connect { url: endpoint.url.clone(), problem };
        let mut options = endpoint
            .identity
            .options()
            .map_err(failed)?
            .name(&endpoint.name)
            .ping_interval(Duration::from_secs(10))
            .request_timeout(Some(REQUEST_TIMEOUT));
        if let Some(prefix) = endpoint.identity.inbox_prefix() {
            options = options.custom_inbox_prefix(prefix);
        }
        if let Some(TlsFiles { ca, cert, key }) = &endpoint.tls {
            let certificate = options.add_root_certificates(ca.clone());
            options = certificate.add_client_certificate(cert.clone(), key.clone()).require_tls(true);
        }
        let client = options.connect(servers(&endpoint.url)).await.map_err(|error| failed(chain(&error)))?;
        let context = jetstream::ContextBuilder::new()
            .timeout(REQUEST_TIMEOUT)
            .ack_timeout(ACK_TIMEOUT)
            .max_ack_inflight(ACKS_IN_FLIGHT_MAX)
            .backpressure_on_inflight(true)
            .build(client);
        Ok(Self { url: endpoint.url.clone(), context })
    }

    /// Over a connection that is there.
    pub(crate) fn over(url: String, context: jetstream::Context) -> Self {
        Self { url, context }
    }

    /// Whether there is a connection now: without one a publish waits for it, and may go out long after its caller gave up.
    pub fn is_connected(&self) -> bool {
        self.context.client().connection_state() == async_nats::connection::State::Connected
    }

    /// Where it is connected.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// For the runtime's own modules.
    #[allow(dead_code, reason = "provisioning and the janitor stand on it")]
    pub(crate) fn context(&self) -> &jetstream::Context {
        &self.context
    }

    /// Sends a message and returns before it is acked, so that several can be under way.
    ///
    /// # Errors
    /// [`ClientError::TooLarge`], or that the connection takes nothing.
    pub async fn send(&self, subject: &str, headers: &[(&str, &str)], payload: Bytes) -> Result<Ack, ClientError> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, *value);
        }
        let bytes = payload.len();
        let message = PublishMessage::build().payload(payload).headers(map);
        match self.context.send_publish(subject.to_owned(), message).await {
            Ok(future) => {
                Ok(Ack { subject: subject.to_owned(), bytes, deadline: Instant::now() + ACK_TIMEOUT, future })
            }
            Err(error) => Err(self.publish_error(subject, bytes, &error)),
        }
    }

    /// Publishes a message and awaits that it is stored; returns its sequence.
    ///
    /// # Errors
    /// Those of [`Self::send`] and [`Ack::stored`].
    pub async fn publish(&self, subject: &str, headers: &[(&str, &str)], payload: Bytes) -> Result<u64, ClientError> {
        self.send(subject, headers, payload).await?.stored().await
    }

    fn publish_error(&self, subject: &str, bytes: usize, error: &PublishError) -> ClientError {
        if error.kind() == PublishErrorKind::MaxPayloadExceeded {
            let bytes_max = self.context.client().server_info().max_payload;
            return ClientError::TooLarge { subject: subject.to_owned(), bytes, bytes_max };
        }
        publish_error(subject, error)
    }

    /// The state of a stream; `None` where there is none of that name.
    ///
    /// # Errors
    /// That the server does not answer, or refuses.
    pub async fn stream(&self, name: &str) -> Result<Option<StreamInfo>, ClientError> {
        match self.context.get_stream(name).await {
            Ok(stream) => Ok(Some(stream_info(stream.cached_info()))),
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(problem)
                    if problem.error_code() == jetstream::ErrorCode::STREAM_NOT_FOUND =>
                {
                    Ok(None)
                }
                _ => Err(ClientError::refused(format!("asking for stream {name}"), chain(&error))),
            },
        }
    }

    /// The names of the streams that begin with `prefix`, in order.
    ///
    /// # Errors
    /// That the server does not answer, or refuses.
    pub async fn streams(&self, prefix: &str) -> Result<Vec<String>, ClientError> {
        let all: Result<Vec<String>, _> = self.context.stream_names().try_collect().await;
        let mut names = all.map_err(|error| ClientError::refused("listing the streams", chain(&error)))?;
        names.retain(|name| name.starts_with(prefix));
        names.sort_unstable();
        Ok(names)
    }

    /// How many messages lie on each subject of `stream` that `filter` matches.
    ///
    /// # Errors
    /// That there is no such stream, or that the server does not answer.
    pub async fn subjects(&self, stream: &str, filter: &str) -> Result<BTreeMap<String, u64>, ClientError> {
        let refused = |error: String| ClientError::refused(format!("listing the subjects of {stream}"), error);
        let handle = self.context.get_stream_no_info(stream).await.map_err(|error| refused(chain(&error)))?;
        let subjects = handle.info_with_subjects(filter).await.map_err(|error| refused(chain(&error)))?;
        let counted = subjects.map_ok(|(subject, count)| (subject, count as u64)).try_collect();
        counted.await.map_err(|error| refused(chain(&error)))
    }

    /// The consumers of a stream, by name.
    ///
    /// # Errors
    /// That there is no such stream, or that the server does not answer.
    pub async fn consumers(&self, stream: &str) -> Result<Vec<ConsumerInfo>, ClientError> {
        let refused = |error: String| ClientError::refused(format!("listing the consumers of {stream}"), error);
        let handle = self.context.get_stream_no_info(stream).await.map_err(|error| refused(chain(&error)))?;
        let infos: Vec<_> = handle.consumers().try_collect().await.map_err(|error| refused(chain(&error)))?;
        let mut consumers: Vec<ConsumerInfo> = infos.iter().map(consumer_info).collect();
        consumers.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(consumers)
    }

    /// The last message on a subject; `None` if there is none.
    ///
    /// # Errors
    /// That there is no such stream, or that the server does not answer.
    pub async fn last(&self, stream: &str, subject: &str) -> Result<Option<StoredMessage>, ClientError> {
        let what = || format!("the last message of {stream} on {subject}");
        let handle = self
            .context
            .get_stream_no_info(stream)
            .await
            .map_err(|error| ClientError::refused(what(), chain(&error)))?;
        match handle.direct_get_last_for_subject(subject).await {
            Ok(message) => Ok(Some(StoredMessage {
                subject: message.subject.to_string(),
                sequence: message.sequence,
                stored_at: nanoseconds(message.time.unix_timestamp_nanos()),
                headers: header_map(&message.headers),
                payload: message.payload,
                pending: 0,
            })),
            Err(error) => match error.kind() {
                DirectGetErrorKind::NotFound => Ok(None),
                DirectGetErrorKind::TimedOut => Err(ClientError::TimedOut { what: what() }),
                DirectGetErrorKind::ErrorResponse(status, _) if status == async_nats::StatusCode::NO_RESPONDERS => {
                    Err(ClientError::NoStream { what: stream.to_owned() })
                }
                _ => Err(ClientError::refused(what(), chain(&error))),
            },
        }
    }

    /// Asks a service ([`crate::service`]).
    ///
    /// # Errors
    /// [`ClientError::NoService`], its refusal, or that it does not answer.
    pub async fn request(&self, subject: &str, payload: Bytes) -> Result<Bytes, ClientError> {
        let client = self.context.client();
        let answer = client.request(subject.to_owned(), payload).await.map_err(|error| match error.kind() {
            RequestErrorKind::NoResponders => ClientError::NoService { subject: subject.to_owned() },
            RequestErrorKind::TimedOut => ClientError::TimedOut { what: format!("a request on {subject}") },
            _ => ClientError::refused(format!("a request on {subject}"), chain(&error)),
        })?;
        let header = |name: &str| answer.headers.as_ref().and_then(|headers| headers.get(name));
        match header("Nats-Service-Error") {
            Some(problem) => Err(ClientError::Refused(problem.as_str().to_owned())),
            None => Ok(answer.payload),
        }
    }

    /// The messages of `stream` on subjects that one of `filters` matches (all if empty), in order, from `from` up to
    /// the last one that is there now; then the stream ends.
    ///
    /// # Errors
    /// That there is no such stream, or that the server does not answer.
    pub async fn read(
        &self,
        stream: &str,
        filters: &[&str],
        from: ReadFrom,
    ) -> Result<impl Stream<Item = Result<StoredMessage, ClientError>> + Send + use<>, ClientError> {
        let info = self.stream(stream).await?.ok_or_else(|| ClientError::NoStream { what: stream.to_owned() })?;
        let (messages, pending) = self.consume(stream, filters, from).await?;
        let bounded = stream::unfold((messages, pending > 0), move |(mut messages, more)| async move {
            if !more {
                return None;
            }
            let item = messages.next().await?;
            let more = item.as_ref().is_ok_and(|m| m.pending > 0 && m.sequence < info.last_sequence);
            Some((item, (messages, more)))
        });
        Ok(bounded.boxed())
    }

    /// Like [`Self::read`], but goes on with what comes; over reconnects and a restarted server, without gaps.
    ///
    /// # Errors
    /// That there is no such stream, or that the server does not answer.
    pub async fn follow(
        &self,
        stream: &str,
        filters: &[&str],
        from: ReadFrom,
    ) -> Result<impl Stream<Item = Result<StoredMessage, ClientError>> + Send + use<>, ClientError> {
        Ok(self.consume(stream, filters, from).await?.0)
    }

    /// An ordered consumer's messages, and how many there were when it was made.
    async fn consume(
        &self,
        stream: &str,
        filters: &[&str],
        from: ReadFrom,
    ) -> Result<(stream::BoxStream<'static, Result<StoredMessage, ClientError>>, u64), ClientError> {
        let what = format!("reading stream {stream}");
        let deliver_policy = match from {
            ReadFrom::Start => DeliverPolicy::All,
            ReadFrom::New => DeliverPolicy::New,
            ReadFrom::Sequence(sequence) => DeliverPolicy::ByStartSequence { start_sequence: sequence.max(1) },
            ReadFrom::Time(time) => DeliverPolicy::ByStartTime {
                start_time: async_nats::datetime::from_nanos(i128::from(time))
                    .map_err(|error| ClientError::refused(&what, error))?,
            },
        };
        let config = pull::OrderedConfig {
            deliver_policy,
            filter_subjects: filters.iter().map(|filter| (*filter).to_owned()).collect(),
            max_batch: READ_AHEAD_MAX,
            max_expires: PULL_EXPIRES,
            ..Default::default()
        };
        let consumer = self
            .context
            .create_consumer_on_stream(config, stream)
            .await
            .map_err(|error| ClientError::refused(&what, chain(&error)))?;
        let pending = consumer.cached_info().num_pending;
        let messages = consumer.messages().await.map_err(|error| ClientError::refused(&what, chain(&error)))?;
        let stored = messages.map(move |message| {
            let message = message.map_err(|error| ClientError::refused(&what, chain(&error)))?;
            let info = message.info().map_err(|error| ClientError::refused(&what, error))?;
            Ok(StoredMessage {
                sequence: info.stream_sequence,
                stored_at: nanoseconds(info.published.unix_timestamp_nanos()),
                pending: info.pending,
                subject: message.subject.to_string(),
                headers: message.headers.as_ref().map(header_map).unwrap_or_default(),
                payload: message.payload.clone(),
            })
        });
        Ok((stored.boxed(), pending))
    }
}

/// A publish that is under way.
#[derive(Debug)]
pub struct Ack {
    subject: String,
    bytes: usize,
    deadline: Instant,
    future: PublishAckFuture,
}

impl Ack {
    /// Awaits that the message is stored; returns its sequence.
    ///
    /// # Errors
    /// [`ClientError::Full`], [`ClientError::NoStream`], [`ClientError::TimedOut`] (it may be stored all the same).
    pub async fn stored(self) -> Result<u64, ClientError> {
        // From the sending on: of many acks that a server's death took, the last is given up with the first, not one by one.
        match tokio::time::timeout_at(self.deadline, self.future.into_future()).await {
            Ok(Ok(ack)) => Ok(ack.sequence),
            Ok(Err(error)) => Err(publish_error(&self.subject, &error)),
            Err(_) => Err(ClientError::TimedOut { what: format!("publishing on {}", self.subject) }),
        }
    }

    /// How many bytes the payload has.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}
