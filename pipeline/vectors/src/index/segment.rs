//! A built segment: a folder with an LMDB environment of its own, never changed once the catalog names it.
//!
//! Beside the vectors it holds what is known of each window, as columns, so that a filter reads only what it asks.

use std::{
    path::{Path, PathBuf},
    sync::atomic::AtomicU64,
};

use heed::{
    CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, RoTxn, WithoutTls,
    types::{Bytes, Str},
};
use roaring::RoaringBitmap;

use super::{
    channels::Channels,
    error::IndexError,
    filter::Windows,
    flat::Flat,
    forest::Forest,
    graph::Graph,
    hannoy::Hannoy,
    kind::{Bounds, KindError, Reached, SegmentKind},
    segment_record::{Kind, SegmentRecord},
    tail::scan,
    window::{Facts, SeriesId},
};
use crate::{
    codec::Get,
    distance::{self, ScaledRows, ScaledTiles},
};

/// The folder of all segments in a store's.
pub(super) const FOLDER: &str = "segments";

/// An open segment.
pub(super) struct Segment {
    pub(super) record: SegmentRecord,
    env: Env<WithoutTls>,
    path: PathBuf,
    columns: Database<'static, Str, Bytes>,
    vectors: Box<dyn SegmentKind>,
    channels: Channels,
    /// Searches that looked at each of its rows since it was opened, though they asked for no more than a recall and among many.
    pub(super) scans: AtomicU64,
}

/// What is known of a segment's windows, column by column.
#[derive(Debug)]
pub(super) struct Columns {
    series: Vec<u8>,
    ends: Vec<u8>,
    facts: Vec<u8>,
    /// For scans: where the effort that a recall asks for would cost more. None where the kind has rows of its own.
    rows: Option<ScaledTiles>,
    dimensions: usize,
}

impl Columns {
    pub(super) fn new(kind: Kind, dimensions: usize) -> Self {
        let rows = (kind != Kind::Graph).then(|| ScaledTiles::new(dimensions));
        Self { series: Vec::new(), ends: Vec::new(), facts: Vec::new(), rows, dimensions }
    }

    /// Appends a window; one without a vector is none to be found.
    pub(super) fn push(&mut self, series: SeriesId, facts: &Facts, vector: Option<&[f32]>) {
        match (&mut self.rows, vector) {
            (Some(rows), Some(vector)) => rows.push(vector),
            (Some(rows), None) => rows.push(&vec![0.0; self.dimensions]),
            (None, _) => {}
        }
        self.series.extend(series.to_le_bytes());
        self.ends.extend(facts.end.to_le_bytes());
        facts.put(&mut self.facts);
    }
}

/// Columns of a segment as they lie in its map.
pub(super) struct SegmentWindows<'t> {
    series: &'t [[u8; 4]],
    ends: &'t [[u8; 8]],
    channels: &'t Channels,
}

impl Windows for SegmentWindows<'_> {
    fn series(&self, at: u32) -> Option<SeriesId> {
        self.series.get(at as usize).map(|number| SeriesId::from_le_bytes(*number))
    }

    fn end(&self, at: u32) -> Option<i64> {
        self.ends.get(at as usize).map(|time| i64::from_le_bytes(*time))
    }

    fn channels(&self) -> &Channels {
        self.channels
    }
}

impl Segment {
    /// Makes a new, empty one in its folder; what an interrupted build left there goes.
    pub(super) fn create(store: &Path, record: SegmentRecord, dimensions: usize) -> Result<Self, IndexError> {
        let path = store.join(FOLDER).join(record.folder());
        let io = |source| IndexError::Io { path: path.clone(), source };
        if path.exists() {
            std::fs::remove_dir_all(&path).map_err(io)?;
        }
        std::fs::create_dir_all(&path).map_err(io)?;
        // Vectors, trees of some levels or links, and pages that LMDB has not merged.
        let map_bytes = (256 << 20) + record.count as usize * (dimensions * 4 + 2048) * 3;
        // SAFETY: LMDB asks that the file is not changed behind its back while mapped: the folder is new, and only this
        // process knows of it until the catalog names it. NO_SYNC: it is synced as a whole before that. NO_LOCK: nobody else
        // is here, and a lock file on a full disk would be a mapped hole (SIGBUS).
        let env = unsafe { options(map_bytes).flags(EnvFlags::NO_SYNC | EnvFlags::NO_LOCK).open(&path) };
        let env = env.map_err(|error| IndexError::lmdb(&path, error))?;
        Self::with(env, path, record, dimensions, true)
    }

