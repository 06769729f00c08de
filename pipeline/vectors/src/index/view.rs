//! What a searcher has in memory: as of one commit.

use std::{collections::BTreeMap, sync::Arc};

use roaring::RoaringBitmap;

use super::{
    error::IndexError,
    names::Names,
    segment::Segment,
    segment_record::{Model, SegmentId, SegmentRecord},
    tail::Part,
    window::{Facts, SeriesId, WindowId},
};

/// What a searcher has in memory: as of one commit.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) changes: Option<u64>,
    pub(super) next_window: u64,
    pub(super) segments: Vec<Arc<Segment>>,
    pub(super) parts: Vec<Part>,
    pub(super) deleted: BTreeMap<SegmentId, RoaringBitmap>,
    pub(super) models: Vec<Model>,
    pub(super) names: Names,
}

impl View {
    pub(super) fn name(&self, series: SeriesId) -> String {
        self.names.text(series).unwrap_or_default().to_owned()
    }

    pub(super) fn is_deleted(&self, record: &SegmentRecord, window: WindowId) -> bool {
        self.deleted.get(&record.id).is_some_and(|deleted| deleted.contains((window - record.first) as u32))
    }

    pub(super) fn part(&self, window: WindowId) -> Option<&Part> {
        self.parts.iter().find(|part| (part.record.first..part.record.end()).contains(&window))
    }

    pub(super) fn segment(&self, window: WindowId) -> Option<&Arc<Segment>> {
        self.segments.iter().find(|segment| (segment.record.first..segment.record.end()).contains(&window))
    }

    pub(super) fn facts(&self, window: WindowId) -> Result<Option<(SeriesId, Facts)>, IndexError> {
        if let Some(part) = self.part(window) {
            let row = (window - part.record.first) as usize;
            return Ok(part.series.get(row).copied().zip(part.facts.get(row).copied()));
        }
        let Some(segment) = self.segment(window) else { return Ok(None) };
        let txn = segment.read()?;
        segment.facts(&txn, (window - segment.record.first) as u32).map(Some)
    }

    pub(super) fn vector(&self, window: WindowId) -> Result<Option<(SegmentRecord, Vec<f32>)>, IndexError> {
        if let Some(part) = self.part(window) {
            let gone = self.is_deleted(&part.record, window);
            let vector = || part.vector((window - part.record.first) as u32);
            return Ok((!gone).then(|| (part.record.clone(), vector())));
        }
        let Some(segment) = self.segment(window).filter(|segment| !self.is_deleted(&segment.record, window)) else {
            return Ok(None);
        };
        let txn = segment.read()?;
        let vector = segment.vector(&txn, (window - segment.record.first) as u32)?;
        Ok(vector.map(|vector| (segment.record.clone(), vector)))
    }
}
