//! How the vectors of a built segment are found.
//!
//! | kind | built | searched |
//! |---|---|---|
//! | [`Forest`](super::forest::Forest) | random planes (arroy, after Annoy) | looks up each tree's nodes and each vector in LMDB |
//! | [`Graph`](super::graph::Graph) | links between near vectors (HNSW) | reads flat arrays from the map |
//! | [`Flat`](super::flat::Flat) | its rows alone | row by row, until enough searches did |
//! | [`Hannoy`](super::hannoy::Hannoy) | by earlier releases | row by row, until it is built anew |
//!
//! The figures are in ARCHITECTURE.md.

use heed::RoTxn;
use roaring::RoaringBitmap;

/// Bounds of one build.
pub(super) struct Bounds<'a> {
    /// What its random numbers come from.
    pub(super) seed: u64,
    /// Trees of a forest.
    pub(super) trees: usize,
    /// Memory that a forest's build may take, in bytes.
    pub(super) memory: usize,
    /// Whether it is to end early.
    pub(super) cancelled: &'a (dyn Fn() -> bool + Sync),
}

/// Why it did not work.
#[derive(Debug, thiserror::Error)]
pub(super) enum KindError {
    #[error(transparent)]
    Lmdb(#[from] heed::Error),
    #[error("the build was cancelled")]
    Cancelled,
    #[error("{0}")]
    Other(String),
}

/// What recall@10 efforts reach, both rising.
pub(super) type Reached = Vec<(u32, f32)>;

/// The vectors of one segment, each under its number in it.
pub(super) trait SegmentKind: Send + Sync {
    /// Adds a vector; numbers rise. Nothing is found before [`Self::build`].
    fn put(&mut self, item: u32, vector: &[f32]) -> Result<(), KindError>;

    /// Makes what was added searchable, and asks for some of it to see what recall efforts reach.
    fn build(&mut self, bounds: &Bounds<'_>) -> Result<Reached, KindError>;

    /// The `count` nearest that it finds with an effort, among some or all.
    fn nearest(
        &self,
        txn: &RoTxn<'_>,
        query: &[f32],
        count: usize,
        effort: u32,
        among: Option<&RoaringBitmap>,
    ) -> Result<Vec<u32>, KindError>;

    /// The `count` nearest of some or all, each measured; `None` if it has no rows for that: those of the columns are scanned.
    fn scanned(
        &self,
        _txn: &RoTxn<'_>,
        _query: &[f32],
        _count: usize,
        _among: Option<&RoaringBitmap>,
    ) -> Result<Option<Vec<u32>>, KindError> {
        Ok(None)
    }

    /// A vector; `None` where it was left out.
    fn vector(&self, txn: &RoTxn<'_>, item: u32) -> Result<Option<Vec<f32>>, KindError>;
}
