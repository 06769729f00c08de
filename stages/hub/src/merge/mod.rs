//! A site's stream into a shard's store: each pull is verified against the ledger and written with it in one transaction, which also
//! says how far the stream was read.
//!
//! A copy reads the streams of several sites, each by a loop of its own; they write one after the other, and each moves only its own
//! place in the store's position.

mod apply;
mod codes;
mod entries;
#[cfg(test)]
mod tests;
mod traced;

use std::sync::Arc;

use eddy_runtime::{
    bus::StreamState,
    position::{Place, Position},
    store_loop::{Sink, SinkError, Turn},
    telemetry::Telemetry,
};
use eddy_schemas::{side::Reason, sync::Class};
use eddy_vectors::index::IndexError;
use tokio::task::block_in_place;

use self::apply::{Merge, Outcome};
pub use self::apply::{Rules, Site};
use crate::{audit_sink::AuditSink, ledger::Account, shards::Led};

/// One site's stream, on its way into one copy.
pub struct SiteSink {
    pub(crate) site: Site,
    pub(crate) copy: Arc<Led>,
    pub(crate) rules: Rules,
    pub(crate) telemetry: Arc<Telemetry>,
    /// Where what is refused is told; of all copies that a process has, one tells.
    pub(crate) audit: Option<Arc<dyn AuditSink>>,
    /// Up to which message it was told: what is written again after a full disk is not told again.
    pub(crate) told: (i64, u64),
}

/// A full disk may have room again; what is damaged stays so.
pub fn sink_error(shard: u32, error: &IndexError) -> SinkError {
    let text = format!("shard {shard}: {error}");
    match error {
        IndexError::Io { .. } | IndexError::MapFull { .. } => SinkError::Again(text),
        _ => SinkError::Fatal(text),
    }
}

impl Led {
    /// Where the store stands.
    pub(crate) fn stored_position(&self) -> Result<(Option<String>, Position), SinkError> {
        let text = self.store.position().map_err(|error| sink_error(self.shard, &error))?;
        let wrong =
            |error| SinkError::Fatal(format!("shard {} in {}: {error}", self.shard, self.store.path().display()));
        let position = text.as_deref().unwrap_or_default().parse().map_err(wrong)?;
        Ok((text, position))
    }

    /// Makes the store's place in a site's stream fit the stream: one that was made anew is read from its beginning, and one that lost its
    /// end from there. What is merged stays, and is not merged twice. Returns what was done.
    pub(crate) fn adopt(
        &self,
        Site { stream, token, .. }: &Site,
        state: &StreamState,
    ) -> Result<Option<String>, SinkError> {
        let _one = self.lock();
        let (text, mut position) = self.stored_position()?;
        let Some(place) = position.place(stream).cloned() else { return Ok(None) };
        let (created, last) = (state.incarnation, state.last_sequence);
        let done = if place.incarnation != created {
            position.0.remove(stream);
            format!("{stream} was created anew at {created}; it was read up to {place}")
        } else if place.sequence > last {
            position.set(stream, Place::whole(created, last));
            format!("{stream} ends at {last}; it was read up to {place}: its server lost what it had acknowledged")
        } else {
            return Ok(None);
        };
        let write = || {
            let mut batch = self.store.batch()?;
            // Which chains were there is known; how far they had come the gateway may no longer know.
            for class in Class::ALL {
                let mut account = Account::load(&batch, token, class)?;
                account.lost_end(last);
                account.save(&mut batch)?;
            }
            batch.commit(text.as_deref(), &position.to_string())
        };
        write().map_err(|error| sink_error(self.shard, &error))?;
        self.reached.send_replace(position);
        Ok(Some(done))
    }
}

impl Sink for SiteSink {
    fn position(&self) -> Result<Option<Position>, SinkError> {
        let (_, position) = self.copy.stored_position()?;
        let place = position.place(&self.site.stream).cloned();
        Ok(place.map(|place| Position([(self.site.stream.clone(), place)].into())))
    }

    async fn write(
        &mut self,
        turn: &Turn<'_>,
        reaches: impl Fn(u64) -> Position + Send,
    ) -> Result<Option<u64>, SinkError> {
        let Some(last) = turn.deliveries.last() else { return Ok(None) };
        let reached = reaches(last.sequence);
        let outcome = block_in_place(|| self.commit(turn, &reached))?;
        traced::finish(&self.telemetry, turn.deliveries, &outcome.judged, self.copy.shard);
        self.copy.lags(&self.site.name, last.pending);
        if outcome.news {
            self.copy.news.notify_one();
        }
        self.telemetry.received_rows(outcome.merged);
        self.telemetry.rejected(Reason::Malformed, outcome.malformed);
        self.telemetry.decision("batch_refused", outcome.refused);
        self.telemetry.decision("batch_replayed", outcome.replayed);
        Ok(Some(last.sequence))
    }

    async fn tick(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}

impl SiteSink {
    fn commit(&mut self, turn: &Turn<'_>, reached: &Position) -> Result<Outcome, SinkError> {
        let copy = self.copy.clone();
        let _one = copy.lock();
        let (before, mut position) = copy.stored_position()?;
        let stream = &self.site.stream;
        let stands = position.place(stream).cloned();
        if stands != turn.before.and_then(|before| before.place(stream)).cloned() {
            return Err(SinkError::Fatal(format!(
                "shard {}: another instance has moved its store on in {stream}: stop that one first",
                copy.shard
            )));
        }
        let Some(place) = reached.place(stream).cloned() else {
            return Err(SinkError::Fatal(format!("a position without a place in {stream}")));
        };
        let failed = |error: IndexError| sink_error(copy.shard, &error);
        let site = self.site.clone();
        let mut merge = Merge::new(&copy, &site, self.rules, place.incarnation).map_err(failed)?;
        if let Some(gap) = turn.gap {
            merge.missed(gap.from, gap.to).map_err(failed)?;
        }
        merge.trace_by(self.telemetry.tracer().cloned());
        for delivery in turn.deliveries {
            merge.message(delivery).map_err(failed)?;
        }
        self.tell(merge.outcome(), &place);
        position.set(&site.stream, place);
        let outcome = merge.commit(before.as_deref(), &position).map_err(failed)?;
        // It is written, whatever the searcher sees of it: the next write or question refreshes it again.
        if let Err(error) = copy.searcher.refresh() {
            tracing::error!(%error, shard = copy.shard, "what was written is not searchable yet");
        }
        copy.reached.send_replace(position);
        Ok(outcome)
    }

    /// Before it is written: what a crash makes happen twice is told twice, and nothing happens untold.
    fn tell(&mut self, outcome: &Outcome, place: &Place) {
        let reaches = (place.incarnation, place.sequence);
        if self.told >= reaches {
            return;
        }
        self.told = reaches;
        let Some(audit) = &self.audit else { return };
        for ((what, how), (told, more)) in &outcome.audit {
            let (first, count) = (told.first(), told.len() as u64 + more);
            tracing::warn!(site = self.site.name, what, how, why = first, count, "not as it should be");
            for (at, why) in told.iter().enumerate() {
                let is_last = *more > 0 && at + 1 == told.len();
                let more = if is_last { format!(" (and {more} more)") } else { String::new() };
                audit.note(what, &self.site.name, how, &format!("{why}{more}"));
            }
        }
    }
}
