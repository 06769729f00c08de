//! The judge of what came to the region: a plain NATS client that reads a gateway's DETECTIONS and the hub's stream of its site,
//! follows the chains there, and compares.
//!
//! It shares no code with sync, the hub or the runtime's client, so that a fault of theirs cannot hide itself. Only the formats of
//! messages are shared.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, ensure};
use async_nats::jetstream::{self, consumer::pull::OrderedConfig};
use eddy_schemas::{
    Scores, flags, names,
    sync::wire::{Action, Batch, Codes, Entries, VectorDelta, entry::What},
};
use futures_util::StreamExt as _;
use prost::Message as _;

/// A message of the gateway's DETECTIONS, and a row of it.
pub type Row = (u64, u32);

/// A window that was kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// Canonical text of its series.
    pub series: String,
    /// Event time of its last sample.
    pub end: i64,
    /// Its anomaly score.
    pub score: f32,
    /// Its vector; empty where it travelled in codes that a codebook reads.
    pub vector: Vec<f32>,
}

/// What a gateway has to tell.
#[derive(Debug, Default)]
pub struct Told {
    /// Alerts by their events' ids.
    pub alerts: BTreeMap<String, Vec<u8>>,
    /// Windows.
    pub windows: BTreeMap<Row, Window>,
    /// When the gateway's server stored each alert, in nanoseconds of its clock.
    pub alerts_at: BTreeMap<String, i64>,
    /// And each message of scores.
    pub scores_at: BTreeMap<u64, i64>,
}

/// What is named as missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Its class.
    pub class: String,
    /// The first number.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// How many entries, or messages.
    pub count: u64,
    /// See [`eddy_schemas::sync::wire::Cause`].
    pub cause: i32,
}

/// What was sent of a site.
#[derive(Debug, Default)]
pub struct Sent {
    /// Alerts, in their order.
    pub alerts: Vec<Vec<u8>>,
    /// Windows, in theirs.
    pub windows: Vec<(Row, Window)>,
    /// When the hub's server stored each alert, in nanoseconds of its clock.
    pub alerts_at: Vec<i64>,
    /// And each window.
    pub windows_at: Vec<i64>,
    /// Gaps.
    pub gaps: Vec<Gap>,
    /// Chains by class, in their order.
    pub chains: BTreeMap<String, Vec<Vec<u8>>>,
}

/// What comes of comparing the two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Alerts and windows that the gateway has and the region has not.
    pub lost: u64,
    /// Those that the region has more than once.
    pub duplicated: u64,
    /// Those that differ, or that the gateway does not know.
    pub altered: u64,
    /// The first of each kind, for the reader.
    pub examples: Vec<String>,
}

/// Where a class's chain stands.
struct End {
    chain: Vec<u8>,
    number: u64,
    last: u64,
    receipt: Vec<u8>,
}

/// Reads a gateway's DETECTIONS.
///
/// # Errors
/// If the stream cannot be read, or holds what is no alert and no scores, or an alert twice.
pub async fn told(gateway: &jetstream::Context, site: &str) -> anyhow::Result<Told> {
    let alerts = format!("alerts.{}.", names::encode(site));
    let mut told = Told::default();
    each(gateway, "DETECTIONS", |Place { sequence, stored }, subject, payload| {
        if subject.starts_with(&alerts) {
            let id = id(payload)?;
            told.alerts_at.insert(id.clone(), stored);
            let twice = told.alerts.insert(id.clone(), payload.to_vec());
            ensure!(twice.is_none(), "the gateway itself has alert {id} twice");
            return Ok(());
        }
        let scores = Scores::decode(payload)?;
        told.scores_at.insert(sequence, stored);
        for row in 0..scores.rows.len() {
            let Some(kept) = scores.window(row) else { continue };
            let marks = scores.flags[row];
            if marks & flags::EPISODE != 0 && marks & (flags::KEPT | flags::ALERTED) == 0 {
                continue; // For the gateway's own index alone.
            }
            let vector: Vec<f32> = kept.vector.iter().map(|x| x.to_f32()).collect();
            // Beyond what 16-bit floats hold: near to nothing, so that nobody is told of it.
            if vector.iter().all(|x| x.is_finite()) {
                let (series, end, score) = (scores.rows.name(row).to_owned(), scores.rows.time[row], scores.score[row]);
                told.windows.insert((sequence, row as u32), Window { series, end, score, vector });
            }
        }
        Ok(())
    })
    .await?;
    Ok(told)
}

