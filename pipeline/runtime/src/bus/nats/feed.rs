//! A feed: one durable consumer, held to its place.
//!
//! Another instance may reset the same consumer at any moment. Its own count of deliveries shows most of that, but not when
//! both counts happen to be equal: then the next delivery fits and lies elsewhere in the stream. So each message must also
//! follow the one before it in the stream, of which there are three proofs, cheapest first: its sequence is the next one; it
//! was published with a guard that names its predecessor on the subject; the server says that nothing lies between.

use std::time::Duration;

use async_nats::jetstream::{
    self,
    consumer::{PullConsumer, pull},
    stream::DirectGetErrorKind,
};
use futures_util::{FutureExt, StreamExt};
use tokio::time::Instant;

use super::{AckToken, BusError, Delivery, Feed, NatsBus, PullBounds, Source, nanoseconds, unavailable};
use crate::trace::Provenance;

/// The header that a guarded publish leaves on the stored message.
const PREDECESSOR: &str = "Nats-Expected-Last-Subject-Sequence";

/// How long a feed may be quiet before the server is asked whether it should be.
const QUIET_CHECK: Duration = Duration::from_millis(1_500);

/// One durable consumer of a stream.
pub struct NatsFeed {
    bus: NatsBus,
    stream: String,
    filter: String,
    consumer: PullConsumer,
    messages: pull::Stream,
    /// The consumer's own count of deliveries, 1 after a reset.
    consumer_sequence: u64,
    last_sequence: u64,
    /// Delivered, and not yet known to follow the last one. It waits here, so that a pull that is dropped loses nothing.
    unproven: Option<jetstream::Message>,
    checked: Instant,
    suspect: bool,
}

/// What a delivered message proves by itself.
enum Taken {
    Delivery(Delivery),
    /// It lies in `unproven`.
    Unproven,
}

impl NatsFeed {
    pub(super) fn new(
        bus: NatsBus,
        source: &Source,
        consumer: PullConsumer,
        messages: pull::Stream,
        from: u64,
    ) -> Self {
        Self {
            bus,
            stream: source.stream.clone(),
            filter: source.filter.clone(),
            consumer,
            messages,
            consumer_sequence: 0,
            last_sequence: from.saturating_sub(1),
            unproven: None,
            checked: Instant::now(),
            suspect: false,
        }
    }

    fn lost(&self, problem: String) -> BusError {
        BusError::LostPlace { stream: self.stream.clone(), problem }
    }

    fn take(&mut self, message: jetstream::Message) -> Result<Taken, BusError> {
        let info = message.info().map_err(|error| self.lost(format!("a message without delivery info: {error}")))?;
        let sequence = info.stream_sequence;
        if info.delivered > 1 || info.consumer_sequence != self.consumer_sequence + 1 || sequence <= self.last_sequence
        {
            return Err(self.lost(format!(
                "delivery {} of message {sequence} (try {}) follows delivery {} of message {}",
                info.consumer_sequence, info.delivered, self.consumer_sequence, self.last_sequence
            )));
        }
        if sequence == self.last_sequence + 1 || self.names_last(&message) {
            return self.accept(message).map(Taken::Delivery);
        }
        self.unproven = Some(message);
        Ok(Taken::Unproven)
    }

    /// Whether the message says that nothing on its subject lies between it and the last one. Of several subjects no one
    /// message can tell.
    fn names_last(&self, message: &jetstream::Message) -> bool {
        let one_subject = !self.filter.contains(['*', '>']);
        one_subject && predecessor(message).is_some_and(|predecessor| predecessor <= self.last_sequence)
    }

    /// Asks the server what follows the last message.
    async fn prove(&mut self) -> Result<Option<Delivery>, BusError> {
        let Some(message) = &self.unproven else { return Ok(None) };
        let info = message.info().map_err(|error| self.lost(format!("a message without delivery info: {error}")))?;
        let sequence = info.stream_sequence;
        let from = self.last_sequence + 1;
        let stream = self.bus.jetstream().get_stream_no_info(&self.stream).await.map_err(unavailable)?;
        match stream.direct_get_next_for_subject(self.filter.as_str(), Some(from)).await {
            Ok(next) if next.sequence < sequence => {
                let between = next.sequence;
                return Err(
                    self.lost(format!("message {sequence} was delivered, but {between} was to come from {from} on"))
                );
            }
            // What was removed since cannot come any more.
            Ok(_) => {}
            Err(error) if error.kind() == DirectGetErrorKind::NotFound => {}
            Err(error) => return Err(unavailable(error)),
        }
        self.unproven.take().map(|message| self.accept(message)).transpose()
    }

