//! Which alert of one side is which of the other's.
//!
//! Per device: those that opened at one time belong together; of what is left those that overlap, or that lie no further apart than a
//! stated time, the nearest openings first. Each belongs to at most one. What is left then was added or removed.

use eddy_schemas::Timestamp;
use serde::Serialize;

use super::episodes::Episode;

/// What became of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// The same device, opening and severity on both sides; scores may differ.
    Unchanged,
    /// On both sides, with another opening or severity.
    Moved,
    /// On the new side alone.
    Added,
    /// On the old side alone.
    Removed,
}

impl Change {
    /// As it is printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Moved => "moved",
            Self::Added => "added",
            Self::Removed => "removed",
        }
    }
}

/// An alert of both sides, or of one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pair {
    /// What became of it.
    pub change: Change,
    /// The device.
    pub device: String,
    /// As it was; `None` if it was added.
    pub old: Option<Episode>,
    /// As it is now; `None` if it was removed.
    pub new: Option<Episode>,
    /// How much later it opens now, in seconds; negative: earlier. `None` if it is on one side alone.
    pub later_s: Option<f64>,
    /// The true faults that were going on when it opened, old and new, where the recording's are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

impl Pair {
    fn of(old: Option<Episode>, new: Option<Episode>) -> Self {
        let (change, later_s) = match (&old, &new) {
            (Some(old), Some(new)) => {
                let later = new.span.0.saturating_sub(old.span.0);
                let is_same = later == 0 && old.severity == new.severity;
                (if is_same { Change::Unchanged } else { Change::Moved }, Some(later as f64 / 1e9))
            }
            (None, _) => (Change::Added, None),
            (Some(_), None) => (Change::Removed, None),
        };
        let device = old.as_ref().or(new.as_ref()).map(|episode| episode.device.clone()).unwrap_or_default();
        Self { change, device, old, new, later_s, fault: None }
    }

    /// When it opened, on the old side if it is there.
    pub fn opened(&self) -> Timestamp {
        self.old.as_ref().or(self.new.as_ref()).map_or(0, |episode| episode.span.0)
    }
}

/// Matches two sides, each by device and opening as [`super::episodes::Episodes::finish`] gives them; `near` is how far apart in
/// nanoseconds two may lie that do not overlap. The answer is by opening, then device.
pub fn matched(old: Vec<Episode>, new: Vec<Episode>, near: i64) -> Vec<Pair> {
    let partners = partners(&old, &new, near);
    let mut new: Vec<Option<Episode>> = new.into_iter().map(Some).collect();
    let mut pairs: Vec<Pair> = old
        .into_iter()
        .zip(partners)
        .map(|(old, partner)| Pair::of(Some(old), partner.and_then(|at| new[at].take())))
        .collect();
    pairs.extend(new.into_iter().flatten().map(|new| Pair::of(None, Some(new))));
    pairs.sort_by(|a, b| a.opened().cmp(&b.opened()).then_with(|| a.device.cmp(&b.device)));
    pairs
}

/// For each old one its new one.
fn partners(old: &[Episode], new: &[Episode], near: i64) -> Vec<Option<usize>> {
    let mut candidates = Vec::new();
    let mut from = 0;
    for (at, episode) in old.iter().enumerate() {
        // One side's episodes of a device do not overlap, so what is over before this one is over before the next one too.
        let is_before = |other: &Episode| (&other.device, reach(other, near)) < (&episode.device, episode.span.0);
        while new.get(from).is_some_and(is_before) {
            from += 1;
        }
        let last = reach(episode, near);
        let close = new[from..].iter().enumerate();
        for (past, other) in close.take_while(|(_, new)| new.device == episode.device && new.span.0 <= last) {
            let apart = other.span.0.abs_diff(episode.span.0);
            let overlap = episode.span.0 <= other.span.1 && other.span.0 <= episode.span.1;
            candidates.push((apart != 0, !overlap, apart, at, from + past));
        }
    }
    candidates.sort_unstable();
    let (mut partners, mut taken) = (vec![None; old.len()], vec![false; new.len()]);
    for (_, _, _, at, other) in candidates {
        if partners[at].is_none() && !taken[other] {
            (partners[at], taken[other]) = (Some(other), true);
        }
    }
    partners
}

