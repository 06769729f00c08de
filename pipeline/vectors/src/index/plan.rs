//! What is built next: what waits in memory, which goes to disk; then what was scanned so often that a graph pays, on the average of those
//! that become one; then what lies flat in small pieces, then what lost many windows, then what is merged, then what is searched row by row because an earlier release built it.
//!
//! Four segments of a size are merged, four of those, and so on, from the oldest on: like the digits of a counter, so that which
//! windows end up together is settled by the order in which segments were sealed, however many of them waited when a build began. Those
//! that wait together are built together at once, if they are to be.

use std::{collections::BTreeMap, ops::Range};

use roaring::RoaringBitmap;

use super::{
    graph::Graph,
    search::EXACT_BELOW,
    segment_record::{Kind, SegmentId, SegmentRecord},
    store::Limits,
};

/// A segment is rebuilt when so many of its windows were deleted since it was built.
const REBUILD_SHARE: f64 = 0.3;
/// So many segments of a size are merged.
const MERGED: usize = 4;
/// Windows of a merged segment at most, whatever the limits say: its largest column fits what LMDB takes as one value.
const WINDOWS_MAX: u64 = 1 << 26;

/// What was found out about how long builds take, since the start.
#[derive(Clone, Debug, Default)]
pub(super) struct Slow {
    /// Fewer trees for segments whose forest took too long; 0: it is given up.
    pub(super) trees: BTreeMap<SegmentId, usize>,
    /// A graph of so many windows took too long: none as large is tried.
    pub(super) graph_windows: Option<u32>,
}

impl Slow {
    fn takes(&self, windows: u64) -> bool {
        self.graph_windows.is_none_or(|slow| windows < u64::from(slow))
    }

    fn is_given_up(&self, segment: &SegmentRecord, kind: Kind) -> bool {
        match kind {
            Kind::Forest => self.trees.get(&segment.id) == Some(&0),
            _ => !self.takes(segment.count.into()),
        }
    }
}

/// The segments (in their order) to build from, and into what.
pub(super) fn plan(
    segments: &[SegmentRecord],
    deleted: &BTreeMap<SegmentId, RoaringBitmap>,
    slow: &Slow,
    scans: &impl Fn(&SegmentRecord) -> u64,
    limits: &Limits,
) -> Option<(Vec<SegmentRecord>, Kind)> {
    if let Some(segment) = segments.iter().find(|segment| segment.sealed && segment.kind == Kind::Exact) {
        return Some((vec![segment.clone()], Kind::Flat));
    }
    let kind_of = |run: &Range<usize>| if run.len() > 1 { Kind::Graph } else { limits.kind };
    let groups = groups(segments, slow, limits);
    let pays = |run: &[SegmentRecord]| {
        let flat = run.iter().filter(|segment| segment.kind == Kind::Flat);
        let (scanned, asked) = flat.fold((0, 0), |(scanned, asked), segment| {
            let windows = u128::from(segment.count);
            (scanned + windows * u128::from(scans(segment)), asked + windows * u128::from(limits.graph_after))
        });
        scanned >= asked
    };
    let is_tried = |run: &Range<usize>| {
        pays(&segments[run.clone()]) && (run.len() > 1 || !slow.is_given_up(&segments[run.start], kind_of(run)))
    };
    if let Some(run) = groups.iter().find_map(|group| group.waiting(&is_tried)) {
        return Some((segments[run.clone()].to_vec(), kind_of(&run)));
    }
    let lost = |segment: &SegmentRecord| {
        let gone = deleted.get(&segment.id).map_or(0, RoaringBitmap::len).saturating_sub(segment.left_out.into());
        gone as f64 > REBUILD_SHARE * f64::from(segment.count - segment.left_out.min(segment.count))
    };
    let anew = |is_due: &dyn Fn(&SegmentRecord) -> bool| {
        let mut built = segments.iter().filter(|segment| segment.kind != Kind::Exact);
        let kind = |segment: &SegmentRecord| if segment.kind == Kind::Flat { Kind::Flat } else { limits.kind };
        let is_tried = |segment: &SegmentRecord| kind(segment) == Kind::Flat || !slow.is_given_up(segment, limits.kind);
        let segment = built.find(|segment| is_due(segment) && is_tried(segment))?;
        Some((vec![segment.clone()], kind(segment)))
    };
    // Of so few a search never makes enough of an effort for a graph, but they may be many.
    let small = u64::from(limits.segment_windows).max(4 * EXACT_BELOW);
    if let Some(run) = groups.iter().find_map(|group| group.flat(small)) {
        return Some((segments[run].to_vec(), Kind::Flat));
    }
    let merged = || {
        let merged = groups.iter().find_map(Group::merged)?;
        Some((segments[merged].to_vec(), Kind::Graph))
    };
    let is_outdated = |segment: &SegmentRecord| match segment.kind {
        Kind::Hannoy => true,
        Kind::Forest => limits.kind == Kind::Graph,
        Kind::Exact | Kind::Flat | Kind::Graph => false,
    };
    anew(&lost).or_else(merged).or_else(|| anew(&is_outdated))
}