    fn accept(&mut self, message: jetstream::Message) -> Result<Delivery, BusError> {
        let info = message.info().map_err(|error| self.lost(format!("a message without delivery info: {error}")))?;
        let (sequence, pending, stored_at) = (info.stream_sequence, info.pending, nanoseconds(info.published));
        self.consumer_sequence += 1;
        self.last_sequence = sequence;
        let predecessor = predecessor(&message);
        let message = message.message;
        let header = |name: &str| Some(message.headers.as_ref()?.get(name)?.as_str());
        Ok(Delivery {
            content_type: header("Content-Type").map(str::to_owned),
            provenance: Provenance::of(&self.stream, header),
            subject: message.subject.to_string(),
            sequence,
            stored_at,
            predecessor,
            token: AckToken(message.reply.map(|reply| reply.to_string()).unwrap_or_default()),
            payload: message.payload,
            pending,
        })
    }

    /// The first message, waited for; `None` if none came.
    async fn first(&mut self, wait: Duration) -> Result<Option<Delivery>, BusError> {
        if self.unproven.is_some() {
            return self.prove().await;
        }
        let message = match tokio::time::timeout(wait, self.messages.next()).await {
            Err(_) => {
                self.check_quiet().await?;
                return Ok(None);
            }
            Ok(Some(Ok(message))) => message,
            Ok(Some(Err(error))) => return Err(self.lost(error.to_string())),
            Ok(None) => return Err(self.lost("the pull ended".into())),
        };
        self.checked = Instant::now();
        self.suspect = false;
        match self.take(message)? {
            Taken::Delivery(delivery) => Ok(Some(delivery)),
            Taken::Unproven => self.prove().await,
        }
    }

    /// A feed that is quiet although the consumer has something, or has given it out to nobody, lost its place.
    async fn check_quiet(&mut self) -> Result<(), BusError> {
        if self.checked.elapsed() < QUIET_CHECK {
            return Ok(());
        }
        self.checked = Instant::now();
        let last_sequence = self.last_sequence;
        let (pending, delivered) = {
            let info = self.consumer.info().await.map_err(unavailable)?;
            (info.num_pending, info.delivered.stream_sequence)
        };
        // Twice in a row: what was published this moment is not lost but on its way.
        let suspicious = pending > 0 || delivered > last_sequence;
        if suspicious && self.suspect {
            return Err(self.lost(format!(
                "quiet with {pending} pending; the consumer delivered up to {delivered}, {last_sequence} came"
            )));
        }
        self.suspect = suspicious;
        Ok(())
    }
}

/// What a guarded publish named.
fn predecessor(message: &async_nats::Message) -> Option<u64> {
    let header = message.headers.as_ref().and_then(|headers| headers.get(PREDECESSOR));
    header.and_then(|value| value.as_str().parse().ok())
}

impl Feed for NatsFeed {
    async fn pull(&mut self, bounds: PullBounds, wait: Duration) -> Result<Vec<Delivery>, BusError> {
        let Some(first) = self.first(wait).await? else { return Ok(Vec::new()) };
        let mut bytes = first.payload.len();
        let mut pulled = vec![first];
        while pulled.len() < bounds.messages && bytes < bounds.bytes {
            match self.messages.next().now_or_never() {
                Some(Some(Ok(message))) => match self.take(message)? {
                    Taken::Delivery(delivery) => {
                        bytes += delivery.payload.len();
                        pulled.push(delivery);
                    }
                    Taken::Unproven => break,
                },
                // What goes wrong now shows again at the next pull; what has come so far is in order.
                _ => break,
            }
        }
        Ok(pulled)
    }
}
