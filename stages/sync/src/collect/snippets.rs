//! Readings around alerts, of the series that a policy names.
//!
//! The reader of DETECTIONS notes each alert that opens, in its own transaction. This one reads READINGS, keeps the last
//! minutes of the named series in memory, and once a noted alert's time is over takes what lies around it: entries and the
//! note's removal are one transaction. What is in memory is not on disk: after a restart it is read again, from the oldest
//! message that was still needed.
//!
//! It does not run ahead of the other reader by more than what it keeps anyway, or an alert would be noted when its readings
//! are gone.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
    sync::Arc,
    time::Duration,
};

use eddy_runtime::{
    bus::Delivery,
    position::{Place, Position},
    store_loop::{Gap, Sink, SinkError, Turn},
    telemetry::Telemetry,
};
use eddy_schemas::{
    Readings, Timestamp,
    side::Reason,
    sync::{Class, wire},
};
use eddy_vectors::codec::{CodecError, Get, Put as _};
use tokio::{sync::watch, task::block_in_place, time::Instant};

use super::{
    Stand,
    held::{Held, sequence},
    missed,
    policy::{self, Policies, Policy},
    sink_error,
};
use crate::queue::{Queue, QueueError, Write};

/// Noted alerts are kept in the queue under keys that begin so; the alert follows.
const PREFIX: &[u8] = b"snippet/";
/// Before the first message that is still needed.
const POSITION: &[u8] = b"snippets-need";
/// Alerts that are noted at the same time.
const NOTED_MAX: usize = 1_000;
/// How far the reader of DETECTIONS may lie behind; and how long a silent series is waited for.
const BEHIND: Duration = Duration::from_secs(600);
/// Readings in memory.
const READINGS_MAX: usize = 1 << 20;
/// How often its position is written when there is nothing to send.
const SAVE_INTERVAL: Duration = Duration::from_secs(30);

/// An alert whose surroundings are wanted.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Noted {
    /// The alert.
    pub(super) alert: String,
    /// The device's token.
    pub(super) device: String,
    /// Event time of its opening.
    pub(super) time: Timestamp,
    /// When the server stored it.
    pub(super) stored_at: Timestamp,
}

impl Noted {
    fn record(&self) -> Vec<u8> {
        let mut record = Vec::new();
        record.put_i64(self.time);
        record.put_i64(self.stored_at);
        record.put_text(&self.device);
        record
    }

    fn read(alert: &[u8], record: &[u8]) -> Result<Self, CodecError> {
        let mut get = Get::new(record);
        let (time, stored_at, device) = (get.i64()?, get.i64()?, get.text()?);
        Ok(Self { alert: String::from_utf8_lossy(alert).into_owned(), device, time, stored_at })
    }

    fn key(&self) -> Vec<u8> {
        [PREFIX, self.alert.as_bytes()].concat()
    }

    /// Notes it with what else its message brings.
    pub(super) fn note(&self, write: &mut Write<'_>) -> Result<(), QueueError> {
        write.keep(&self.key(), Some(&self.record()))
    }

    /// Says that it was not noted.
    pub(super) fn give_up(&self, write: &mut Write<'_>) -> Result<(), QueueError> {
        let detail = format!("readings around {} of {}: {NOTED_MAX} alerts are waited for", self.alert, self.device);
        let cause = wire::Cause::Budget.into();
        write.gap(Class::Snippets, wire::Gap { count: 1, cause, detail, ..Default::default() })?;
        Ok(())
    }
}

/// How far the reader of DETECTIONS is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    /// When the last message whose alerts are noted was stored.
    pub(super) stored_at: Timestamp,
    /// Whether there is none behind it.
    pub(super) drained: bool,
}

impl Progress {
    pub(super) fn channel() -> (watch::Sender<Self>, watch::Receiver<Self>) {
        watch::channel(Self { stored_at: Timestamp::MIN, drained: false })
    }
}

/// A reading, and the message that brought it.
#[derive(Clone, Copy, Debug)]
struct Kept {
    time: Timestamp,
    value: f64,
    sequence: u64,
    stored_at: Timestamp,
}

/// What is in memory of READINGS.
#[derive(Debug, Default)]
struct Memory {
    series: BTreeMap<String, (usize, VecDeque<Kept>)>,
    readings: usize,
    newest_stored: Timestamp,
}

/// The reader of READINGS.
pub(super) struct SnippetsSink {
    stand: Stand,
    interval: Duration,
    messages_max: usize,
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
    saved: Instant,
}

fn nanoseconds(seconds: f64) -> i64 {
    (seconds * 1e9) as i64
}

impl Memory {
    fn take(&mut self, delivery: &Delivery, readings: &Readings, policies: &mut Policies) {
        let rows = &readings.rows;
        self.newest_stored = self.newest_stored.max(delivery.stored_at);
        for row in (0..rows.len()).filter(|row| rows.control(*row).is_none()) {
            let name = rows.name(row);
            let Some(policy) = policies.naming(name) else { continue };
            if !self.series.contains_key(name) {
                self.series.insert(name.to_owned(), (policy, VecDeque::new()));
            }
            let (time, value) = (rows.time[row], readings.value[row]);
            let (sequence, stored_at) = (delivery.sequence, delivery.stored_at);
            if let Some((_, kept)) = self.series.get_mut(name) {
                kept.push_back(Kept { time, value, sequence, stored_at });
                self.readings += 1;
            }
        }
    }

