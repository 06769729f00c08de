//! Writing: batches, labels, deletions, what ages out. One process at a time.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use heed::RwTxn;
use roaring::RoaringBitmap;

use super::{
    catalog::Catalog,
    error::IndexError,
    search::Searcher,
    segment::{self, Segment},
    segment_record::{Kind, Model, SegmentId, SegmentRecord},
    window::{Label, Row, SeriesId, Window, WindowId},
};

/// Rows of built windows that a batch removes from the catalog beside its own work.
const CLEANED_MIN: u64 = 1_024;

/// Bounds of a store.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Address space of the catalog; its file grows as it is used.
    pub map_bytes: usize,
    /// A segment is sealed with so many windows.
    pub segment_windows: u32,
    /// And when the ends of its windows lie so far apart, in nanoseconds.
    pub segment_span: i64,
    /// Four built segments of a size are merged into a graph, as long as that has at most so many windows; 0: never.
    pub graph_windows: u32,
    /// All files together; past it the oldest segment goes.
    pub bytes_max: u64,
    /// A segment whose newest window is so much older than the newest of all goes, in nanoseconds.
    pub age_max: i64,
    /// Trees of a forest.
    pub trees: usize,
    /// Memory that a build may take, in bytes.
    pub build_memory: usize,
    /// How long a build may take.
    pub build_time: std::time::Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            map_bytes: 4 << 30,
            segment_windows: 65_536,
            segment_span: i64::MAX,
            graph_windows: 1 << 20,
            bytes_max: u64::MAX,
            age_max: i64::MAX,
            trees: 8,
            build_memory: 64 << 20,
            build_time: std::time::Duration::from_secs(3_600),
        }
    }
}

/// What a store holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// Windows that can be found.
    pub windows: u64,
    /// Of these, those in segments that are not built.
    pub tail: u64,
    /// Deleted windows that are still stored.
    pub deleted: u64,
    /// Built segments.
    pub segments: u64,
    /// Sealed segments that wait to be built.
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(catalog: Catalog) -> Arc<Self> {
        Arc::new(Self { catalog, opened: Mutex::default() })
    }

    /// A built segment, opened once.
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
    series: Mutex<HashMap<String, SeriesId>>,
    /// Fewer trees for segments whose build took too long.
    pub(super) trees: Mutex<HashMap<SegmentId, usize>>,
}

impl Store {
    /// Opens or creates the store in the folder `path`. What an interrupted build left there is removed.
    ///
    /// # Errors
    /// If the folder cannot be used, is damaged, or of another version.
    pub fn open(path: &Path, limits: Limits) -> Result<Self, IndexError> {
        let catalog = Catalog::create(path, limits.map_bytes)?;
        let txn = catalog.read()?;
        let mut series = HashMap::new();
        for item in catalog.series.iter(&txn).map_err(catalog.wrap())? {
            let (id, name) = item.map_err(catalog.wrap())?;
            series.insert(name.to_owned(), id);
        }
        let known: Vec<String> = catalog.all_segments(&txn)?.iter().map(SegmentRecord::folder).collect();
        drop(txn);
        let store = Self { shared: Shared::new(catalog), limits, series: Mutex::new(series), trees: Mutex::default() };
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
        let txn = self.catalog().write()?;
        let segments = self.catalog().all_segments(&txn)?;
        let next_window = self.catalog().number(&txn, "next_window")?.unwrap_or(0);
        let models = self.catalog().all_models(&txn)?;
        Ok(Batch {
            store: self,
            txn,
            open: segments.iter().find(|segment| !segment.sealed).cloned(),
            segments,
            models,
            next_window,
            new_series: HashMap::new(),
            deleted: BTreeMap::new(),
            changed: false,
            added: 0,
        })
    }

