//! The demo's judge: a plain NATS client that knows only the recording's files and the streams.
//!
//! It shares no code with replay, its readers or the runtime's client, so that a fault of theirs cannot hide itself: it reads
//! the files anew (the generator's one layout: a header, RFC 3339 times, a column per channel), and the streams with
//! its own consumer. Only the formats of messages are shared.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io::Read as _,
    path::Path,
};

use anyhow::Context as _;
use async_nats::jetstream::{self, consumer::pull::OrderedConfig};
use eddy_runtime::dead_letter::DeadLetter;
use eddy_schemas::{Readings, Rows, Scores, SeriesName, flags};
use futures_util::StreamExt as _;

/// Series and time.
type Key = (String, i64);

/// What a recording holds.
#[derive(Debug, Default)]
pub struct Recording {
    /// All readings, repeated ones too.
    pub readings: u64,
    /// Each series and time once.
    pub unique: HashSet<Key>,
}

/// What became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Score rows of series (not the joint ones of devices).
    pub scored: u64,
    /// Series and times of the recording that were neither scored nor put aside with a reason.
    pub lost: u64,
    /// Score rows beyond the first of a series and time.
    pub duplicated: u64,
    /// Score rows that no reading of the recording explains.
    pub unexplained: u64,
    /// Readings put aside as late or refused.
    pub aside: u64,
    /// The first of each kind that is wrong, for the reader.
    pub examples: Vec<String>,
}

impl Recording {
    /// Reads every `.csv.gz` of `folder`.
    ///
    /// # Errors
    /// A file that is not as the generator writes it.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let mut recording = Self::default();
        for entry in folder.read_dir().with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let Some(stem) = name.strip_suffix(".csv.gz") else { continue };
            let mut text = String::new();
            let file = std::fs::File::open(&path).with_context(|| name.clone())?;
            flate2::read::GzDecoder::new(file).read_to_string(&mut text).with_context(|| name.clone())?;
            recording.add(&eddy_schemas::names::decode(stem), &text).with_context(|| name.clone())?;
        }
        anyhow::ensure!(recording.readings > 0, "{}: no readings", folder.display());
        Ok(recording)
    }

    fn add(&mut self, device: &str, text: &str) -> anyhow::Result<()> {
        let mut lines = text.lines();
        let channels: Vec<&str> = lines.next().context("no header")?.split(',').skip(1).collect();
        for line in lines {
            let mut cells = line.split(',');
            let time: jiff::Timestamp = cells.next().unwrap_or_default().parse().with_context(|| line.to_owned())?;
            let time = i64::try_from(time.as_nanosecond())?;
            for (channel, cell) in channels.iter().zip(cells) {
                if !cell.is_empty() {
                    self.readings += 1;
                    self.unique.insert((SeriesName::encode(device, channel), time));
                }
            }
        }
        Ok(())
    }
}

/// Counts what the streams hold of a recording.
#[derive(Debug, Default)]
struct Counts {
    scores: HashMap<Key, u64>,
    aside: HashSet<Key>,
}

impl Counts {
    fn rows(rows: &Rows) -> impl Iterator<Item = (usize, Key)> {
        let measured = (0..rows.len()).filter(|row| rows.control(*row).is_none());
        measured.map(|row| (row, (rows.name(row).to_owned(), rows.time[row])))
    }

    fn scores(&mut self, payload: &[u8]) -> anyhow::Result<()> {
        let batch = Scores::decode(payload)?;
        for (row, key) in Self::rows(&batch.rows) {
            if batch.flags[row] & flags::JOINT == 0 {
                *self.scores.entry(key).or_default() += 1;
            }
        }
        Ok(())
    }

    fn late(&mut self, payload: &[u8]) -> anyhow::Result<()> {
        self.aside.extend(Self::rows(&Readings::decode(payload)?.rows).map(|(_, key)| key));
        Ok(())
    }

    /// A refused message counts for every reading in it, as far as they can still be read.
    fn dead(&mut self, payload: &[u8]) -> anyhow::Result<()> {
        for letter in DeadLetter::read(payload)? {
            if let Ok(batch) = Readings::decode(&letter.original()?) {
                self.aside.extend(Self::rows(&batch.rows).map(|(_, key)| key));
            }
        }
        Ok(())
    }

    fn verdict(&self, recording: &Recording) -> Verdict {
        let mut verdict = Verdict { scored: self.scores.values().sum(), ..Verdict::default() };
        let mut examples = BTreeMap::new();
        let mut note = |what: &str, (series, time): &Key| {
            examples
                .entry(what.to_owned())
                .or_insert_with(|| format!("{what}: {series} at {}", eddy_schemas::rfc3339(*time)));
        };
        for (key, count) in &self.scores {
            if *count > 1 {
                verdict.duplicated += count - 1;
                note("duplicated", key);
            }
            if !recording.unique.contains(key) {
                verdict.unexplained += count;
                note("unexplained", key);
            }
        }
        for key in &recording.unique {
            if !self.scores.contains_key(key) && !self.aside.contains(key) {
                verdict.lost += 1;
                note("lost", key);
            }
        }
        verdict.aside = self.aside.len() as u64;
        verdict.examples = examples.into_values().collect();
        verdict
    }
}

