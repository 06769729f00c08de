//! Searching: every part of the tail and every built segment is asked, and the nearest of all are told.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, atomic::Ordering},
    time::Duration,
};

use roaring::RoaringBitmap;

use super::{
    catalog::Catalog,
    error::IndexError,
    filter::{Allowed, Filter},
    segment::Segment,
    segment_record::{Kind, Model, SegmentId, SegmentRecord},
    store::{Shared, position},
    tail::Part,
    view::View,
    window::{Facts, Label, WindowId},
};

/// Where so few windows are allowed, all of them are measured.
pub(super) const EXACT_BELOW: u64 = 4_096;
/// How often a view is read again when a segment was replaced while it was opened.
const TRIES: u32 = 5;

/// A folder that no catalog names and that has not changed for so long is nobody's.
const ORPHAN_AFTER: Duration = Duration::from_secs(3_600);

/// How sure a search is to find the true nearest ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Recall {
    /// It measures every window.
    Exact,
    /// It spends the effort that reached this share of the true nearest ten when a segment was built.
    AtLeast(f32),
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct Query<'a> {
    /// Whose vectors.
    pub model: &'a Model,
    /// Near to what.
    pub vector: &'a [f32],
    /// How many.
    pub count: usize,
    /// Not farther than this.
    pub radius: f32,
    /// How surely.
    pub recall: Recall,
    /// Among which.
    pub filter: Filter,
}

/// A window that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Neighbour {
    /// Its number.
    pub window: WindowId,
    /// Its Euclidean distance from the query.
    pub distance: f32,
    /// Canonical text of its series.
    pub series: String,
    /// What is known of it.
    pub facts: Facts,
    /// What somebody said of it.
    pub label: Option<Label>,
}

/// Asks a store, in its own process or beside it. Searches of several threads run side by side.
#[derive(Debug)]
pub struct Searcher {
    pub(super) shared: Arc<Shared>,
    view: RwLock<View>,
}

impl Searcher {
    /// Opens the store in the folder `path` beside the process that writes it; `map_bytes` must be the writer's.
    ///
    /// # Errors
    /// If there is none, or it is damaged or of another version.
    pub fn open(path: &Path, map_bytes: usize) -> Result<Self, IndexError> {
        Self::new(Shared::new(Catalog::open(path, map_bytes)?))
    }

    pub(super) fn new(shared: Arc<Shared>) -> Result<Self, IndexError> {
        let searcher = Self { shared, view: RwLock::default() };
        searcher.refresh()?;
        Ok(searcher)
    }

    pub(super) fn view(&self) -> RwLockReadGuard<'_, View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees what was committed since. Searches see the store as of the last refresh of their searcher.
    ///
    /// # Errors
    /// If something is damaged.
    pub fn refresh(&self) -> Result<(), IndexError> {
        let mut tries = 0;
        loop {
            match self.try_refresh() {
                // A segment that was replaced while it was opened: the catalog knows of the new one.
                Err(IndexError::Io { source, .. })
                    if source.kind() == std::io::ErrorKind::NotFound && tries < TRIES =>
                {
                    tries += 1;
                }
                // It is not being replaced: it is gone.
                Err(IndexError::Io { path, source }) if source.kind() == std::io::ErrorKind::NotFound => {
                    return Err(IndexError::Damaged { path, problem: source.to_string() });
                }
                result => return result,
            }
        }
    }