    /// Removes whole segments that are too old, or too much; returns how many.
    ///
    /// # Errors
    /// If the catalog cannot be written. A folder that cannot be removed is removed at the next start.
    pub fn age(&self) -> Result<usize, IndexError> {
        let mut folders: Vec<PathBuf> = Vec::new();
        let catalog = self.catalog();
        let segments = {
            let txn = catalog.read()?;
            catalog.all_segments(&txn)?
        };
        let newest = segments.iter().map(|segment| segment.ends.1).max().unwrap_or(0);
        let mut bytes: u64 = segments.iter().map(|segment| segment.bytes).sum::<u64>() + self.catalog_bytes();
        let mut txn = catalog.write()?;
        for segment in segments.iter().filter(|segment| segment.sealed) {
            let too_old = newest.saturating_sub(segment.ends.1) > self.limits.age_max;
            if !too_old && bytes <= self.limits.bytes_max {
                break;
            }
            bytes = bytes.saturating_sub(segment.bytes.max(1));
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
            }
        }
        Ok(stats)
    }
}

pub(super) fn position(catalog: &Catalog, txn: &heed::RoTxn<'_>) -> Result<Option<String>, IndexError> {
    let found = catalog.meta.get(txn, "position").map_err(catalog.wrap())?;
    Ok(found.map(|bytes| String::from_utf8_lossy(bytes).into_owned()))
}

/// Changes that are committed together, with the position that they reach.
pub struct Batch<'s> {
    store: &'s Store,
    txn: RwTxn<'s>,
    segments: Vec<SegmentRecord>,
    models: Vec<Model>,
    open: Option<SegmentRecord>,
    next_window: WindowId,
    new_series: HashMap<String, SeriesId>,
    deleted: BTreeMap<SegmentId, RoaringBitmap>,
    changed: bool,
    added: u64,
}

