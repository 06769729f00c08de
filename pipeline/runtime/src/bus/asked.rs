//! Plain NATS requests: for sources that answer, beside the streams.

use async_nats::{HeaderMap, Subject, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;

use super::{BusError, nats::NatsBus};
use crate::trace::{TRACEPARENT, TraceContext};

/// A request.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The subject that it came on.
    pub subject: String,
    /// The `Content-Type` header.
    pub content_type: Option<String>,
    /// The sampled trace that its sender has begun.
    pub trace: Option<TraceContext>,
    /// Payload.
    pub payload: Bytes,
    /// Where the answer goes; `None` for a publish that waits for none.
    pub reply: Option<Reply>,
}

/// Where an answer goes.
#[derive(Clone, Debug)]
pub struct Reply(Subject);

/// Requests on a subject.
#[derive(Debug)]
pub struct Requests(Subscriber);

impl Requests {
    /// The next one; `None` once the connection is closed for good. Who does not take them in time loses the oldest, as
    /// plain NATS does: their senders time out.
    pub async fn next(&mut self) -> Option<Asked> {
        let message = self.0.next().await?;
        let header = |name: &str| Some(message.headers.as_ref()?.get(name)?.as_str());
        Some(Asked {
            content_type: header("Content-Type").map(str::to_owned),
            trace: header(TRACEPARENT).and_then(TraceContext::parse),
            subject: message.subject.to_string(),
            payload: message.payload,
            reply: message.reply.map(Reply),
        })
    }
}

impl NatsBus {
    /// Requests on `subject`, each to one member of `group`.
    ///
    /// # Errors
    /// If the connection is closed.
    pub async fn asked(&self, subject: &str, group: &str) -> Result<Requests, BusError> {
        let subscribed = self.client().queue_subscribe(subject.to_owned(), group.to_owned()).await;
        subscribed.map(Requests).map_err(|error| BusError::Unavailable(error.to_string()))
    }

    /// Answers; an error has its code and text in the headers of NATS's services (ADR-32). An answer that does not
    /// arrive is its asker's time-out.
    pub async fn answer(&self, reply: Reply, error: Option<(u16, String)>, payload: Bytes) {
        let mut headers = HeaderMap::new();
        headers.insert("Content-Type", "application/json");
        if let Some((code, text)) = error {
            headers.insert("Nats-Service-Error-Code", code.to_string());
            // A header is one line.
            let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect();
            headers.insert("Nats-Service-Error", line);
        }
        let _ = self.client().publish_with_headers(reply.0, headers, payload).await;
    }
}
