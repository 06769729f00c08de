//! The catalog: one LMDB environment that says what a store holds. Windows lie in it until their segment is built.
//!
//! | database | key | value |
//! |---|---|---|
//! | `meta` | name | version, position, counters |
//! | `models` | number | bundle digest, head, dimensions |
//! | `series` | number | canonical text |
//! | `windows` | window | series, facts, vector (f16); rows before the first segment that is not built are leftovers |
//! | `segments` | segment | [`SegmentRecord`] |
//! | `deleted` | segment | bitmap of its windows, counted from its first one |
//! | `labels` | window | [`Label`] |
//! | `tags` | the owner's name for some windows (an alert's id) | those windows |
//! | `tagged` | window | its tag |
//! | `outbox` | the owner's number | what the owner must still send: committed with what it tells of |
//! | `notes` | the owner's | what else the owner wants committed with it; a store that an older release made has none |

use std::path::{Path, PathBuf};

use heed::{
    CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, RoTxn, RwTxn, WithoutTls,
    byteorder::BigEndian,
    types::{Bytes, Str, U32, U64},
};
use roaring::RoaringBitmap;

use super::{
    error::IndexError,
    segment_record::{Model, SegmentId, SegmentRecord},
    window::{Label, WindowId},
};
use crate::codec::CodecError;

/// Version of the catalog's layout.
const VERSION: u32 = 1;
/// Databases of the environment.
const DATABASES: u32 = 11;

pub(super) type Numbers<V> = Database<'static, U32<BigEndian>, V>;
pub(super) type Ids<V> = Database<'static, U64<BigEndian>, V>;
pub(super) type Notes = Database<'static, Str, Bytes>;

/// The environment and its databases. One process writes, any number reads.
#[derive(Debug)]
pub(super) struct Catalog {
    pub(super) env: Env<WithoutTls>,
    pub(super) path: PathBuf,
    pub(super) meta: Database<'static, Str, Bytes>,
    pub(super) models: Numbers<Bytes>,
    pub(super) series: Numbers<Str>,
    pub(super) windows: Ids<Bytes>,
    pub(super) segments: Numbers<Bytes>,
    pub(super) deleted: Numbers<Bytes>,
    pub(super) labels: Ids<Bytes>,
    pub(super) tags: Database<'static, Str, Bytes>,
    pub(super) tagged: Ids<Str>,
    pub(super) outbox: Ids<Bytes>,
    /// Made when the store is opened for writing.
    pub(super) notes: Option<Notes>,
}

