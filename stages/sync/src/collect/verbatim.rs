//! Messages that go to the region byte for byte, each as soon as it is here.

use std::sync::Arc;

use eddy_runtime::{
    position::Position,
    store_loop::{Sink, SinkError, Turn},
    telemetry::Telemetry,
};
use eddy_schemas::sync::{Class, wire::entry::What};
use tokio::task::block_in_place;

use super::{
    Stand,
    held::{expected, hole},
    missed, now, plain, sink_error,
};
use crate::queue::QueueError;

/// One stream into one class.
pub(super) struct VerbatimSink {
    pub(super) stand: Stand,
    pub(super) class: Class,
    pub(super) telemetry: Arc<Telemetry>,
}

impl VerbatimSink {
    fn commit(&self, turn: &Turn<'_>, position: &Position) -> Result<(), QueueError> {
        let mut write = self.stand.queue.write()?;
        let stream = position.0.keys().next().map_or("", String::as_str);
        let mut next = expected(turn);
        for delivery in turn.deliveries {
            if let Some(gap) = hole(next, delivery) {
                missed(&mut write, self.class, stream, gap)?;
            }
            next = delivery.sequence + 1;
            let payload = delivery.payload.clone();
            let what = if self.class == Class::Health { What::Health(payload) } else { What::Context(payload) };
            let number = write.push(self.class, plain(what))?;
            let contexts = &delivery.provenance.contexts;
            if !contexts.is_empty() {
                write.trace(self.class, number, contexts.clone(), now(&self.telemetry));
            }
        }
        write.commit(self.stand.reader, turn.before, position)
    }
}

impl Sink for VerbatimSink {
    fn position(&self) -> Result<Option<Position>, SinkError> {
        self.stand.position()
    }

    async fn write(
        &mut self,
        turn: &Turn<'_>,
        reaches: impl Fn(u64) -> Position + Send,
    ) -> Result<Option<u64>, SinkError> {
        let Some(last) = turn.deliveries.last() else { return Ok(None) };
        let position = reaches(last.sequence);
        block_in_place(|| self.commit(turn, &position)).map_err(|error| sink_error(&error))?;
        self.telemetry.received_rows(turn.deliveries.len() as u64);
        Ok(Some(last.sequence))
    }

    async fn tick(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}
