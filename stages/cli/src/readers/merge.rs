//! Several files as one recording, by event time.

use std::{cmp::Reverse, collections::BinaryHeap, path::PathBuf};

use eddy_schemas::Timestamp;

use super::{
    Names, ReadError, ReadOptions, Row, Skipped, Source,
    open::{BytesRead, open},
};

/// Files that are open at once; beyond it merging by time would need more descriptors than a process may have.
pub const FILES_MAX: usize = 512;

/// The rows of all files: always the one whose time is least among the files' next rows. So each file keeps its own
/// order, out-of-order and repeated rows included.
pub struct Merged {
    names: Names,
    sources: Vec<(Box<dyn Source>, Row)>,
    next: BinaryHeap<Reverse<(Timestamp, usize)>>,
}

impl Merged {
    /// Opens all `files`.
    ///
    /// # Errors
    /// A file that cannot be read or understood; more than [`FILES_MAX`] of them.
    pub fn open(files: &[PathBuf], options: &ReadOptions, bytes_read: &BytesRead) -> Result<Self, ReadError> {
        if files.len() > FILES_MAX {
            let problem = format!("{} files: at most {FILES_MAX} are merged; replay them in parts", files.len());
            return Err(ReadError { path: files[FILES_MAX].display().to_string(), problem });
        }
        let mut merged = Self { names: Names::default(), sources: Vec::new(), next: BinaryHeap::new() };
        for path in files {
            merged.sources.push((open(path, options, bytes_read)?, Row::default()));
            merged.advance(merged.sources.len() - 1)?;
        }
        Ok(merged)
    }

    fn advance(&mut self, index: usize) -> Result<(), ReadError> {
        let (source, row) = &mut self.sources[index];
        if source.read(&mut self.names, row)? {
            self.next.push(Reverse((row.time, index)));
        }
        Ok(())
    }

    /// The next row, if there is one.
    ///
    /// # Errors
    /// See [`Source::read`].
    pub fn next_row(&mut self, row: &mut Row) -> Result<bool, ReadError> {
        let Some(Reverse((_, index))) = self.next.pop() else { return Ok(false) };
        std::mem::swap(row, &mut self.sources[index].1);
        self.advance(index)?;
        Ok(true)
    }

    /// The names met so far.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// What was left out so far.
    pub fn skipped(&self) -> Skipped {
        let mut all = Skipped::default();
        for (source, _) in &self.sources {
            all.join(source.skipped());
        }
        all
    }
}