impl Catalog {
    /// Opens or creates the catalog of the store in `path` for writing.
    pub(super) fn create(path: &Path, map_bytes: usize) -> Result<Self, IndexError> {
        std::fs::create_dir_all(path).map_err(|source| IndexError::Io { path: path.to_owned(), source })?;
        let wrap = |error| IndexError::lmdb(path, error);
        // SAFETY: as for `open`.
        let env = unsafe { options(map_bytes).open(path) }.map_err(wrap)?;
        let txn = env.write_txn().map_err(wrap)?;
        let databases = env.create_databases_and_commit(txn, |opener, txn| {
            Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit((
                (
                    opener.create_database(txn, Some("meta"))?,
                    opener.create_database(txn, Some("models"))?,
                    opener.create_database(txn, Some("series"))?,
                    opener.create_database(txn, Some("windows"))?,
                    opener.create_database(txn, Some("segments"))?,
                ),
                (
                    opener.create_database(txn, Some("deleted"))?,
                    opener.create_database(txn, Some("labels"))?,
                    opener.create_database(txn, Some("tags"))?,
                    opener.create_database(txn, Some("tagged"))?,
                    opener.create_database(txn, Some("outbox"))?,
                    opener.create_database(txn, Some("notes"))?,
                ),
            )))
        });
        let ((meta, models, series, windows, segments), (deleted, labels, tags, tagged, outbox, notes)) =
            databases.map_err(wrap)?.unwrap_commit();
        let (path, notes) = (path.to_owned(), Some(notes));
        let catalog =
            Self { path, meta, models, series, windows, segments, deleted, labels, tags, tagged, outbox, notes, env };
        let mut txn = catalog.write()?;
        match catalog.number(&txn, "version")? {
            None => catalog.set(&mut txn, "version", u64::from(VERSION))?,
            Some(_) => catalog.check_version(&txn)?,
        }
        catalog.commit(txn)?;
        Ok(catalog)
    }

    /// Opens the catalog of a store for reading, beside the process that writes it.
    pub(super) fn open(path: &Path, map_bytes: usize) -> Result<Self, IndexError> {
        let wrap = |error| IndexError::lmdb(path, error);
        if !path.join("data.mdb").is_file() {
            let source = std::io::Error::new(std::io::ErrorKind::NotFound, "there is no index here");
            return Err(IndexError::Io { path: path.to_owned(), source });
        }
        // SAFETY: LMDB asks that the file is not changed behind its back while mapped. Only eddy's own processes open
        // this folder, always through LMDB with its lock file, and heed refuses a second environment in one process.
        let env = unsafe { options(map_bytes).flags(EnvFlags::READ_ONLY).open(path) }.map_err(wrap)?;
        let missing = || IndexError::Damaged { path: path.to_owned(), problem: "a database is missing".into() };
        let txn = env.read_txn().map_err(wrap)?;
        let databases = env.open_databases_and_commit(txn, |opener, txn| {
            Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit((
                (
                    opener.open_database(txn, Some("meta"))?,
                    opener.open_database(txn, Some("models"))?,
                    opener.open_database(txn, Some("series"))?,
                    opener.open_database(txn, Some("windows"))?,
                    opener.open_database(txn, Some("segments"))?,
                ),
                (
                    opener.open_database(txn, Some("deleted"))?,
                    opener.open_database(txn, Some("labels"))?,
                    opener.open_database(txn, Some("tags"))?,
                    opener.open_database(txn, Some("tagged"))?,
                    opener.open_database(txn, Some("outbox"))?,
                    opener.open_database(txn, Some("notes"))?,
                ),
            )))
        });
        let ((meta, models, series, windows, segments), (deleted, labels, tags, tagged, outbox, notes)) =
            databases.map_err(wrap)?.unwrap_commit();
        let catalog = Self {
            path: path.to_owned(),
            meta: meta.ok_or_else(missing)?,
            models: models.ok_or_else(missing)?,
            series: series.ok_or_else(missing)?,
            windows: windows.ok_or_else(missing)?,
            segments: segments.ok_or_else(missing)?,
            deleted: deleted.ok_or_else(missing)?,
            labels: labels.ok_or_else(missing)?,
            tags: tags.ok_or_else(missing)?,
            tagged: tagged.ok_or_else(missing)?,
            outbox: outbox.ok_or_else(missing)?,
            notes,
            env,
        };
        {
            let txn = catalog.read()?;
            catalog.check_version(&txn)?;
        }
        Ok(catalog)
    }

    fn check_version(&self, txn: &RoTxn<'_>) -> Result<(), IndexError> {
        match self.number(txn, "version")? {
            Some(found) if found == u64::from(VERSION) => Ok(()),
            found => Err(IndexError::Version {
                path: self.path.clone(),
                found: found.map_or_else(|| "none".into(), |found| found.to_string()),
                expected: VERSION,
            }),
        }
    }

    pub(super) fn wrap(&self) -> impl Fn(heed::Error) -> IndexError + '_ {
        |error| match error {
            heed::Error::Mdb(heed::MdbError::MapFull) => {
                IndexError::MapFull { path: self.path.clone(), what: "the catalog", bytes: self.env.info().map_size }
            }
            error => IndexError::lmdb(&self.path, error),
        }
    }

    pub(super) fn damaged(&self, what: &str, error: &CodecError) -> IndexError {
        IndexError::Damaged { path: self.path.clone(), problem: format!("{what}: {error}") }
    }

    pub(super) fn read(&self) -> Result<RoTxn<'_, WithoutTls>, IndexError> {
        self.env.read_txn().map_err(self.wrap())
    }

    pub(super) fn write(&self) -> Result<RwTxn<'_>, IndexError> {
        self.env.write_txn().map_err(self.wrap())
    }

    pub(super) fn commit(&self, txn: RwTxn<'_>) -> Result<(), IndexError> {
        txn.commit().map_err(self.wrap())
    }

    /// Bytes of the pages that hold something; the file has free ones too, and never shrinks.
    pub(super) fn used_bytes(&self, txn: &RoTxn<'_>) -> Result<u64, IndexError> {
        let stats = [
            self.meta.stat(txn),
            self.models.stat(txn),
            self.series.stat(txn),
            self.windows.stat(txn),
            self.segments.stat(txn),
            self.deleted.stat(txn),
            self.labels.stat(txn),
            self.tags.stat(txn),
            self.tagged.stat(txn),
            self.outbox.stat(txn),
        ];
        let mut bytes = 0;
        for stat in stats.into_iter().chain(self.notes.map(|notes| notes.stat(txn))) {
            bytes += stat.map_err(self.wrap())?.non_free_page_size() as u64;
        }
        Ok(bytes)
    }

    /// A counter of `meta`.
    pub(super) fn number(&self, txn: &RoTxn<'_>, name: &str) -> Result<Option<u64>, IndexError> {
        let found = self.meta.get(txn, name).map_err(self.wrap())?;
        Ok(found.and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes))
    }

    pub(super) fn set(&self, txn: &mut RwTxn<'_>, name: &str, value: u64) -> Result<(), IndexError> {
        self.meta.put(txn, name, &value.to_le_bytes()).map_err(self.wrap())
    }

    /// Says to readers that segments, deletions or names are others than before.
    pub(super) fn changed(&self, txn: &mut RwTxn<'_>) -> Result<(), IndexError> {
        let changes = self.number(txn, "changes")?.unwrap_or(0);
        self.set(txn, "changes", changes + 1)
    }

    /// All segments, in the order of their windows.
    pub(super) fn all_segments(&self, txn: &RoTxn<'_>) -> Result<Vec<SegmentRecord>, IndexError> {
        let mut segments = Vec::new();
        for item in self.segments.iter(txn).map_err(self.wrap())? {
            let (id, record) = item.map_err(self.wrap())?;
            let segment = SegmentRecord::read(id, record);
            segments.push(segment.map_err(|error| self.damaged(&format!("segment {id}"), &error))?);
        }
        segments.sort_by_key(|segment| segment.first);
        Ok(segments)
    }

    pub(super) fn put_segment(&self, txn: &mut RwTxn<'_>, segment: &SegmentRecord) -> Result<(), IndexError> {
        self.segments.put(txn, &segment.id, &segment.record()).map_err(self.wrap())
    }

    /// All models, by number.
    pub(super) fn all_models(&self, txn: &RoTxn<'_>) -> Result<Vec<Model>, IndexError> {
        let mut models = Vec::new();
        for item in self.models.iter(txn).map_err(self.wrap())? {
            let (id, record) = item.map_err(self.wrap())?;
            models.push(Model::read(record).map_err(|error| self.damaged(&format!("model {id}"), &error))?);
        }
        Ok(models)
    }

    /// The deleted windows of a segment, counted from its first one.
    pub(super) fn deleted(&self, txn: &RoTxn<'_>, segment: SegmentId) -> Result<RoaringBitmap, IndexError> {
        let Some(bytes) = self.deleted.get(txn, &segment).map_err(self.wrap())? else {
            return Ok(RoaringBitmap::new());
        };
        RoaringBitmap::deserialize_from(bytes).map_err(|error| IndexError::Damaged {
            path: self.path.clone(),
            problem: format!("deletions of segment {segment}: {error}"),
        })
    }

    pub(super) fn put_deleted(
        &self,
        txn: &mut RwTxn<'_>,
        segment: SegmentId,
        deleted: &RoaringBitmap,
    ) -> Result<(), IndexError> {
        let mut bytes = Vec::with_capacity(deleted.serialized_size());
        // Writing to memory cannot fail.
        let _ = deleted.serialize_into(&mut bytes);
        self.deleted.put(txn, &segment, &bytes).map_err(self.wrap())
    }

    pub(super) fn label(&self, txn: &RoTxn<'_>, window: WindowId) -> Result<Option<Label>, IndexError> {
        let Some(record) = self.labels.get(txn, &window).map_err(self.wrap())? else { return Ok(None) };
        Label::read(record).map(Some).map_err(|error| self.damaged(&format!("label of window {window}"), &error))
    }

    /// The windows that carry a tag, in order.
    pub(super) fn tagged(&self, txn: &RoTxn<'_>, tag: &str) -> Result<Vec<WindowId>, IndexError> {
        let bytes = self.tags.get(txn, tag).map_err(self.wrap())?.unwrap_or_default();
        let ids = bytes.chunks_exact(8).filter_map(|id| id.try_into().ok());
        Ok(ids.map(WindowId::from_le_bytes).collect())
    }
}

fn options(map_bytes: usize) -> EnvOpenOptions<WithoutTls> {
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.max_dbs(DATABASES).map_size(map_bytes).max_readers(256);
    options
}