/// Up to when something that opens still lies near.
fn reach(episode: &Episode, near: i64) -> Timestamp {
    episode.span.1.saturating_add(near)
}

#[cfg(test)]
mod tests {
    use eddy_schemas::alert::Severity;

    use super::*;

    const SECOND: i64 = 1_000_000_000;

    /// Device, opening and end in seconds.
    fn episodes(all: &[(&str, i64, i64, Severity)]) -> Vec<Episode> {
        let one = |(device, from, to, severity): &(&str, i64, i64, Severity)| Episode {
            alert: format!("{device}{from}"),
            opened: String::new(),
            closed: None,
            severity: *severity,
            channels: Vec::new(),
            score: 1.0,
            tail: 0.1,
            threshold: 0.1,
            tail_min: 0.1,
            device: (*device).to_owned(),
            span: (from * SECOND, if *to == i64::MAX { *to } else { to * SECOND }),
        };
        all.iter().map(one).collect()
    }

    fn told(old: &[(&str, i64, i64, Severity)], new: &[(&str, i64, i64, Severity)]) -> Vec<String> {
        let pairs = matched(episodes(old), episodes(new), 10 * SECOND);
        let of =
            |episode: &Option<Episode>| episode.as_ref().map_or("-".to_owned(), |e| (e.span.0 / SECOND).to_string());
        pairs.iter().map(|p| format!("{} {} {} {}", p.change.as_str(), p.device, of(&p.old), of(&p.new))).collect()
    }

    use Severity::{Major, Minor};

    #[test]
    fn the_same_alert_is_unchanged_and_another_opening_or_severity_is_moved() {
        let old = [("a", 100, 200, Minor), ("a", 500, 600, Minor), ("b", 100, 200, Minor), ("b", 900, 950, Major)];
        let new = [("a", 100, 250, Minor), ("a", 550, 700, Minor), ("b", 100, 200, Major), ("c", 900, 950, Major)];
        assert_eq!(
            told(&old, &new),
            ["unchanged a 100 100", "moved b 100 100", "moved a 500 550", "removed b 900 -", "added c - 900"]
        );
        assert!(told(&[], &[]).is_empty());
    }

    #[test]
    fn what_overlaps_comes_before_what_is_only_near_and_each_is_matched_once() {
        // The first new one overlaps with the old one, the second only lies near it and nearer to its opening.
        assert_eq!(
            told(&[("a", 100, 200, Minor)], &[("a", 40, 100, Minor), ("a", 209, 300, Minor)]),
            ["moved a 100 40", "added a - 209"]
        );
        assert_eq!(told(&[("a", 100, 200, Minor)], &[("a", 210, 300, Minor)]), ["moved a 100 210"]);
        assert_eq!(told(&[("a", 100, 200, Minor)], &[("a", 211, 300, Minor)]), ["removed a 100 -", "added a - 211"]);
        assert_eq!(told(&[("a", 211, 300, Minor)], &[("a", 100, 200, Minor)]), ["added a - 100", "removed a 211 -"]);
        // One that is as it was stays so, however near others open.
        assert_eq!(
            told(&[("a", 100, 104, Minor), ("a", 105, 110, Minor)], &[("a", 105, 106, Minor)]),
            ["removed a 100 -", "unchanged a 105 105"]
        );
    }

    #[test]
    fn what_was_still_open_at_the_end_reaches_to_the_end_of_time() {
        assert_eq!(told(&[("a", 100, i64::MAX, Minor)], &[("a", 9_000, i64::MAX, Minor)]), ["moved a 100 9000"]);
    }
}
