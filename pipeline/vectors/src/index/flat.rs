//! Windows that lie on disk without links between them: their rows are scanned from the map, until so many searches did that a graph
//! pays for itself. What is in no segment's folder is in memory; this costs next to nothing to build, so that little is.

use heed::{Env, RoTxn, WithoutTls};
use roaring::RoaringBitmap;

use super::{
    graph::Graph,
    kind::{Bounds, KindError, Reached, SegmentKind},
    search::EXACT_BELOW,
};

/// See the module: the vectors lie as a [`Graph`]'s do, what is scanned are rows of the segment's columns.
pub(super) struct Flat(Graph);

impl Flat {
    /// Of a segment of `len` windows.
    pub(super) fn open(env: &Env<WithoutTls>, dimensions: usize, len: usize, create: bool) -> Result<Self, KindError> {
        Graph::open(env, dimensions, len, create).map(Self)
    }
}

impl SegmentKind for Flat {
    fn put(&mut self, item: u32, vector: &[f32]) -> Result<(), KindError> {
        self.0.put(item, vector)
    }

    /// No effort reaches any recall, so none is made.
    fn build(&mut self, _: &Bounds<'_>) -> Result<Reached, KindError> {
        self.0.lay_rows().map(|()| Vec::new())
    }

    fn nearest(
        &self,
        _: &RoTxn<'_>,
        _: &[f32],
        _: usize,
        effort: u32,
        _: Option<&RoaringBitmap>,
    ) -> Result<Vec<u32>, KindError> {
        Err(KindError::Other(format!("an effort of {effort} is noted of a segment without a graph")))
    }

    /// A few are measured one by one; of many it is less to look at all rows of the columns.
    fn scanned(
        &self,
        txn: &RoTxn<'_>,
        query: &[f32],
        count: usize,
        among: Option<&RoaringBitmap>,
    ) -> Result<Option<Vec<u32>>, KindError> {
        match among {
            Some(few) if few.len() <= EXACT_BELOW => self.0.scanned(txn, query, count, among),
            _ => Ok(None),
        }
    }

    fn vector(&self, txn: &RoTxn<'_>, item: u32) -> Result<Option<Vec<f32>>, KindError> {
        self.0.vector(txn, item)
    }
}