impl Batch<'_> {
    fn catalog(&self) -> &Catalog {
        &self.store.shared.catalog
    }

    /// Adds a window whose vector is `model`'s.
    ///
    /// # Errors
    /// If the vector is not as long as the model's, or has a component that is no number; or the catalog's own.
    pub fn add(&mut self, model: &Model, window: &Window) -> Result<WindowId, IndexError> {
        if window.vector.len() != model.dimensions || !window.vector.iter().all(|x| x.is_finite()) {
            return Err(IndexError::Query(format!(
                "a vector of {} components (some may be no numbers) for a model of {}",
                window.vector.len(),
                model.dimensions
            )));
        }
        let series = self.series(&window.series)?;
        let model = self.model(model)?;
        self.seal_if_due(model, window.facts.end)?;
        let id = self.next_window;
        let segment = match &mut self.open {
            Some(open) => open,
            None => self.open_segment(model)?,
        };
        segment.count += 1;
        segment.ends = (segment.ends.0.min(window.facts.end), segment.ends.1.max(window.facts.end));
        self.next_window += 1;
        self.added += 1;
        let record = Row::record(series, &window.facts, &window.vector);
        let catalog = &self.store.shared.catalog;
        catalog.windows.put(&mut self.txn, &id, &record).map_err(catalog.wrap())?;
        Ok(id)
    }

    fn series(&mut self, name: &str) -> Result<SeriesId, IndexError> {
        let known = lock(&self.store.series);
        if let Some(id) = known.get(name).or_else(|| self.new_series.get(name)) {
            return Ok(*id);
        }
        // Bounded by the stages before: detect.series_max.
        let id = (known.len() + self.new_series.len()) as SeriesId;
        drop(known);
        let catalog = &self.store.shared.catalog;
        catalog.series.put(&mut self.txn, &id, name).map_err(catalog.wrap())?;
        self.new_series.insert(name.to_owned(), id);
        Ok(id)
    }

    fn model(&mut self, model: &Model) -> Result<u32, IndexError> {
        let number = match self.models.iter().position(|known| known == model) {
            Some(number) => number,
            None => {
                let catalog = &self.store.shared.catalog;
                let number = self.models.len();
                catalog.models.put(&mut self.txn, &(number as u32), &model.record()).map_err(catalog.wrap())?;
                self.models.push(model.clone());
                self.changed = true;
                number
            }
        };
        Ok(number as u32)
    }

    fn seal_if_due(&mut self, model: u32, end: i64) -> Result<(), IndexError> {
        let limits = &self.store.limits;
        let due = |open: &SegmentRecord| {
            let span = open.ends.1.max(end).saturating_sub(open.ends.0.min(end));
            open.count > 0
                && (open.model != model || open.count >= limits.segment_windows || span > limits.segment_span)
        };
        if self.open.as_ref().is_some_and(due) {
            self.seal()?;
        }
        Ok(())
    }

    /// Seals the open segment: what comes now begins another one.
    ///
    /// # Errors
    /// The catalog's.
    pub fn seal(&mut self) -> Result<(), IndexError> {
        if let Some(mut open) = self.open.take() {
            open.sealed = true;
            self.catalog_put(&open)?;
            self.changed = true;
        }
        Ok(())
    }

    fn catalog_put(&mut self, segment: &SegmentRecord) -> Result<(), IndexError> {
        match self.segments.iter_mut().find(|known| known.id == segment.id) {
            Some(known) => known.clone_from(segment),
            None => self.segments.push(segment.clone()),
        }
        self.store.shared.catalog.put_segment(&mut self.txn, segment)
    }

    fn open_segment(&mut self, model: u32) -> Result<&mut SegmentRecord, IndexError> {
        let id = next_segment(&self.store.shared.catalog, &mut self.txn)?;
        self.changed = true;
        Ok(self.open.insert(SegmentRecord {
            id,
            model,
            first: self.next_window,
            count: 0,
            sealed: false,
            kind: Kind::Exact,
            ends: (i64::MAX, i64::MIN),
            bytes: 0,
            recall: Vec::new(),
            left_out: 0,
        }))
    }

    /// Deletes a window: it is not found any more. `false` if there is none, or it was deleted already.
    ///
    /// # Errors
    /// The catalog's.
    pub fn delete(&mut self, window: WindowId) -> Result<bool, IndexError> {
        let holds = |segment: &&SegmentRecord| (segment.first..segment.end()).contains(&window);
        let Some(segment) = self.open.iter().chain(&self.segments).find(holds) else { return Ok(false) };
        let (id, local) = (segment.id, (window - segment.first) as u32);
        if !self.deleted.contains_key(&id) {
            let deleted = self.catalog().deleted(&self.txn, id)?;
            self.deleted.insert(id, deleted);
        }
        let inserted = self.deleted.get_mut(&id).is_some_and(|deleted| deleted.insert(local));
        self.changed |= inserted;
        Ok(inserted)
    }

    /// Labels a window, unless it carries a later label. `false` if nothing was changed.
    ///
    /// # Errors
    /// The catalog's.
    pub fn label(&mut self, window: WindowId, label: &Label) -> Result<bool, IndexError> {
        let catalog = &self.store.shared.catalog;
        let holds = |segment: &SegmentRecord| (segment.first..segment.end()).contains(&window);
        if !self.open.iter().chain(&self.segments).any(holds) {
            return Ok(false);
        }
        if catalog.label(&self.txn, window)?.is_some_and(|known| !label.replaces(&known)) {
            return Ok(false);
        }
        catalog.labels.put(&mut self.txn, &window, &label.record()).map_err(catalog.wrap())?;
        Ok(true)
    }

    /// Files a window under a name of the owner's.
    ///
    /// # Errors
    /// The catalog's.
    pub fn tag(&mut self, tag: &str, window: WindowId) -> Result<(), IndexError> {
        let catalog = &self.store.shared.catalog;
        let mut ids = catalog.tagged(&self.txn, tag)?;
        if !ids.contains(&window) {
            ids.push(window);
            let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
            catalog.tags.put(&mut self.txn, tag, &bytes).map_err(catalog.wrap())?;
            catalog.tagged.put(&mut self.txn, &window, tag).map_err(catalog.wrap())?;
        }
        Ok(())
    }

    /// The windows filed under a name, those of this batch included.
    ///
    /// # Errors
    /// The catalog's.
    pub fn tagged(&self, tag: &str) -> Result<Vec<WindowId>, IndexError> {
        self.catalog().tagged(&self.txn, tag)
    }

    /// Notes that so many messages of the owner's input were gone before they were read.
    ///
    /// # Errors
    /// The catalog's.
    pub fn missed(&mut self, messages: u64) -> Result<(), IndexError> {
        let missed = self.catalog().number(&self.txn, "missed")?.unwrap_or(0);
        self.store.shared.catalog.set(&mut self.txn, "missed", missed + messages)
    }

    /// Notes that the owner must send something, under a number of its own.
    ///
    /// # Errors
    /// The catalog's.
    pub fn send(&mut self, number: u64, what: &[u8]) -> Result<(), IndexError> {
        let catalog = &self.store.shared.catalog;
        catalog.outbox.put(&mut self.txn, &number, what).map_err(catalog.wrap())
    }

    /// Notes that it is sent.
    ///
    /// # Errors
    /// The catalog's.
    pub fn sent(&mut self, number: u64) -> Result<(), IndexError> {
        let catalog = &self.store.shared.catalog;
        catalog.outbox.delete(&mut self.txn, &number).map(drop).map_err(catalog.wrap())
    }

    /// Writes everything and the position that it reaches, if the store still stands at `before`.
    ///
    /// # Errors
    /// [`IndexError::Fenced`] if another instance has written; with any error the store is as it was.
    pub fn commit(mut self, before: Option<&str>, position: &str) -> Result<(), IndexError> {
        let found = self::position(self.catalog(), &self.txn)?;
        if found.as_deref() != before {
            return Err(IndexError::Fenced {
                path: self.catalog().path.clone(),
                found: found.unwrap_or_else(|| "nothing".into()),
                expected: before.unwrap_or("nothing").to_owned(),
            });
        }
        if self.open.as_ref().is_some_and(|open| open.count >= self.store.limits.segment_windows) {
            self.seal()?;
        }
        if let Some(open) = self.open.take() {
            self.catalog_put(&open)?;
        }
        let catalog = &self.store.shared.catalog;
        for (segment, deleted) in &self.deleted {
            catalog.put_deleted(&mut self.txn, *segment, deleted)?;
        }
        self.clean()?;
        let catalog = &self.store.shared.catalog;
        catalog.set(&mut self.txn, "next_window", self.next_window)?;
        catalog.meta.put(&mut self.txn, "position", position.as_bytes()).map_err(catalog.wrap())?;
        if self.changed {
            catalog.changed(&mut self.txn)?;
        }
        catalog.commit(self.txn)?;
        lock(&self.store.series).extend(self.new_series);
        Ok(())
    }

    /// Removes some rows whose windows lie in built segments, or were forgotten.
    fn clean(&mut self) -> Result<(), IndexError> {
        let catalog = &self.store.shared.catalog;
        let waiting = self.segments.iter().filter(|segment| segment.kind == Kind::Exact);
        let kept_from = waiting.map(|segment| segment.first).min().unwrap_or(self.next_window);
        let from = catalog.number(&self.txn, "cleaned")?.unwrap_or(0);
        let to = kept_from.min(from + CLEANED_MIN.max(2 * self.added));
        if to > from {
            catalog.windows.delete_range(&mut self.txn, &(from..to)).map_err(catalog.wrap())?;
            catalog.set(&mut self.txn, "cleaned", to)?;
        }
        Ok(())
    }
}

/// A number for a new segment.
pub(super) fn next_segment(catalog: &Catalog, txn: &mut RwTxn<'_>) -> Result<SegmentId, IndexError> {
    let id = catalog.number(txn, "next_segment")?.unwrap_or(0);
    catalog.set(txn, "next_segment", id + 1)?;
    // Four billion segments outlast any disk.
    Ok(id as SegmentId)
}
