//! Vectors found by a graph (HNSW: Malkov & Yashunin 2018): near ones are linked, and a search walks from link to link.
//!
//! Rows, links and layers are flat arrays, so that a step is a place in the map and no look-up. Layers above the ground, each with
//! a sixteenth of the nodes below, lead a search to where it begins. Measured is what is stored (f16): rows of int8 would be half
//! the bytes, but of vectors with a few large components they keep those alone, and all would be measured twice.
//!
//! | key | value |
//! |---|---|
//! | [`HEAD`] | version, windows, the one at which a search begins where no layer is above the ground, nodes of each that is |
//! | [`ROWS`] + part | vectors as f16 ([`half_rows`]) |
//! | [`SUMS`] + part | a checksum of each row, 0 where a window was left out |
//! | [`GROUND`] + part | links of the ground layer |
//! | [`ABOVE`] + layer | places and links of a layer above |
//!
//! Parts are of [`PART`] windows, so that a build has one of them in memory at a time. A vector that is told is held to its
//! checksum; a damaged link leads nowhere, which is told, or to a window that is measured like any other.

mod draft;
mod laid;
mod layer;
mod linked;
#[cfg(test)]
mod tests;
mod walk;

use std::sync::{Mutex, PoisonError};

use heed::{
    CommitOrAbort, Database, Env, RoTxn, RwTxn, WithoutTls,
    byteorder::BigEndian,
    types::{Bytes, U32},
};
use roaring::RoaringBitmap;

use self::{
    draft::{Draft, Links},
    laid::{Laid, Rows, sum},
    layer::{Layer as _, NONE},
    walk::{Course, Lost, Walker},
};
use super::kind::{Bounds, KindError, Reached, SegmentKind};
use crate::{
    codec::Put as _,
    half_rows::{self, PART},
};

/// The name of its database.
const DATABASE: &str = "graph";
const VERSION: u8 = 1;
/// Keys.
const HEAD: u32 = 0;
const ROWS: u32 = 1 << 24;
const SUMS: u32 = 2 << 24;
const GROUND: u32 = 3 << 24;
const ABOVE: u32 = 4 << 24;

/// What lies under a key.
type Blobs = Database<'static, U32<BigEndian>, Bytes>;

/// See the module.
pub(super) struct Graph {
    env: Env<WithoutTls>,
    blobs: Blobs,
    dimensions: usize,
    /// How many windows the segment has.
    len: usize,
    put: Part,
    /// Of searches that ended, for those that begin.
    walkers: Mutex<Vec<Walker>>,
}

/// Rows that wait for their part to be full.
#[derive(Default)]
struct Part {
    /// The window that comes next.
    next: u32,
    rows: Vec<u8>,
    sums: Vec<u8>,
}

impl From<Lost> for KindError {
    fn from(_: Lost) -> Self {
        damaged("a link of its graph leads nowhere")
    }
}

fn damaged(problem: &str) -> KindError {
    KindError::Other(problem.to_owned())
}

impl Graph {
    /// Bytes of memory that a build takes for each window.
    pub(super) const BUILD_BYTES: usize = Draft::BYTES;

