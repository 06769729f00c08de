//! Building sealed segments, in the background: into a forest first, later four of a size into a graph, and anew what lost
//! many windows to deletions.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use roaring::RoaringBitmap;

use super::{
    batch::next_segment,
    error::IndexError,
    kind::Bounds,
    segment::{Columns, FOLDER, Segment},
    segment_record::{Kind, Model, SegmentId, SegmentRecord},
    store::{Limits, Shared, Store},
    window::{Row, SeriesId},
};
use crate::distance;

/// A segment is rebuilt when so many of its windows were deleted since it was built.
const REBUILD_SHARE: f64 = 0.3;
/// So many built segments of a size are merged.
const MERGED: usize = 4;
/// Vectors of the segment that are asked for, to see what recall an effort reaches, and how many neighbours of each.
const PROBES: usize = 100;
const NEIGHBOURS: usize = 10;
/// No effort beyond the one that reaches this recall is tried.
const RECALL_MAX: f32 = 0.995;
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
        let given_up: BTreeSet<SegmentId> = {
            let trees = self.trees.lock().unwrap_or_else(PoisonError::into_inner);
            trees.iter().filter(|(_, trees)| **trees == 0).map(|(id, _)| *id).collect()
        };
        let Some((sources, kind)) = plan(&segments, &deleted, &given_up, &self.limits) else { return Ok(None) };
        let models = catalog.all_models(&txn)?;
        drop(txn);
        let mut txn = catalog.write()?;
        let id = next_segment(catalog, &mut txn)?;
        catalog.commit(txn)?;
        let count = sources.iter().map(|source| source.count).sum();
        deleted.retain(|id, _| sources.iter().any(|source| source.id == *id));
        let model = models.get(sources[0].model as usize).cloned();
        let trees = self.trees.lock().unwrap_or_else(PoisonError::into_inner).get(&sources[0].id).copied();
        let mut limits = self.limits.clone();
        limits.trees = trees.unwrap_or(limits.trees);
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

    /// Notes that a build took too long: the next one of the same segment gets by with half the trees. `false` if one tree was
    /// too much: it is not tried again before the next start.
    pub fn took_too_long(&self, build: &BuildId) -> bool {
        let mut trees = self.trees.lock().unwrap_or_else(PoisonError::into_inner);
        let trees = trees.entry(build.source).or_insert(self.limits.trees);
        *trees /= 2;
        *trees > 0
    }
}

/// Which build it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuildId {
    source: SegmentId,
}

