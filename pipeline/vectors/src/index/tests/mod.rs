//! The store against a plain list of what is in it.

mod chunk;
mod disk;
mod earlier;
mod flat;
mod killed;
mod model_based;
mod notes;
mod recall;

use std::{path::Path, sync::atomic::AtomicBool};

use half::f16;

use super::*;

const DIMENSIONS: usize = 6;

fn model() -> Model {
    Model { digest: "digest".into(), head: "learned".into(), dimensions: DIMENSIONS }
}

fn limits() -> Limits {
    Limits {
        map_bytes: 64 << 20,
        segment_windows: 40,
        graph_after: 0,
        graph_windows: 2_000,
        trees: 4,
        ..Limits::default()
    }
}

/// The `n`-th window of a stream that never changes.
fn window(n: u64) -> Window {
    let noise = |at: u64| {
        let mut x = n.wrapping_mul(31).wrapping_add(at).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        x ^= x >> 29;
        x = x.wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (x >> 40) as f32 / (1 << 24) as f32
    };
    Window {
        series: format!("d{}/c{}", n % 5, n % 2),
        facts: Facts {
            start: n as i64,
            end: n as i64 + 10,
            sequence: n / 3 + 1,
            filled: 9,
            flags: 8,
            score: noise(99),
        },
        // As it will be read: f16.
        vector: (0..DIMENSIONS as u64).map(|at| f16::from_f32(noise(at) + (n % 4) as f32).to_f32()).collect(),
    }
}

/// Adds windows `range` and commits; the position is how many there are.
fn add(store: &Store, range: std::ops::Range<u64>) {
    let before = store.position().unwrap();
    let mut batch = store.batch().unwrap();
    for n in range.clone() {
        assert_eq!(batch.add(&model(), &window(n)).unwrap(), n);
    }
    batch.commit(before.as_deref(), &range.end.to_string()).unwrap();
}

/// The next build that does more than bring a segment to disk: these are done.
fn next_build(store: &Store) -> Option<Build> {
    loop {
        match store.next_build().unwrap() {
            Some(build) if build.kind() == Kind::Flat => {
                assert!(store.publish(build.run(&AtomicBool::new(false)).unwrap()).unwrap());
            }
            build => return build,
        }
    }
}

/// Builds all there is to build.
fn build_all(store: &Store) -> Vec<Kind> {
    let mut kinds = Vec::new();
    while let Some(build) = next_build(store) {
        kinds.push(build.kind());
        assert!(store.publish(build.run(&AtomicBool::new(false)).unwrap()).unwrap());
    }
    kinds
}

fn query(vector: &[f32], count: usize) -> Query<'_> {
    // A model is only compared, so one for all will do.
    static MODEL: std::sync::LazyLock<Model> = std::sync::LazyLock::new(model);
    Query { model: &MODEL, vector, count, radius: f32::INFINITY, recall: Recall::Exact, filter: Filter::default() }
}

fn ids(found: &[Neighbour]) -> Vec<WindowId> {
    found.iter().map(|neighbour| neighbour.window).collect()
}

/// The true nearest of `windows`.
fn nearest(windows: impl Iterator<Item = u64>, to: &[f32], count: usize) -> Vec<WindowId> {
    let mut near: Vec<(f32, u64)> = windows.map(|n| (crate::distance::squared(to, &window(n).vector), n)).collect();
    near.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    near.into_iter().take(count).map(|(_, n)| n).collect()
}

fn open(path: &Path) -> Store {
    Store::open(path, limits()).unwrap()
}

#[test]
fn a_window_is_found_at_once_whichever_part_it_lies_in() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let searcher = store.searcher().unwrap();
    for step in 0..20 {
        add(&store, step * 30..step * 30 + 30);
        searcher.refresh().unwrap();
        if step % 3 == 2 {
            build_all(&store);
            searcher.refresh().unwrap();
        }
        for n in (0..step * 30 + 30).step_by(17) {
            let found = searcher.search(&query(&window(n).vector, 7)).unwrap();
            assert_eq!(ids(&found), nearest(0..step * 30 + 30, &window(n).vector, 7), "{n} after step {step}");
            assert_eq!((found[0].series.as_str(), found[0].facts), (window(n).series.as_str(), window(n).facts));
        }
    }
    let kinds: Vec<Kind> = searcher.segments().iter().map(|segment| segment.kind).collect();
    assert!(kinds.contains(&Kind::Graph) && kinds.last() == Some(&Kind::Exact), "{kinds:?}");
    assert_eq!(store.stats().unwrap().windows, 600);
    assert!(matches!(Store::open(folder.path(), limits()), Err(IndexError::InUse { .. })), "one writer to a folder");
    assert_eq!(searcher.check(50).unwrap(), Vec::<String>::new());
    for sequence in [0, 1, 57, 200, 201] {
        let expected = (0..600).filter(|n| window(*n).facts.sequence >= sequence).count() as u64;
        assert_eq!(searcher.windows_from(sequence).unwrap(), expected, "{sequence}");
    }
    let orphan = folder.path().join("segments/00000077-forest");
    std::fs::create_dir(&orphan).unwrap();
    assert!(searcher.check(5).unwrap().is_empty(), "it may be being built");
    let hours_ago = std::time::SystemTime::UNIX_EPOCH;
    std::fs::File::open(&orphan).unwrap().set_modified(hours_ago).unwrap();
    assert!(searcher.check(5).unwrap()[0].contains("00000077-forest"));
}

