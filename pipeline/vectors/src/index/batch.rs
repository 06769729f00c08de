//! Changes that are committed together.

use std::collections::{BTreeMap, HashMap};

use heed::RwTxn;
use roaring::RoaringBitmap;

use super::{
    catalog::Catalog,
    error::IndexError,
    segment_record::{Kind, Model, SegmentId, SegmentRecord},
    store::{Store, lock},
    window::{Label, Row, SeriesId, Window, WindowId, storable},
};

/// Rows of built windows that a batch removes from the catalog beside its own work.
const CLEANED_MIN: u64 = 1_024;

/// Changes that are committed together, with the position that they reach.
pub struct Batch<'s> {
    pub(super) store: &'s Store,
    pub(super) txn: RwTxn<'s>,
    segments: Vec<SegmentRecord>,
    models: Vec<Model>,
    open: Option<SegmentRecord>,
    next_window: WindowId,
    new_series: HashMap<String, SeriesId>,
    deleted: BTreeMap<SegmentId, RoaringBitmap>,
    changed: bool,
    added: u64,
}

impl<'s> Batch<'s> {
    pub(super) fn new(store: &'s Store) -> Result<Self, IndexError> {
        let catalog = &store.shared.catalog;
        let txn = catalog.write()?;
        let segments = catalog.all_segments(&txn)?;
        let next_window = catalog.number(&txn, "next_window")?.unwrap_or(0);
        let models = catalog.all_models(&txn)?;
        Ok(Self {
            store,
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

    fn catalog(&self) -> &Catalog {
        &self.store.shared.catalog
    }

    /// Adds a window whose vector is `model`'s.
    ///
    /// # Errors
    /// If the vector is not as long as the model's, or is not [`storable`]; or the catalog's own.
    pub fn add(&mut self, model: &Model, window: &Window) -> Result<WindowId, IndexError> {
        if window.vector.len() != model.dimensions || !storable(&window.vector) {
            return Err(IndexError::Query(format!(
                "a vector of {} components (some may be no numbers, or beyond f16) for a model of {}",
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
        super::notes::check_key("tag", tag)?;
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
        let found = super::store::position(self.catalog(), &self.txn)?;
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
