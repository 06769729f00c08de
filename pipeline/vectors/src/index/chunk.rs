//! All windows of a model, some at a time: for whoever must see every one without holding all of them, or a lock for long.

use std::{collections::BTreeSet, sync::Arc};

use roaring::RoaringBitmap;

use super::{
    error::IndexError,
    filter::Windows as _,
    search::Searcher,
    segment::Segment,
    segment_record::{Model, SegmentRecord},
    tail::Part,
    view::View,
    window::WindowId,
};

/// Some windows of a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chunk {
    /// In their order.
    pub windows: Vec<ChunkWindow>,
    /// Their vectors, one behind the other.
    pub vectors: Vec<f32>,
    /// Where the next chunk begins; `None`: that was all.
    pub next: Option<WindowId>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq)]
pub struct ChunkWindow {
    /// Its number.
    pub window: WindowId,
    /// Canonical text of its series.
    pub series: Arc<str>,
    /// Whether anybody said what it is.
    pub labelled: bool,
}

/// A run of windows, wherever it lies.
enum Run<'v> {
    Tail(&'v Part),
    Built(&'v Segment),
}

impl Run<'_> {
    fn record(&self) -> &SegmentRecord {
        match self {
            Self::Tail(part) => &part.record,
            Self::Built(segment) => &segment.record,
        }
    }
}

impl Searcher {
    /// How many windows of `model` can be found.
    pub fn count(&self, model: &Model) -> u64 {
        let view = self.view();
        let is_of_model = |record: &&SegmentRecord| view.models.get(record.model as usize) == Some(model);
        let records = view.segments.iter().map(|segment| &segment.record);
        let records = records.chain(view.parts.iter().map(|part| &part.record)).filter(is_of_model);
        let live = |record: &SegmentRecord| {
            u64::from(record.count) - view.deleted.get(&record.id).map_or(0, RoaringBitmap::len)
        };
        records.map(live).sum()
    }

    /// The windows of `model` that can be found, from the number `from` on: those among the next `count` numbers that there are. They keep their numbers when segments
    /// are built and merged, so chunk after chunk tells each window once, whatever happens in between.
    ///
    /// # Errors
    /// If something is damaged.
    pub fn chunk(&self, model: &Model, from: WindowId, count: usize) -> Result<Chunk, IndexError> {
        let view = self.view();
        let mut chunk = Chunk::default();
        let Some(number) = view.models.iter().position(|known| known == model) else { return Ok(chunk) };
        let parts = view.parts.iter().map(Run::Tail);
        let mut runs: Vec<Run<'_>> = view.segments.iter().map(|segment| Run::Built(segment)).chain(parts).collect();
        runs.retain(|run| run.record().model as usize == number && run.record().end() > from);
        runs.sort_by_key(|run| run.record().first);
        let mut left = count.max(1);
        for run in &runs {
            let record = run.record();
            let begin = from.max(record.first);
            if left == 0 {
                chunk.next = Some(begin);
                break;
            }
            let end = record.end().min(begin + left as u64);
            left -= (end - begin) as usize;
            self.read(&view, run, begin..end, &mut chunk)?;
            if end < record.end() {
                chunk.next = Some(end);
                break;
            }
        }
        Ok(chunk)
    }

    fn read(
        &self,
        view: &View,
        run: &Run<'_>,
        windows: std::ops::Range<WindowId>,
        chunk: &mut Chunk,
    ) -> Result<(), IndexError> {
        let labelled = self.labelled_in(windows.clone())?;
        let record = run.record();
        let mut push = |window, series, vector: &[f32]| {
            let series = view.names.shared(series);
            chunk.windows.push(ChunkWindow { window, series, labelled: labelled.contains(&window) });
            chunk.vectors.extend(vector);
        };
        // A segment has fewer than 2^32 windows.
        let local = |window: WindowId| (window - record.first) as u32;
        let found = windows.clone().filter(|window| !view.is_deleted(record, *window));
        match run {
            Run::Tail(part) => {
                for window in found {
                    let row = local(window);
                    if let Some(series) = part.series.get(row as usize) {
                        push(window, *series, &part.vector(row));
                    }
                }
            }
            Run::Built(segment) => {
                let txn = segment.read()?;
                let known = segment.windows(&txn)?;
                for window in found {
                    let Some(series) = known.series(local(window)) else { break };
                    // One that was left out by a rebuild has none.
                    if let Some(vector) = segment.vector(&txn, local(window))? {
                        push(window, series, &vector);
                    }
                }
            }
        }
        Ok(())
    }

    fn labelled_in(&self, windows: std::ops::Range<WindowId>) -> Result<BTreeSet<WindowId>, IndexError> {
        let catalog = &self.shared.catalog;
        let txn = catalog.read()?;
        let labels = catalog.labels.range(&txn, &windows).map_err(catalog.wrap())?;
        labels.map(|item| item.map(|(window, _)| window).map_err(catalog.wrap())).collect()
    }
}
