//! Latencies while a store is written: by what went on beside, and over time, so that a build shows as a step if it is one.

use std::collections::BTreeMap;

use eddy_vectors::index::Kind;
use serde_json::{Value, json};

use super::serve::{Search, Served};
use crate::load::figures::{Figures, rounded};

/// The figures of the phase.
pub(super) fn serving(n: usize, served: &Served) -> Value {
    let findable = Figures::new(served.findable_ms.clone());
    // What comes after is quiet.
    let within = served.searches.iter().filter(|search| search.at < served.built_after);
    let searches = Figures::new(within.map(|search| search.us).collect());
    let built = |kind: Kind| {
        let of_kind: Vec<_> = served.builds.iter().filter(|build| build.0 == kind).collect();
        let windows: f64 = of_kind.iter().map(|build| f64::from(build.1)).sum();
        // The sum of no floats is -0.
        let seconds = of_kind.iter().map(|build| build.2).fold(0.0, |sum, seconds| sum + seconds);
        (of_kind.len(), rounded(seconds), (seconds > 0.0).then(|| rounded(windows / seconds)))
    };
    let (forests, graphs) = (built(Kind::Forest), built(Kind::Graph));
    json!({
        "insert_per_s_while_serving": rounded(n as f64 / served.inserting_s),
        "insert_s": rounded(served.inserted_after),
        "all_built_s": rounded(served.built_after),
        "findable_ms": findable.json(),
        "not_found": served.missed,
        "search_us": searches.json(),
        "forests": forests.0,
        "forests_s": forests.1,
        "forest_windows_per_s": forests.2,
        "graphs": graphs.0,
        "graphs_s": graphs.1,
        "graph_windows_per_s": graphs.2,
    })
}

/// One row for each thing that went on.
pub(super) fn by_activity(searches: &[Search]) -> Vec<Value> {
    let mut groups: BTreeMap<(bool, u8), Vec<f64>> = BTreeMap::new();
    for search in searches {
        let building = search.building.map_or(0, |kind| kind as u8);
        groups.entry((!search.inserting, building)).or_default().push(search.us);
    }
    let rows = groups.into_iter().map(|((is_over, building), us)| {
        let inserting = if is_over { "" } else { "inserting" };
        let building = match building {
            0 => "",
            forest if forest == Kind::Forest as u8 => "a forest built",
            _ => "a graph built",
        };
        let beside = match (inserting, building) {
            ("", "") => "nothing".to_owned(),
            ("", one) | (one, "") => one.to_owned(),
            (one, other) => format!("{one}, {other}"),
        };
        row(json!({ "beside": beside }), us)
    });
    rows.collect()
}

/// One row for each so many seconds.
pub(super) fn over_time(searches: &[Search], bucket_s: f64) -> Vec<Value> {
    let mut groups: BTreeMap<u64, Vec<&Search>> = BTreeMap::new();
    for search in searches {
        // A cast of a float saturates.
        groups.entry((search.at / bucket_s) as u64).or_default().push(search);
    }
    let rows = groups.into_iter().map(|(bucket, searches)| {
        let share = |is: fn(&Search) -> bool| {
            rounded(searches.iter().filter(|search| is(search)).count() as f64 / searches.len() as f64)
        };
        let head = json!({
            "from_s": rounded(bucket as f64 * bucket_s),
            "inserting": share(|search| search.inserting),
            "forest": share(|search| search.building == Some(Kind::Forest)),
            "graph": share(|search| search.building == Some(Kind::Graph)),
        });
        row(head, searches.iter().map(|search| search.us).collect())
    });
    rows.collect()
}

fn row(mut head: Value, us: Vec<f64>) -> Value {
    let figures = Figures::new(us);
    if let Some(head) = head.as_object_mut() {
        head.insert("searches".into(), figures.len().into());
        for (name, share) in [("p50_us", 0.5), ("p99_us", 0.99), ("max_us", 1.0)] {
            head.insert(name.into(), figures.quantile(share).map(rounded).into());
        }
    }
    head
}