/// Reads the hub's stream of a site, and follows its chains.
///
/// # Errors
/// If the stream cannot be read, or where a chain does not hold.
pub async fn sent(hub: &jetstream::Context, site: &str) -> anyhow::Result<Sent> {
    let prefix = format!("sync.{}.", names::encode(site));
    let (mut sent, mut ends) = (Sent::default(), BTreeMap::new());
    each(hub, &format!("SITE_{}", names::encode(site)), |place, subject, payload| {
        let Some(class) = subject.strip_prefix(&prefix) else { return Ok(()) };
        let batch = Batch::decode(payload)?;
        let says = (batch.site.as_str(), batch.class().token());
        ensure!(says == (site, class), "a batch of {says:?} on {subject}");
        sent.follow(&mut ends, class, &batch, payload)?;
        sent.take(class, &batch, place.stored)
    })
    .await?;
    Ok(sent)
}

impl Sent {
    /// A batch follows the one before it of its class, or begins a chain that says which one it replaces.
    fn follow(
        &mut self,
        ends: &mut BTreeMap<String, End>,
        class: &str,
        batch: &Batch,
        payload: &[u8],
    ) -> anyhow::Result<()> {
        let number = batch.number;
        match ends.get(class) {
            Some(end) if end.chain == batch.chain => {
                let follows = (number, batch.first) == (end.number + 1, end.last + 1);
                ensure!(
                    follows,
                    "{class}: batch {number} from {} on after {} up to {}",
                    batch.first,
                    end.number,
                    end.last
                );
                ensure!(
                    batch.previous == end.receipt,
                    "{class}: batch {number} hangs on another one than that before it"
                );
            }
            before => {
                let replaced = before.map(|end| end.chain.clone()).unwrap_or_default();
                ensure!(number == 1 && batch.previous.is_empty(), "{class}: a chain begins with batch {number}");
                ensure!(batch.replaces == replaced, "{class}: a chain does not say which one it replaces");
                self.chains.entry(class.to_owned()).or_default().push(batch.chain.to_vec());
            }
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(&batch.previous).update(payload);
        let receipt = hasher.finalize().as_bytes().to_vec();
        ends.insert(class.to_owned(), End { chain: batch.chain.to_vec(), number, last: batch.last, receipt });
        Ok(())
    }

    /// Each number from the first to the last is an entry's, or a gap's.
    fn take(&mut self, class: &str, batch: &Batch, stored: i64) -> anyhow::Result<()> {
        let plain = if batch.entries.is_empty() {
            Vec::new()
        } else {
            zstd::bulk::decompress(&batch.entries, batch.entries_bytes as usize)?
        };
        let entries = Entries::decode(plain.as_slice())?;
        let (mut number, mut gaps) = (batch.first, batch.gaps.iter().peekable());
        for entry in &entries.entries {
            while let Some(gap) = gaps.next_if(|gap| gap.first == number) {
                number = gap.last + 1;
            }
            ensure!(entry.id == number, "{class}: {number} is neither an entry nor in a gap");
            number += 1;
            match &entry.what {
                Some(What::Alert(alert)) => {
                    self.alerts.push(alert.to_vec());
                    self.alerts_at.push(stored);
                }
                Some(What::Delta(delta)) if delta.action() == Action::Insert => {
                    let series = entries.series.get((delta.series as usize).wrapping_sub(1));
                    let series = series.with_context(|| format!("{class}: entry {} has no series", entry.id))?;
                    self.windows.push(((delta.sequence, delta.row), window(series.clone(), delta)));
                    self.windows_at.push(stored);
                }
                _ => {}
            }
        }
        for gap in gaps {
            ensure!(gap.first == number, "{class}: {number} is neither an entry nor in a gap");
            number = gap.last + 1;
        }
        ensure!(number == batch.last + 1, "{class}: {number} to {} are neither entries nor in a gap", batch.last);
        self.gaps.extend(batch.gaps.iter().map(|gap| Gap {
            class: class.to_owned(),
            first: gap.first,
            last: gap.last,
            count: gap.count,
            cause: gap.cause,
        }));
        Ok(())
    }
}

fn window(series: String, delta: &VectorDelta) -> Window {
    let decode = |code: &u8| {
        let code = f32::from(code.cast_signed());
        code * code.abs() * delta.scale
    };
    let vector = match delta.codes() {
        Codes::Int8 => delta.vector.iter().map(decode).collect(),
        _ => Vec::new(),
    };
    Window { series, end: delta.end, score: delta.score, vector }
}

impl Window {
    /// Whether it is the same window, its vector as near as a byte a component is.
    pub fn is(&self, other: &Self) -> bool {
        let largest = self.vector.iter().fold(0f32, |largest, x| largest.max(x.abs()));
        // Half a step where steps are largest, and what 16-bit floats round.
        let off = 1.02 * largest / 127.0 + largest / 1_024.0;
        let is_near = |(x, y): (&f32, &f32)| (x - y).abs() <= off;
        let known = (&self.series, self.end, self.score) == (&other.series, other.end, other.score);
        let vectors = other.vector.is_empty()
            || (self.vector.len() == other.vector.len() && self.vector.iter().zip(&other.vector).all(is_near));
        known && vectors
    }
}

impl Told {
    /// Adds what was told when the stream had come further; what it has dropped since then is kept.
    pub fn extend(&mut self, later: Self) {
        self.alerts.extend(later.alerts);
        self.windows.extend(later.windows);
        self.alerts_at.extend(later.alerts_at);
        self.scores_at.extend(later.scores_at);
    }