#[test]
fn a_search_that_is_over_stops_before_the_next_segment() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    add(&store, 0..300);
    let searcher = store.searcher().unwrap();
    let vector = window(5).vector;
    let asked = std::cell::Cell::new(0);
    let over_at = |at: u32| {
        asked.set(0);
        let is_over = || asked.replace(asked.get() + 1) + 1 > at;
        searcher.search_until(&query(&vector, 3), &is_over).map(|found| ids(&found))
    };
    let whole = over_at(u32::MAX).unwrap();
    assert_eq!(whole, ids(&searcher.search(&query(&vector, 3)).unwrap()));
    let segments = asked.get();
    assert_eq!(segments as usize, searcher.segments().len());
    for at in 0..segments {
        assert!(matches!(over_at(at), Err(IndexError::Cancelled)), "{at}");
        assert_eq!(asked.get(), at + 1);
    }
}

#[test]
fn filters_ask_only_what_they_allow() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    add(&store, 0..200);
    build_all(&store);
    let before = store.position().unwrap();
    let mut batch = store.batch().unwrap();
    let label = |name: &str, time| Label { name: name.into(), origin: "cli".into(), time };
    assert!(batch.label(7, &label("normal", 5)).unwrap() && batch.label(190, &label("leak", 5)).unwrap());
    assert!(!batch.label(7, &label("leak", 4)).unwrap(), "the later word counts");
    assert!(!batch.label(999, &label("leak", 4)).unwrap(), "no such window");
    assert!(batch.delete(8).unwrap() && !batch.delete(8).unwrap() && !batch.delete(5_000).unwrap());
    batch.tag("alert", 190).unwrap();
    batch.tag("alert", 7).unwrap();
    batch.commit(before.as_deref(), "next").unwrap();
    let searcher = store.searcher().unwrap();
    let check = |filter: Filter, allowed: &dyn Fn(u64) -> bool| {
        let allowed: Vec<u64> = (0..200).filter(|n| *n != 8 && allowed(*n)).collect();
        assert_eq!(searcher.matching(&filter).unwrap(), allowed, "{filter:?}");
        let mut asked = query(&[0.5; DIMENSIONS], 300);
        asked.filter = filter;
        let found = searcher.search(&asked).unwrap();
        assert_eq!(ids(&found), nearest(allowed.into_iter(), &[0.5; DIMENSIONS], 300));
        found
    };
    let none = Filter::default;
    check(none(), &|_| true);
    check(Filter { device: Some("d3".into()), ..none() }, &|n| n % 5 == 3);
    check(Filter { other_than_device: Some("d3".into()), ..none() }, &|n| n % 5 != 3);
    check(Filter { channel: Some("c1".into()), device: Some("d1".into()), ..none() }, &|n| n % 10 == 1);
    check(Filter { since: Some(60), until: Some(180), ..none() }, &|n| (50..170).contains(&n));
    check(Filter { without: [3, 100].into(), ..none() }, &|n| n != 3 && n != 100);
    check(Filter { before: Some(90), ..none() }, &|n| n < 90);
    check(Filter { label: Some("*".into()), ..none() }, &|n| n == 7 || n == 190);
    // What is labelled, and what is of a channel, is known without a look at each window; the rest is asked of those.
    check(Filter { label: Some("*".into()), other_than_device: Some("d2".into()), ..none() }, &|n| n == 190);
    check(Filter { label: Some("*".into()), since: Some(100), ..none() }, &|n| n == 190);
    check(Filter { label: Some("*".into()), channel: Some("c1".into()), until: Some(50), ..none() }, &|n| n == 7);
    for _ in 0..2 {
        check(Filter { channel: Some("c1".into()), ..none() }, &|n| n % 2 == 1);
        check(Filter { channel: Some("c0".into()), before: Some(150), ..none() }, &|n| n % 2 == 0 && n < 150);
        check(Filter { channel: Some("c1".into()), since: Some(60), ..none() }, &|n| n % 2 == 1 && n >= 50);
        check(Filter { channel: Some("c1".into()), other_than_device: Some("d3".into()), ..none() }, &|n| {
            n % 2 == 1 && n % 5 != 3
        });
        check(Filter { channel: Some("none".into()), ..none() }, &|_| false);
    }
    let found = check(Filter { label: Some("normal".into()), ..none() }, &|n| n == 7);
    assert_eq!(found[0].label.as_ref().unwrap().name, "normal");
    assert_eq!(searcher.tagged("alert").unwrap(), [190, 7]);
    let mut near = query(&[0.5; DIMENSIONS], 300);
    near.radius = 1.0;
    let found = searcher.search(&near).unwrap();
    assert!(!found.is_empty() && found.len() < 199 && found.iter().all(|one| one.distance <= 1.0));
    assert!(searcher.window(8).unwrap().is_none(), "deleted");
    let (facts, vector, of) = searcher.window(9).unwrap().unwrap();
    assert_eq!((facts.series, vector, of), (window(9).series, window(9).vector, model()));
}