    /// Opens a built one for reading.
    pub(super) fn open(store: &Path, record: SegmentRecord, dimensions: usize) -> Result<Self, IndexError> {
        let path = store.join(FOLDER).join(record.folder());
        let file = path.join("data.mdb");
        let bytes = std::fs::metadata(&file).map_err(|source| IndexError::Io { path: path.clone(), source })?.len();
        let map_bytes = (bytes as usize).next_multiple_of(1 << 20).max(1 << 20);
        // SAFETY: nobody changes a segment that the catalog names, so readers need no lock; its folder may be removed, which
        // leaves the file to those who have it mapped.
        let env = unsafe { options(map_bytes).flags(EnvFlags::READ_ONLY | EnvFlags::NO_LOCK).open(&path) };
        let env = env.map_err(|error| IndexError::lmdb(&path, error))?;
        Self::with(env, path, record, dimensions, false)
    }

    fn with(
        env: Env<WithoutTls>,
        path: PathBuf,
        record: SegmentRecord,
        dimensions: usize,
        create: bool,
    ) -> Result<Self, IndexError> {
        let wrap = |error: KindError| wrong(&path, error);
        let vectors: Box<dyn SegmentKind> = match record.kind {
            Kind::Forest => Box::new(Forest::open(&env, &path, dimensions, create).map_err(wrap)?),
            Kind::Hannoy => Box::new(Hannoy::open(&env, dimensions).map_err(wrap)?),
            Kind::Flat => Box::new(Flat::open(&env, dimensions, record.count as usize, create).map_err(wrap)?),
            Kind::Graph => Box::new(Graph::open(&env, dimensions, record.count as usize, create).map_err(wrap)?),
            Kind::Exact => return Err(IndexError::Query(format!("segment {} is not built", record.id))),
        };
        let columns = columns_of(&env, create).map_err(wrap)?;
        Ok(Self { record, env, path, columns, vectors, channels: Channels::default(), scans: AtomicU64::default() })
    }

