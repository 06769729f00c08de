//! The messages of one range, as they are collected, and the files that they become.

use eddy_runtime::client::StoredMessage;
use eddy_schemas::Timestamp;
use parquet::errors::ParquetError;

use crate::{
    class::Class,
    file,
    manifest::{FileEntry, Gap, Naming, Record, Skipped},
    rows::{self, Taking, Unread},
    select::{Cut, MESSAGES_MAX},
    source::Reader,
    table::Table,
};

/// How long after a window's end a message of it may still be on its way to the disk.
const GRACE: i64 = 10_000_000_000;

/// See the module.
#[derive(Debug)]
pub struct Range {
    class: Class,
    first: u64,
    /// What comes next, if nothing is missing.
    next: u64,
    table: Table,
    messages: u64,
    /// When its first message was stored.
    stored_at: Option<Timestamp>,
    gaps: Vec<Gap>,
    skipped: u64,
    first_skipped: Option<Skipped>,
}

/// Of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Messages that were there.
    pub messages: u64,
    /// Rows that were taken.
    pub rows: u64,
}

impl Range {
    /// An empty one that begins at `first`.
    pub fn new(class: Class, first: u64) -> Self {
        Self {
            class,
            first,
            next: first,
            table: rows::table(class),
            messages: 0,
            stored_at: None,
            gaps: Vec::new(),
            skipped: 0,
            first_skipped: None,
        }
    }

    /// The rows that it holds.
    pub fn rows(&self) -> usize {
        self.table.len()
    }

    /// Whether it has no sequence.
    pub fn is_empty(&self) -> bool {
        self.next == self.first
    }

    /// How many sequences it has.
    pub fn len(&self) -> u64 {
        self.next - self.first
    }

    /// The sequence behind its last.
    pub fn next_sequence(&self) -> u64 {
        self.next
    }

    /// Takes the next message of the stream, and its rows as `reader` reads them.
    pub fn take(&mut self, message: &StoredMessage, reader: &Reader, taking: Taking<'_>) {
        self.reach(message.sequence - 1);
        self.next = message.sequence + 1;
        self.messages += 1;
        self.stored_at.get_or_insert(message.stored_at);
        if let Err(Unread { count, problem }) = reader.take(message, taking, &mut self.table) {
            let (class, sequence) = (self.class.name(), message.sequence);
            tracing::warn!(class, subject = message.subject, sequence, count, problem, "skipped");
            self.skipped += count;
            self.first_skipped.get_or_insert(Skipped { sequence, problem });
        }
    }

    /// Up to `sequence` nothing more comes.
    pub fn reach(&mut self, sequence: u64) {
        if sequence >= self.next {
            self.gaps.push(Gap { first: self.next, last: sequence });
            self.next = sequence + 1;
        }
    }

    /// Whether it is to end with the message that it took last.
    pub fn is_full(&self, cut: &Cut) -> bool {
        self.table.len() >= cut.rows || self.table.bytes() >= cut.bytes || self.messages >= MESSAGES_MAX
    }

    /// Whether it is to end before this message, which was stored in a later window.
    pub fn is_over_before(&self, message: &StoredMessage, cut: &Cut) -> bool {
        self.stored_at.is_some_and(|stored_at| cut.window(stored_at) < cut.window(message.stored_at))
    }

    /// Whether its window is over at that time.
    pub fn is_over_at(&self, now: Timestamp, cut: &Cut) -> bool {
        let end = self.stored_at.and_then(|stored_at| cut.window_end(stored_at));
        end.is_some_and(|end| end.saturating_add(GRACE) <= now)
    }

    /// How many messages and rows it has, however many gaps.
    pub fn counts(&self) -> Counts {
        Counts { messages: self.messages, rows: self.table.len() as u64 }
    }

    /// Its record, without files.
    pub fn record(&self, naming: &Naming) -> Record {
        Record {
            messages: self.messages,
            rows: self.table.len() as u64,
            gaps: self.gaps.clone(),
            skipped: self.skipped,
            first_skipped: self.first_skipped.clone(),
            ..Record::new(naming, self.first, self.next - 1)
        }
    }

    /// The bytes of its files, and `record` with them.
    ///
    /// # Errors
    /// The writer's.
    pub fn files(mut self, naming: &Naming, mut record: Record) -> Result<(Record, Vec<Vec<u8>>), ParquetError> {
        self.table.complete();
        let mut files = Vec::new();
        for (day, rows) in self.table.dates() {
            let bytes = file::encode(&self.table, &rows, self.metadata(&record, &rows))?;
            let blake3 = blake3::hash(&bytes).to_hex().to_string();
            record.files.push(FileEntry {
                path: naming.file(record.first, record.last, &date(day), &blake3),
                rows: rows.len() as u64,
                bytes: bytes.len() as u64,
                blake3,
            });
            files.push(bytes);
        }
        Ok((record, files))
    }

    fn metadata(&self, record: &Record, rows: &[u32]) -> Vec<(String, String)> {
        let mut pairs = vec![
            ("eddy.schema_version", file::SCHEMA_VERSION.to_owned()),
            ("eddy.class", record.class.name().to_owned()),
            ("eddy.site", record.site.clone()),
            ("eddy.stream", record.stream.clone()),
            ("eddy.incarnation", record.incarnation.to_string()),
            ("eddy.first", record.first.to_string()),
            ("eddy.last", record.last.to_string()),
        ];
        let bundles = self.table.distinct("bundle", rows);
        if !bundles.is_empty() {
            pairs.push(("eddy.bundle", bundles.join(",")));
        }
        if !record.purpose.is_empty() {
            pairs.push(("eddy.purpose", record.purpose.clone()));
        }
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

/// `YYYY-MM-DD` of a day since the Unix epoch.
fn date(day: i32) -> String {
    let midnight = jiff::Timestamp::from_second(i64::from(day) * 86_400);
    midnight.map_or_else(|_| format!("day{day}"), |midnight| midnight.strftime("%F").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_of_utc() {
        assert_eq!((date(0), date(-1), date(20_458)), ("1970-01-01".into(), "1969-12-31".into(), "2026-01-05".into()));
    }

    #[test]
    fn what_is_missing_is_a_gap() {
        let mut range = Range::new(Class::Alerts, 3);
        assert!(range.is_empty());
        range.reach(5);
        range.reach(5);
        let naming =
            Naming { class: Class::Alerts, site: "s".into(), stream: "DETECTIONS".into(), incarnation: 1, tag: None };
        let record = range.record(&naming);
        assert_eq!((record.first, record.last, record.gaps), (3, 5, vec![Gap { first: 3, last: 5 }]));
    }
}
