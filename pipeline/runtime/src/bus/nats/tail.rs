//! A stream as somebody far away reads it: what came since a position, many messages an answer, and word when more came. There is
//! no consumer, so where nothing happens nothing is sent.

use std::time::Duration;

use async_nats::{HeaderMap, StatusCode, connection::State};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::time::timeout;

use super::{NatsBus, unavailable};
use crate::bus::{BusError, PullBounds};

/// What ends a batch.
const END_OF_BATCH: u16 = 204;
/// So much that was heard is thrown away at once.
const HEARD_MAX: usize = 1_000;

/// A message that was read.
#[derive(Clone, Debug)]
pub struct Read {
    /// Its subject.
    pub subject: String,
    /// Its sequence in the stream.
    pub sequence: u64,
    /// Payload.
    pub payload: Bytes,
}

/// Hears that something is published. It may miss some, so it only says when to read.
#[derive(Debug)]
pub struct Listener(async_nats::Subscriber);

impl Listener {
    /// Returns when something was published since the last call; after a long silence, or when it is over, for ever.
    pub async fn heard(&mut self) {
        if self.0.next().await.is_none() {
            std::future::pending::<()>().await;
        }
        // What else lies there says nothing more.
        for _ in 0..HEARD_MAX {
            let Ok(Some(_)) = timeout(Duration::ZERO, self.0.next()).await else { return };
        }
    }
}

impl NatsBus {
    /// Whether there is a connection now, as far as is known.
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Messages on `filter` from sequence `from` on, in their order and within `bounds`. Fewer than there are, if the connection
    /// breaks meanwhile; none if there are none.
    ///
    /// # Errors
    /// That the server does not answer, or refuses.
    pub async fn read_on(
        &self,
        stream: &str,
        filter: &str,
        from: u64,
        bounds: PullBounds,
    ) -> Result<Vec<Read>, BusError> {
        let inbox = self.client.new_inbox();
        let mut answers = self.client.subscribe(inbox.clone()).await.map_err(unavailable)?;
        let question = serde_json::json!({
            "seq": from.max(1), "next_by_subj": filter, "batch": bounds.messages, "max_bytes": bounds.bytes,
        });
        let subject = format!("{}.DIRECT.GET.{stream}", self.api);
        let asked = self.client.publish_with_reply(subject, inbox, question.to_string().into()).await;
        asked.map_err(unavailable)?;
        let mut messages: Vec<Read> = Vec::new();
        loop {
            let answer = match timeout(self.request_timeout, answers.next()).await {
                Ok(Some(answer)) => answer,
                // What came is whole as far as it goes.
                _ if !messages.is_empty() => return Ok(messages),
                _ => return Err(BusError::Unavailable(format!("{stream} from {from} on: no answer"))),
            };
            match answer.status {
                Some(status) if status == StatusCode::NOT_FOUND || status.as_u16() == END_OF_BATCH => {
                    return Ok(messages);
                }
                Some(StatusCode::NO_RESPONDERS) => return Err(BusError::Missing(format!("stream {stream}"))),
                Some(status) => {
                    let said = answer.description.unwrap_or_default();
                    return Err(BusError::Unavailable(format!("{stream} from {from} on: {status} {said}")));
                }
                None => {
                    let read = message(answer.headers.as_ref(), answer.payload);
                    let follows = |read: &Read| messages.last().is_none_or(|last| last.sequence < read.sequence);
                    messages.push(read.filter(follows).ok_or_else(|| {
                        BusError::Unavailable(format!("{stream} from {from} on: an answer that is no stored message"))
                    })?);
                }
            }
        }
    }

    /// Hears of what is published on `subjects`.
    ///
    /// # Errors
    /// That the connection is closed.
    pub async fn listen(&self, subjects: &str) -> Result<Listener, BusError> {
        self.client.subscribe(subjects.to_owned()).await.map(Listener).map_err(unavailable)
    }
}

fn message(headers: Option<&HeaderMap>, payload: Bytes) -> Option<Read> {
    // The server's own come last: a message may have brought some of these names along.
    let said = |name: &str| headers?.get_last(name).map(|value| value.as_str());
    let sequence = said("Nats-Sequence")?.parse().ok()?;
    Some(Read { subject: said("Nats-Subject")?.to_owned(), sequence, payload })
}