#[test]
fn models_are_never_compared() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    add(&store, 0..10);
    let other = Model { digest: "newer".into(), ..model() };
    let mut batch = store.batch().unwrap();
    for n in 10..20 {
        batch.add(&other, &window(n)).unwrap();
    }
    batch.add(&model(), &window(20)).unwrap();
    assert!(batch.add(&Model { dimensions: 3, ..model() }, &window(20)).is_err());
    batch.commit(Some("10"), "21").unwrap();
    for built in [false, true] {
        if built {
            assert_eq!(build_all(&store), [Kind::Graph, Kind::Graph]);
        }
        let searcher = store.searcher().unwrap();
        let mut asked = query(&[0.5; DIMENSIONS], 100);
        let mut found = ids(&searcher.search(&asked).unwrap());
        found.sort_unstable();
        assert_eq!(found, (0..10).chain([20]).collect::<Vec<_>>());
        asked.model = &other;
        assert_eq!(searcher.search(&asked).unwrap().len(), 10);
        let unknown = Model { digest: "none".into(), ..model() };
        asked.model = &unknown;
        assert!(searcher.search(&asked).unwrap().is_empty());
    }
}

#[test]
fn what_lost_many_windows_is_built_anew_without_them() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    add(&store, 0..40);
    build_all(&store);
    let delete = |range: std::ops::Range<u64>, position: &str| {
        let before = store.position().unwrap();
        let mut batch = store.batch().unwrap();
        range.for_each(|n| assert!(batch.delete(n).unwrap()));
        batch.commit(before.as_deref(), position).unwrap();
    };
    delete(0..12, "a");
    assert!(store.next_build().unwrap().is_none(), "not more than three in ten");
    delete(12..13, "b");
    let build = store.next_build().unwrap().unwrap();
    delete(39..40, "c"); // While it is built.
    assert!(store.publish(build.run(&AtomicBool::new(false)).unwrap()).unwrap());
    assert_eq!(store.searcher().unwrap().matching(&Filter::default()).unwrap(), (13..39).collect::<Vec<_>>());
    let stats = store.stats().unwrap();
    assert_eq!((stats.windows, stats.deleted), (26, 1));
    assert!(store.next_build().unwrap().is_none());
}

