//! From bytes to the stage's loop: what every source does with a message.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use bytes::Bytes;
use eddy_runtime::{
    direct::{self, Entrance, Lane, NotStored, Receipt},
    stage::{Incoming, Scope},
    trace::TraceContext,
};
use eddy_schemas::{names, side::Reason};

use crate::{
    Input,
    decode::{self, Refused, Rules, Source, TimeUnit},
};

/// What a source knows of a message beside its bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Origin<'a> {
    pub device: Option<&'a str>,
    pub channel: Option<&'a str>,
    pub content_type: Option<&'a str>,
    pub line_time_unit: Option<TimeUnit>,
    /// The sampled trace that its sender has begun.
    pub trace: Option<TraceContext>,
}

/// Why an offer came to nothing.
#[derive(Debug)]
pub(super) enum Failed {
    /// The message is refused whole; nothing of it was taken.
    Refused(Refused),
    /// See there.
    NotStored(NotStored),
}

/// Decoding so many bytes takes long enough to make other connections wait: it is done beside them. A single reading is decoded
/// in less time than it takes to change the thread.
const LARGE_BYTES: usize = 16 * 1024;

/// Decodes and hands in.
#[derive(Clone)]
pub(super) struct Gate {
    entrance: Entrance<Input>,
    rules: Arc<Rules>,
    site: Arc<str>,
    shards: u32,
}

impl Gate {
    pub fn new(entrance: Entrance<Input>, rules: Rules, scope: &Scope) -> Self {
        let site = names::encode(&scope.site).into();
        Self { entrance, rules: Arc::new(rules), site, shards: scope.shards }
    }

    /// Whether an offer would be turned away now.
    pub fn is_full(&self) -> bool {
        self.entrance.is_full()
    }

    /// For senders that are told what is wrong. What is refused whole goes nowhere: its sender still has it.
    pub async fn offer(&self, payload: Bytes, origin: Origin<'_>) -> Result<Receipt, Failed> {
        let (message, input) = self.decode(payload, origin);
        match input {
            Err(refused) => Err(Failed::Refused(refused)),
            input => self.entrance.offer(message, input, origin.trace).await.map_err(Failed::NotStored),
        }
    }

    /// See there.
    pub fn lane(&self) -> Lane {
        self.entrance.lane()
    }

    /// For senders that can be told nothing but "stored": waits until it is, be it as a dead letter, and keeps their order.
    pub async fn store(&self, lane: Lane, payload: Bytes, origin: Origin<'_>) -> Result<(), NotStored> {
        let (message, input) = self.decode(payload, origin);
        self.entrance.submit(lane, message, input).await.map(|_| ())
    }

    fn decode(&self, payload: Bytes, origin: Origin<'_>) -> (Incoming, Result<Input, Refused>) {
        let arrival = self.entrance.arrival();
        let Origin { device, channel, content_type, line_time_unit, .. } = origin;
        let source = Source { device, channel, arrival, content_type, line_time_unit };
        let run = || catch_unwind(AssertUnwindSafe(|| decode::decode(&payload, &source, &self.rules)));
        let decoded = match tokio::runtime::Handle::current().runtime_flavor() {
            tokio::runtime::RuntimeFlavor::MultiThread if payload.len() >= LARGE_BYTES => {
                tokio::task::block_in_place(run)
            }
            _ => run(),
        };
        let decoded = decoded.unwrap_or_else(|_| Err((Reason::Panic, "decoding it panicked".into())));
        // The subject under which a dead letter can be found, as if the device had published on INGEST.
        let subject = match device {
            Some(device) => format!("ingest.{}.{}", self.site, names::encode(device)),
            None => format!("ingest.{}", self.site),
        };
        let message = direct::message(subject, content_type.map(str::to_owned), payload.clone(), arrival);
        (message, decoded.map(|decoded| Input::readings(decoded, self.shards)))
    }
}