    /// Compares with what the region has.
    pub fn compare(&self, sent: &Sent) -> anyhow::Result<Comparison> {
        let mut found = Comparison::default();
        let mut examples: BTreeMap<&str, String> = BTreeMap::new();
        let (mut alerts, mut windows) = (BTreeSet::new(), BTreeSet::new());
        let mut note = |count: &mut u64, what: &'static str, which: String| {
            *count += 1;
            examples.entry(what).or_insert_with(|| format!("{what}: {which}"));
        };
        for alert in &sent.alerts {
            let id = id(alert)?;
            if self.alerts.get(&id) != Some(alert) {
                note(&mut found.altered, "altered in the region", format!("alert {id}"));
            } else if !alerts.insert(id.clone()) {
                note(&mut found.duplicated, "twice in the region", format!("alert {id}"));
            }
        }
        for (row, window) in &sent.windows {
            if !self.windows.get(row).is_some_and(|told| told.is(window)) {
                note(&mut found.altered, "altered in the region", format!("{} at {}", window.series, window.end));
            } else if !windows.insert(*row) {
                note(&mut found.duplicated, "twice in the region", format!("{} at {}", window.series, window.end));
            }
        }
        for id in self.alerts.keys().filter(|id| !alerts.contains(*id)) {
            note(&mut found.lost, "not in the region", format!("alert {id}"));
        }
        for (_, window) in self.windows.iter().filter(|(row, _)| !windows.contains(*row)) {
            note(&mut found.lost, "not in the region", format!("{} at {}", window.series, window.end));
        }
        found.examples = examples.into_values().collect();
        Ok(found)
    }
}

/// The id of an alert's event.
///
/// # Errors
/// If it is none.
pub fn id(payload: &[u8]) -> anyhow::Result<String> {
    let json: serde_json::Value = serde_json::from_slice(payload)?;
    Ok(json["id"].as_str().context("an alert without an id")?.to_owned())
}

/// Where a message lies in its stream, and since when.
struct Place {
    sequence: u64,
    stored: i64,
}

/// Gives every message that is there now to `take`: its place, subject, payload.
async fn each(
    context: &jetstream::Context,
    stream: &str,
    mut take: impl FnMut(Place, &str, &[u8]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let consumer = context.create_consumer_on_stream(OrderedConfig::default(), stream).await?;
    if consumer.cached_info().num_pending == 0 {
        return Ok(());
    }
    let mut messages = consumer.messages().await?;
    while let Some(message) = messages.next().await {
        let message = message?;
        let info = message.info().map_err(|error| anyhow::anyhow!("{error}"))?;
        let (pending, sequence) = (info.pending, info.stream_sequence);
        let stored = i64::try_from(info.published.unix_timestamp_nanos()).unwrap_or(i64::MAX);
        take(Place { sequence, stored }, &message.subject, &message.payload)
            .with_context(|| format!("{stream} message {sequence}"))?;
        if pending == 0 {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
