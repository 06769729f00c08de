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

/// How often what summaries carry is saved.
const SAVE_INTERVAL: Duration = Duration::from_secs(30);

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
    /// Up to here everything is in the queue.
    queued: Option<Position>,
    /// Up to here everything is in the summaries: at or before that after a restart, and the same from then on.
    summed: Option<Position>,
    saved: Option<Instant>,
}

fn sequence(position: Option<&Position>) -> u64 {
    position.and_then(|position| position.0.values().next()).map_or(0, |place| place.sequence)
}

impl DetectionsSink {
    pub(super) fn new(
        stand: Stand,
        config: CollectConfig,
        limits: &LimitsConfig,
        telemetry: Arc<Telemetry>,
    ) -> Result<Self, QueueError> {
        let (summaries, summed) = Summaries::load(&stand.queue, config.period_s)?;
        let queued = stand.queue.position(stand.reader)?;
        Ok(Self {
            stand,
            interval: config.commit_interval,
            bytes_max: config.hold_bytes_max,
            // The server delivers no more before some are acknowledged.
            messages_max: (limits.ack_pending_max / 2) as usize,
            telemetry,
            reading: Reading::new(config.coder, summaries),
            held: None,
            summed: summed.or_else(|| queued.clone()),
            queued,
            saved: None,
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
        let (next, queued) = (held.next, sequence(self.queued.as_ref()));
        for delivery in turn.deliveries.iter().skip_while(|delivery| delivery.sequence < next) {
            if let Some(gap) = hole(held.next, delivery) {
                self.reading.missed(gap, queued);
            }
            if self.reading.take(delivery) {
                held.reached = Some(delivery.sequence);
            }
            if delivery.sequence <= queued {
                self.reading.is_queued();
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

    /// What was read, into the queue; returns up to where that has everything now.
    fn commit(&self, position: &Position, save: bool) -> Result<Position, QueueError> {
        let mut write = self.stand.queue.write()?;
        for item in &self.reading.items {
            match item {
                Item::Missed(class, gap) => missed(&mut write, *class, "DETECTIONS", *gap)?,
                Item::Entry(class, entry) => match &entry.entries[0].what {
                    Some(What::Codebook(codebook)) => {
                        let digest = codebook.digest.clone();
                        push_codebook(&mut write, *class, &digest, entry)?;
                    }
                    _ => _ = write.push(*class, entry.clone())?,
                },
            }
        }
        for summary in self.reading.summaries.due() {
            write.push(Class::Summaries, plain(What::Summary(summary.clone())))?;
        }
        if save {
            self.reading.summaries.save(&mut write, position)?;
        }
        let queued = self.queued.as_ref().filter(|queued| sequence(Some(queued)) > sequence(Some(position)));
        let queued = queued.unwrap_or(position).clone();
        write.commit(self.stand.reader, self.queued.as_ref(), &queued)?;
        Ok(queued)
    }

    /// What is committed is not held any more; alerts behind it are read again with their scores.
    fn committed(&mut self, position: Position, saved: bool) {
        for problem in &self.reading.refused {
            tracing::error!(problem, "not queued for the region");
        }
        self.telemetry.rejected(Reason::Malformed, self.reading.refused.len() as u64);
        self.telemetry.received_rows(self.reading.rows);
        self.reading.clear();
        self.reading.summaries.committed(saved);
        self.summed = Some(position);
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
        Ok(self.summed.clone())
    }

    fn furthest(&self) -> Result<Option<Position>, SinkError> {
        Ok(self.queued.clone())
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
        let position = reaches(reached);
        if reached <= sequence(self.queued.as_ref()) && self.reading.items.is_empty() {
            // It was committed before the restart.
            self.committed(position, false);
            return Ok(Some(reached));
        }
        if !self.is_due(held, turn) {
            return Ok(None);
        }
        let started = Instant::now();
        let save = self.saved.is_none_or(|saved| saved.elapsed() >= SAVE_INTERVAL);
        let queued = block_in_place(|| self.commit(&position, save)).map_err(|error| sink_error(&error))?;
        if save {
            self.saved = Some(Instant::now());
        }
        self.telemetry.commit_seconds(started.elapsed());
        self.queued = Some(queued);
        self.committed(position, save);
        Ok(Some(reached))
    }

    async fn tick(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}
