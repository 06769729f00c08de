//! Requests, checked: nothing that a caller sends is larger than what is answered in time.

use std::collections::BTreeSet;

use eddy_schemas::{
    Timestamp, names,
    region::wire::{GetWindowRequest, LabelRequest, SearchRequest},
};
use eddy_vectors::index::{Filter, Recall};

use super::{refusal::Refusal, region::Said};

/// Neighbours of an answer where none are named.
const NEIGHBOURS: u32 = 10;
/// Most neighbours of an answer.
pub const NEIGHBOURS_MAX: u32 = 1_000;
/// Most components of a vector.
pub const COMPONENTS_MAX: usize = 4_096;
/// Bytes of an alert's name, of a digest, and of a label.
const TEXT_BYTES_MAX: usize = 200;
/// A label's time may lie so far ahead of the hub's clock: a later one always wins, so that a clock that runs wild would have the last
/// word for good.
const AHEAD_MAX: Timestamp = 3_600_000_000_000;

/// What is searched for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Like {
    /// These components.
    Vector(Vec<f32>),
    /// The window that opened this alert; of one of these sites rather than of others.
    Alert(String, Vec<String>),
}

/// A search that can be answered.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Search {
    pub(crate) like: Like,
    pub(crate) bundle: Option<String>,
    pub(crate) k: usize,
    pub(crate) radius: f32,
    /// `None`: the config's.
    pub(crate) recall: Option<Recall>,
    pub(crate) filter: Filter,
    /// Only these, and only here.
    pub(crate) shards: Option<BTreeSet<u32>>,
}

fn text(what: &str, text: &str) -> Result<Option<String>, Refusal> {
    if text.len() > TEXT_BYTES_MAX || text.chars().any(char::is_control) {
        let text: String = text.chars().take(40).collect();
        return Err(Refusal::wrong(format!(
            "{what} = {text:?}…: up to {TEXT_BYTES_MAX} bytes without control characters are taken"
        )));
    }
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

fn name(what: &str, name: &str) -> Result<Option<String>, Refusal> {
    let named = text(what, name)?;
    if named.as_deref().is_some_and(|name| !names::is_valid(name)) {
        return Err(Refusal::wrong(format!("{what} = {name:?}: up to 128 bytes (percent-encoded) are taken")));
    }
    Ok(named)
}

/// A shard that there is.
pub(crate) fn shard(shard: u32, count: u32) -> Result<u32, Refusal> {
    if shard < count { Ok(shard) } else { Err(Refusal::wrong(format!("shard = {shard}: 0 to {} is taken", count - 1))) }
}

impl Search {
    /// Checks a request to a region of `count` shards.
    pub(crate) fn new(request: &SearchRequest, count: u32) -> Result<Self, Refusal> {
        let k = if request.k == 0 { NEIGHBOURS } else { request.k };
        if k > NEIGHBOURS_MAX {
            return Err(Refusal::wrong(format!("k = {k}: 1 to {NEIGHBOURS_MAX} is taken")));
        }
        let radius = if request.radius == 0.0 { f32::INFINITY } else { request.radius };
        if radius.is_nan() || radius < 0.0 {
            return Err(Refusal::wrong(format!("radius = {radius}: above 0 is taken, or 0 for any")));
        }
        if !(0.0..=1.0).contains(&request.recall) {
            return Err(Refusal::wrong(format!("recall = {}: 0 to 1 is taken", request.recall)));
        }
        let recall = match request.recall {
            0.0 => None,
            1.0 => Some(Recall::Exact),
            share => Some(Recall::AtLeast(share)),
        };
        let shards: BTreeSet<u32> = request.shards.iter().map(|it| shard(*it, count)).collect::<Result<_, _>>()?;
        let site = name("site", &request.site)?;
        let other_than_site = name("other_than_site", &request.other_than_site)?;
        let like = like(request, [&other_than_site, &site])?;
        Ok(Self {
            like,
            bundle: text("bundle", &request.bundle)?,
            k: k as usize,
            radius,
            recall,
            filter: filter(request, site, other_than_site)?,
            shards: (!shards.is_empty()).then_some(shards),
        })
    }
}

fn like(request: &SearchRequest, sites: [&Option<String>; 2]) -> Result<Like, Refusal> {
    let vector = &request.vector;
    match text("alert", &request.alert)? {
        Some(alert) if vector.is_empty() => Ok(Like::Alert(alert, sites.into_iter().flatten().cloned().collect())),
        Some(_) => Err(Refusal::wrong("vector and alert: give one of them")),
        None if vector.is_empty() => Err(Refusal::wrong("neither vector nor alert: give one of them")),
        None if vector.len() > COMPONENTS_MAX => {
            Err(Refusal::wrong(format!("a vector of {} components: up to {COMPONENTS_MAX} are taken", vector.len())))
        }
        None => match vector.iter().position(|x| !x.is_finite()) {
            Some(at) => Err(Refusal::wrong(format!("vector[{at}] = {}: finite numbers are taken", vector[at]))),
            None => Ok(Like::Vector(vector.clone())),
        },
    }
}

fn filter(request: &SearchRequest, site: Option<String>, other: Option<String>) -> Result<Filter, Refusal> {
    let device = match (name("device", &request.device)?, &site) {
        (Some(device), Some(site)) => Some(device_token(site, &device)),
        (Some(_), None) => {
            return Err(Refusal::wrong("device without site: devices of several sites may be called so"));
        }
        (None, _) => None,
    };
    if request.since != 0 && request.until != 0 && request.since >= request.until {
        let (since, until) = (request.since, request.until);
        return Err(Refusal::wrong(format!("since = {since}, until = {until}: since before until is taken")));
    }
    Ok(Filter {
        site: site.as_deref().map(names::encode),
        other_than_site: other.as_deref().map(names::encode),
        device,
        channel: name("channel", &request.channel)?.as_deref().map(names::encode),
        since: (request.since != 0).then_some(request.since),
        until: (request.until != 0).then_some(request.until),
        label: text("label", &request.label)?,
        ..Filter::default()
    })
}

/// How a device of a site is called in the hub's stores.
pub(crate) fn device_token(site: &str, device: &str) -> String {
    names::encode(&format!("{site}/{device}"))
}

/// A window that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Number(u32, u64),
    /// Of one of these sites rather than of others.
    Alert(String, Vec<String>),
}