    fn try_refresh(&self) -> Result<(), IndexError> {
        let catalog = &self.shared.catalog;
        let txn = catalog.read()?;
        let changes = catalog.number(&txn, "changes")?.unwrap_or(0);
        let next_window = catalog.number(&txn, "next_window")?.unwrap_or(0);
        {
            let view = self.view();
            if view.changes == Some(changes) && view.next_window == next_window {
                return Ok(());
            }
        }
        let records = catalog.all_segments(&txn)?;
        let models = catalog.all_models(&txn)?;
        let damaged = |problem: String| IndexError::Damaged { path: catalog.path.clone(), problem };
        let model = |record: &SegmentRecord| {
            let model = models.get(record.model as usize);
            model.ok_or_else(|| damaged(format!("segment {} is of an unknown model", record.id)))
        };
        let mut segments = Vec::new();
        let mut deleted = BTreeMap::new();
        for record in &records {
            let gone = catalog.deleted(&txn, record.id)?;
            if !gone.is_empty() {
                deleted.insert(record.id, gone);
            }
            if record.kind != Kind::Exact {
                segments.push(self.shared.segment(record, model(record)?)?);
            }
        }
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        if view.changes.is_some_and(|seen| seen > changes) || view.next_window > next_window {
            return Ok(()); // Another thread has seen more already.
        }
        for item in catalog.series.range(&txn, &(view.names.len() as u32..)).map_err(catalog.wrap())? {
            view.names.push(item.map_err(catalog.wrap())?.1);
        }
        let mut old: BTreeMap<SegmentId, Part> =
            std::mem::take(&mut view.parts).into_iter().map(|part| (part.record.id, part)).collect();
        for record in records.iter().filter(|record| record.kind == Kind::Exact) {
            let mut part = match old.remove(&record.id) {
                Some(part) => part,
                None => Part::new(record.clone(), model(record)?.dimensions),
            };
            part.record = record.clone();
            let from = record.first + part.len() as u64;
            for item in catalog.windows.range(&txn, &(from..record.end())).map_err(catalog.wrap())? {
                let (id, bytes) = item.map_err(catalog.wrap())?;
                let row = super::window::Row::read(bytes);
                let row = row.map_err(|error| catalog.damaged(&format!("window {id}"), &error))?;
                if id != record.first + part.len() as u64 || !part.push(&row) {
                    // Nothing half-read may be searched.
                    *view = View::default();
                    return Err(damaged(format!("window {id} is missing, or its vector is of another length")));
                }
            }
            view.parts.push(part);
        }
        *view = View { changes: Some(changes), next_window, segments, deleted, models, ..std::mem::take(&mut *view) };
        Ok(())
    }

    /// The position of the last commit that is on disk.
    ///
    /// # Errors
    /// If the catalog cannot be read.
    pub fn position(&self) -> Result<Option<String>, IndexError> {
        let txn = self.shared.catalog.read()?;
        position(&self.shared.catalog, &txn)
    }

    /// The models that there are windows of.
    pub fn models(&self) -> Vec<Model> {
        self.view().models.clone()
    }

    /// The segments, in the order of their windows.
    pub fn segments(&self) -> Vec<SegmentRecord> {
        let view = self.view();
        let parts = view.parts.iter().map(|part| part.record.clone());
        let mut all: Vec<_> = view.segments.iter().map(|segment| segment.record.clone()).chain(parts).collect();
        all.sort_by_key(|record| record.first);
        all
    }

    /// The nearest windows, nearest first, of equally near ones the older first.
    ///
    /// # Errors
    /// If the vector does not fit the model, or something is damaged.
    pub fn search(&self, query: &Query<'_>) -> Result<Vec<Neighbour>, IndexError> {
        self.search_until(query, &|| false)
    }

