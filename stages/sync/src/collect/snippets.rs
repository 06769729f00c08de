//! Readings around alerts, of the series that a policy names.
//!
//! The reader of DETECTIONS notes each alert that opens, in its own transaction. This one reads READINGS, keeps the last
//! minutes of the named series in memory, and once a noted alert's time is over takes what lies around it: entries and the
//! note's removal are one transaction. What is in memory is not on disk: after a restart it is read again, from the oldest
//! message that was still needed.
//!
//! It does not run ahead of the other reader by more than what it keeps anyway, or an alert would be noted when its readings
//! are gone.

use std::{sync::Arc, time::Duration};

use eddy_runtime::{
    position::{Place, Position},
    store_loop::{Gap, Sink, SinkError, Turn},
    telemetry::Telemetry,
};
use eddy_schemas::{
    Readings, Timestamp,
    side::Reason,
    sync::{Class, wire},
};
use tokio::{sync::watch, task::block_in_place, time::Instant};

use super::{
    Stand,
    held::{Held, Patience, sequence},
    memory::{BEHIND, Memory, nanoseconds},
    missed,
    noted::{Noted, Progress},
    policy::Policies,
    sink_error,
};
use crate::queue::QueueError;

/// What it keeps in the queue: what lies before the first message that is still needed.
const POSITION: &[u8] = b"snippets-need";
/// How often its position is written when there is nothing to send.
const SAVE_INTERVAL: Duration = Duration::from_secs(30);

/// The reader of READINGS.
pub(super) struct SnippetsSink {
    stand: Stand,
    patience: Patience,
    telemetry: Arc<Telemetry>,
    policies: Policies,
    /// How long a reading is needed.
    keep: i64,
    progress: watch::Receiver<Progress>,
    stop: watch::Receiver<bool>,
    memory: Memory,
    gaps: Vec<Gap>,
    held: Option<Held>,
    /// What the queue says.
    written: Option<Position>,
    /// Up to here all is in memory, or was.
    reached: Option<Position>,
    pub(super) saved: Instant,
}

impl SnippetsSink {
    pub(super) fn new(
        stand: Stand,
        policies: Policies,
        patience: Patience,
        telemetry: Arc<Telemetry>,
        progress: watch::Receiver<Progress>,
        stop: watch::Receiver<bool>,
    ) -> Result<Self, QueueError> {
        let written = stand.queue.position(stand.reader)?;
        let mut reached = written.clone();
        let queue = &stand.queue;
        queue.kept(POSITION, |_, text| {
            let parsed = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
            reached = Some(parsed.ok_or_else(|| queue.damaged("what snippets need is no position"))?);
            Ok::<_, QueueError>(())
        })?;
        let longest =
            policies.all().iter().map(|policy| nanoseconds(policy.before_s) + nanoseconds(policy.after_s)).max();
        let keep = longest.unwrap_or(0) + 2 * BEHIND.as_nanos() as i64;
        let (memory, gaps, held, saved) = (Memory::default(), Vec::new(), None, Instant::now());
        Ok(Self {
            stand,
            patience,
            telemetry,
            policies,
            keep,
            progress,
            stop,
            memory,
            gaps,
            held,
            written,
            reached,
            saved,
        })
    }

    /// Waits until the other reader is not too far behind. Returns whether it is not.
    async fn wait(&mut self, newest: Timestamp) -> bool {
        let behind = newest.saturating_sub(BEHIND.as_nanos() as i64);
        let mut progress = self.progress.clone();
        let near = progress.wait_for(|progress| progress.drained || progress.stored_at >= behind);
        tokio::select! {
            near = near => near.is_ok(),
            _ = self.stop.wait_for(|stop| *stop) => false,
        }
    }

