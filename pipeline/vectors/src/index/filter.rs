//! Which windows are asked.

use std::collections::{BTreeMap, BTreeSet};

use roaring::RoaringBitmap;

use super::{
    segment_record::{SegmentId, SegmentRecord},
    view::View,
    window::{SeriesId, WindowId},
};

/// Which windows are asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// Of this device (its token).
    pub device: Option<String>,
    /// Not of this device.
    pub other_than_device: Option<String>,
    /// Of this channel (its token).
    pub channel: Option<String>,
    /// Whose end is at or after this event time.
    pub since: Option<i64>,
    /// Whose end is before it.
    pub until: Option<i64>,
    /// That carry a label: any (`*`), or this one.
    pub label: Option<String>,
    /// That came before this one: the store as it was then.
    pub before: Option<WindowId>,
    /// But not these.
    pub without: BTreeSet<WindowId>,
}

/// A filter, with its names looked up.
pub(super) struct Allowed<'a> {
    filter: &'a Filter,
    deleted: &'a BTreeMap<SegmentId, RoaringBitmap>,
    /// Per series whether it is asked; `None`: all are.
    series: Option<Vec<bool>>,
    labelled: Option<BTreeSet<WindowId>>,
}

impl<'a> Allowed<'a> {
    pub(super) fn new(view: &'a View, filter: &'a Filter, labelled: Option<BTreeSet<WindowId>>) -> Self {
        let by_name = filter.device.is_some() || filter.channel.is_some() || filter.other_than_device.is_some();
        let is_asked = |name: &String| {
            let (device, channel) = name.split_once('/').unwrap_or((name, ""));
            filter.device.as_deref().is_none_or(|wanted| wanted == device)
                && filter.other_than_device.as_deref().is_none_or(|other| other != device)
                && filter.channel.as_deref().is_none_or(|wanted| wanted == channel)
        };
        let series = by_name.then(|| view.series.iter().map(is_asked).collect());
        Self { filter, deleted: &view.deleted, series, labelled }
    }

    pub(super) fn restricts(&self, record: &SegmentRecord) -> bool {
        let Filter { since, until, without, before, .. } = self.filter;
        self.series.is_some()
            || self.labelled.is_some()
            || since.is_some_and(|since| record.ends.0 < since)
            || until.is_some_and(|until| record.ends.1 >= until)
            || without.range(record.first..record.end()).next().is_some()
            || before.is_some_and(|before| record.end() > before)
            || self.deleted.contains_key(&record.id)
    }

    /// Which windows of a segment are asked, of all whose series and ends are given in order; `None`: all of them.
    pub(super) fn among(
        &self,
        record: &SegmentRecord,
        windows: impl Iterator<Item = (SeriesId, i64)>,
    ) -> Option<RoaringBitmap> {
        if !self.restricts(record) {
            return None;
        }
        let Filter { since, until, without, before, .. } = self.filter;
        let is_asked = |series: SeriesId, end: i64| {
            self.series.as_ref().is_none_or(|asked| asked.get(series as usize).copied().unwrap_or(false))
                && since.is_none_or(|since| end >= since)
                && until.is_none_or(|until| end < until)
        };
        // A segment has fewer than 2^32 windows.
        let asked = windows.enumerate().filter(|(_, (series, end))| is_asked(*series, *end)).map(|(at, _)| at as u32);
        let mut among: RoaringBitmap = asked.collect();
        let local = |window: &WindowId| (window - record.first) as u32;
        if let Some(labelled) = &self.labelled {
            among &= labelled.range(record.first..record.end()).map(local).collect::<RoaringBitmap>();
        }
        if let Some(before) = before.filter(|before| record.end() > *before) {
            among.remove_range((before.max(record.first) - record.first) as u32..);
        }
        without.range(record.first..record.end()).map(local).for_each(|window| {
            among.remove(window);
        });
        if let Some(deleted) = self.deleted.get(&record.id) {
            among -= deleted;
        }
        Some(among)
    }
}