/// The segments to build from, and into what: first what waits, then what lost many windows, then graphs.
fn plan(
    segments: &[SegmentRecord],
    deleted: &BTreeMap<SegmentId, RoaringBitmap>,
    given_up: &BTreeSet<SegmentId>,
    limits: &Limits,
) -> Option<(Vec<SegmentRecord>, Kind)> {
    let is_tried = |segment: &&SegmentRecord| !given_up.contains(&segment.id);
    let waits = segments.iter().filter(is_tried).find(|segment| segment.sealed && segment.kind == Kind::Exact);
    if let Some(waiting) = waits {
        return Some((vec![waiting.clone()], Kind::Forest));
    }
    let lost = |segment: &SegmentRecord| {
        let gone = deleted.get(&segment.id).map_or(0, RoaringBitmap::len).saturating_sub(segment.left_out.into());
        gone as f64 > REBUILD_SHARE * f64::from(segment.count - segment.left_out.min(segment.count))
    };
    let built = |segment: &&SegmentRecord| segment.kind != Kind::Exact;
    if let Some(holed) = segments.iter().filter(built).filter(is_tried).find(|segment| lost(segment)) {
        return Some((vec![holed.clone()], holed.kind));
    }
    let size = |segment: &SegmentRecord| (segment.count / limits.segment_windows.max(1)).max(1).ilog(MERGED as u32);
    let run = segments.windows(MERGED).find(|run| {
        let alike = |segment: &SegmentRecord| {
            segment.kind != Kind::Exact && segment.model == run[0].model && size(segment) == size(&run[0])
        };
        let sum: u64 = run.iter().map(|segment| u64::from(segment.count)).sum();
        is_tried(&&run[0]) && run.iter().all(alike) && sum <= u64::from(limits.graph_windows)
    });
    run.map(|run| (run.to_vec(), Kind::Graph))
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
        BuildId { source: self.sources[0].id }
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
        let started = Instant::now();
        let late = || cancel.load(Ordering::Relaxed) || started.elapsed() > self.limits.build_time;
        let segment = Segment::create(&self.shared.catalog.path, self.target.clone(), self.model.dimensions)?;
        let mut txn = segment.write()?;
        let mut columns = Columns::new(self.model.dimensions);
        for source in &self.sources {
            let shift = (source.first - self.target.first) as u32;
            let deleted = self.deleted.get(&source.id);
            self.each(source, |local, series, facts, vector| {
                columns.push(series, facts, vector.as_deref());
                match vector {
                    Some(vector) if deleted.is_none_or(|deleted| !deleted.contains(local)) => {
                        segment.kind().put(&mut txn, local + shift, &vector).map_err(segment.wrap())
                    }
                    _ => Ok(()),
                }
            })?;
            if late() {
                return Err(IndexError::Cancelled);
            }
        }
        segment.put_columns(&mut txn, &columns)?;
        let bounds = Bounds {
            seed: self.target.first ^ (u64::from(self.target.model) << 48),
            trees: self.limits.trees,
            memory: self.limits.build_memory,
            cancelled: &late,
        };
        segment.kind().build(&mut txn, &bounds).map_err(segment.wrap())?;
        txn.commit().map_err(|error| segment.wrap()(error.into()))?;
        self.target.recall = recall(&segment, &late)?;
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

/// What recall@10 rising efforts reach, by asking for vectors of the segment itself.
fn recall(segment: &Segment, cancelled: &dyn Fn() -> bool) -> Result<Vec<(u32, f32)>, IndexError> {
    let txn = segment.read()?;
    let step = (segment.record.count as usize / PROBES).max(1);
    let mut probes: Vec<Probe> = Vec::new();
    for item in (0..segment.record.count).step_by(step) {
        if let Some(vector) = segment.vector(&txn, item)? {
            probes.push(Probe { item, vector, nearest: Vec::new() });
        }
    }
    for item in 0..segment.record.count {
        if cancelled() {
            return Err(IndexError::Cancelled);
        }
        let Some(vector) = segment.vector(&txn, item)? else { continue };
        probes.iter_mut().filter(|probe| probe.item != item).for_each(|probe| probe.offer(&vector));
    }
    let mut reached = Vec::new();
    let wanted: usize = probes.iter().map(|probe| probe.nearest.len()).sum();
    for effort in segment.kind().efforts() {
        let mut found = 0;
        for probe in &probes {
            let near = segment.nearest(&txn, &probe.vector, NEIGHBOURS + 1, Some(*effort), None)?;
            let others = near.iter().filter(|(item, _)| *item != probe.item);
            // By distance, so that of equally near ones any will do.
            found += others.take(NEIGHBOURS).filter(|(_, squared)| *squared <= probe.worst()).count();
        }
        let recall = found as f32 / wanted.max(1) as f32;
        reached.push((*effort, recall));
        // An effort of a forest counts a window once for each tree.
        if recall >= RECALL_MAX || *effort / 8 >= segment.record.count {
            break;
        }
    }
    Ok(reached)
}

/// A vector that is asked for, and the squared distances of its true neighbours, rising.
struct Probe {
    item: u32,
    vector: Vec<f32>,
    nearest: Vec<f32>,
}

impl Probe {
    fn worst(&self) -> f32 {
        self.nearest.last().copied().unwrap_or(f32::INFINITY)
    }

    fn offer(&mut self, vector: &[f32]) {
        let squared = distance::squared(&self.vector, vector);
        if self.nearest.len() < NEIGHBOURS || squared < self.worst() {
            let at = self.nearest.partition_point(|known| *known <= squared);
            self.nearest.insert(at, squared);
            self.nearest.truncate(NEIGHBOURS);
        }
    }
}
