//! Which windows are asked.

use std::collections::{BTreeMap, BTreeSet};

use roaring::RoaringBitmap;

use super::{
    channels::Channels,
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

    /// Whether nothing but the channel is asked for.
    fn is_of_channel_alone(&self) -> bool {
        let others = [self.site, self.other_than_site, self.device, self.other_than_device];
        others.into_iter().all(|part| matches!(part, Part::Any))
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

/// What a filter asks of the windows of one segment, by their numbers in it; `None` past the last one.
pub(super) trait Windows {
    /// A window's series.
    fn series(&self, at: u32) -> Option<SeriesId>;
    /// A window's end, in event time.
    fn end(&self, at: u32) -> Option<i64>;
    /// Windows by channel.
    fn channels(&self) -> &Channels;
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

    /// Which windows of a segment are asked; `None`: all of them.
    pub(super) fn among(&self, record: &SegmentRecord, windows: &impl Windows) -> Option<RoaringBitmap> {
        if !self.restricts(record) {
            return None;
        }
        let Filter { since, until, without, before, .. } = self.filter;
        let is_of_a_time = since.is_some() || until.is_some();
        let is_asked = |at: &u32| {
            let in_time = |end: i64| since.is_none_or(|since| end >= since) && until.is_none_or(|until| end < until);
            (!self.wanted.restricts || windows.series(*at).is_some_and(|series| self.wanted.allows(self.names, series)))
                && (!is_of_a_time || windows.end(*at).is_some_and(in_time))
        };
        let local = |window: &WindowId| (window - record.first) as u32;
        let some = |items: &mut dyn Iterator<Item = u32>| {
            let mut some = RoaringBitmap::new();
            // They come in order, which is all that could be wrong with them.
            let _ = some.append(items);
            some
        };
        // The fewest that are known without a look at each window.
        let mut among = match (&self.labelled, self.wanted.channel) {
            (Some(labelled), _) => {
                some(&mut labelled.range(record.first..record.end()).map(local).filter(|at| is_asked(at)))
            }
            (None, Part::This(channel)) => {
                let is_of = |series| self.names.parts(series).is_some_and(|parts| parts.channel == channel);
                let those = windows.channels().of(channel, record.count, |at| windows.series(at).is_some_and(is_of));
                if self.wanted.is_of_channel_alone() && !is_of_a_time {
                    those
                } else {
                    some(&mut those.iter().filter(|at| is_asked(at)))
                }
            }
            (None, _) if self.wanted.restricts || is_of_a_time => {
                some(&mut (0..record.count).filter(|at| is_asked(at)))
            }
            (None, _) => {
                let mut all = RoaringBitmap::new();
                all.insert_range(0..record.count);
                all
            }
        };
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
