//! Writing: batches, labels, deletions, what ages out. One process at a time.

use std::{
    collections::HashMap,
    fs::File,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, atomic::Ordering},
};

use heed::RwTxn;

use super::{
    batch::Batch,
    catalog::Catalog,
    error::IndexError,
    plan::Slow,
    search::Searcher,
    segment::{self, Segment},
    segment_record::{Kind, Model, SegmentId, SegmentRecord},
    window::{Row, SeriesId},
};

/// Bounds of a store.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Address space of the catalog; its file grows as it is used.
    pub map_bytes: usize,
    /// A segment is sealed with so many windows.
    pub segment_windows: u32,
    /// And when the ends of its windows lie so far apart, in nanoseconds.
    pub segment_span: i64,
    /// What a segment is built into that is searched: [`Kind::Graph`] or [`Kind::Forest`].
    pub kind: Kind,
    /// And after how many searches that scanned it; 0: at once. To rent before buying (Karlin et al. 1988, "ski rental") would be the price: a build
    /// takes as much of a processor as 60,000 (64 dimensions) to 90,000 (16) scans of the same windows. But who has searched much waits.
    pub graph_after: u64,
    /// Four segments of a size are merged into a graph, as long as that has at most so many windows; 0: never.
    pub graph_windows: u32,
    /// All files together; past it the oldest segment goes.
    pub bytes_max: u64,
    /// A segment whose newest window is so much older than the newest of all goes, in nanoseconds.
    pub age_max: i64,
    /// Trees of a forest.
    pub trees: usize,
    /// Memory that a build may take, in bytes: no graph is merged that would take more.
    pub build_memory: usize,
    /// How much of a processor a build may take.
    pub build_time: std::time::Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            map_bytes: 4 << 30,
            segment_windows: 65_536,
            segment_span: i64::MAX,
            kind: Kind::Graph,
            graph_after: 5_000,
            graph_windows: 1 << 20,
            bytes_max: u64::MAX,
            age_max: i64::MAX,
            trees: 8,
            build_memory: 256 << 20,
            build_time: std::time::Duration::from_secs(3_600),
        }
    }
}

/// What a store holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// Windows that can be found.
    pub windows: u64,
    /// Of these, those in memory: of segments that are not brought to disk yet.
    pub tail: u64,
    /// And those that are scanned from disk.
    pub flat: u64,
    /// Deleted windows that are still stored.
    pub deleted: u64,
    /// Segments on disk.
    pub segments: u64,
    /// Sealed segments that wait to be brought to disk.
    pub waiting: u64,
    /// Series that were ever seen.
    pub series: u64,
    /// Windows that carry a label.
    pub labels: u64,
    /// What the owner missed of its input: see [`Batch::missed`].
    pub missed: u64,
    /// All files together.
    pub bytes: u64,
}

/// What writer, searchers and builds of one process share: LMDB opens an environment once a process.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) catalog: Catalog,
    opened: Mutex<HashMap<(SegmentId, Kind), Weak<Segment>>>,
}

impl std::fmt::Debug for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Segment").field(&self.record).finish()
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(catalog: Catalog) -> Arc<Self> {
        Arc::new(Self { catalog, opened: Mutex::default() })
    }

    /// How many searches scanned a segment that is open.
    pub(super) fn scans(&self, record: &SegmentRecord) -> u64 {
        let opened = lock(&self.opened).get(&(record.id, record.kind)).and_then(Weak::upgrade);
        opened.map_or(0, |segment| segment.scans.load(Ordering::Relaxed))
    }

    /// A segment on disk, opened once.
    pub(super) fn segment(&self, record: &SegmentRecord, model: &Model) -> Result<Arc<Segment>, IndexError> {
        let mut opened = lock(&self.opened);
        let key = (record.id, record.kind);
        if let Some(segment) = opened.get(&key).and_then(Weak::upgrade) {
            return Ok(segment);
        }
        let segment = Arc::new(Segment::open(&self.catalog.path, record.clone(), model.dimensions)?);
        opened.retain(|_, segment| segment.strong_count() > 0);
        opened.insert(key, Arc::downgrade(&segment));
        Ok(segment)
    }
}

