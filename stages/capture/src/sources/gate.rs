//! From bytes to the stage's loop: what every source does with a message.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use eddy_runtime::{
    direct::{self, Entrance, NotStored, Receipt},
    stage::Scope,
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
}

/// Why an offer came to nothing.
#[derive(Debug)]
pub(super) enum Failed {
    /// The message is refused whole; nothing of it was taken.
    Refused(Refused),
    /// See there.
    NotStored(NotStored),
}

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
            input => self.entrance.offer(message, input).await.map_err(Failed::NotStored),
        }
    }

    /// For senders that can be told nothing but "stored": tries until it is, be it as a dead letter.
    pub async fn store(&self, payload: Bytes, origin: Origin<'_>) {
        // A reading without a time of its own keeps its first arrival however often it is handed in: preprocess counts it once.
        let arrival = self.entrance.arrival();
        loop {
            let (message, input) = self.decode_at(payload.clone(), origin, arrival);
            match self.entrance.submit(message, input).await {
                Ok(_) => return,
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    fn decode(&self, payload: Bytes, origin: Origin<'_>) -> (eddy_runtime::stage::Incoming, Result<Input, Refused>) {
        self.decode_at(payload, origin, self.entrance.arrival())
    }

    fn decode_at(
        &self,
        payload: Bytes,
        origin: Origin<'_>,
        arrival: eddy_schemas::Timestamp,
    ) -> (eddy_runtime::stage::Incoming, Result<Input, Refused>) {
        let Origin { device, channel, content_type, line_time_unit } = origin;
        let source = Source { device, channel, arrival, content_type, line_time_unit };
        let run = || catch_unwind(AssertUnwindSafe(|| decode::decode(&payload, &source, &self.rules)));
        let decoded = match tokio::runtime::Handle::current().runtime_flavor() {
            tokio::runtime::RuntimeFlavor::MultiThread => tokio::task::block_in_place(run),
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