    fn read(&mut self, turn: &Turn<'_>, begins: Position) {
        if self.held.as_ref().is_none_or(|held| !held.goes_on(&begins)) {
            // Readings that come again are in memory twice: those that were not taken yet are forgotten.
            self.memory.back_to(sequence(self.reached.as_ref()));
            self.gaps.clear();
            self.held = Some(Held::new(turn, begins));
        }
        let Some(held) = &mut self.held else { return };
        let written = sequence(self.written.as_ref());
        for (gap, delivery) in held.news(turn) {
            // What was missed after it had been read is of no consequence but for what was still needed of it.
            self.gaps
                .extend(gap.filter(|gap| gap.to > written).map(|gap| Gap { from: gap.from.max(written + 1), ..gap }));
            match Readings::decode(&delivery.payload) {
                Ok(readings) => self.memory.take(delivery, &readings, &mut self.policies),
                Err(error) => {
                    tracing::error!(sequence = delivery.sequence, %error, "not kept for snippets");
                    self.telemetry.rejected(Reason::Malformed, 1);
                }
            }
            held.read(delivery, true);
        }
    }

    /// Alerts whose time is over.
    fn due(&self) -> Result<Vec<Noted>, QueueError> {
        let mut due = Vec::new();
        Noted::all(&self.stand.queue, |noted| {
            if self.memory.is_complete(&noted, self.policies.all()) {
                due.push(noted);
            }
        })?;
        Ok(due)
    }

    /// What is due, up to a position, if there is something or it is time.
    fn send(&mut self, position: &Position) -> Result<(), SinkError> {
        block_in_place(|| {
            let due = self.due()?;
            let is_time = self.written.is_none() || self.saved.elapsed() >= SAVE_INTERVAL;
            if !due.is_empty() || !self.gaps.is_empty() || is_time {
                self.written = Some(self.commit(&due, position)?);
                self.saved = Instant::now();
            }
            Ok(())
        })
        .map_err(|error: QueueError| sink_error(&error))
    }

    fn commit(&self, due: &[Noted], position: &Position) -> Result<Position, QueueError> {
        let mut write = self.stand.queue.write()?;
        for gap in &self.gaps {
            missed(&mut write, Class::Snippets, "READINGS", *gap)?;
        }
        for noted in due {
            let entries = self.memory.around(noted, self.policies.all());
            if entries.is_empty() && self.memory.has(&noted.device) {
                let detail = format!("readings around {} of {}", noted.alert, noted.device);
                let cause = wire::Cause::Source.into();
                write.gap(Class::Snippets, wire::Gap { count: 1, cause, detail, ..Default::default() })?;
            }
            entries.into_iter().try_for_each(|entry| write.push(Class::Snippets, entry).map(drop))?;
            noted.forget(&mut write)?;
        }
        let furthest = |one: &Position, other: &Position| sequence(Some(one)) > sequence(Some(other));
        let written = self.written.as_ref().filter(|written| furthest(written, position)).unwrap_or(position).clone();
        let mut needs = position.clone();
        if let Some(first) = self.memory.needs() {
            needs.0.values_mut().for_each(|place| *place = Place::whole(place.incarnation, first.saturating_sub(1)));
        }
        write.keep(POSITION, Some(needs.to_string().as_bytes()))?;
        write.commit(self.stand.reader, self.written.as_ref(), &written)?;
        Ok(written)
    }
}

impl Sink for SnippetsSink {
    fn position(&self) -> Result<Option<Position>, SinkError> {
        Ok(self.reached.clone())
    }

    fn furthest(&self) -> Result<Option<Position>, SinkError> {
        Ok(self.written.clone())
    }

    async fn write(
        &mut self,
        turn: &Turn<'_>,
        reaches: impl Fn(u64) -> Position + Send,
    ) -> Result<Option<u64>, SinkError> {
        let (Some(first), Some(last)) = (turn.deliveries.first(), turn.deliveries.last()) else { return Ok(None) };
        if !self.wait(last.stored_at).await {
            return Ok(None);
        }
        block_in_place(|| self.read(turn, reaches(first.sequence)));
        let Some((held, reached)) = self.held.as_ref().and_then(|held| Some((held, held.reached?))) else {
            return Ok(None);
        };
        if !held.is_due(turn, self.patience) {
            return Ok(None);
        }
        let position = reaches(reached);
        self.send(&position)?;
        // Not before: what was read at once may be hours.
        self.memory.forget(self.keep);
        self.gaps.clear();
        self.held = None;
        self.reached = Some(position);
        Ok(Some(reached))
    }

    async fn tick(&mut self) -> Result<(), SinkError> {
        // An alert may be noted after the last reading came.
        match (self.reached.clone(), &self.held) {
            (Some(position), None) => self.send(&position),
            _ => Ok(()),
        }
    }
}
