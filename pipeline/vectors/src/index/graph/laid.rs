//! A graph as it lies in the map, and what is asked of it.

use std::collections::BinaryHeap;

use heed::RoTxn;
use roaring::RoaringBitmap;

use super::{
    ABOVE, Blobs, GROUND, HEAD, ROWS, SUMS, VERSION, damaged,
    layer::{Above, Ground, LAYERS_MAX},
    walk::{Course, Far, Lost, Walker},
};
use crate::{
    codec::{CodecError, Get},
    half_rows::{HalfRows, PART},
    index::kind::KindError,
};

/// Rows that are measured at once where all are.
const BLOCK: usize = 512;

/// The checksum of a row; never 0.
pub(super) fn sum(row: &[u8]) -> u32 {
    crc32fast::hash(row).max(1)
}

fn blob<'t>(blobs: &Blobs, txn: &'t RoTxn<'_>, key: u32) -> Result<&'t [u8], KindError> {
    blobs.get(txn, &key)?.ok_or_else(|| damaged("a part of its graph is missing"))
}

fn parts<'t>(blobs: &Blobs, txn: &'t RoTxn<'_>, key: u32, len: usize) -> Result<Vec<&'t [u8]>, KindError> {
    (0..len.div_ceil(PART) as u32).map(|part| blob(blobs, txn, key + part)).collect()
}

/// A vector, held to its checksum; `None` if it was left out.
pub(super) fn vector(
    blobs: &Blobs,
    txn: &RoTxn<'_>,
    dimensions: usize,
    item: u32,
) -> Result<Option<Vec<f32>>, KindError> {
    let (part, at) = (item / PART as u32, item as usize % PART);
    let cut_off = || damaged("its rows or their checksums are cut off");
    let sums = blob(blobs, txn, SUMS + part)?;
    let known = sums.as_chunks().0.get(at).map(|sum| u32::from_le_bytes(*sum)).ok_or_else(cut_off)?;
    if known == 0 {
        return Ok(None);
    }
    let row = blob(blobs, txn, ROWS + part)?.get(at * dimensions * 2..(at + 1) * dimensions * 2).ok_or_else(cut_off)?;
    if sum(row) != known {
        return Err(KindError::Other(format!("the row of window {item} is not the one that was written")));
    }
    let mut vector = Vec::with_capacity(dimensions);
    let rows = HalfRows::read(dimensions, 1, vec![row]).ok_or_else(cut_off)?;
    rows.copy(0, &mut vector);
    Ok(Some(vector))
}

/// The rows, and which windows were left out.
pub(super) struct Rows<'t> {
    pub(super) rows: HalfRows<'t>,
    sums: Vec<&'t [u8]>,
}

impl<'t> Rows<'t> {
    pub(super) fn read(blobs: &Blobs, txn: &'t RoTxn<'_>, dimensions: usize, len: usize) -> Result<Self, KindError> {
        let rows = HalfRows::read(dimensions, len, parts(blobs, txn, ROWS, len)?);
        let rows = rows.ok_or_else(|| damaged("its rows are of another length"))?;
        let sums = parts(blobs, txn, SUMS, len)?;
        // A window without a checksum counts as left out: where they are cut off, nothing else would miss it.
        let is_whole = |(part, sums): (usize, &&[u8])| sums.len() == 4 * (len - part * PART).min(PART);
        if !sums.iter().enumerate().all(is_whole) {
            return Err(damaged("its rows' checksums are cut off"));
        }
        Ok(Self { rows, sums })
    }

    /// Whether there is a row of a window.
    pub(super) fn has(&self, item: u32) -> bool {
        let sums = self.sums.get(item as usize / PART).map_or(&[][..], |sums| sums.as_chunks::<4>().0);
        sums.get(item as usize % PART).is_some_and(|sum| *sum != [0; 4])
    }

