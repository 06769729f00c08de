//! Bringing sealed segments to disk and building what is searched, in the background.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use roaring::RoaringBitmap;
use rustix::time::{ClockId, clock_gettime};

use super::{
    batch::next_segment,
    error::IndexError,
    kind::Bounds,
    plan::plan,
    segment::{Columns, FOLDER, Segment},
    segment_record::{Kind, Model, SegmentId, SegmentRecord},
    store::{Limits, Shared, Store, lock},
    window::{Row, SeriesId},
};

/// Vectors that are read in one transaction of the catalog: it may not be held for long.
const READ_ROWS: u64 = 4_096;

/// A segment to be built from others. [`Build::run`] takes as long as it takes and holds nobody up;
/// [`Store::publish`] then makes the store use it.
#[derive(Debug)]
pub struct Build {
    shared: Arc<Shared>,
    limits: Limits,
    model: Model,
    sources: Vec<SegmentRecord>,
    target: SegmentRecord,
    deleted: BTreeMap<SegmentId, RoaringBitmap>,
}

/// A built segment that the catalog does not name yet.
#[derive(Debug)]
pub struct Built {
    sources: Vec<SegmentRecord>,
    target: SegmentRecord,
}

impl Store {
    /// What should be built next; `None` if nothing. Ask for one at a time.
    ///
    /// # Errors
    /// The catalog's.
    pub fn next_build(&self) -> Result<Option<Build>, IndexError> {
        let catalog = &self.shared.catalog;
        let txn = catalog.read()?;
        let segments = catalog.all_segments(&txn)?;
        let mut deleted = BTreeMap::new();
        for segment in &segments {
            deleted.insert(segment.id, catalog.deleted(&txn, segment.id)?);
        }
        let slow = lock(&self.slow).clone();
        let scans = |segment: &SegmentRecord| self.shared.scans(segment);
        let Some((sources, kind)) = plan(&segments, &deleted, &slow, &scans, &self.limits) else { return Ok(None) };
        let models = catalog.all_models(&txn)?;
        drop(txn);
        let mut txn = catalog.write()?;
        let id = next_segment(catalog, &mut txn)?;
        catalog.commit(txn)?;
        let count = sources.iter().map(|source| source.count).sum();
        deleted.retain(|id, _| sources.iter().any(|source| source.id == *id));
        let model = models.get(sources[0].model as usize).cloned();
        let mut limits = self.limits.clone();
        limits.trees = slow.trees.get(&sources[0].id).copied().unwrap_or(limits.trees);
        Ok(Some(Build {
            shared: self.shared.clone(),
            model: model.ok_or_else(|| IndexError::Damaged {
                path: catalog.path.clone(),
                problem: format!("segment {} is of an unknown model", sources[0].id),
            })?,
            limits,
            target: SegmentRecord {
                id,
                model: sources[0].model,
                first: sources[0].first,
                count,
                sealed: true,
                kind,
                ends: sources
                    .iter()
                    .fold((i64::MAX, i64::MIN), |ends, source| (ends.0.min(source.ends.0), ends.1.max(source.ends.1))),
                bytes: 0,
                recall: Vec::new(),
                // A segment has fewer than 2^32 windows.
                left_out: deleted.values().map(|deleted| deleted.len() as u32).sum(),
            },
            sources,
            deleted,
        }))
    }

    /// Makes the store use what was built. `false`, and nothing changes, if its sources have gone meanwhile.
    ///
    /// # Errors
    /// The catalog's.
    pub fn publish(&self, built: Built) -> Result<bool, IndexError> {
        let catalog = &self.shared.catalog;
        let folder = |segment: &SegmentRecord| catalog.path.join(FOLDER).join(segment.folder());
        let mut txn = catalog.write()?;
        let segments = catalog.all_segments(&txn)?;
        if !built.sources.iter().all(|source| segments.contains(source)) {
            let _ = std::fs::remove_dir_all(folder(&built.target));
            return Ok(false);
        }
        let mut deleted = RoaringBitmap::new();
        for source in &built.sources {
            // What was deleted while it was built is in it, and is told apart by `left_out`.
            let shift = (source.first - built.target.first) as u32;
            deleted.extend(catalog.deleted(&txn, source.id)?.iter().map(|local| local + shift));
            catalog.deleted.delete(&mut txn, &source.id).map_err(catalog.wrap())?;
            catalog.segments.delete(&mut txn, &source.id).map_err(catalog.wrap())?;
        }
        if !deleted.is_empty() {
            catalog.put_deleted(&mut txn, built.target.id, &deleted)?;
        }
        catalog.put_segment(&mut txn, &built.target)?;
        catalog.changed(&mut txn)?;
        catalog.commit(txn)?;
        for source in built.sources.iter().filter(|source| source.kind != Kind::Exact) {
            let _ = std::fs::remove_dir_all(folder(source));
        }
        Ok(true)
    }

