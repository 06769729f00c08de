//! Into the store: everything of a pull, and the position that it reaches, in one transaction.

use std::{collections::BTreeSet, sync::Arc};

use eddy_runtime::{
    bus::Bus,
    position::Position,
    store_loop::{Sink, SinkError, Turn},
    telemetry::Telemetry,
};
use eddy_vectors::index::{IndexError, Searcher, Store, WindowId};
use tokio::task::block_in_place;

use crate::{
    changes::{Changes, Message},
    context::{Contexts, Draft, Due},
    filing::{Commit, Filing},
    openings::Openings,
    region::Region,
    traced::{Telling, Traced},
};

/// Contexts that are made at a time, and questions to the region that are out at the same time.
const AT_ONCE: usize = 32;

/// The store and what tells of it.
pub struct IndexSink<B, R> {
    pub(crate) store: Arc<Store>,
    pub(crate) searcher: Arc<Searcher>,
    pub(crate) contexts: Contexts<B, R>,
    pub(crate) telemetry: Arc<Telemetry>,
    /// The traces of alerts whose contexts are to be told.
    pub(crate) traced: Traced,
    /// Contexts that are out; the next transaction takes them from the outbox.
    pub(crate) sent: Vec<WindowId>,
    /// When alerts opened.
    pub(crate) openings: Openings,
}

/// A full disk may have room again; what is damaged stays so.
pub fn sink_error(error: &IndexError) -> SinkError {
    match error {
        IndexError::Io { .. } | IndexError::MapFull { .. } => SinkError::Again(error.to_string()),
        error => SinkError::Fatal(error.to_string()),
    }
}

impl<B: Bus, R: Region> Sink for IndexSink<B, R> {
    fn position(&self) -> Result<Option<Position>, SinkError> {
        self.in_place()?;
        let text = self.store.position().map_err(|error| sink_error(&error))?;
        let wrong = |error| SinkError::Fatal(format!("index in {}: {error}", self.store.path().display()));
        text.map(|text| text.parse().map_err(wrong)).transpose()
    }

    async fn write(
        &mut self,
        turn: &Turn<'_>,
        reaches: impl Fn(u64) -> Position + Send,
    ) -> Result<Option<u64>, SinkError> {
        let changes = Changes::of(turn.deliveries.iter().map(Message::from));
        let Some(reached) = changes.reached else { return Ok(None) };
        self.in_place()?;
        let start = self.traced.now();
        let position = reaches(reached).to_string();
        let commit = Commit {
            sent: &self.sent,
            missed: turn.gap.map_or(0, |gap| gap.to + 1 - gap.from),
            before: turn.before.map(Position::to_string),
            position,
        };
        let filing = Filing { store: &self.store, searcher: &self.searcher, site: &self.contexts.site };
        block_in_place(|| filing.commit(&changes, &commit)).map_err(|error| sink_error(&error))?;
        self.sent.clear();
        self.traced.written(turn.deliveries, reached, start);
        if let Some(last) = turn.deliveries.last() {
            self.openings.note(&changes, last.stored_at);
        }
        match block_in_place(|| filing.label_lags(&changes, &self.openings)) {
            Ok(lags) => lags.into_iter().for_each(|lag| self.telemetry.label_lag(lag)),
            Err(error) => tracing::warn!(%error, "how late labels came is not counted"),
        }
        for problem in &changes.refused {
            tracing::error!(problem, "not indexed");
            self.telemetry.rejected(eddy_schemas::side::Reason::Malformed, 1);
        }
        self.telemetry.received_rows(changes.changes.len() as u64);
        Ok(Some(reached))
    }

    async fn tick(&mut self) -> Result<(), SinkError> {
        self.in_place()?;
        let told = self.tell_contexts().await;
        // What was deleted under it may look damaged.
        self.in_place().and(told)
    }
}

impl<B: Bus, R: Region> IndexSink<B, R> {
    /// The folder may have been deleted: a process that is started anew makes it again from the stream.
    fn in_place(&self) -> Result<(), SinkError> {
        let path = self.store.path().display();
        let gone = || format!("index in {path} was deleted or replaced while it ran; it is made again from the stream");
        if self.store.is_in_place() { Ok(()) } else { Err(SinkError::Restart(gone())) }
    }

    async fn tell_contexts(&mut self) -> Result<(), SinkError> {
        let mut failed = Ok(());
        // One that cannot be told holds up those of its device, whose order says what is out, and no other.
        let mut blocked = BTreeSet::new();
        let outbox = block_in_place(|| self.store.outbox()).map_err(|error| sink_error(&error))?;
        let mut due = Vec::new();
        for (window, record) in outbox.into_iter().filter(|(window, _)| !self.sent.contains(window)) {
            let read = Due::read(window, &record);
            let problem = || SinkError::Fatal(format!("outbox of {}: entry {window}", self.store.path().display()));
            due.push(read.ok_or_else(problem)?);
        }
        // However many there are, the region holds them up no longer than once.
        let until = self.contexts.until();
        for due in due.chunks(AT_ONCE) {
            let (mut drafts, mut tellings): (Vec<Draft>, Vec<Telling>) = Default::default();
            for due in due {
                let telling = self.traced.begin(&due.alert);
                match self.contexts.draft(&self.searcher, due)? {
                    Some(draft) => {
                        drafts.push(draft);
                        tellings.push(telling);
                    }
                    // A window that was deleted before its context was told has none.
                    None => self.sent.push(due.window),
                }
            }
            let answers = self.contexts.ask(&mut drafts, until).await;
            for ((draft, telling), answer) in drafts.into_iter().zip(tellings).zip(answers) {
                let (window, alert) = (draft.window(), draft.alert().to_owned());
                match self.contexts.tell(draft, answer, &mut blocked, &telling.headers).await {
                    Ok(verdict) => {
                        self.sent.push(window);
                        self.traced.told(&alert, &telling, verdict);
                    }
                    Err(SinkError::Again(problem)) => failed = Err(SinkError::Again(problem)),
                    Err(ends) => return Err(ends),
                }
            }
        }
        failed
    }
}

#[cfg(test)]
mod tests;