impl Which {
    pub(crate) fn new(request: &GetWindowRequest, count: u32) -> Result<Self, Refusal> {
        let site = name("site", &request.site)?;
        match text("alert", &request.alert)? {
            None => Ok(Self::Number(shard(request.shard, count)?, request.number)),
            Some(alert) => Ok(Self::Alert(alert, site.into_iter().collect())),
        }
    }
}

/// Checks a label that `origin` gives now.
pub(crate) fn said(request: &LabelRequest, origin: String, now: Timestamp) -> Result<Said, Refusal> {
    let required = |what: &str, value: Option<String>| {
        value.ok_or_else(|| Refusal::wrong(format!("{what} is empty: site, device, alert and label are needed")))
    };
    let label = required("label", text("label", &request.label)?)?;
    if label == "*" || label.trim().is_empty() {
        return Err(Refusal::wrong(format!("label = {label:?}: `normal` or the name of a fault is taken")));
    }
    let time = if request.time == 0 { now } else { request.time };
    if time < 0 || time > now.saturating_add(AHEAD_MAX) {
        return Err(Refusal::wrong(format!(
            "time = {time}: nanoseconds since the Unix epoch, not more than an hour ahead of the hub's {now}, are taken"
        )));
    }
    Ok(Said {
        site: required("site", name("site", &request.site)?)?,
        device: required("device", name("device", &request.device)?)?,
        alert: required("alert", text("alert", &request.alert)?)?,
        label,
        origin,
        time,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(change: impl FnOnce(&mut SearchRequest)) -> Result<Search, String> {
        let mut request = SearchRequest { vector: vec![1.0, 2.0], ..Default::default() };
        change(&mut request);
        Search::new(&request, 4).map_err(|refusal| refusal.message)
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let asked = search(|_| {}).unwrap();
        assert_eq!((asked.k, asked.radius, asked.recall, asked.bundle), (10, f32::INFINITY, None, None));
        assert_eq!((asked.filter, asked.shards), (Filter::default(), None));
    }

    #[test]
    fn names_are_as_the_store_has_them() {
        let asked = search(|request| {
            (request.site, request.device, request.channel) = ("plant 1".into(), "a/b".into(), "t.1".into());
            (request.other_than_site, request.recall, request.shards) = ("p2".into(), 1.0, vec![3, 0, 3]);
        });
        let asked = asked.unwrap();
        assert_eq!(asked.filter.site.as_deref(), Some("plant%201"));
        assert_eq!(asked.filter.device.as_deref(), Some("plant%201%2Fa%2Fb"));
        assert_eq!(asked.filter.channel.as_deref(), Some("t%2E1"));
        assert_eq!((asked.recall, asked.shards), (Some(Recall::Exact), Some([0, 3].into())));
        let asked = search(|request| {
            (request.vector, request.alert, request.other_than_site) = (vec![], "a1".into(), "p2".into());
        });
        assert_eq!(asked.unwrap().like, Like::Alert("a1".into(), vec!["p2".into()]));
    }

    #[test]
    fn what_is_out_of_bounds_is_refused_with_its_value() {
        type Change = fn(&mut SearchRequest);
        let wrong: [(Change, &str); 16] = [
            (|r| r.k = 1_001, "k = 1001: 1 to 1000"),
            (|r| r.radius = f32::NAN, "radius = NaN"),
            (|r| r.radius = -1.0, "radius = -1"),
            (|r| r.recall = 1.5, "recall = 1.5"),
            (|r| r.recall = f32::NAN, "recall = NaN"),
            (|r| r.vector[1] = f32::NAN, "vector[1] = NaN"),
            (|r| r.vector[0] = f32::NEG_INFINITY, "vector[0] = -inf"),
            (|r| r.vector = vec![0.0; 4_097], "4097 components"),
            (|r| r.vector.clear(), "neither"),
            (|r| r.alert = "a".into(), "give one"),
            (|r| r.shards = vec![1, 4], "shard = 4: 0 to 3"),
            (|r| r.device = "pump".into(), "device without site"),
            (|r| r.site = "x".repeat(129), "site = "),
            (|r| r.label = "x".repeat(201), "label = "),
            (|r| r.bundle = "a\nb".into(), "bundle = "),
            (|r| (r.since, r.until) = (5, 5), "since = 5, until = 5"),
        ];
        for (change, part) in wrong {
            let refused = search(change).unwrap_err();
            assert!(refused.contains(part), "{refused}");
        }
    }

    #[test]
    fn labels_are_bounded_in_time_and_name_everything() {
        const NOW: Timestamp = 1_700_000_000_000_000_000;
        let whole =
            LabelRequest { site: "s".into(), device: "d".into(), alert: "a".into(), label: "normal".into(), time: 0 };
        let checked =
            |request: &LabelRequest| said(request, "hub/alice".into(), NOW).map_err(|refusal| refusal.message);
        let good = checked(&whole).unwrap();
        assert_eq!((good.time, good.origin.as_str()), (NOW, "hub/alice"));
        assert_eq!(checked(&LabelRequest { time: 5, ..whole.clone() }).unwrap().time, 5);
        for (wrong, part) in [
            (LabelRequest { label: "*".into(), ..whole.clone() }, "label = \"*\""),
            (LabelRequest { label: " ".into(), ..whole.clone() }, "label = "),
            (LabelRequest { label: String::new(), ..whole.clone() }, "label is empty"),
            (LabelRequest { site: String::new(), ..whole.clone() }, "site is empty"),
            (LabelRequest { device: String::new(), ..whole.clone() }, "device is empty"),
            (LabelRequest { alert: String::new(), ..whole.clone() }, "alert is empty"),
            (LabelRequest { time: NOW + AHEAD_MAX + 1, ..whole.clone() }, "ahead"),
            (LabelRequest { time: -1, ..whole.clone() }, "time = -1"),
        ] {
            let refused = checked(&wrong).unwrap_err();
            assert!(refused.contains(part), "{refused}");
        }
    }
}