    /// Of a segment of `len` windows.
    pub(super) fn open(env: &Env<WithoutTls>, dimensions: usize, len: usize, create: bool) -> Result<Self, KindError> {
        let blobs = if create {
            let txn = env.write_txn()?;
            let created = env.create_databases_and_commit(txn, |opener, txn| {
                Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(opener.create_database(txn, Some(DATABASE))?))
            })?;
            created.unwrap_commit()
        } else {
            let txn = env.read_txn()?;
            let opened = env.open_databases_and_commit(txn, |opener, txn| {
                Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(opener.open_database(txn, Some(DATABASE))?))
            })?;
            opened.unwrap_commit().ok_or_else(|| damaged("its graph is missing"))?
        };
        let (put, walkers) = (Part::default(), Mutex::default());
        Ok(Self { env: env.clone(), blobs, dimensions, len, put, walkers })
    }

    /// Notes the next window's row, and writes the part that it fills.
    fn push(&mut self, vector: Option<&[f32]>) -> Result<(), KindError> {
        let from = self.put.rows.len();
        match vector {
            Some(vector) => {
                half_rows::put(vector, &mut self.put.rows);
                self.put.sums.put_u32(sum(&self.put.rows[from..]));
            }
            None => {
                self.put.rows.resize(from + self.dimensions * 2, 0);
                self.put.sums.put_u32(0);
            }
        }
        self.put.next += 1;
        if (self.put.next as usize).is_multiple_of(PART) { self.write_part() } else { Ok(()) }
    }

    fn write_part(&mut self) -> Result<(), KindError> {
        if !self.put.rows.is_empty() {
            let part = (self.put.next - 1) / PART as u32;
            self.write(|blobs, txn| blobs.put(txn, &(ROWS + part), &self.put.rows))?;
            self.write(|blobs, txn| blobs.put(txn, &(SUMS + part), &self.put.sums))?;
            self.put.rows.clear();
            self.put.sums.clear();
        }
        Ok(())
    }

    /// Writes what rows are left; those of windows that were left out are empty.
    pub(super) fn lay_rows(&mut self) -> Result<(), KindError> {
        while (self.put.next as usize) < self.len {
            self.push(None)?;
        }
        self.write_part()
    }

    /// In a transaction of its own: what is written is in memory until it is committed.
    fn write(&self, write: impl FnOnce(&Blobs, &mut RwTxn<'_>) -> heed::Result<()>) -> Result<(), KindError> {
        let mut txn = self.env.write_txn()?;
        write(&self.blobs, &mut txn)?;
        Ok(txn.commit()?)
    }

    fn write_links(&self, links: &Links) -> Result<(), KindError> {
        let mut bytes = Vec::new();
        for (part, from) in (0..self.len).step_by(PART).enumerate() {
            bytes.clear();
            links.layers[0].put(from..self.len.min(from + PART), &mut bytes);
            self.write(|blobs, txn| blobs.put(txn, &(GROUND + part as u32), &bytes))?;
        }
        let mut head = Vec::new();
        head.put_u8(VERSION);
        head.put_u32(self.len as u32);
        head.put_u32(links.first.unwrap_or(NONE));
        head.put_count(links.layers.len() - 1);
        for (above, layer) in links.layers[1..].iter().enumerate() {
            bytes.clear();
            layer.put(0..layer.len(), &mut bytes);
            self.write(|blobs, txn| blobs.put(txn, &(ABOVE + above as u32), &bytes))?;
            head.put_count(layer.len());
        }
        self.write(|blobs, txn| blobs.put(txn, &HEAD, &head))
    }
}

impl SegmentKind for Graph {
    fn put(&mut self, item: u32, vector: &[f32]) -> Result<(), KindError> {
        while self.put.next < item {
            self.push(None)?;
        }
        self.push(Some(vector))
    }

    fn build(&mut self, bounds: &Bounds<'_>) -> Result<Reached, KindError> {
        self.lay_rows()?;
        let txn = self.env.read_txn()?;
        let rows = Rows::read(&self.blobs, &txn, self.dimensions, self.len)?;
        let (links, reached) = linked::linked(&rows, bounds)?;
        drop(rows);
        drop(txn);
        self.write_links(&links)?;
        Ok(reached)
    }

    fn nearest(
        &self,
        txn: &RoTxn<'_>,
        query: &[f32],
        count: usize,
        effort: u32,
        among: Option<&RoaringBitmap>,
    ) -> Result<Vec<u32>, KindError> {
        let laid = Laid::read(&self.blobs, txn, self.dimensions, self.len)?;
        let mut walker = self.walkers.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        // Past as many as there are, measuring all of them is less.
        let measured_max = among.map_or(usize::MAX, |among| among.len() as usize);
        let course = Course { effort: (effort as usize).max(count), among, measured_max };
        let found = laid.nearest(&mut walker, query, course);
        // As many as searches ran at the same time.
        self.walkers.lock().unwrap_or_else(PoisonError::into_inner).push(walker);
        match found {
            Ok(found) => Ok(found.into_iter().take(count).map(|far| far.node()).collect()),
            Err(Lost::TooLong) => laid.rows.scanned(query, count, among),
            Err(lost) => Err(lost.into()),
        }
    }

    fn scanned(
        &self,
        txn: &RoTxn<'_>,
        query: &[f32],
        count: usize,
        among: Option<&RoaringBitmap>,
    ) -> Result<Option<Vec<u32>>, KindError> {
        Rows::read(&self.blobs, txn, self.dimensions, self.len)?.scanned(query, count, among).map(Some)
    }

    fn vector(&self, txn: &RoTxn<'_>, item: u32) -> Result<Option<Vec<f32>>, KindError> {
        laid::vector(&self.blobs, txn, self.dimensions, item)
    }
}
