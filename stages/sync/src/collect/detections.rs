//! DETECTIONS into the queue: an alert or a label at once, everything else when enough of it waits.

use std::{sync::Arc, time::Duration};

use eddy_runtime::{
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
use tokio::{sync::watch, task::block_in_place, time::Instant};

use super::{
    CollectConfig, Stand,
    held::{Held, Patience, sequence},
    message::{Item, Reading},
    missed,
    noted::{self, Progress},
    now, plain,
    policy::{Policies, Share},
    sink_error,
    summaries::Summaries,
};
use crate::queue::{QueueError, Write};

/// How often what summaries carry is saved.
const SAVE_INTERVAL: Duration = Duration::from_secs(30);

/// The reader of DETECTIONS.
pub(super) struct DetectionsSink {
    stand: Stand,
    patience: Patience,
    bytes_max: usize,
    telemetry: Arc<Telemetry>,
    reading: Reading,
    pub(super) held: Option<Held>,
    /// Up to here everything is in the queue.
    queued: Option<Position>,
    /// Up to here everything is in the summaries: at or before that after a restart, and the same from then on.
    summed: Option<Position>,
    saved: Option<Instant>,
    /// For who waits for alerts.
    progress: watch::Sender<Progress>,
    /// Whether anything came since the last tick.
    came: bool,
}

impl DetectionsSink {
    pub(super) fn new(
        stand: Stand,
        mut config: CollectConfig,
        patience: Patience,
        telemetry: Arc<Telemetry>,
        progress: watch::Sender<Progress>,
    ) -> Result<Self, QueueError> {
        let snippets = !Policies::of(&config.policies, Share::Snippets).is_empty();
        let (summaries, summed) = Summaries::load(&stand.queue, config.period_s)?;
        let queued = stand.queue.position(stand.reader)?;
        config.coder.load(&stand.queue)?;
        if let Some(before) = Progress::load(&stand.queue)? {
            progress.send_replace(before);
        }
        Ok(Self {
            stand,
            patience,
            bytes_max: config.hold_bytes_max,
            telemetry,
            reading: Reading::new(config.coder, summaries, snippets),
            held: None,
            summed: summed.or_else(|| queued.clone()),
            queued,
            saved: None,
            progress,
            came: false,
        })
    }

    /// Reads what was not read yet.
    fn read(&mut self, turn: &Turn<'_>, begins: Position) {
        if self.held.as_ref().is_none_or(|held| !held.goes_on(&begins)) {
            self.reading.rolled_back();
            self.held = Some(Held::new(turn, begins));
        }
        let Some(held) = &mut self.held else { return };
        let queued = sequence(self.queued.as_ref());
        for (gap, delivery) in held.news(turn) {
            if let Some(gap) = gap {
                self.reading.missed(gap, queued);
            }
            let is_queued = delivery.sequence <= queued;
            let is_complete = if is_queued { self.reading.take_again(delivery) } else { self.reading.take(delivery) };
            held.read(delivery, is_complete);
        }
    }

    fn is_due(&self, held: &Held, turn: &Turn<'_>) -> bool {
        self.reading.urgent || self.reading.bytes >= self.bytes_max || held.is_due(turn, self.patience)
    }

    /// What was read, into the queue; returns up to where that has everything now.
    fn commit(&self, position: &Position, progress: Progress, save: bool) -> Result<Position, QueueError> {
        let is_note = |item: &Item| matches!(item, Item::Around(_));
        let mut room = if self.reading.items.iter().any(is_note) { noted::room(&self.stand.queue)? } else { 0 };
        let mut write = self.stand.queue.write()?;
        let mut traced = self.reading.traced.iter().peekable();
        for (index, item) in self.reading.items.iter().enumerate() {
            match item {
                Item::Around(noted) if room > 0 => {
                    room -= 1;
                    noted.note(&mut write)?;
                }
                Item::Around(noted) => noted.give_up(&mut write)?,
                Item::Missed(class, gap) => missed(&mut write, *class, "DETECTIONS", *gap)?,
                Item::Entry(class, entry) => match &entry.entries[0].what {
                    Some(What::Codebook(codebook)) => {
                        let digest = codebook.digest.clone();
                        push_codebook(&mut write, *class, &digest, entry)?;
                    }
                    _ => {
                        let number = write.push(*class, entry.clone())?;
                        if let Some((_, contexts)) = traced.next_if(|(at, _)| *at == index) {
                            write.trace(*class, number, contexts.clone(), now(&self.telemetry));
                        }
                    }
                },
            }
        }
        for summary in self.reading.summaries.due() {
            write.push(Class::Summaries, plain(What::Summary(summary.clone())))?;
        }
        if save {
            self.reading.summaries.save(&mut write, position)?;
        }
        self.reading.coder.save(&mut write)?;
        progress.save(&mut write)?;
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
        self.reading.committed(saved);
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
        self.came = true;
        let (Some(first), Some(last)) = (turn.deliveries.first(), turn.deliveries.last()) else { return Ok(None) };
        block_in_place(|| self.read(turn, reaches(first.sequence)));
        let Some((held, reached)) = self.held.as_ref().and_then(|held| Some((held, held.reached?))) else {
            return Ok(None);
        };
        let complete = turn.deliveries.iter().rev().find(|delivery| delivery.sequence == reached);
        let stored_at = complete.map_or(last.stored_at, |delivery| delivery.stored_at);
        let progress = Progress { stored_at, drained: last.pending == 0 && last.sequence == reached };
        let position = reaches(reached);
        if reached <= sequence(self.queued.as_ref()) && self.reading.items.is_empty() {
            // It was committed before the restart.
            self.committed(position, false);
            self.progress.send_replace(progress);
            return Ok(Some(reached));
        }
        if !self.is_due(held, turn) {
            // No alert is among what waits.
            self.progress.send_replace(progress);
            return Ok(None);
        }
        let started = Instant::now();
        let save = self.saved.is_none_or(|saved| saved.elapsed() >= SAVE_INTERVAL);
        let queued = block_in_place(|| self.commit(&position, progress, save)).map_err(|error| sink_error(&error))?;
        if save {
            self.saved = Some(Instant::now());
        }
        self.telemetry.commit_seconds(started.elapsed());
        self.queued = Some(queued);
        self.committed(position, save);
        self.progress.send_replace(progress);
        Ok(Some(reached))
    }

    async fn tick(&mut self) -> Result<(), SinkError> {
        if !std::mem::take(&mut self.came) {
            self.progress.send_modify(|progress| progress.drained = true);
        }
        Ok(())
    }
}