    pub(super) fn wrap(&self) -> impl Fn(KindError) -> IndexError + '_ {
        |error| wrong(&self.path, error)
    }

    pub(super) fn read(&self) -> Result<RoTxn<'_, WithoutTls>, IndexError> {
        self.env.read_txn().map_err(|error| self.wrap()(error.into()))
    }

    /// Adds a window's vector; windows come in their order.
    pub(super) fn put(&mut self, item: u32, vector: &[f32]) -> Result<(), IndexError> {
        self.vectors.put(item, vector).map_err(|error| wrong(&self.path, error))
    }

    /// Makes it searchable, and notes what recall efforts reach.
    pub(super) fn build(&mut self, bounds: &Bounds<'_>) -> Result<Reached, IndexError> {
        self.vectors.build(bounds).map_err(|error| wrong(&self.path, error))
    }

    /// Writes the columns, each in a transaction of its own: what is written is in memory until it is committed.
    pub(super) fn put_columns(&self, columns: &Columns) -> Result<(), IndexError> {
        let named = [
            ("series", Some(columns.series.as_slice())),
            ("ends", Some(&columns.ends)),
            ("facts", Some(&columns.facts)),
            ("rows", columns.rows.as_ref().map(ScaledTiles::bytes)),
        ];
        for (name, bytes) in named.into_iter().filter_map(|(name, bytes)| Some((name, bytes?))) {
            let written = self.env.write_txn().and_then(|mut txn| {
                self.columns.put(&mut txn, name, bytes)?;
                txn.commit()
            });
            written.map_err(|error| self.wrap()(error.into()))?;
        }
        Ok(())
    }

    /// Writes everything to the disk, folder entries included; returns its size.
    pub(super) fn sync(&self) -> Result<u64, IndexError> {
        let io = |source| IndexError::Io { path: self.path.clone(), source };
        self.env.force_sync().map_err(|error| self.wrap()(error.into()))?;
        for folder in [Some(self.path.as_path()), self.path.parent()].into_iter().flatten() {
            std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)?;
        }
        Ok(std::fs::metadata(self.path.join("data.mdb")).map_err(io)?.len())
    }

    fn column<'t>(&self, txn: &'t RoTxn<'_>, name: &str, width: usize) -> Result<&'t [u8], IndexError> {
        let bytes = self.columns.get(txn, name).map_err(|error| self.wrap()(error.into()))?.unwrap_or_default();
        if bytes.len() != width * self.record.count as usize {
            let problem = format!("{} bytes of {name} for {} windows", bytes.len(), self.record.count);
            return Err(IndexError::Damaged { path: self.path.clone(), problem });
        }
        Ok(bytes)
    }

    /// What a filter asks of its windows.
    pub(super) fn windows<'t>(&'t self, txn: &'t RoTxn<'_>) -> Result<SegmentWindows<'t>, IndexError> {
        let (series, ends) = (self.column(txn, "series", 4)?.as_chunks().0, self.column(txn, "ends", 8)?.as_chunks().0);
        Ok(SegmentWindows { series, ends, channels: &self.channels })
    }

    /// What is known of one window.
    pub(super) fn facts(&self, txn: &RoTxn<'_>, item: u32) -> Result<(SeriesId, Facts), IndexError> {
        let damaged =
            |error| IndexError::Damaged { path: self.path.clone(), problem: format!("window {item}: {error}") };
        let series = &self.column(txn, "series", 4)?[item as usize * 4..];
        let facts = &self.column(txn, "facts", Facts::BYTES)?[item as usize * Facts::BYTES..];
        let series = Get::new(series).u32().map_err(damaged)?;
        Ok((series, Facts::get(&mut Get::new(facts)).map_err(damaged)?))
    }

    /// A window's vector; `None` where it was left out.
    pub(super) fn vector(&self, txn: &RoTxn<'_>, item: u32) -> Result<Option<Vec<f32>>, IndexError> {
        self.vectors.vector(txn, item).map_err(self.wrap())
    }

    /// Windows near to `query`, with squared distances: found with `effort` among all that `among` allows, or, where there is no
    /// effort, the true nearest of these.
    pub(super) fn nearest(
        &self,
        txn: &RoTxn<'_>,
        query: &[f32],
        count: usize,
        effort: Option<u32>,
        among: Option<&RoaringBitmap>,
    ) -> Result<Vec<(u32, f32)>, IndexError> {
        let found = match effort {
            Some(effort) => Some(self.vectors.nearest(txn, query, count, effort, among)),
            None => self.vectors.scanned(txn, query, count, among).transpose(),
        };
        let Some(found) = found else {
            let bytes = self.columns.get(txn, "rows").map_err(|error| self.wrap()(error.into()))?.unwrap_or_default();
            let len = self.record.count as usize;
            let rows = ScaledRows::read(query.len(), len, bytes).ok_or_else(|| IndexError::Damaged {
                path: self.path.clone(),
                problem: format!("{} bytes of rows for {len} windows", bytes.len()),
            })?;
            return scan(rows, query, count, among, |item| self.vector(txn, item));
        };
        let found = found.map_err(self.wrap())?;
        let mut near = Vec::with_capacity(found.len());
        for item in found {
            // Measured here, so that a distance does not depend on what found it.
            if let Some(vector) = self.vector(txn, item)? {
                near.push((item, distance::squared(query, &vector)));
            }
        }
        near.sort_unstable_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
        near.truncate(count);
        Ok(near)
    }

    /// How many windows of a scan cost as much as one of an effort.
    pub(super) fn scanned_for_one(&self) -> u64 {
        match self.record.kind {
            Kind::Graph => 100,
            Kind::Forest | Kind::Exact | Kind::Flat => 20,
            Kind::Hannoy => u64::MAX,
        }
    }
}

fn columns_of(env: &Env<WithoutTls>, create: bool) -> Result<Database<'static, Str, Bytes>, KindError> {
    if create {
        let txn = env.write_txn()?;
        let opened = env.create_databases_and_commit(txn, |opener, txn| {
            Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(opener.create_database(txn, Some("columns"))?))
        })?;
        return Ok(opened.unwrap_commit());
    }
    let txn = env.read_txn()?;
    let opened = env.open_databases_and_commit(txn, |opener, txn| {
        Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(opener.open_database(txn, Some("columns"))?))
    })?;
    opened.unwrap_commit().ok_or_else(|| KindError::Other("its columns are missing".into()))
}

fn wrong(path: &Path, error: KindError) -> IndexError {
    match error {
        KindError::Cancelled => IndexError::Cancelled,
        KindError::Lmdb(heed::Error::Mdb(heed::MdbError::MapFull)) => {
            IndexError::Damaged { path: path.to_owned(), problem: "a segment outgrew its map".into() }
        }
        KindError::Lmdb(error) => IndexError::lmdb(path, error),
        KindError::Other(problem) => IndexError::Damaged { path: path.to_owned(), problem },
    }
}

fn options(map_bytes: usize) -> EnvOpenOptions<WithoutTls> {
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.max_dbs(2).map_size(map_bytes.next_multiple_of(4096)).max_readers(256);
    options
}
