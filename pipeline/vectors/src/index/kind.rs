//! How the vectors of a built segment are found: a forest of random planes, or a graph.
//!
//! A forest (arroy, after Annoy) is built ten times faster; a graph (hannoy, HNSW: Malkov & Yashunin 2018) is searched faster
//! the larger it is. The figures are in ARCHITECTURE.md.

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use arroy::distances::Euclidean as ForestDistance;
use hannoy::distances::Euclidean as GraphDistance;
use heed::{CommitOrAbort, Env, RoTxn, RwTxn, WithoutTls};
use rand::{SeedableRng as _, rngs::StdRng};
use roaring::RoaringBitmap;

/// The name of the database that holds vectors and trees or links.
const DATABASE: &str = "vectors";
/// The one index in it.
const INDEX: u16 = 0;
/// Links of a node of the graph above the ground layer, and on it.
const LINKS: usize = 16;
const GROUND_LINKS: usize = 32;
/// Candidates that are looked at for each node while the graph is built.
const GRAPH_EFFORT: usize = 120;

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

impl From<hannoy::Error> for KindError {
    fn from(error: hannoy::Error) -> Self {
        match error {
            hannoy::Error::Heed(error) => Self::Lmdb(error),
            hannoy::Error::Io(error) => Self::Lmdb(heed::Error::Io(error)),
            hannoy::Error::BuildCancelled => Self::Cancelled,
            error => Self::Other(error.to_string()),
        }
    }
}

/// The vectors of one segment, each under its number in it.
pub(super) trait SegmentKind: Send + Sync {
    /// Adds a vector; nothing is found before [`Self::build`].
    fn put(&self, txn: &mut RwTxn<'_>, item: u32, vector: &[f32]) -> Result<(), KindError>;

    /// Makes what was added searchable.
    fn build(&self, txn: &mut RwTxn<'_>, bounds: &Bounds<'_>) -> Result<(), KindError>;

    /// The `count` nearest that it finds with an effort, among some or all.
    fn nearest(
        &self,
        txn: &RoTxn<'_>,
        query: &[f32],
        count: usize,
        effort: u32,
        among: Option<&RoaringBitmap>,
    ) -> Result<Vec<u32>, KindError>;

    /// A vector; `None` where it was left out.
    fn vector(&self, txn: &RoTxn<'_>, item: u32) -> Result<Option<Vec<f32>>, KindError>;

    /// Efforts worth asking for, rising.
    fn efforts(&self) -> &'static [u32];
}

/// Opens (or, with a transaction that writes, creates) the database of its type.
macro_rules! database {
    ($env:expr, $create:expr) => {{
        let env: &Env<WithoutTls> = $env;
        if $create {
            let txn = env.write_txn()?;
            let opened = env.create_databases_and_commit(txn, |opener, txn| {
                Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(opener.create_database(txn, Some(DATABASE))?))
            })?;
            opened.unwrap_commit()
        } else {
            let txn = env.read_txn()?;
            let opened = env.open_databases_and_commit(txn, |opener, txn| {
                Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(opener.open_database(txn, Some(DATABASE))?))
            })?;
            opened.unwrap_commit().ok_or_else(|| KindError::Other("the vectors are missing".into()))?
        }
    }};
}

/// See the module.
pub(super) struct Forest {
    database: arroy::Database<'static, ForestDistance>,
    dimensions: usize,
    /// Where a build puts what it does not want in memory.
    folder: PathBuf,
}

impl Forest {
    pub(super) fn open(
        env: &Env<WithoutTls>,
        folder: &Path,
        dimensions: usize,
        create: bool,
    ) -> Result<Self, KindError> {
        Ok(Self { database: database!(env, create), dimensions, folder: folder.to_owned() })
    }

    fn writer(&self) -> arroy::Writer<ForestDistance> {
        arroy::Writer::new(self.database, INDEX, self.dimensions)
    }
}

impl SegmentKind for Forest {
    fn put(&self, txn: &mut RwTxn<'_>, item: u32, vector: &[f32]) -> Result<(), KindError> {
        Ok(self.writer().add_item(txn, item, vector)?)
    }

    fn build(&self, txn: &mut RwTxn<'_>, bounds: &Bounds<'_>) -> Result<(), KindError> {
        let mut random = StdRng::seed_from_u64(bounds.seed);
        let mut writer = self.writer();
        writer.set_tmpdir(&self.folder);
        let mut builder = writer.builder(&mut random);
        builder.n_trees(bounds.trees).available_memory(bounds.memory).cancel(bounds.cancelled);
        Ok(builder.build(txn)?)
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

    /// Items of leaves that are compared.
    fn efforts(&self) -> &'static [u32] {
        &[100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600]
    }
}

/// See the module.
pub(super) struct Graph {
    database: hannoy::Database<'static, GraphDistance>,
    dimensions: usize,
}

impl Graph {
    pub(super) fn open(env: &Env<WithoutTls>, dimensions: usize, create: bool) -> Result<Self, KindError> {
        Ok(Self { database: database!(env, create), dimensions })
    }

    fn writer(&self) -> hannoy::Writer<'static, GraphDistance> {
        hannoy::Writer::new(self.database, INDEX, self.dimensions)
    }
}

impl SegmentKind for Graph {
    fn put(&self, txn: &mut RwTxn<'_>, item: u32, vector: &[f32]) -> Result<(), KindError> {
        Ok(self.writer().add_item(txn, item, vector)?)
    }

    fn build(&self, txn: &mut RwTxn<'_>, bounds: &Bounds<'_>) -> Result<(), KindError> {
        let mut random = StdRng::seed_from_u64(bounds.seed);
        let writer = self.writer();
        let mut builder = writer.builder(&mut random);
        builder.ef_construction(GRAPH_EFFORT).cancel(bounds.cancelled);
        Ok(builder.build::<LINKS, GROUND_LINKS>(txn)?)
    }

    fn nearest(
        &self,
        txn: &RoTxn<'_>,
        query: &[f32],
        count: usize,
        effort: u32,
        among: Option<&RoaringBitmap>,
    ) -> Result<Vec<u32>, KindError> {
        let reader = hannoy::Reader::open(txn, INDEX, self.database)?;
        let mut asked = reader.nns(count);
        asked.ef_search((effort as usize).max(count));
        if let Some(among) = among {
            asked.candidates(among);
        }
        Ok(asked.by_vector(txn, query)?.into_nns().into_iter().map(|(item, _)| item).collect())
    }

    fn vector(&self, txn: &RoTxn<'_>, item: u32) -> Result<Option<Vec<f32>>, KindError> {
        Ok(self.writer().item_vector(txn, item)?)
    }

    /// Candidates that are kept while the graph is walked.
    fn efforts(&self) -> &'static [u32] {
        &[10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512]
    }
}
