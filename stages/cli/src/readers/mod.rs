//! Recorded data as rows in time order: CSV in its variants, InfluxDB line protocol, JSON lines, and Parquet.
//!
//! A file is read once, from front to back, in its own order; several files are merged by event time
//! ([`merge::Merged`]). Nothing is sorted, dropped or repaired but labels: a recording is replayed as it was recorded.

mod columns;
pub mod csv;
pub mod exported;
pub mod json_lines;
pub mod line_protocol;
pub mod merge;
pub mod names;
mod object;
pub mod open;
pub mod parquet;
pub mod time;

pub use merge::Merged;
pub use names::Names;

use eddy_schemas::Timestamp;

/// One instant of one device: a line of a wide file, a value of a long one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// Event time.
    pub time: Timestamp,
    /// Index into [`Names`]' devices.
    pub device: u32,
    /// Series (index into [`Names`]' series) and value; at least one.
    pub values: Vec<(u32, f64)>,
}

/// How a path is to be read.
#[derive(Clone, Debug)]
pub struct ReadOptions {
    /// The device of files that name none; otherwise it comes from the file's name.
    pub device: Option<String>,
    /// What row numbers mean where a file has no times.
    pub rows: time::RowClock,
}

/// Why a file cannot be replayed at all.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct ReadError {
    /// The file.
    pub path: String,
    /// What is wrong, and what is taken.
    pub problem: String,
}

/// A file in its own order.
pub trait Source: Send {
    /// Reads the next row into `row`; `false` at the end.
    ///
    /// # Errors
    /// If the file cannot be read on (a damaged gzip, for example). A bad cell or line is skipped and counted.
    fn read(&mut self, names: &mut Names, row: &mut Row) -> Result<bool, ReadError>;

    /// Cells and lines that were not numbers or times so far.
    fn skipped(&self) -> &Skipped;
}

/// What was left out of a replay, and the first example of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// How many cells or lines.
    pub count: u64,
    /// The first: file, line and what was there.
    pub first: Option<String>,
}

impl Skipped {
    fn note(&mut self, example: impl FnOnce() -> String) {
        self.count += 1;
        if self.first.is_none() {
            self.first = Some(example());
        }
    }

    /// Both together.
    pub fn join(&mut self, other: &Self) {
        self.count += other.count;
        if self.first.is_none() {
            self.first.clone_from(&other.first);
        }
    }
}

#[cfg(test)]
mod tests;
