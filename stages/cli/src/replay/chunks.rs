//! From rows to chunks: at most one message of each device, all of them encoded.

use std::collections::HashMap;

use bytes::Bytes;
use eddy_schemas::{ReadingsBuilder, Timestamp, names};

use crate::readers::{Merged, ReadError, Row, Skipped};

/// A message's bound in bytes, well below what the server takes.
const MESSAGE_BYTES_MAX: usize = 2 << 20;
/// Readings of a chunk at most, over all devices.
const CHUNK_READINGS_MAX: u64 = 262_144;

/// How large a chunk gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Readings of one device.
    pub device_readings: usize,
    /// Readings of all devices.
    pub readings: u64,
}

impl Limits {
    /// With this many readings a message.
    pub fn of(rows_per_message: u32) -> Self {
        Self { device_readings: rows_per_message as usize, readings: CHUNK_READINGS_MAX }
    }
}

/// A message for INGEST.
#[derive(Clone, Debug, PartialEq)]
pub struct OutMessage {
    /// `ingest.<site>.<device>`.
    pub subject: String,
    /// An Arrow IPC batch of readings.
    pub payload: Bytes,
}

/// Messages of different devices.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chunk {
    /// In the order in which their devices appear.
    pub messages: Vec<OutMessage>,
    /// Readings in all of them.
    pub readings: u64,
    /// Event time of the first row.
    pub first_time: Timestamp,
}

/// Cuts a recording into chunks.
pub struct Chunker {
    recording: Merged,
    limits: Limits,
    prefix: String,
    step: Option<i64>,
    /// By device.
    batches: HashMap<u32, ReadingsBuilder>,
    order: Vec<u32>,
    readings: u64,
    row: Row,
    /// The next value of `row`; at its length another row is due.
    next_value: usize,
}

impl Chunker {
    /// Of `recording`, for the site with this token. A paced replay cuts a chunk at each `step` nanoseconds of event time,
    /// so that each chunk can wait for its own moment.
    pub fn new(recording: Merged, limits: Limits, site_token: &str, step: Option<i64>) -> Self {
        Self {
            recording,
            limits,
            prefix: format!("ingest.{site_token}."),
            step,
            batches: HashMap::new(),
            order: Vec::new(),
            readings: 0,
            row: Row::default(),
            next_value: 0,
        }
    }

    /// The next chunk; `None` at the end.
    ///
    /// # Errors
    /// A file that cannot be read on.
    pub fn next_chunk(&mut self) -> Result<Option<Chunk>, ReadError> {
        let mut first_time = None;
        loop {
            if self.next_value >= self.row.values.len() {
                if !self.recording.next_row(&mut self.row)? {
                    self.row.values.clear();
                    return Ok(first_time.map(|time| self.finish(time)));
                }
                self.next_value = 0;
            }
            let time = *first_time.get_or_insert(self.row.time);
            let is_later = |step| self.row.time >= time.saturating_add(step);
            if self.is_full() || self.step.is_some_and(is_later) {
                return Ok(Some(self.finish(time)));
            }
            self.take_value();
        }
    }

    /// Whether the next value has to wait for the next chunk.
    fn is_full(&self) -> bool {
        let full =
            |batch: &ReadingsBuilder| batch.len() >= self.limits.device_readings || batch.bytes() >= MESSAGE_BYTES_MAX;
        self.readings >= self.limits.readings || self.batches.get(&self.row.device).is_some_and(full)
    }

    fn take_value(&mut self) {
        let (series, value) = self.row.values[self.next_value];
        let batch = self.batches.entry(self.row.device).or_insert_with(|| {
            self.order.push(self.row.device);
            ReadingsBuilder::default()
        });
        // Capture stamps the arrival; until then a reading arrived when it happened.
        batch.push(self.recording.names().series_name(series), self.row.time, value, 0, self.row.time);
        self.next_value += 1;
        self.readings += 1;
    }

    fn finish(&mut self, first_time: Timestamp) -> Chunk {
        let mut chunk = Chunk { readings: std::mem::take(&mut self.readings), first_time, ..Chunk::default() };
        for device in self.order.drain(..) {
            let Some(mut batch) = self.batches.remove(&device) else { continue };
            let token = names::encode(self.recording.names().device_name(device));
            let message = OutMessage { subject: format!("{}{token}", self.prefix), payload: batch.encode().into() };
            chunk.messages.push(message);
        }
        chunk
    }

    /// What the files held that was no number or time.
    pub fn skipped(&self) -> Skipped {
        self.recording.skipped()
    }
}

#[cfg(test)]
mod tests {
    use eddy_schemas::Readings;

    use super::*;
    use crate::readers::{ReadOptions, open::BytesRead, time::RowClock};

    /// Every reading that the chunks carry, by device, in order; and the most readings in a message.
    fn cut(limits: Limits, step: Option<i64>) -> (Vec<(String, i64, f64)>, usize) {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let files = [
            write("b.csv", "time,x,y\n1970-01-01 00:00:01,1,2\n1970-01-01 00:00:03,3,4\n1970-01-01 00:00:02,5,6\n"),
            write("a.csv", "time,x\n1970-01-01 00:00:02,7\n1970-01-01 00:00:02,7\n1970-01-01 00:00:09,8\n"),
        ];
        let options = ReadOptions { device: None, rows: RowClock { start: 0, period: 1 } };
        let recording = Merged::open(&files, &options, &BytesRead::default()).unwrap();
        let mut chunker = Chunker::new(recording, limits, "s", step);
        let (mut all, mut most) = (Vec::new(), 0);
        while let Some(chunk) = chunker.next_chunk().unwrap() {
            let mut subjects: Vec<_> = chunk.messages.iter().map(|m| m.subject.clone()).collect();
            subjects.sort();
            subjects.dedup();
            assert_eq!(subjects.len(), chunk.messages.len(), "one message of a device in a chunk");
            for message in &chunk.messages {
                let batch = Readings::decode(&message.payload).unwrap();
                most = most.max(batch.rows.len());
                for row in 0..batch.rows.len() {
                    assert!(message.subject.ends_with(batch.rows.name(row).split('/').next().unwrap()));
                    all.push((batch.rows.name(row).to_owned(), batch.rows.time[row] / 1_000_000_000, batch.value[row]));
                }
            }
        }
        all.sort_by(|x, y| x.0.split('/').next().cmp(&y.0.split('/').next()));
        (all, most)
    }

    #[test]
    fn a_devices_readings_keep_their_order_however_they_are_cut() {
        let of = |series: &str, time, value| (series.to_owned(), time, value);
        let expected = vec![
            of("a/x", 2, 7.0),
            of("a/x", 2, 7.0),
            of("a/x", 9, 8.0),
            of("b/x", 1, 1.0),
            of("b/y", 1, 2.0),
            of("b/x", 3, 3.0),
            of("b/y", 3, 4.0),
            of("b/x", 2, 5.0),
            of("b/y", 2, 6.0),
        ];
        for (device_readings, readings, step) in
            [(1, 100, None), (2, 100, None), (4, 3, None), (100, 100, None), (100, 100, Some(1))]
        {
            let (all, most) = cut(Limits { device_readings, readings }, step);
            assert_eq!(all, expected, "{device_readings} {readings} {step:?}");
            assert!(most <= device_readings);
        }
    }
}