/// The store, for the one process that writes it.
#[derive(Debug)]
pub struct Store {
    pub(super) shared: Arc<Shared>,
    pub(super) limits: Limits,
    pub(super) series: Mutex<HashMap<String, SeriesId>>,
    /// Held as long as the file is open: one writer to a folder, in memory as on disk.
    _lock: File,
    /// The catalog's file as it was opened: see [`Store::is_in_place`].
    file: (u64, u64),
    pub(super) slow: Mutex<Slow>,
}

impl Store {
    /// Opens or creates the store in the folder `path`. What an interrupted build left there is removed.
    ///
    /// # Errors
    /// If the folder cannot be used, is damaged, or of another version.
    pub fn open(path: &Path, limits: Limits) -> Result<Self, IndexError> {
        let lock = lock_folder(path)?;
        let catalog = Catalog::create(path, limits.map_bytes)?;
        let txn = catalog.read()?;
        let mut series = HashMap::new();
        for item in catalog.series.iter(&txn).map_err(catalog.wrap())? {
            let (id, name) = item.map_err(catalog.wrap())?;
            series.insert(name.to_owned(), id);
        }
        let known: Vec<String> = catalog.all_segments(&txn)?.iter().map(SegmentRecord::folder).collect();
        drop(txn);
        let (shared, series) = (Shared::new(catalog), Mutex::new(series));
        let missing = || IndexError::Io { path: path.to_owned(), source: std::io::ErrorKind::NotFound.into() };
        let file = identity(path).ok_or_else(missing)?;
        let store = Self { shared, limits, series, _lock: lock, file, slow: Mutex::default() };
        let folder = path.join(segment::FOLDER);
        let io = |source| IndexError::Io { path: folder.clone(), source };
        std::fs::create_dir_all(&folder).map_err(io)?;
        for entry in std::fs::read_dir(&folder).map_err(io)? {
            let entry = entry.map_err(io)?;
            if !known.iter().any(|name| entry.file_name() == name.as_str()) {
                std::fs::remove_dir_all(entry.path()).map_err(io)?;
            }
        }
        Ok(store)
    }

    fn catalog(&self) -> &Catalog {
        &self.shared.catalog
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.catalog().path
    }

    /// Whether its catalog still lies in its folder. Where somebody deleted it, what is written goes to a file that nobody
    /// will find again.
    pub fn is_in_place(&self) -> bool {
        identity(self.path()) == Some(self.file)
    }

    /// A searcher of this process.
    ///
    /// # Errors
    /// If something is damaged.
    pub fn searcher(&self) -> Result<Searcher, IndexError> {
        Searcher::new(self.shared.clone())
    }

    /// The position that was committed last.
    ///
    /// # Errors
    /// If the catalog cannot be read.
    pub fn position(&self) -> Result<Option<String>, IndexError> {
        let txn = self.catalog().read()?;
        position(self.catalog(), &txn)
    }

    /// What the owner must still send, by its number.
    ///
    /// # Errors
    /// If the catalog cannot be read.
    pub fn outbox(&self) -> Result<Vec<(u64, Vec<u8>)>, IndexError> {
        let (catalog, txn) = (self.catalog(), self.catalog().read()?);
        let items = catalog.outbox.iter(&txn).map_err(catalog.wrap())?;
        items.map(|item| item.map(|(id, bytes)| (id, bytes.to_vec())).map_err(catalog.wrap())).collect()
    }