    /// Notes that a build took too long: a forest of the same segment gets by with half the trees, and no graph of as many windows is
    /// tried. `false` if the segment is not tried again before the next start.
    pub fn took_too_long(&self, build: &BuildId) -> bool {
        let mut slow = lock(&self.slow);
        if build.kind == Kind::Forest {
            let trees = slow.trees.entry(build.source).or_insert(self.limits.trees);
            *trees /= 2;
            return *trees > 0;
        }
        slow.graph_windows = Some(slow.graph_windows.map_or(build.windows, |known| known.min(build.windows)));
        build.is_merged
    }
}

/// What this thread has had of processors: one that only gets what others leave is not slow for that.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    // A thread's clock never shows a time before it began.
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Which build it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuildId {
    source: SegmentId,
    kind: Kind,
    windows: u32,
    is_merged: bool,
}

impl Build {
    /// How many windows it is given.
    pub fn windows(&self) -> u32 {
        self.target.count
    }

    /// What it builds.
    pub fn kind(&self) -> Kind {
        self.target.kind
    }

    /// What tells it from others.
    pub fn id(&self) -> BuildId {
        BuildId {
            source: self.sources[0].id,
            kind: self.target.kind,
            windows: self.target.count,
            is_merged: self.sources.len() > 1,
        }
    }

    /// Builds on one thread of its own, until `cancel` is set or its time is over.
    ///
    /// # Errors
    /// [`IndexError::Cancelled`]; a full disk. The store is as it was.
    pub fn run(self, cancel: &AtomicBool) -> Result<Built, IndexError> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
        let pool = pool.map_err(|error| IndexError::Query(format!("no thread to build on: {error}")))?;
        let path = self.shared.catalog.path.join(FOLDER).join(self.target.folder());
        let result = pool.install(|| self.build(cancel));
        if result.is_err() {
            let _ = std::fs::remove_dir_all(path);
        }
        result
    }

    fn build(mut self, cancel: &AtomicBool) -> Result<Built, IndexError> {
        let started = processor_time();
        let is_cheap = self.target.kind == Kind::Flat;
        let is_over = || !is_cheap && processor_time().saturating_sub(started) > self.limits.build_time;
        let late = || cancel.load(Ordering::Relaxed) || is_over();
        let mut segment = Segment::create(&self.shared.catalog.path, self.target.clone(), self.model.dimensions)?;
        let mut columns = Columns::new(self.target.kind, self.model.dimensions);
        for source in &self.sources {
            let shift = (source.first - self.target.first) as u32;
            let deleted = self.deleted.get(&source.id);
            self.each(source, |local, series, facts, vector| {
                if local.is_multiple_of(READ_ROWS as u32) && late() {
                    return Err(IndexError::Cancelled);
                }
                columns.push(series, facts, vector.as_deref());
                match vector {
                    Some(vector) if deleted.is_none_or(|deleted| !deleted.contains(local)) => {
                        segment.put(local + shift, &vector)
                    }
                    _ => Ok(()),
                }
            })?;
        }
        segment.put_columns(&columns)?;
        drop(columns);
        let bounds = Bounds {
            seed: self.target.first ^ (u64::from(self.target.model) << 48),
            trees: self.limits.trees,
            memory: self.limits.build_memory,
            cancelled: &late,
        };
        self.target.recall = segment.build(&bounds)?;
        self.target.bytes = segment.sync()?;
        Ok(Built { sources: self.sources, target: self.target })
    }

    /// Every window of a source, with its vector if it has one.
    fn each(
        &self,
        source: &SegmentRecord,
        mut each: impl FnMut(u32, SeriesId, &super::window::Facts, Option<Vec<f32>>) -> Result<(), IndexError>,
    ) -> Result<(), IndexError> {
        if source.kind != Kind::Exact {
            let segment = self.shared.segment(source, &self.model)?;
            let txn = segment.read()?;
            for local in 0..source.count {
                let (series, facts) = segment.facts(&txn, local)?;
                each(local, series, &facts, segment.vector(&txn, local)?)?;
            }
            return Ok(());
        }
        let catalog = &self.shared.catalog;
        let mut from = source.first;
        while from < source.end() {
            let to = source.end().min(from + READ_ROWS);
            let txn = catalog.read()?;
            let rows = catalog.windows.range(&txn, &(from..to)).map_err(catalog.wrap())?;
            let mut rows = rows.map(|item| item.map_err(catalog.wrap()));
            for expected in from..to {
                let (id, record) = rows.next().ok_or_else(|| self.missing(expected))??;
                let row = Row::read(record).map_err(|error| catalog.damaged(&format!("window {id}"), &error))?;
                if id != expected {
                    return Err(self.missing(expected));
                }
                let vector = row.vector.iter().map(|x| x.to_f32()).collect();
                each((id - source.first) as u32, row.series, &row.facts, Some(vector))?;
            }
            from = to;
        }
        Ok(())
    }

    fn missing(&self, window: u64) -> IndexError {
        let path = self.shared.catalog.path.clone();
        IndexError::Damaged { path, problem: format!("window {window} is missing") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_waits_has_nothing_of_processors() {
        const WAIT: Duration = Duration::from_millis(50);
        let began = processor_time();
        std::thread::sleep(WAIT);
        let waited = processor_time() - began;
        assert!(!waited.is_zero() && waited < WAIT, "{waited:?}");
    }
}
