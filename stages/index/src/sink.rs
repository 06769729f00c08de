//! Into the store: everything of a pull, and the position that it reaches, in one transaction.

use std::{collections::HashMap, sync::Arc};

use eddy_runtime::{
    bus::Bus,
    position::Position,
    store_loop::{Sink, SinkError, Turn},
    telemetry::Telemetry,
};
use eddy_schemas::SeriesName;
use eddy_vectors::index::{Batch, Filter, IndexError, Searcher, Store, WindowId};
use tokio::task::block_in_place;

use crate::{
    changes::{Change, Changes},
    context::Contexts,
};

/// The store and what tells of it.
pub struct IndexSink<B> {
    pub(crate) store: Arc<Store>,
    pub(crate) searcher: Arc<Searcher>,
    pub(crate) contexts: Contexts<B>,
    pub(crate) telemetry: Arc<Telemetry>,
    /// Contexts that are out; the next transaction takes them from the outbox.
    pub(crate) sent: Vec<WindowId>,
}

/// A full disk may have room again; what is damaged stays so.
pub fn sink_error(error: &IndexError) -> SinkError {
    match error {
        IndexError::Io { .. } | IndexError::MapFull { .. } => SinkError::Again(error.to_string()),
        error => SinkError::Fatal(error.to_string()),
    }
}

impl<B: Bus> Sink for IndexSink<B> {
    fn position(&self) -> Result<Option<Position>, SinkError> {
        let text = self.store.position().map_err(|error| sink_error(&error))?;
        let wrong = |error| SinkError::Fatal(format!("index in {}: {error}", self.store.path().display()));
        text.map(|text| text.parse().map_err(wrong)).transpose()
    }

    async fn write(
        &mut self,
        turn: &Turn<'_>,
        reaches: impl Fn(u64) -> Position + Send,
    ) -> Result<Option<u64>, SinkError> {
        let changes = Changes::of(turn.deliveries);
        let Some(reached) = changes.reached else { return Ok(None) };
        let position = reaches(reached).to_string();
        block_in_place(|| self.commit(turn, &changes, &position)).map_err(|error| sink_error(&error))?;
        for problem in &changes.refused {
            tracing::error!(problem, "not indexed");
            self.telemetry.rejected(eddy_schemas::side::Reason::Malformed, 1);
        }
        self.telemetry.received_rows(changes.changes.len() as u64);
        Ok(Some(reached))
    }

    async fn tick(&mut self) -> Result<(), SinkError> {
        let mut failed = Ok(());
        let outbox = block_in_place(|| self.store.outbox()).map_err(|error| sink_error(&error))?;
        for (window, alert) in outbox {
            if !self.sent.contains(&window) {
                let alert = String::from_utf8_lossy(&alert).into_owned();
                // One that cannot be told holds up no other.
                match self.contexts.tell(&self.searcher, window, &alert).await {
                    Ok(()) => self.sent.push(window),
                    Err(SinkError::Fatal(problem)) => return Err(SinkError::Fatal(problem)),
                    Err(error) => failed = Err(error),
                }
            }
        }
        failed
    }
}

impl<B: Bus> IndexSink<B> {
    fn commit(&mut self, turn: &Turn<'_>, changes: &Changes, position: &str) -> Result<(), IndexError> {
        let mut batch = self.store.batch()?;
        for window in &self.sent {
            batch.sent(*window)?;
        }
        if let Some(gap) = turn.gap {
            batch.missed(gap.to + 1 - gap.from)?;
        }
        let mut added: HashMap<&str, Vec<WindowId>> = HashMap::new();
        for change in &changes.changes {
            match change {
                Change::Add { model, window, alert } => {
                    let id = batch.add(model, window)?;
                    added.entry(SeriesName::device_token(&window.series)).or_default().push(id);
                    if let Some(alert) = alert {
                        batch.tag(&alert.id, id)?;
                        if alert.opens {
                            batch.send(id, alert.id.as_bytes())?;
                        }
                    }
                }
                Change::Label { alert, label } => {
                    // The window that opened it: one word is one vote, and what closed it looks ordinary.
                    if let Some(window) = batch.tagged(alert)?.first() {
                        batch.label(*window, label)?;
                    }
                }
                Change::Forget { device } => self.forget(&mut batch, device, added.remove(device.as_str()))?,
            }
        }
        batch.commit(turn.before.map(Position::to_string).as_deref(), position)?;
        self.sent.clear();
        // It is written, whatever the searcher sees of it: the next write or question refreshes it again.
        if let Err(error) = self.searcher.refresh() {
            tracing::error!(%error, "what was written is not searchable yet");
        }
        Ok(())
    }

    /// The searcher has seen all that is committed; what this batch added it has not.
    fn forget(&self, batch: &mut Batch<'_>, device: &str, added: Option<Vec<WindowId>>) -> Result<(), IndexError> {
        let known = self.searcher.matching(&Filter { device: Some(device.to_owned()), ..Filter::default() })?;
        for window in known.into_iter().chain(added.unwrap_or_default()) {
            batch.delete(window)?;
        }
        Ok(())
    }
}
