//! One class of one site into a store: what is not exported yet of a selection, range by range.
//!
//! A stream is read from front to back, every message of it, so that what is missing is seen. The rows of a range are collected,
//! sorted, written as files, and committed by the range's record. A job that was killed reads on behind the last record; what
//! it had written of the next range is written again, to the same bytes. So is a file that was lost or cut off, as long as the
//! stream still holds its range.

use eddy_runtime::client::{Client, ClientError, ReadFrom, StreamInfo};
use eddy_schemas::Timestamp;
use futures_util::StreamExt as _;

use crate::{
    class::Class,
    done::{Done, Hole},
    manifest::{self, ManifestError, Naming, Record},
    policy::{Heads, Policy, Raw},
    progress::Progress,
    range::Range,
    rows::Taking,
    select::{Cut, Selection},
    source::{Reader, Source},
    store::{Store, StoreError},
};

/// Why an export ended early.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The gateway or hub.
    #[error(transparent)]
    Gateway(#[from] ClientError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What the store says of itself.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The policy.
    #[error("{0}")]
    Policy(String),
    /// Two writers.
    #[error("{path}: another writer exported from there, and cut otherwise: one writer for each place and site")]
    OtherWriter {
        /// The record that was to be written.
        path: String,
    },
    /// Files were lost that cannot be made again.
    #[error(
        "{path} is missing or cut off, and {stream} no longer gives the same file: {problem}; bring it back, or remove the record \
         {record}: the range is then exported anew, with what the stream still holds"
    )]
    Lost {
        /// The record of its range.
        record: String,
        /// A file.
        path: String,
        /// Its stream.
        stream: String,
        /// Why not.
        problem: String,
    },
    /// Arrow or Parquet refused rows, which is a mistake in this program.
    #[error("writing Parquet: {0}")]
    Encode(String),
}

/// What a job is done with.
#[derive(Debug)]
pub struct Job<'a> {
    /// The gateway or hub.
    pub client: &'a Client,
    /// Which of them it is.
    pub source: Source,
    /// The gateway's site, or one of the hub's.
    pub site: &'a str,
    /// Where to.
    pub store: &'a Store,
    /// Which rows.
    pub selection: &'a Selection,
    /// Where the stream is cut.
    pub cut: Cut,
    /// What may leave.
    pub policy: &'a Policy,
    /// Which heads may.
    pub heads: &'a Heads,
    /// Nothing is written.
    pub dry_run: bool,
    /// Only ranges that no later message can belong to are written, judged by this wall clock.
    pub only_complete_at: Option<Timestamp>,
    /// Who watches.
    pub progress: &'a Progress,
}

/// How far a class is exported that is followed.
#[derive(Clone, Debug)]
pub struct At {
    /// Of the stream.
    incarnation: i64,
    /// The newest record that was seen.
    record: String,
    /// Where it goes on.
    next: u64,
}

/// What became of a class.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The records of the selection, those that were there before too; of a dry run those that there would be, without files.
    pub records: Vec<Record>,
    /// Files that were written now.
    pub written: u64,
    /// Bytes in them.
    pub written_bytes: u64,
    /// Rows that were committed now.
    pub written_rows: u64,
    /// Sequences in the gaps of what was committed now.
    pub missing: u64,
    /// Sequences of the selection that are in no range yet.
    pub pending: u64,
    /// The most rows that were held at once.
    pub rows_held_max: usize,
}

