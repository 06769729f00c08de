//! What an alert's window is, by what is known of windows like it: here first, then in the region.

use std::collections::BTreeSet;

use eddy_schemas::{
    SeriesName,
    context::{Asked, RegionContext, RegionWindow, Tier, Verdict},
};
use eddy_vectors::index::{Label, Neighbour};

/// Whether somebody said it, and no index by itself.
pub fn is_said(window: &Neighbour) -> bool {
    window.label.as_ref().is_some_and(|label| !label.is_derived())
}

/// The label that near windows, nearest first, agree on: that of the nearest one, if at least `votes` of them carry it, and more than half.
fn agreed<'l>(labels: impl Iterator<Item = &'l str>, votes: usize) -> Option<(&'l str, usize)> {
    let labels: Vec<&str> = labels.collect();
    let first = *labels.first()?;
    let alike = labels.iter().filter(|label| **label == first).count();
    (alike >= votes && 2 * alike > labels.len()).then_some((first, alike))
}

/// What near windows, nearest first, say: the label that they agree on, else whether the device or others have shown the like.
pub fn of_gateway(near: &[&Neighbour], device: &str, votes: usize) -> Verdict {
    let is_own = |other: &Neighbour| SeriesName::device_token(&other.series) == device;
    let said: Vec<(&Neighbour, &Label)> =
        near.iter().filter(|other| is_said(other)).filter_map(|other| Some((*other, other.label.as_ref()?))).collect();
    if let Some((name, votes)) = agreed(said.iter().map(|(_, label)| label.name.as_str()), votes) {
        let sibling = said.iter().any(|(other, label)| label.name == name && !is_own(other));
        return labelled(name, votes, sibling, Tier::Gateway);
    }
    if near.is_empty() {
        Verdict::NovelToGateway
    } else if near.iter().any(|other| is_own(other)) {
        Verdict::Recurring
    } else {
        Verdict::NovelToDevice
    }
}

fn labelled(name: &str, votes: usize, sibling: bool, tier: Tier) -> Verdict {
    match name {
        Label::NORMAL => Verdict::KnownNormal { votes, sibling, tier },
        name => Verdict::Fault { name: name.to_owned(), votes, tier },
    }
}

/// What the gateway's verdict becomes by what other sites know: a label where it has none, and how far what is new to it is new.
pub fn with_region(here: Verdict, region: &RegionContext, votes: usize) -> Verdict {
    if matches!(here, Verdict::Fault { .. } | Verdict::KnownNormal { .. }) {
        return here;
    }
    if let Some((name, votes)) = agreed(region.neighbours.iter().filter_map(said_of), votes) {
        return labelled(name, votes, true, Tier::Region);
    }
    let is_new = match region.asked {
        Asked::NothingNear => true,
        Asked::Answered => region.neighbours.is_empty() && region.missing_shards.is_empty(),
        Asked::NoSketch | Asked::BreakerOpen | Asked::NoAnswer { .. } => false,
    };
    if is_new && here == Verdict::NovelToGateway { Verdict::NovelToRegion } else { here }
}

/// What somebody at another site said of a window.
fn said_of(window: &RegionWindow) -> Option<&str> {
    let label = window.label.as_ref()?;
    let as_stored = Label { name: String::new(), origin: label.origin.clone(), time: label.time };
    (!as_stored.is_derived()).then_some(label.name.as_str())
}

/// As a word.
pub fn kind(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Fault { .. } => "fault",
        Verdict::KnownNormal { .. } => "known_normal",
        Verdict::Recurring => "recurring",
        Verdict::NovelToDevice => "novel_to_device",
        Verdict::NovelToGateway => "novel_to_gateway",
        Verdict::NovelToRegion => "novel_to_region",
    }
}

/// In words, for people; `near` windows of the gateway are near.
pub fn text(verdict: &Verdict, near: usize, region: Option<&RegionContext>) -> String {
    let at = |name| region.map_or_else(String::new, |region| format!(" at {}", sites(region, Some(name))));
    let alike = |votes: usize| format!("said of {votes} windows like it");
    match verdict {
        Verdict::Fault { name, votes, tier: Tier::Region } => {
            format!("matches fault {name}{} ({})", at(name.as_str()), alike(*votes))
        }
        Verdict::KnownNormal { votes, tier: Tier::Region, .. } => {
            format!("known normal{} ({})", at(Label::NORMAL), alike(*votes))
        }
        Verdict::Fault { name, votes, .. } => format!("matches fault {name} ({})", alike(*votes)),
        Verdict::KnownNormal { votes, sibling: true, .. } => format!("known normal on siblings ({})", alike(*votes)),
        Verdict::KnownNormal { votes, .. } => format!("known normal ({})", alike(*votes)),
        Verdict::Recurring => format!("seen on this device before ({near} near windows, no label)"),
        Verdict::NovelToDevice => format!("new to this device, seen on others ({near} near windows, no label)"),
        Verdict::NovelToGateway => match region.filter(|region| !region.neighbours.is_empty()) {
            Some(region) => {
                let near = region.neighbours.len();
                format!("new to this gateway, seen at {} ({near} near windows)", sites(region, None))
            }
            None => "new to this gateway".into(),
        },
        Verdict::NovelToRegion => "new to this gateway and to the region".into(),
    }
}

