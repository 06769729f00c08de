//! Vectors found by a forest of random planes (arroy, after Annoy).

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use arroy::distances::Euclidean;
use heed::{CommitOrAbort, Env, RoTxn, WithoutTls};
use rand::{SeedableRng as _, rngs::StdRng};
use roaring::RoaringBitmap;

use super::{
    kind::{Bounds, KindError, Reached, SegmentKind},
    probes::{self, NEIGHBOURS, Probe},
};
use crate::distance;

/// The name of its database.
const DATABASE: &str = "vectors";
/// The one index in it.
const INDEX: u16 = 0;
/// Vectors that are written in one transaction.
const PUT_ROWS: usize = 4_096;
/// Vectors that are asked for.
const PROBES: usize = 100;
/// Items of leaves that are compared.
const EFFORTS: [u32; 9] = [100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600];

impl From<arroy::Error> for KindError {
    fn from(error: arroy::Error) -> Self {
        match error {
            arroy::Error::Heed(error) => Self::Lmdb(error),
            arroy::Error::Io(error) => Self::Lmdb(heed::Error::Io(error)),
            arroy::Error::BuildCancelled => Self::Cancelled,
            error => Self::Other(error.to_string()),
        }
    }
}

/// See the module.
pub(super) struct Forest {
    env: Env<WithoutTls>,
    database: arroy::Database<'static, Euclidean>,
    dimensions: usize,
    /// Where a build puts what it does not want in memory.
    folder: PathBuf,
    /// What was put and is not written yet.
    put: Vec<(u32, Vec<f32>)>,
}

impl Forest {
    pub(super) fn open(
        env: &Env<WithoutTls>,
        folder: &Path,
        dimensions: usize,
        create: bool,
    ) -> Result<Self, KindError> {
        let database = if create {
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
            opened.unwrap_commit().ok_or_else(|| KindError::Other("its vectors are missing".into()))?
        };
        Ok(Self { env: env.clone(), database, dimensions, folder: folder.to_owned(), put: Vec::new() })
    }

    fn writer(&self) -> arroy::Writer<Euclidean> {
        arroy::Writer::new(self.database, INDEX, self.dimensions)
    }

    fn write(&mut self) -> Result<(), KindError> {
        let mut txn = self.env.write_txn()?;
        let writer = self.writer();
        for (item, vector) in self.put.drain(..) {
            writer.add_item(&mut txn, item, &vector)?;
        }
        Ok(txn.commit()?)
    }

    fn reached(&self, cancelled: &dyn Fn() -> bool) -> Result<Reached, KindError> {
        let txn = self.env.read_txn()?;
        let reader = arroy::Reader::open(&txn, INDEX, self.database)?;
        let items: Vec<u32> = reader.item_ids().iter().collect();
        let mut probes = Vec::new();
        for item in items.iter().step_by((items.len() / PROBES).max(1)) {
            probes.extend(self.vector(&txn, *item)?.map(|vector| Probe::new(*item, vector)));
        }
        for item in &items {
            if cancelled() {
                return Err(KindError::Cancelled);
            }
            let Some(vector) = self.vector(&txn, *item)? else { continue };
            for probe in probes.iter_mut().filter(|probe| probe.item != *item) {
                probe.offer(distance::squared(&probe.vector, &vector));
            }
        }
        // An effort counts a window once for each tree.
        probes::reached(&probes, &EFFORTS, 8 * items.len() as u32, |probe, effort| {
            if cancelled() {
                return Err(KindError::Cancelled);
            }
            let mut near = Vec::new();
            for item in self.nearest(&txn, &probe.vector, NEIGHBOURS + 1, effort, None)? {
                if item != probe.item
                    && let Some(vector) = self.vector(&txn, item)?
                {
                    near.push(distance::squared(&probe.vector, &vector));
                }
            }
            Ok(near)
        })
    }
}

impl SegmentKind for Forest {
    fn put(&mut self, item: u32, vector: &[f32]) -> Result<(), KindError> {
        self.put.push((item, vector.to_vec()));
        if self.put.len() >= PUT_ROWS { self.write() } else { Ok(()) }
    }

    fn build(&mut self, bounds: &Bounds<'_>) -> Result<Reached, KindError> {
        self.write()?;
        let mut random = StdRng::seed_from_u64(bounds.seed);
        let mut txn = self.env.write_txn()?;
        let mut writer = self.writer();
        writer.set_tmpdir(&self.folder);
        let mut builder = writer.builder(&mut random);
        builder.n_trees(bounds.trees).available_memory(bounds.memory).cancel(bounds.cancelled);
        builder.build(&mut txn)?;
        txn.commit()?;
        self.reached(bounds.cancelled)
    }

    fn nearest(
        &self,
        txn: &RoTxn<'_>,
        query: &[f32],
        count: usize,
        effort: u32,
        among: Option<&RoaringBitmap>,
    ) -> Result<Vec<u32>, KindError> {
        let reader = arroy::Reader::open(txn, INDEX, self.database)?;
        let mut asked = reader.nns(count);
        if let Some(effort) = NonZeroUsize::new(effort as usize) {
            asked.search_k(effort);
        }
        if let Some(among) = among {
            asked.candidates(among);
        }
        Ok(asked.by_vector(txn, query)?.into_iter().map(|(item, _)| item).collect())
    }

    fn vector(&self, txn: &RoTxn<'_>, item: u32) -> Result<Option<Vec<f32>>, KindError> {
        Ok(self.writer().item_vector(txn, item)?)
    }
}