    /// Drops what nobody will ask for any more, and what is too much: of each series the oldest.
    fn forget(&mut self, keep: i64) {
        let each = (READINGS_MAX / self.series.len().max(1)).max(16);
        let oldest_stored = self.newest_stored.saturating_sub(keep);
        self.series.retain(|_, (_, kept)| {
            let oldest =
                kept.iter().map(|kept| kept.time).max().map_or(Timestamp::MIN, |newest| newest.saturating_sub(keep));
            let is_old = |one: &Kept| one.time < oldest || one.stored_at < oldest_stored;
            while kept.len() > each || kept.front().is_some_and(is_old) {
                kept.pop_front();
            }
            !kept.is_empty()
        });
        self.readings = self.series.values().map(|(_, kept)| kept.len()).sum();
    }

    /// The first message that anything here came from.
    fn needs(&self) -> Option<u64> {
        self.series.values().filter_map(|(_, kept)| kept.front()).map(|kept| kept.sequence).min()
    }

    /// The named series of a device.
    fn device(&self, token: &str) -> impl Iterator<Item = (&String, usize, &VecDeque<Kept>)> {
        let prefix = format!("{token}/");
        let from = (Bound::Included(prefix.clone()), Bound::Unbounded);
        let all = self.series.range::<String, _>(from).take_while(move |(name, _)| name.starts_with(&prefix));
        all.map(|(name, (policy, kept))| (name, *policy, kept))
    }

    /// Whether all that lies around the alert is here, or will not come. What led to it was stored before it was.
    fn is_complete(&self, noted: &Noted, policies: &[Policy]) -> bool {
        let is_behind = self.newest_stored < noted.stored_at;
        !is_behind
            && self.device(&noted.device).all(|(_, policy, kept)| {
                let after = nanoseconds(policies[policy].after_s);
                let waited = self.newest_stored.saturating_sub(noted.stored_at);
                let limit = after.saturating_add(BEHIND.as_nanos() as i64);
                kept.iter().any(|kept| kept.time > noted.time.saturating_add(after)) || waited > limit
            })
    }

    /// Entries of what lies around the alert.
    fn around(&self, noted: &Noted, policies: &[Policy]) -> Vec<wire::Entries> {
        let mut entries = Vec::new();
        for (name, policy, kept) in self.device(&noted.device) {
            let policy = &policies[policy];
            let from = noted.time.saturating_sub(nanoseconds(policy.before_s));
            let to = noted.time.saturating_add(nanoseconds(policy.after_s));
            let within = kept.iter().filter(|kept| (from..=to).contains(&kept.time));
            let mut readings: Vec<(i64, f64)> = within.map(|kept| (kept.time, kept.value)).collect();
            readings.sort_by_key(|(time, _)| *time);
            entries.extend(policy::entries(name, policy, &noted.alert, &readings));
        }
        entries
    }
}

impl SnippetsSink {
    pub(super) fn new(
        stand: Stand,
        policies: Policies,
        (interval, messages_max): (Duration, usize),
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
            interval,
            messages_max,
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
            let (reached, gaps) = (sequence(self.reached.as_ref()), &mut self.gaps);
            self.memory.series.values_mut().for_each(|(_, kept)| kept.retain(|kept| kept.sequence <= reached));
            gaps.clear();
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
            (held.reached, held.next) = (Some(delivery.sequence), delivery.sequence + 1);
        }
        self.memory.forget(self.keep);
    }

    /// Alerts whose time is over.
    fn due(&self) -> Result<Vec<Noted>, QueueError> {
        let queue = &self.stand.queue;
        let mut due = Vec::new();
        queue.kept(PREFIX, |alert, record| {
            let noted = Noted::read(alert, record).map_err(|error| queue.damaged(format!("a noted alert: {error}")))?;
            if self.memory.is_complete(&noted, self.policies.all()) {
                due.push(noted);
            }
            Ok::<_, QueueError>(())
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
            if entries.is_empty() && self.memory.device(&noted.device).next().is_some() {
                let detail = format!("readings around {} of {}", noted.alert, noted.device);
                let cause = wire::Cause::Source.into();
                write.gap(Class::Snippets, wire::Gap { count: 1, cause, detail, ..Default::default() })?;
            }
            entries.into_iter().try_for_each(|entry| write.push(Class::Snippets, entry).map(drop))?;
            write.keep(&noted.key(), None)?;
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

/// How many more alerts may be noted.
pub(super) fn room(queue: &Queue) -> Result<usize, QueueError> {
    let mut noted = 0;
    queue.kept(PREFIX, |_, _| {
        noted += 1;
        Ok::<_, QueueError>(())
    })?;
    Ok(NOTED_MAX.saturating_sub(noted))
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
        if held.since.elapsed() < self.interval && turn.deliveries.len() < self.messages_max {
            return Ok(None);
        }
        let position = reaches(reached);
        self.send(&position)?;
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