    /// The `count` nearest of some or all, nearest first.
    pub(super) fn scanned(
        &self,
        query: &[f32],
        count: usize,
        among: Option<&RoaringBitmap>,
    ) -> Result<Vec<u32>, KindError> {
        let mut near = Nearest { count, kept: BinaryHeap::with_capacity(count + 1) };
        let mut block = Vec::with_capacity(BLOCK);
        let mut squared = Vec::with_capacity(BLOCK);
        let mut items: Box<dyn Iterator<Item = u32>> = match among {
            Some(among) => Box::new(among.iter()),
            None => Box::new(0..self.rows.len() as u32),
        };
        loop {
            block.clear();
            block.extend(items.by_ref().filter(|item| self.has(*item)).take(BLOCK));
            if block.is_empty() {
                return Ok(near.kept.into_sorted_vec().into_iter().map(Far::node).collect());
            }
            if !self.rows.squared(query, &block, &mut squared) {
                return Err(damaged("its rows are cut off"));
            }
            block.iter().zip(&squared).for_each(|(item, squared)| near.offer(Far::new(*squared, *item)));
        }
    }
}

struct Nearest {
    count: usize,
    kept: BinaryHeap<Far>,
}

impl Nearest {
    fn offer(&mut self, far: Far) {
        if self.kept.len() < self.count {
            self.kept.push(far);
        } else if let Some(mut worst) = self.kept.peek_mut()
            && far < *worst
        {
            *worst = far;
        }
    }
}

/// All of it.
pub(super) struct Laid<'t> {
    pub(super) rows: Rows<'t>,
    ground: Ground<'t>,
    /// The lowest first.
    above: Vec<Above<'t>>,
    first: u32,
}

impl<'t> Laid<'t> {
    pub(super) fn read(blobs: &Blobs, txn: &'t RoTxn<'_>, dimensions: usize, len: usize) -> Result<Self, KindError> {
        let wrong = |error: CodecError| KindError::Other(format!("the head of its graph: {error}"));
        let mut head = Get::new(blob(blobs, txn, HEAD)?);
        let (version, windows) = (head.u8().map_err(wrong)?, head.u32().map_err(wrong)?);
        if version != VERSION || windows as usize != len {
            return Err(KindError::Other(format!("a graph of version {version} and {windows} windows, not {len}")));
        }
        let (first, layers) = (head.u32().map_err(wrong)?, head.count(LAYERS_MAX).map_err(wrong)?);
        let mut above = Vec::with_capacity(layers);
        for layer in 0..layers as u32 {
            let nodes = head.u32().map_err(wrong)? as usize;
            let layer = Above::read(nodes, blob(blobs, txn, ABOVE + layer)?);
            above.push(layer.ok_or_else(|| damaged("a layer of its graph is of another length"))?);
        }
        head.end().map_err(wrong)?;
        let ground = Ground::read(len, parts(blobs, txn, GROUND, len)?);
        Ok(Self {
            rows: Rows::read(blobs, txn, dimensions, len)?,
            ground: ground.ok_or_else(|| damaged("the ground layer of its graph is of another length"))?,
            above,
            first,
        })
    }

    /// Walks down from the top, and on the ground as far as it goes.
    pub(super) fn nearest(&self, walker: &mut Walker, query: &[f32], course: Course<'_>) -> Result<Vec<Far>, Lost> {
        let node = if self.above.is_empty() { self.first } else { 0 };
        let item = match self.above.last() {
            Some(top) => top.of(0).ok_or(Lost::Damaged)?.0,
            None if self.rows.has(self.first) => self.first,
            // All were left out.
            None => return Ok(Vec::new()),
        };
        let mut squared = Vec::with_capacity(1);
        if !self.rows.rows.squared(query, &[item], &mut squared) {
            return Err(Lost::Damaged);
        }
        let mut near = vec![Far::new(squared[0], node)];
        for layer in self.above.iter().rev() {
            near = walker.walk(&self.rows.rows, layer, query, &near, Course::free(1))?;
            for far in &mut near {
                *far = Far::new(far.squared(), layer.of(far.node()).ok_or(Lost::Damaged)?.1);
            }
        }
        walker.walk(&self.rows.rows, &self.ground, query, &near, course)
    }
}
