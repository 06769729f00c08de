//! Which windows are asked.

use std::collections::{BTreeMap, BTreeSet};

use roaring::RoaringBitmap;

use super::{
    names::{Names, TokenId},
    segment_record::{SegmentId, SegmentRecord},
    view::View,
    window::{SeriesId, WindowId},
};

/// Which windows are asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// Of devices that were filed as `<site>/<device>` under this site (its token, as of the rest).
    pub site: Option<String>,
    /// Not of those; what has no site is asked.
    pub other_than_site: Option<String>,
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

/// The parts of names that a filter asks for, as numbers.
struct Wanted {
    restricts: bool,
    site: Part,
    other_than_site: Part,
    device: Part,
    other_than_device: Part,
    channel: Part,
}

/// What a filter says of one part of a name.
#[derive(Clone, Copy)]
enum Part {
    Any,
    /// A part that no name has.
    Unknown,
    This(TokenId),
}

impl Part {
    /// Whether a part that must be this one may be `found`.
    fn is(self, found: Option<TokenId>) -> bool {
        match self {
            Self::Any => true,
            Self::Unknown => false,
            Self::This(wanted) => found == Some(wanted),
        }
    }

    /// Whether a part that must be another one may be `found`.
    fn is_not(self, found: Option<TokenId>) -> bool {
        matches!(self, Self::Any | Self::Unknown) || !self.is(found)
    }
}

impl Wanted {
    fn new(names: &Names, filter: &Filter) -> Self {
        let part = |token: &Option<String>| match token {
            None => Part::Any,
            Some(token) => names.token(token).map_or(Part::Unknown, Part::This),
        };
        let Filter { site, other_than_site, device, other_than_device, channel, .. } = filter;
        Self {
            restricts: [site, other_than_site, device, other_than_device, channel].into_iter().any(Option::is_some),
            site: part(site),
            other_than_site: part(other_than_site),
            device: part(device),
            other_than_device: part(other_than_device),
            channel: part(channel),
        }
    }

    fn allows(&self, names: &Names, series: SeriesId) -> bool {
        if !self.restricts {
            return true;
        }
        let Some(parts) = names.parts(series) else { return false };
        self.site.is(parts.site)
            && self.other_than_site.is_not(parts.site)
            && self.device.is(Some(parts.device))
            && self.other_than_device.is_not(Some(parts.device))
            && self.channel.is(Some(parts.channel))
    }
}

/// A filter, with its names looked up.
pub(super) struct Allowed<'a> {
    filter: &'a Filter,
    deleted: &'a BTreeMap<SegmentId, RoaringBitmap>,
    names: &'a Names,
    wanted: Wanted,
    labelled: Option<BTreeSet<WindowId>>,
}

impl<'a> Allowed<'a> {
    pub(super) fn new(view: &'a View, filter: &'a Filter, labelled: Option<BTreeSet<WindowId>>) -> Self {
        let wanted = Wanted::new(&view.names, filter);
        Self { filter, deleted: &view.deleted, names: &view.names, wanted, labelled }
    }

    pub(super) fn restricts(&self, record: &SegmentRecord) -> bool {
        let Filter { since, until, without, before, .. } = self.filter;
        self.wanted.restricts
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
            self.wanted.allows(self.names, series)
                && since.is_none_or(|since| end >= since)
                && until.is_none_or(|until| end < until)
        };
        let mut among = RoaringBitmap::new();
        // A segment has fewer than 2^32 windows.
        let asked = windows.enumerate().filter(|(_, (series, end))| is_asked(*series, *end)).map(|(at, _)| at as u32);
        if self.wanted.restricts || since.is_some() || until.is_some() {
            // They come in order, which is all that could be wrong with them.
            let _ = among.append(asked);
        } else {
            // A deletion or two: not a look at each window.
            among.insert_range(0..record.count);
        }
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
