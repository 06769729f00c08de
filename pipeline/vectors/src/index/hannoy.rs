//! Graphs as earlier releases built them, with hannoy: their vectors are read, their links are not. Such a segment is scanned, as
//! its columns hold the rows for that, until it is built anew, which it is as soon as nothing waits.
//!
//! A vector lies under the index (two bytes, 0), the mode (3: an item), its number (four bytes, the greatest first) and the layer
//! (0), as a tag (0: an item), a bias (four bytes) and its components in the machine's order.

use heed::{CommitOrAbort, Database, Env, RoTxn, WithoutTls, types::Bytes};
use roaring::RoaringBitmap;

use super::kind::{Bounds, KindError, Reached, SegmentKind};

/// The name of its database.
const DATABASE: &str = "vectors";
/// Bytes before the components.
const HEAD: usize = 5;

/// See the module.
pub(super) struct Hannoy {
    database: Database<'static, Bytes, Bytes>,
    dimensions: usize,
}

impl Hannoy {
    pub(super) fn open(env: &Env<WithoutTls>, dimensions: usize) -> Result<Self, KindError> {
        let txn = env.read_txn()?;
        let opened = env.open_databases_and_commit(txn, |opener, txn| {
            Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(opener.open_database(txn, Some(DATABASE))?))
        })?;
        let database = opened.unwrap_commit().ok_or_else(|| KindError::Other("its vectors are missing".into()))?;
        Ok(Self { database, dimensions })
    }
}

fn unsupported() -> KindError {
    KindError::Other("a graph of an earlier release is neither built nor walked any more".into())
}

impl SegmentKind for Hannoy {
    fn put(&mut self, _item: u32, _vector: &[f32]) -> Result<(), KindError> {
        Err(unsupported())
    }

    fn build(&mut self, _bounds: &Bounds<'_>) -> Result<Reached, KindError> {
        Err(unsupported())
    }

    fn nearest(
        &self,
        _txn: &RoTxn<'_>,
        _query: &[f32],
        _count: usize,
        _effort: u32,
        _among: Option<&RoaringBitmap>,
    ) -> Result<Vec<u32>, KindError> {
        Err(unsupported())
    }

    fn vector(&self, txn: &RoTxn<'_>, item: u32) -> Result<Option<Vec<f32>>, KindError> {
        let [a, b, c, d] = item.to_be_bytes();
        let Some(record) = self.database.get(txn, &[0, 0, 3, a, b, c, d, 0])? else { return Ok(None) };
        let wrong = || KindError::Other(format!("{} bytes for the vector of window {item}", record.len()));
        let vector = record.get(HEAD..).filter(|_| record[0] == 0).ok_or_else(wrong)?;
        if vector.len() != self.dimensions * 4 {
            return Err(wrong());
        }
        Ok(Some(vector.as_chunks().0.iter().map(|x| f32::from_ne_bytes(*x)).collect()))
    }
}