    /// Begins a batch. There is one at a time; a second one waits for the first.
    ///
    /// # Errors
    /// If the catalog cannot be written.
    pub fn batch(&self) -> Result<Batch<'_>, IndexError> {
        Batch::new(self)
    }

    /// Removes whole segments that are too old, or too much; returns how many.
    ///
    /// # Errors
    /// If the catalog cannot be written. A folder that cannot be removed is removed at the next start.
    pub fn age(&self) -> Result<usize, IndexError> {
        let mut folders: Vec<PathBuf> = Vec::new();
        let catalog = self.catalog();
        let (segments, models, used) = {
            let txn = catalog.read()?;
            (catalog.all_segments(&txn)?, catalog.all_models(&txn)?, catalog.used_bytes(&txn)?)
        };
        // What is not built lies in the catalog, whose file never shrinks: its rows count, not the file.
        let weight = |segment: &SegmentRecord| match models.get(segment.model as usize) {
            Some(model) if segment.kind == Kind::Exact => u64::from(segment.count) * Row::bytes(model.dimensions),
            _ => segment.bytes,
        };
        let newest = segments.iter().map(|segment| segment.ends.1).max().unwrap_or(0);
        let mut bytes: u64 = segments.iter().map(|segment| segment.bytes).sum::<u64>() + used;
        let mut txn = catalog.write()?;
        for segment in segments.iter().filter(|segment| segment.sealed) {
            let too_old = newest.saturating_sub(segment.ends.1) > self.limits.age_max;
            if !too_old && bytes <= self.limits.bytes_max {
                break;
            }
            bytes = bytes.saturating_sub(weight(segment));
            self.forget(&mut txn, segment)?;
            folders.push(catalog.path.join(segment::FOLDER).join(segment.folder()));
        }
        if folders.is_empty() {
            return Ok(0);
        }
        catalog.changed(&mut txn)?;
        catalog.commit(txn)?;
        for folder in &folders {
            let _ = std::fs::remove_dir_all(folder);
        }
        Ok(folders.len())
    }

    /// Removes a segment with its labels and tags.
    fn forget(&self, txn: &mut RwTxn<'_>, segment: &SegmentRecord) -> Result<(), IndexError> {
        let catalog = self.catalog();
        let range = segment.first..segment.end();
        let mut tags: Vec<String> = Vec::new();
        for item in catalog.tagged.range(txn, &range).map_err(catalog.wrap())? {
            tags.push(item.map_err(catalog.wrap())?.1.to_owned());
        }
        for tag in tags {
            catalog.tags.delete(txn, &tag).map_err(catalog.wrap())?;
        }
        catalog.tagged.delete_range(txn, &range).map_err(catalog.wrap())?;
        catalog.labels.delete_range(txn, &range).map_err(catalog.wrap())?;
        catalog.deleted.delete(txn, &segment.id).map_err(catalog.wrap())?;
        catalog.segments.delete(txn, &segment.id).map_err(catalog.wrap())?;
        Ok(())
    }

    fn catalog_bytes(&self) -> u64 {
        self.catalog().env.real_disk_size().unwrap_or(0)
    }

    /// What it holds.
    ///
    /// # Errors
    /// If the catalog cannot be read.
    pub fn stats(&self) -> Result<Stats, IndexError> {
        let (catalog, txn) = (self.catalog(), self.catalog().read()?);
        let mut stats = Stats {
            series: catalog.series.len(&txn).map_err(catalog.wrap())?,
            labels: catalog.labels.len(&txn).map_err(catalog.wrap())?,
            missed: catalog.number(&txn, "missed")?.unwrap_or(0),
            bytes: self.catalog_bytes(),
            ..Stats::default()
        };
        for segment in catalog.all_segments(&txn)? {
            let deleted = catalog.deleted(&txn, segment.id)?.len();
            let left_out = u64::from(segment.left_out);
            stats.windows += u64::from(segment.count) - deleted;
            stats.deleted += deleted - left_out.min(deleted);
            stats.bytes += segment.bytes;
            if segment.kind == Kind::Exact {
                stats.tail += u64::from(segment.count) - deleted;
                stats.waiting += u64::from(segment.sealed);
            } else {
                stats.segments += 1;
                stats.flat += if segment.kind == Kind::Flat { u64::from(segment.count) - deleted } else { 0 };
            }
        }
        Ok(stats)
    }
}

/// Which file the catalog in a folder is: device and inode.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(path.join("data.mdb")).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

fn lock_folder(path: &Path) -> Result<File, IndexError> {
    let io = |source| IndexError::Io { path: path.to_owned(), source };
    std::fs::create_dir_all(path).map_err(io)?;
    let file = File::options().create(true).truncate(false).write(true).open(path.join("writer.lock")).map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(IndexError::InUse { path: path.to_owned() }),
        Err(std::fs::TryLockError::Error(source)) => Err(io(source)),
    }
}

pub(super) fn position(catalog: &Catalog, txn: &heed::RoTxn<'_>) -> Result<Option<String>, IndexError> {
    let found = catalog.meta.get(txn, "position").map_err(catalog.wrap())?;
    Ok(found.map(|bytes| String::from_utf8_lossy(bytes).into_owned()))
}