    /// As [`Self::search`], but given up before the next segment once `is_over` says so.
    ///
    /// # Errors
    /// [`IndexError::Cancelled`] then; otherwise as [`Self::search`].
    pub fn search_until(&self, query: &Query<'_>, is_over: &dyn Fn() -> bool) -> Result<Vec<Neighbour>, IndexError> {
        let go_on = || if is_over() { Err(IndexError::Cancelled) } else { Ok(()) };
        if query.vector.len() != query.model.dimensions || !query.vector.iter().all(|x| x.is_finite()) {
            return Err(IndexError::Query(format!(
                "a vector of {} components (some may be no numbers) for a model of {}",
                query.vector.len(),
                query.model.dimensions
            )));
        }
        let view = self.view();
        let Some(model) = view.models.iter().position(|model| model == query.model) else { return Ok(Vec::new()) };
        let labelled = self.labelled(&query.filter)?;
        let allowed = Allowed::new(&view, &query.filter, labelled);
        let mut near: Vec<(f32, WindowId)> = Vec::new();
        for part in view.parts.iter().filter(|part| part.record.model as usize == model) {
            go_on()?;
            let among = allowed.among(&part.record, part);
            if among.as_ref().is_some_and(RoaringBitmap::is_empty) {
                continue;
            }
            let found = part.nearest(query.vector, query.count, among.as_ref());
            near.extend(found.into_iter().map(|(row, squared)| (squared, part.record.first + u64::from(row))));
        }
        for segment in view.segments.iter().filter(|segment| segment.record.model as usize == model) {
            go_on()?;
            let txn = segment.read()?;
            let among = allowed.among(&segment.record, &segment.windows(&txn)?);
            if among.as_ref().is_some_and(RoaringBitmap::is_empty) {
                continue;
            }
            let effort = effort(segment, query.recall, among.as_ref());
            if effort.is_none() && query.recall != Recall::Exact && windows(segment, among.as_ref()) > EXACT_BELOW {
                segment.scans.fetch_add(1, Ordering::Relaxed);
            }
            let found = segment.nearest(&txn, query.vector, query.count, effort, among.as_ref())?;
            near.extend(found.into_iter().map(|(item, squared)| (squared, segment.record.first + u64::from(item))));
        }
        near.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        near.truncate(query.count);
        near.retain(|(squared, _)| squared.sqrt() <= query.radius);
        let catalog = &self.shared.catalog;
        let txn = catalog.read()?;
        let told = near.into_iter().map(|(squared, window)| {
            let (series, facts) =
                view.facts(window)?.ok_or_else(|| IndexError::Query(format!("no window {window}")))?;
            let label = catalog.label(&txn, window)?;
            Ok(Neighbour { window, distance: squared.sqrt(), series: view.name(series), facts, label })
        });
        told.collect()
    }

    fn labelled(&self, filter: &Filter) -> Result<Option<BTreeSet<WindowId>>, IndexError> {
        let Some(wanted) = &filter.label else { return Ok(None) };
        let catalog = &self.shared.catalog;
        let txn = catalog.read()?;
        let mut labelled = BTreeSet::new();
        for item in catalog.labels.iter(&txn).map_err(catalog.wrap())? {
            let (window, record) = item.map_err(catalog.wrap())?;
            let label = Label::read(record);
            let label = label.map_err(|error| catalog.damaged(&format!("label of window {window}"), &error))?;
            if wanted == "*" || *wanted == label.name {
                labelled.insert(window);
            }
        }
        Ok(Some(labelled))
    }

    /// A window, its vector and whose it is; `None` if there is none, or it was deleted.
    ///
    /// # Errors
    /// If something is damaged.
    pub fn window(&self, window: WindowId) -> Result<Option<(Neighbour, Vec<f32>, Model)>, IndexError> {
        let view = self.view();
        let Some((series, facts)) = view.facts(window)? else { return Ok(None) };
        let Some((record, vector)) = view.vector(window)? else { return Ok(None) };
        let Some(model) = view.models.get(record.model as usize).cloned() else { return Ok(None) };
        let txn = self.shared.catalog.read()?;
        let label = self.shared.catalog.label(&txn, window)?;
        Ok(Some((Neighbour { window, distance: 0.0, series: view.name(series), facts, label }, vector, model)))
    }

    /// All windows that a filter allows, in their order.
    ///
    /// # Errors
    /// If something is damaged.
    pub fn matching(&self, filter: &Filter) -> Result<Vec<WindowId>, IndexError> {
        let labelled = self.labelled(filter)?;
        let view = self.view();
        let allowed = Allowed::new(&view, filter, labelled);
        let mut all = Vec::new();
        let mut take = |record: &SegmentRecord, among: Option<RoaringBitmap>| match among {
            Some(among) => all.extend(among.iter().map(|local| record.first + u64::from(local))),
            None => all.extend(record.first..record.end()),
        };
        for segment in &view.segments {
            let txn = segment.read()?;
            take(&segment.record, allowed.among(&segment.record, &segment.windows(&txn)?));
        }
        for part in &view.parts {
            take(&part.record, allowed.among(&part.record, part));
        }
        all.sort_unstable();
        Ok(all)
    }