impl Job<'_> {
    /// Exports what of `class` is not exported yet.
    ///
    /// # Errors
    /// See [`ExportError`]; what is committed by then is.
    pub async fn run(&self, class: Class) -> Result<Report, ExportError> {
        self.policy.check(class).map_err(ExportError::Policy)?;
        let (info, naming) = self.naming(class).await?;
        let (first, last) = self.selection.sequences.unwrap_or((1, u64::MAX));
        let (first, last) = (first.max(1), last.min(info.last_sequence));
        let done = Done::load(self.store, &naming).await?;
        let mut report = Report::default();
        self.progress.begin(class, first, last);
        let mut lost = None;
        for hole in done.holes(first, last) {
            match self.fill(&naming, &hole, &mut report).await {
                // What cannot be made again holds nothing else up.
                Err(error @ ExportError::Lost { .. }) => lost = lost.or(Some(error)),
                filled => filled?,
            }
        }
        if let Some(error) = lost {
            self.progress.end();
            return Err(error);
        }
        report.records.extend(done.within(first, last));
        report.records.sort_by_key(|record| record.first);
        self.progress.end();
        Ok(report)
    }

    /// Exports what of `class` came behind its newest record. What lies before is not looked at: so a round costs the same however
    /// much was exported.
    ///
    /// # Errors
    /// See [`ExportError`].
    pub async fn follow(&self, class: Class, at: &mut Option<At>) -> Result<Report, ExportError> {
        self.policy.check(class).map_err(ExportError::Policy)?;
        let (info, naming) = self.naming(class).await?;
        if at.is_none() {
            // Whether the place holds another selection's files; once, for it costs as much as there are.
            manifest::records(self.store, &naming).await?;
        }
        let known = at.take().filter(|at| at.incarnation == info.incarnation);
        let mut now = known.unwrap_or(At { incarnation: info.incarnation, record: String::new(), next: 1 });
        if let Some((name, record)) = manifest::newest(self.store, &naming, &now.record).await? {
            now = At { record: name, next: now.next.max(record.last + 1), ..now };
        }
        let hole = Hole { first: now.next, last: info.last_sequence, redo: None };
        let mut report = Report::default();
        if hole.first <= hole.last {
            self.fill(&naming, &hole, &mut report).await?;
        }
        if let Some(last) = report.records.last() {
            now = At { record: naming.record(last.first), next: last.last + 1, ..now };
        }
        *at = Some(now);
        Ok(report)
    }

    /// The state of the stream that has `class`, and how its files are named.
    async fn naming(&self, class: Class) -> Result<(StreamInfo, Naming), ExportError> {
        let stream = self.source.stream(class, self.site);
        let missing = || ClientError::NoStream { what: stream.clone() };
        let info = self.client.stream(&stream).await?.ok_or_else(missing)?;
        let (site, tag) = (self.site.to_owned(), self.selection.filter.tag());
        let naming = Naming { class, site, stream, incarnation: info.incarnation, tag };
        Ok((info, naming))
    }

    /// Reads the messages of a hole, and commits them range by range.
    async fn fill(&self, naming: &Naming, hole: &Hole, report: &mut Report) -> Result<(), ExportError> {
        let mut range = Range::new(naming.class, hole.first);
        loop {
            let before = range.next_sequence();
            range = self.read(naming, range, hole, report).await?;
            // A reader may end early; where one begins and nothing comes any more, nothing is there.
            if range.next_sequence() > hole.last || range.next_sequence() == before {
                break;
            }
        }
        range.reach(hole.last);
        let now = self.only_complete_at.filter(|_| hole.redo.is_none());
        let is_complete = now.is_none_or(|now| range.is_over_at(now, &self.cut));
        if !range.is_empty() && is_complete {
            self.finish(naming, range, hole, report).await?;
        } else {
            report.pending += range.len();
        }
        Ok(())
    }

    /// Reads what is there of a hole, from where `range` is on; returns the range that is not full.
    async fn read(
        &self,
        naming: &Naming,
        mut range: Range,
        hole: &Hole,
        report: &mut Report,
    ) -> Result<Range, ExportError> {
        let reader = Reader::new(self.source, naming.class, self.site);
        let from = ReadFrom::Sequence(range.next_sequence());
        let mut messages = self.client.read(&naming.stream, &[], from).await?;
        while let Some(message) = messages.next().await {
            let message = message?;
            if message.sequence > hole.last {
                break;
            }
            if hole.redo.is_none() && range.is_over_before(&message, &self.cut) {
                range = self.finish(naming, range, hole, report).await?;
            }
            range.take(&message, &reader, Taking { filter: &self.selection.filter, heads: self.heads });
            report.rows_held_max = report.rows_held_max.max(range.rows());
            self.progress.at(message.sequence);
            if hole.redo.is_none() && range.is_full(&self.cut) {
                range = self.finish(naming, range, hole, report).await?;
            }
        }
        Ok(range)
    }

    /// Writes a range and its record; returns the next one, empty.
    async fn finish(
        &self,
        naming: &Naming,
        range: Range,
        hole: &Hole,
        report: &mut Report,
    ) -> Result<Range, ExportError> {
        let next = Range::new(naming.class, range.next_sequence());
        let mut record = range.record(naming);
        record.filter = naming.tag.as_ref().map(|_| self.selection.filter.clone());
        let is_raw = matches!(naming.class, Class::Readings | Class::Samples)
            || naming.class == Class::Embeddings && self.policy.allows(Raw::Heads);
        if is_raw {
            // A file that is made again has the purpose that it had.
            record.purpose.clone_from(hole.redo.as_ref().map_or(&self.policy.purpose, |before| &before.purpose));
        }
        if self.dry_run {
            report.records.push(record);
            return Ok(next);
        }
        let naming_of_files = naming.clone();
        let encoding = tokio::task::spawn_blocking(move || range.files(&naming_of_files, record));
        let (record, files) = match encoding.await {
            Ok(encoded) => encoded.map_err(|error| ExportError::Encode(error.to_string()))?,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        if let Some(before) = hole.redo.as_ref().filter(|before| **before != record) {
            let file = before.files.iter().zip(&record.files).find(|(a, b)| a != b).map(|(a, _)| a.path.clone());
            return Err(ExportError::Lost {
                record: naming.record(before.first),
                path: file.or_else(|| before.files.first().map(|file| file.path.clone())).unwrap_or_default(),
                stream: record.stream,
                problem: match record.rows {
                    rows if rows == before.rows => {
                        "as many rows, other bytes: another policy or another release wrote it".into()
                    }
                    rows => format!("{rows} rows where there were {}", before.rows),
                },
            });
        }
        for (entry, bytes) in record.files.iter().zip(files) {
            if !self.is_there(&entry.path, &bytes).await? {
                report.written += 1;
                report.written_bytes += bytes.len() as u64;
                self.store.put(&entry.path, bytes.into()).await?;
            }
        }
        self.commit(naming, &record).await?;
        report.written_rows += record.rows;
        report.missing += record.gaps.iter().map(|gap| gap.last - gap.first + 1).sum::<u64>();
        report.records.push(record);
        Ok(next)
    }

    /// Whether a file was written before, by a job that was killed before its record was.
    async fn is_there(&self, path: &str, bytes: &[u8]) -> Result<bool, StoreError> {
        let there = self.store.get(path).await?;
        Ok(there.is_some_and(|there| there[..] == *bytes))
    }

    async fn commit(&self, naming: &Naming, record: &Record) -> Result<(), ExportError> {
        let (path, bytes) = (naming.record(record.first), record.bytes());
        if self.store.create(&path, bytes.clone()).await? {
            return Ok(());
        }
        // It is this job's own, if its answer was lost or a file of it was made again.
        let is_same = self.store.get(&path).await?.is_some_and(|there| there == bytes);
        if is_same { Ok(()) } else { Err(ExportError::OtherWriter { path }) }
    }
}