/// The sites of what the region told, where this was said.
fn sites(region: &RegionContext, said: Option<&str>) -> String {
    let is_meant = |window: &&RegionWindow| said.is_none() || said_of(window) == said;
    let sites: BTreeSet<&str> = region.neighbours.iter().filter(is_meant).map(|window| window.site.as_str()).collect();
    sites.into_iter().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use eddy_schemas::search::FoundLabel;
    use eddy_vectors::index::Facts;

    use super::*;

    fn near(series: &str, label: Option<(&str, &str)>) -> Neighbour {
        let facts = Facts { start: 0, end: 1, sequence: 1, filled: 1, flags: 0, score: 0.0 };
        let label = label.map(|(name, origin)| Label { name: name.into(), origin: origin.into(), time: 0 });
        Neighbour { window: 1, distance: 0.1, series: series.into(), facts, label }
    }

    fn normal(votes: usize, sibling: bool) -> Verdict {
        Verdict::KnownNormal { votes, sibling, tier: Tier::Gateway }
    }

    #[test]
    fn labels_count_before_neighbours_without_and_never_those_that_index_gave() {
        let of = |near: &[Neighbour], votes| of_gateway(&near.iter().collect::<Vec<_>>(), "d", votes);
        assert_eq!(of(&[], 1), Verdict::NovelToGateway);
        assert_eq!(of(&[near("e/t", None)], 1), Verdict::NovelToDevice);
        assert_eq!(of(&[near("e/t", None), near("d/t", None)], 1), Verdict::Recurring);
        let said = |series, name| near(series, Some((name, "cli")));
        assert_eq!(of(&[said("e/t", "normal")], 1), normal(1, true));
        assert_eq!(of(&[said("d/t", "normal")], 1), normal(1, false));
        assert_eq!(of(&[said("e/t", "normal")], 2), Verdict::NovelToDevice, "one vote of two");
        let leak = Verdict::Fault { name: "leak".into(), votes: 2, tier: Tier::Gateway };
        assert_eq!(of(&[said("e/t", "leak"), said("f/t", "leak"), said("d/t", "normal")], 2), leak);
        assert_eq!(of(&[said("e/t", "leak"), said("d/t", "normal")], 1), Verdict::Recurring, "they do not agree");
        assert_eq!(of(&[near("e/t", Some(("normal", Label::DERIVED)))], 1), Verdict::NovelToDevice);
        // What was said at another site and came here is evidence, what an index there concluded is not.
        assert_eq!(of(&[near("s%2Fe/t", Some(("normal", "region/s/cli")))], 1), normal(1, true));
        assert_eq!(of(&[near("s%2Fe/t", Some(("normal", "region/s/index")))], 1), Verdict::NovelToDevice);
    }

    fn region(asked: Asked, labels: &[Option<(&str, &str)>]) -> RegionContext {
        let window = |label: &Option<(&str, &str)>| RegionWindow {
            site: "plant 2".into(),
            device: "pump".into(),
            channel: "t".into(),
            start: 0,
            end: 1,
            distance: 0.1,
            score: 1.0,
            alert: None,
            label: label.map(|(name, origin)| FoundLabel { name: name.into(), origin: origin.into(), time: 0 }),
        };
        RegionContext { asked, neighbours: labels.iter().map(window).collect(), windows: 9, missing_shards: vec![] }
    }

    #[test]
    fn the_region_is_heard_where_the_gateway_has_no_label() {
        let answered = |labels: &[Option<(&str, &str)>]| region(Asked::Answered, labels);
        let leak = Some(("leak", "plant 2/cli"));
        let fault = Verdict::Fault { name: "leak".into(), votes: 1, tier: Tier::Region };
        for here in [Verdict::NovelToGateway, Verdict::NovelToDevice, Verdict::Recurring] {
            assert_eq!(with_region(here.clone(), &answered(&[None, leak]), 1), fault);
            assert_eq!(with_region(here.clone(), &answered(&[None]), 1), here);
            assert_eq!(with_region(here.clone(), &answered(&[leak]), 2), here, "one vote of two");
            assert_eq!(with_region(here.clone(), &answered(&[Some(("leak", "plant 2/index"))]), 1), here);
        }
        assert_eq!(with_region(normal(1, false), &answered(&[leak]), 1), normal(1, false), "it has its own");
        let told = text(&fault, 0, Some(&answered(&[leak])));
        assert_eq!(told, "matches fault leak at plant 2 (said of 1 windows like it)");
        let seen = text(&Verdict::NovelToGateway, 0, Some(&answered(&[None])));
        assert_eq!(seen, "new to this gateway, seen at plant 2 (1 near windows)");
    }

    #[test]
    fn new_to_the_region_is_what_it_was_asked_about_in_full_and_does_not_know() {
        let of = |here: Verdict, region: &RegionContext| with_region(here, region, 1);
        let new = Verdict::NovelToGateway;
        assert_eq!(of(new.clone(), &region(Asked::Answered, &[])), Verdict::NovelToRegion);
        assert_eq!(of(new.clone(), &region(Asked::NothingNear, &[])), Verdict::NovelToRegion);
        let partial = RegionContext { missing_shards: vec![1], ..region(Asked::Answered, &[]) };
        assert_eq!(of(new.clone(), &partial), new);
        for asked in [Asked::NoSketch, Asked::BreakerOpen, Asked::NoAnswer { problem: "x".into() }] {
            assert_eq!(of(new.clone(), &region(asked, &[])), new);
        }
        assert_eq!(of(Verdict::Recurring, &region(Asked::Answered, &[])), Verdict::Recurring);
    }
}