/// Segments that are to be one.
struct Group {
    run: Range<usize>,
    windows: u64,
    /// Of these, those that are scanned until enough searches did.
    waiting: u64,
    /// The groups that it is merged from.
    parts: Vec<Group>,
}

impl Group {
    /// What is flat and so small that it is to be one flat segment.
    fn flat(&self, windows_max: u64) -> Option<Range<usize>> {
        if self.run.len() > 1 && self.waiting == self.windows && self.windows <= windows_max {
            return Some(self.run.clone());
        }
        self.parts.iter().find_map(|part| part.flat(windows_max))
    }

    /// What to merge: all of it where none of it waits, else what is complete of its parts.
    fn merged(&self) -> Option<Range<usize>> {
        match self.waiting {
            0 => (self.run.len() > 1).then(|| self.run.clone()),
            _ => self.parts.iter().find_map(Self::merged),
        }
    }

    /// What to build so that nothing waits: all of it where at least half does, else those of its parts that do.
    fn waiting(&self, is_tried: &impl Fn(&Range<usize>) -> bool) -> Option<Range<usize>> {
        if self.waiting * 2 >= self.windows {
            return (self.waiting > 0 && is_tried(&self.run)).then(|| self.run.clone());
        }
        self.parts.iter().find_map(|part| part.waiting(is_tried))
    }
}

/// What all sealed segments are to become.
fn groups(segments: &[SegmentRecord], slow: &Slow, limits: &Limits) -> Vec<Group> {
    let memory = limits.build_memory / Graph::BUILD_BYTES;
    let most = u64::from(limits.graph_windows).min(memory as u64).min(WINDOWS_MAX);
    let size = |group: &Group| (group.windows / u64::from(limits.segment_windows.max(1))).max(1).ilog(MERGED as u64);
    let model = |group: &Group| segments[group.run.start].model;
    let mut groups: Vec<Group> = Vec::new();
    for (at, segment) in segments.iter().enumerate().filter(|(_, segment)| segment.sealed) {
        let windows = u64::from(segment.count);
        let waiting = if segment.kind == Kind::Flat { windows } else { 0 };
        groups.push(Group { run: at..at + 1, windows, waiting, parts: Vec::new() });
        while let Some(last) = groups.len().checked_sub(MERGED) {
            let four = &groups[last..];
            let alike = |group: &Group| size(group) == size(&four[0]) && model(group) == model(&four[0]);
            let windows: u64 = four.iter().map(|group| group.windows).sum();
            if windows > most || !slow.takes(windows) || !four.iter().all(alike) {
                break;
            }
            let parts: Vec<Group> = groups.drain(last..).collect();
            let (run, waiting) = (parts[0].run.start..at + 1, parts.iter().map(|part| part.waiting).sum());
            groups.push(Group { run, windows, waiting, parts });
        }
    }
    groups
}
