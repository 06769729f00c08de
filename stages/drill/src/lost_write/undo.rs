//! What of one file has not been synced, and how it was before: block by block, without any file system.
//!
//! The file itself always holds its newest contents, so reads need nothing of this. Before a block that stands in the
//! synced contents changes for the first time, its old bytes are put aside; a sync forgets them, a cut writes them back.
//! What was appended needs no copy: the synced length tells where it begins.

use std::{collections::BTreeMap, io};

use rand::{RngExt, rngs::StdRng};

/// A disk writes this many bytes as a whole or not at all.
pub(super) const BLOCK_BYTES: u64 = 4096;

/// A file's bytes: a file of the backing folder, or a vector in tests.
pub(super) trait Contents {
    /// The length, in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Fills `buffer` from `offset`.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`; a gap before it reads as zeros.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Cuts, or grows with zeros.
    fn resize_to(&mut self, len: u64) -> io::Result<()>;
}

/// The way back to the contents that were synced last.
#[derive(Debug)]
pub(super) struct Undo {
    /// The length at the last sync.
    synced_len: u64,
    /// Synced blocks that have changed since, as they were. The last one may be short.
    before: BTreeMap<u64, Box<[u8]>>,
}

impl Undo {
    /// Nothing has changed yet of a file of `synced_len` bytes.
    pub(super) fn new(synced_len: u64) -> Self {
        Self { synced_len, before: BTreeMap::new() }
    }

    /// Call before `length` bytes at `offset` are written. Returns how many bytes were put aside for it.
    pub(super) fn before_write(&mut self, now: &impl Contents, offset: u64, length: u64) -> io::Result<u64> {
        if length == 0 {
            return Ok(0);
        }
        self.keep(now, offset / BLOCK_BYTES, (offset + length - 1) / BLOCK_BYTES)
    }

    /// Call before the file gets the length `len`. Returns how many bytes were put aside for it.
    pub(super) fn before_set_len(&mut self, now: &impl Contents, len: u64) -> io::Result<u64> {
        if len >= self.synced_len {
            return Ok(0);
        }
        self.keep(now, len / BLOCK_BYTES, (self.synced_len - 1) / BLOCK_BYTES)
    }

    /// Puts the blocks `first..=last` aside, as far as they are synced and were not put aside before. Those still stand
    /// in the file: who cuts it calls `before_set_len` first.
    fn keep(&mut self, now: &impl Contents, first: u64, last: u64) -> io::Result<u64> {
        let mut kept = 0;
        let blocks = self.synced_len.div_ceil(BLOCK_BYTES);
        for block in first..(last + 1).min(blocks) {
            if self.before.contains_key(&block) {
                continue;
            }
            let start = block * BLOCK_BYTES;
            let mut bytes = vec![0; (self.synced_len - start).min(BLOCK_BYTES) as usize];
            now.read_at(&mut bytes, start)?;
            kept += bytes.len() as u64;
            self.before.insert(block, bytes.into());
        }
        Ok(kept)
    }

    /// How many bytes are put aside.
    pub(super) fn kept_bytes(&self) -> u64 {
        self.before.values().map(|bytes| bytes.len() as u64).sum()
    }

    /// The power fails: the file gets its synced contents back, but for the blocks that `survive` lets through. Returns
    /// how many written bytes are gone (whole blocks where one was overwritten).
    pub(super) fn cut(self, file: &mut impl Contents, survive: Option<&mut StdRng>) -> io::Result<u64> {
        match survive {
            None => self.cut_all(file),
            Some(random) => self.cut_some(file, random),
        }
    }

    fn cut_all(self, file: &mut impl Contents) -> io::Result<u64> {
        let mut dropped = file.len()?.saturating_sub(self.synced_len);
        file.resize_to(self.synced_len)?;
        for (block, bytes) in self.before {
            file.write_at(&bytes, block * BLOCK_BYTES)?;
            dropped += bytes.len() as u64;
        }
        Ok(dropped)
    }

    fn cut_some(self, file: &mut impl Contents, random: &mut StdRng) -> io::Result<u64> {
        let written_len = file.len()?;
        let len = self.surviving_len(written_len, random);
        let mut dropped = written_len.saturating_sub(len);
        let is_cut_undone = len > written_len;
        file.resize_to(len)?;
        let synced_blocks = self.synced_len.div_ceil(BLOCK_BYTES);
        let appended = synced_blocks..len.div_ceil(BLOCK_BYTES).max(synced_blocks);
        let nothing: Box<[u8]> = [].into();
        for (block, before) in self.before.into_iter().chain(appended.map(|block| (block, nothing.clone()))) {
            let start = block * BLOCK_BYTES;
            let end = (start + BLOCK_BYTES).min(len);
            // Where the file was cut and the cut is lost, its old end is still on the disk.
            let must_return = is_cut_undone && start + BLOCK_BYTES > written_len;
            if start >= end || !(must_return || random.random()) {
                continue;
            }
            // Past what was synced, a block that never reached the disk reads as zeros.
            let mut bytes = before.into_vec();
            bytes.resize((end - start) as usize, 0);
            file.write_at(&bytes, start)?;
            dropped += bytes.len() as u64;
        }
        Ok(dropped)
    }

    /// The length is written like any block: the old one, the new one, or one that it had on the way.
    fn surviving_len(&self, written_len: u64, random: &mut StdRng) -> u64 {
        if written_len < self.synced_len {
            return if random.random() { written_len } else { self.synced_len };
        }
        let first = self.synced_len / BLOCK_BYTES;
        let block = random.random_range(first..=written_len.div_ceil(BLOCK_BYTES));
        (block * BLOCK_BYTES).clamp(self.synced_len, written_len)
    }
}