#[test]
fn whole_segments_age_out_with_all_that_was_said_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), Limits { age_max: 100, graph_windows: 0, ..limits() }).unwrap();
    add(&store, 0..40);
    let mut batch = store.batch().unwrap();
    batch.label(5, &Label { name: "leak".into(), origin: "cli".into(), time: 1 }).unwrap();
    batch.tag("alert", 5).unwrap();
    batch.delete(6).unwrap();
    batch.commit(Some("40"), "a").unwrap();
    build_all(&store);
    let searcher = store.searcher().unwrap();
    for n in 1..5 {
        assert_eq!(store.age().unwrap(), usize::from(n == 4), "{n}");
        let (from, before) = (n * 40, store.position().unwrap());
        let mut batch = store.batch().unwrap();
        for n in from..from + 40 {
            batch.add(&model(), &window(n)).unwrap();
        }
        batch.commit(before.as_deref(), &n.to_string()).unwrap();
        build_all(&store);
    }
    searcher.refresh().unwrap();
    assert_eq!(searcher.matching(&Filter::default()).unwrap(), (40..200).collect::<Vec<_>>());
    assert!(searcher.tagged("alert").unwrap().is_empty() && searcher.window(5).unwrap().is_none());
    assert_eq!(
        (store.stats().unwrap().labels, std::fs::read_dir(folder.path().join("segments")).unwrap().count()),
        (0, 4)
    );
    // The catalog's file is larger than what it holds: that alone makes nothing go.
    let held: u64 = store.stats().unwrap().bytes - std::fs::metadata(folder.path().join("data.mdb")).unwrap().len();
    {
        drop((searcher, store));
        let store = Store::open(folder.path(), Limits { bytes_max: held + (64 << 10), ..limits() }).unwrap();
        assert!(std::fs::metadata(folder.path().join("data.mdb")).unwrap().len() > 64 << 10);
        assert_eq!(store.age().unwrap(), 0);
    }
    let small = Store::open(folder.path(), Limits { bytes_max: 1, ..limits() }).unwrap();
    assert_eq!(small.age().unwrap(), 4);
    assert_eq!(small.stats().unwrap().windows, 0);
}

#[test]
fn a_second_writer_is_fenced_and_what_is_to_be_sent_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    add(&store, 0..3);
    let mut batch = store.batch().unwrap();
    batch.add(&model(), &window(3)).unwrap();
    batch.send(7, b"context").unwrap();
    assert!(matches!(batch.commit(Some("2"), "4"), Err(IndexError::Fenced { .. })));
    assert_eq!((store.stats().unwrap().windows, store.outbox().unwrap()), (3, vec![]));
    let mut batch = store.batch().unwrap();
    batch.send(7, b"context").unwrap();
    batch.send(8, b"other").unwrap();
    batch.commit(Some("3"), "4").unwrap();
    drop(store);
    let store = open(folder.path());
    let mut batch = store.batch().unwrap();
    batch.sent(7).unwrap();
    batch.commit(Some("4"), "5").unwrap();
    assert_eq!(store.outbox().unwrap(), [(8, b"other".to_vec())]);
}

#[test]
fn a_build_that_is_cancelled_or_too_late_leaves_the_store_as_it_was() {
    for kind in [Kind::Forest, Kind::Graph] {
        let folder = tempfile::tempdir().unwrap();
        let limits = Limits { build_time: std::time::Duration::ZERO, kind, ..limits() };
        let store = Store::open(folder.path(), limits).unwrap();
        add(&store, 0..60);
        let mut tries = 0;
        for cancel in [true, false] {
            let build = next_build(&store).unwrap();
            tries += 1;
            assert!(matches!(build.run(&AtomicBool::new(cancel)), Err(IndexError::Cancelled)));
        }
        assert_eq!(std::fs::read_dir(folder.path().join("segments")).unwrap().count(), 1, "the flat one");
        assert_eq!(store.searcher().unwrap().search(&query(&[0.0; DIMENSIONS], 100)).unwrap().len(), 60);
        while store.took_too_long(&store.next_build().unwrap().unwrap().id()) {
            tries += 1;
        }
        assert_eq!(tries, if kind == Kind::Forest { 4 } else { 2 }, "four trees, two, one; a graph is tried once");
        assert!(store.next_build().unwrap().is_none(), "it is searched row by row");
    }
}

#[test]
fn a_merge_that_took_too_long_leaves_what_it_was_to_merge_to_be_built_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    add(&store, 0..160);
    let build = next_build(&store).unwrap();
    assert_eq!(build.windows(), 160);
    assert!(store.took_too_long(&build.id()));
    assert_eq!(build_all(&store), [Kind::Graph; 4]);
    assert_eq!(store.stats().unwrap().segments, 4);
}

#[test]
fn the_same_stream_makes_the_same_store() {
    let answers: Vec<Vec<Neighbour>> = [7, 40, 120]
        .into_iter()
        .map(|batch| {
            let folder = tempfile::tempdir().unwrap();
            let store = open(folder.path());
            (0..840).step_by(batch).for_each(|from| add(&store, from..840.min(from + batch as u64)));
            build_all(&store);
            let mut asked = query(&[1.3; DIMENSIONS], 20);
            asked.recall = Recall::AtLeast(0.5);
            store.searcher().unwrap().search(&asked).unwrap()
        })
        .collect();
    assert!(answers[0].len() == 20 && answers[1] == answers[0] && answers[2] == answers[0]);
}
