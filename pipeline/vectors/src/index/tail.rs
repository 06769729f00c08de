//! The tail: windows of segments that are not on disk yet, in memory, searched row by row and exactly.
//!
//! Rows are scanned as int8 with a bound on what that loses; the few that the bounds leave in question are measured by their
//! true vectors.

use roaring::RoaringBitmap;

use half::f16;

use super::{
    channels::Channels,
    filter::Windows,
    segment_record::SegmentRecord,
    window::{Facts, Row, SeriesId},
};
use crate::distance::{self, ScaledRows, ScaledTiles};

/// One segment's part of the tail.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) record: SegmentRecord,
    pub(super) series: Vec<SeriesId>,
    pub(super) facts: Vec<Facts>,
    dimensions: usize,
    vectors: Vec<f16>,
    rows: ScaledTiles,
    channels: Channels,
}

impl Windows for Part {
    fn series(&self, at: u32) -> Option<SeriesId> {
        self.series.get(at as usize).copied()
    }

    fn end(&self, at: u32) -> Option<i64> {
        self.facts.get(at as usize).map(|facts| facts.end)
    }

    fn channels(&self) -> &Channels {
        &self.channels
    }
}

impl Part {
    pub(super) fn new(record: SegmentRecord, dimensions: usize) -> Self {
        let (rows, channels) = (ScaledTiles::new(dimensions), Channels::default());
        Self { record, series: Vec::new(), facts: Vec::new(), dimensions, vectors: Vec::new(), rows, channels }
    }

    pub(super) fn len(&self) -> usize {
        self.series.len()
    }

    /// Appends a window; `false` if its vector is of another length.
    pub(super) fn push(&mut self, row: &Row) -> bool {
        if row.vector.len() != self.dimensions {
            return false;
        }
        self.vectors.extend(&row.vector);
        self.rows.push(&self.vector(self.len() as u32));
        self.series.push(row.series);
        self.facts.push(row.facts);
        true
    }

    /// A row's vector.
    pub(super) fn vector(&self, row: u32) -> Vec<f32> {
        let from = row as usize * self.dimensions;
        self.vectors[from..from + self.dimensions].iter().map(|x| x.to_f32()).collect()
    }

    /// The `count` nearest rows among those that `among` allows, with squared distances.
    pub(super) fn nearest(&self, query: &[f32], count: usize, among: Option<&RoaringBitmap>) -> Vec<(u32, f32)> {
        let vector = |row| Ok::<_, std::convert::Infallible>(Some(self.vector(row)));
        let Ok(near) = scan(self.rows.rows(), query, count, among, vector);
        near
    }
}

/// The `count` nearest of `rows` among those that `among` allows, with squared distances, exactly: the bounds say which are in
/// question, and these are measured by what `vector` gives (none is none to be found).
pub(super) fn scan<E>(
    rows: ScaledRows<'_>,
    query: &[f32],
    count: usize,
    among: Option<&RoaringBitmap>,
    mut vector: impl FnMut(u32) -> Result<Option<Vec<f32>>, E>,
) -> Result<Vec<(u32, f32)>, E> {
    let mut least_of: Vec<(f32, u32)> = Vec::new();
    // The `count` smallest upper bounds: the greatest of them is a distance within which there are that many.
    let mut within = std::collections::BinaryHeap::with_capacity(count + 1);
    let mut most = f32::INFINITY;
    rows.within(query, |row, least, greatest| {
        // A segment has fewer than 2^32 windows.
        let row = row as u32;
        if among.is_some_and(|among| !among.contains(row)) {
            return most;
        }
        if within.len() < count {
            within.push(Ordered(greatest));
        } else if greatest < most {
            within.pop();
            within.push(Ordered(greatest));
        }
        if within.len() == count {
            most = within.peek().map_or(most, |greatest| greatest.0);
        }
        least_of.push((least, row));
        most
    });
    let mut near = Vec::new();
    for (_, row) in least_of.into_iter().filter(|(least, _)| *least <= most) {
        if let Some(vector) = vector(row)? {
            near.push((row, distance::squared(query, &vector)));
        }
    }
    near.sort_unstable_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
    near.truncate(count);
    Ok(near)
}

/// Floats in their total order.
#[derive(Clone, Copy, Debug)]
struct Ordered(f32);

impl PartialEq for Ordered {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Ordered {}
impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Ordered {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}
