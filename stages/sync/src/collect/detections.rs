//! DETECTIONS into the queue: an alert or a label at once, everything else when enough of it waits.

use std::{sync::Arc, time::Duration};

use eddy_runtime::{
    config::LimitsConfig,
    position::Position,
    store_loop::{Sink, SinkError, Turn},
    telemetry::Telemetry,
};
use eddy_schemas::{
    side::Reason,
    sync::{
        Class,
        wire::{self, entry::What},
    },
};
use tokio::{task::block_in_place, time::Instant};

use super::{
    CollectConfig, Stand, expected, hole,
    message::{Item, Reading},
    missed, plain, sink_error,
    summaries::Summaries,
};
use crate::queue::{QueueError, Write};

/// Classes that it feeds.
const CLASSES: [Class; 3] = [Class::Alerts, Class::Deltas, Class::Summaries];

/// Messages that were read and wait for their commit. The loop holds them too, and brings them again with more.
struct Held {
    /// What the first of them reaches: others that begin elsewhere, or in another stream, are read anew.
    begins: Position,
    /// What follows the last one that was read.
    next: u64,
    /// The last one that is complete.
    reached: Option<u64>,
    since: Instant,
}

/// The reader of DETECTIONS.
pub(super) struct DetectionsSink {
    stand: Stand,
    interval: Duration,
    bytes_max: usize,
    messages_max: usize,
    telemetry: Arc<Telemetry>,
    reading: Reading,
    held: Option<Held>,
}

impl DetectionsSink {
    pub(super) fn new(
        stand: Stand,
        config: CollectConfig,
        limits: &LimitsConfig,
        telemetry: Arc<Telemetry>,
    ) -> Result<Self, QueueError> {
        let summaries = Summaries::load(&stand.queue, config.period_s)?;
        Ok(Self {
            stand,
            interval: config.commit_interval,
            bytes_max: config.hold_bytes_max,
            // The server delivers no more before some are acknowledged.
            messages_max: (limits.ack_pending_max / 2) as usize,
            telemetry,
            reading: Reading::new(config.coder, summaries),
            held: None,
        })
    }

    /// Reads what was not read yet.
    fn read(&mut self, turn: &Turn<'_>, begins: Position) {
        if self.held.as_ref().is_none_or(|held| held.begins != begins) {
            self.reading.clear();
            self.reading.summaries.rolled_back();
            let next = expected(turn);
            self.held = Some(Held { begins, next, reached: None, since: Instant::now() });
        }
        let Some(held) = &mut self.held else { return };
        let next = held.next;
        for delivery in turn.deliveries.iter().skip_while(|delivery| delivery.sequence < next) {
            if let Some(gap) = hole(held.next, delivery) {
                self.reading.missed(gap);
            }
            if self.reading.take(delivery) {
                held.reached = Some(delivery.sequence);
            }
            held.next = delivery.sequence + 1;
        }
    }

    fn is_due(&self, held: &Held, turn: &Turn<'_>) -> bool {
        self.reading.urgent
            || held.since.elapsed() >= self.interval
            || self.reading.bytes >= self.bytes_max
            || turn.deliveries.len() >= self.messages_max
    }

    fn commit(&self, turn: &Turn<'_>, position: &Position) -> Result<(), QueueError> {
        let mut write = self.stand.queue.write()?;
        for item in &self.reading.items {
            match item {
                Item::Missed(gap) => {
                    CLASSES.into_iter().try_for_each(|class| missed(&mut write, class, "DETECTIONS", *gap))?;
                }
                Item::Entry(class, entry) => match &entry.entries[0].what {
                    Some(What::Codebook(codebook)) => {
                        let digest = codebook.digest.clone();
                        push_codebook(&mut write, *class, &digest, entry)?;
                    }
                    _ => _ = write.push(*class, entry.clone())?,
                },
            }
        }
        for summary in self.reading.summaries.write(&mut write)? {
            write.push(Class::Summaries, plain(What::Summary(summary.clone())))?;
        }
        write.commit(self.stand.reader, turn.before, position)
    }

    /// What is committed is not held any more; alerts behind it are read again with their scores.
    fn committed(&mut self) {
        for problem in &self.reading.refused {
            tracing::error!(problem, "not queued for the region");
        }
        self.telemetry.rejected(Reason::Malformed, self.reading.refused.len() as u64);
        self.telemetry.received_rows(self.reading.rows);
        self.reading.clear();
        self.reading.summaries.committed();
        self.held = None;
    }
}

/// What vectors are written by, unless the queue has had it.
fn push_codebook(write: &mut Write<'_>, class: Class, digest: &[u8], entry: &wire::Entries) -> Result<(), QueueError> {
    let key = [b"codebook/", digest].concat();
    if write.kept(&key)?.is_none() {
        let number = write.push_pinned(class, entry.clone())?;
        write.keep(&key, Some(&number.to_le_bytes()))?;
    }
    Ok(())
}

impl Sink for DetectionsSink {
    fn position(&self) -> Result<Option<Position>, SinkError> {
        self.stand.position()
    }

    async fn write(
        &mut self,
        turn: &Turn<'_>,
        reaches: impl Fn(u64) -> Position + Send,
    ) -> Result<Option<u64>, SinkError> {
        let Some(first) = turn.deliveries.first() else { return Ok(None) };
        block_in_place(|| self.read(turn, reaches(first.sequence)));
        let Some((held, reached)) = self.held.as_ref().and_then(|held| Some((held, held.reached?))) else {
            return Ok(None);
        };
        if !self.is_due(held, turn) {
            return Ok(None);
        }
        let position = reaches(reached);
        let started = Instant::now();
        block_in_place(|| self.commit(turn, &position)).map_err(|error| sink_error(&error))?;
        self.telemetry.commit_seconds(started.elapsed());
        self.committed();
        Ok(Some(reached))
    }

    async fn tick(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}