/// Judges what the streams at `url` hold of `recording`.
///
/// # Errors
/// If the streams cannot be read, or hold what is no batch.
pub async fn judge(url: &str, site: &str, recording: &Recording) -> anyhow::Result<Verdict> {
    let context = jetstream::new(async_nats::connect(url).await?);
    let token = eddy_schemas::names::encode(site);
    let mut counts = Counts::default();
    each(&context, "DETECTIONS", &format!("scores.{token}.>"), |payload| counts.scores(payload)).await?;
    each(&context, "SIDE", &format!("late.{token}.>"), |payload| counts.late(payload)).await?;
    each(&context, "SIDE", &format!("deadletter.{token}.>"), |payload| counts.dead(payload)).await?;
    Ok(counts.verdict(recording))
}

/// Every alert at `url`, as it was written.
///
/// # Errors
/// If the stream cannot be read.
pub async fn alerts(url: &str, site: &str) -> anyhow::Result<Vec<Vec<u8>>> {
    let context = jetstream::new(async_nats::connect(url).await?);
    let mut all = Vec::new();
    let filter = format!("alerts.{}.>", eddy_schemas::names::encode(site));
    each(&context, "DETECTIONS", &filter, |payload| {
        all.push(payload.to_vec());
        Ok(())
    })
    .await?;
    Ok(all)
}

/// Of all alerts, whatever their order between devices: BLAKE3 of the sorted payloads, a newline after each, 16 hex digits.
pub fn alerts_hash(mut alerts: Vec<Vec<u8>>) -> String {
    alerts.sort();
    let mut hasher = blake3::Hasher::new();
    for alert in &alerts {
        hasher.update(alert).update(b"\n");
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

/// Gives every message that is there now to `take`.
async fn each(
    context: &jetstream::Context,
    stream: &str,
    filter: &str,
    mut take: impl FnMut(&[u8]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let config = OrderedConfig { filter_subject: filter.to_owned(), ..Default::default() };
    let consumer = context.create_consumer_on_stream(config, stream).await?;
    if consumer.cached_info().num_pending == 0 {
        return Ok(());
    }
    let mut messages = consumer.messages().await?;
    while let Some(message) = messages.next().await {
        let message = message?;
        let info = message.info().map_err(|error| anyhow::anyhow!("{error}"))?;
        let (pending, sequence) = (info.pending, info.stream_sequence);
        take(&message.payload).with_context(|| format!("{stream} message {sequence}"))?;
        if pending == 0 {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use eddy_schemas::{ReadingsBuilder, ScoresBuilder};

    use super::*;

    #[test]
    fn lost_and_doubled_rows_are_seen() {
        let mut recording = Recording::default();
        recording
            .add("d.1", "time,t,h\n1970-01-01T00:00:01Z,1,2\n1970-01-01T00:00:01Z,1,2\n1970-01-01T00:00:02Z,,4\n")
            .unwrap();
        assert_eq!((recording.readings, recording.unique.len()), (5, 3));
        let second = 1_000_000_000;
        let mut counts = Counts::default();
        let mut scores = ScoresBuilder::new("b");
        for (series, time) in [("d%2E1/t", second), ("d%2E1/t", second), ("d%2E1/h", 7)] {
            scores.push(series, time, 0.0, 1.0, 0, None);
        }
        scores.push("d%2E1/*", second, 0.0, 1.0, flags::JOINT, None);
        counts.scores(&scores.encode()).unwrap();
        let mut late = ReadingsBuilder::default();
        late.push("d%2E1/h", 2 * second, 4.0, 0, 0);
        counts.late(&late.encode()).unwrap();
        let verdict = counts.verdict(&recording);
        let numbers = (verdict.scored, verdict.lost, verdict.duplicated, verdict.unexplained, verdict.aside);
        assert_eq!(numbers, (3, 1, 1, 1, 1));
        assert!(verdict.examples.contains(&"lost: d%2E1/h at 1970-01-01T00:00:01Z".to_owned()), "{verdict:?}");
    }

    #[test]
    fn the_hash_does_not_depend_on_the_order() {
        let (a, b) = (b"a".to_vec(), b"b".to_vec());
        assert_eq!(alerts_hash(vec![a.clone(), b.clone()]), alerts_hash(vec![b, a.clone()]));
        assert_ne!(alerts_hash(vec![a.clone()]), alerts_hash(vec![a.clone(), a]));
    }
}