    /// The name under which the owner filed a window.
    ///
    /// # Errors
    /// If the catalog cannot be read.
    pub fn tag(&self, window: WindowId) -> Result<Option<String>, IndexError> {
        let catalog = &self.shared.catalog;
        let txn = catalog.read()?;
        Ok(catalog.tagged.get(&txn, &window).map_err(catalog.wrap())?.map(str::to_owned))
    }

    /// Whether all windows can be found: of up to `sample` of them, spread evenly, each is asked for by its own vector. And whether the
    /// store's folders are those that it knows. What is wrong, if anything.
    ///
    /// # Errors
    /// If something is damaged.
    pub fn check(&self, sample: usize) -> Result<Vec<String>, IndexError> {
        let mut problems = Vec::new();
        let all = self.matching(&Filter::default())?;
        for window in all.iter().step_by(all.len().div_ceil(sample.max(1)).max(1)) {
            let Some((own, vector, model)) = self.window(*window)? else {
                problems.push(format!("window {window} has no vector"));
                continue;
            };
            let query = Query {
                model: &model,
                vector: &vector,
                count: 1,
                radius: f32::INFINITY,
                recall: Recall::Exact,
                filter: Filter::default(),
            };
            // Another one may have the same vector.
            if self.search(&query)?.first().is_none_or(|found| found.distance > 0.0) {
                problems.push(format!("window {window} of {} is not found by its own vector", own.series));
            }
        }
        let known: BTreeSet<String> = self.segments().iter().map(SegmentRecord::folder).collect();
        let folder = self.shared.catalog.path.join(super::segment::FOLDER);
        // A young one is being built.
        let is_old = |entry: &std::fs::DirEntry| {
            let changed = entry.metadata().and_then(|metadata| metadata.modified()).ok();
            changed.and_then(|changed| changed.elapsed().ok()).is_some_and(|age| age > ORPHAN_AFTER)
        };
        let there = std::fs::read_dir(&folder).into_iter().flatten().flatten().filter(is_old);
        let orphans = there.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let orphans = orphans.filter(|name| !known.contains(name));
        problems.extend(orphans.map(|name| format!("folder {name} is in no catalog")));
        Ok(problems)
    }

    /// How many windows came with messages from `sequence` on, deleted ones included.
    ///
    /// # Errors
    /// If something is damaged.
    pub fn windows_from(&self, sequence: u64) -> Result<u64, IndexError> {
        let view = self.view();
        let mut count = 0;
        for part in &view.parts {
            count += part.facts.iter().filter(|facts| facts.sequence >= sequence).count() as u64;
        }
        for segment in &view.segments {
            let txn = segment.read()?;
            // Sequences rise.
            let (mut low, mut high) = (0, segment.record.count);
            while low < high {
                let middle = low + (high - low) / 2;
                if segment.facts(&txn, middle)?.1.sequence < sequence {
                    low = middle + 1;
                } else {
                    high = middle;
                }
            }
            count += u64::from(segment.record.count - low);
        }
        Ok(count)
    }

    /// The windows that the owner filed under a name.
    ///
    /// # Errors
    /// If the catalog cannot be read.
    pub fn tagged(&self, tag: &str) -> Result<Vec<WindowId>, IndexError> {
        let txn = self.shared.catalog.read()?;
        self.shared.catalog.tagged(&txn, tag)
    }
}

fn windows(segment: &Segment, among: Option<&RoaringBitmap>) -> u64 {
    among.map_or(u64::from(segment.record.count), RoaringBitmap::len)
}

/// How hard to look; `None`: at everything, where that is exact and as cheap.
fn effort(segment: &Segment, recall: Recall, among: Option<&RoaringBitmap>) -> Option<u32> {
    let Recall::AtLeast(recall) = recall else { return None };
    let effort = segment.record.effort(recall)?;
    let windows = windows(segment, among);
    (windows > EXACT_BELOW && u64::from(effort).saturating_mul(segment.scanned_for_one()) < windows).then_some(effort)
}
