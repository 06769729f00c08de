//! Windows that are scanned from disk until enough searches came.

use super::*;

fn kinds(searcher: &Searcher) -> Vec<Kind> {
    searcher.refresh().unwrap();
    searcher.segments().iter().map(|segment| segment.kind).collect()
}

fn run(build: Build, store: &Store) {
    assert!(store.publish(build.run(&AtomicBool::new(false)).unwrap()).unwrap());
}

#[test]
fn a_graph_is_built_of_what_enough_searches_have_scanned_and_of_nothing_else() {
    const SEARCHES: u64 = 3;
    let folder = tempfile::tempdir().unwrap();
    let limits = || Limits { segment_windows: 5_000, graph_after: SEARCHES, ..limits() };
    let store = Store::open(folder.path(), limits()).unwrap();
    let searcher = store.searcher().unwrap();
    add(&store, 0..5_000);
    assert!(next_build(&store).is_none());
    assert_eq!((kinds(&searcher), store.stats().unwrap().tail), (vec![Kind::Flat], 0));
    add(&store, 5_000..10_100);
    assert!(next_build(&store).is_none());
    assert_eq!(kinds(&searcher), [Kind::Flat, Kind::Flat, Kind::Exact]);
    let stats = store.stats().unwrap();
    assert_eq!((stats.windows, stats.flat, stats.tail, stats.segments, stats.waiting), (10_100, 10_000, 100, 2, 0));
    let vector = window(4_321).vector;
    let asked = |recall, filter| Query { recall, filter, ..query(&vector, 10) };
    let expected = nearest(0..10_100, &vector, 10);
    // Of these a graph would spare nothing.
    for _ in 0..SEARCHES {
        let every = asked(Recall::Exact, Filter::default());
        assert_eq!(ids(&searcher.search(&every).unwrap()), expected);
        let few = asked(Recall::AtLeast(0.9), Filter { channel: Some("c1".into()), ..Filter::default() });
        let of_channel = nearest((0..10_100).filter(|n| n % 2 == 1), &vector, 10);
        assert_eq!(ids(&searcher.search(&few).unwrap()), of_channel);
    }
    assert!(next_build(&store).is_none());
    for search in 0..SEARCHES {
        assert!(next_build(&store).is_none(), "after {search}");
        let near = asked(Recall::AtLeast(0.9), Filter::default());
        assert_eq!(ids(&searcher.search(&near).unwrap()), expected);
    }
    assert_eq!(build_all(&store), [Kind::Graph; 2]);
    assert_eq!(kinds(&searcher), [Kind::Graph, Kind::Graph, Kind::Exact]);
    assert_eq!((store.stats().unwrap().flat, searcher.check(50).unwrap()), (0, vec![]));
    assert_eq!(ids(&searcher.search(&asked(Recall::Exact, Filter::default())).unwrap()), expected);
}

#[test]
fn what_is_scanned_is_not_merged_and_what_it_lost_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let apart = Limits { graph_windows: 0, ..limits() };
    let store = Store::open(folder.path(), apart).unwrap();
    add(&store, 0..160);
    assert_eq!(build_all(&store), [Kind::Graph; 4]);
    drop(store);
    let store = Store::open(folder.path(), Limits { graph_after: 1_000, ..limits() }).unwrap();
    let searcher = store.searcher().unwrap();
    add(&store, 160..320);
    assert_eq!(build_all(&store), [Kind::Graph], "the four graphs are one");
    assert_eq!(kinds(&searcher), [Kind::Graph, Kind::Flat], "and the four flat ones, which are small, too");
    let mut batch = store.batch().unwrap();
    (200..249).for_each(|n| assert!(batch.delete(n).unwrap()));
    batch.commit(Some("320"), "321").unwrap();
    let build = store.next_build().unwrap().unwrap();
    assert_eq!((build.kind(), build.windows()), (Kind::Flat, 160));
    run(build, &store);
    assert!(store.next_build().unwrap().is_none());
    assert_eq!(kinds(&searcher), [Kind::Graph, Kind::Flat]);
    let there = || (0..200).chain(249..320);
    for n in [5, 170, 205, 260] {
        let vector = window(n).vector;
        assert_eq!(ids(&searcher.search(&query(&vector, 9)).unwrap()), nearest(there(), &vector, 9), "{n}");
        for (device, is_of) in [("d3", 3), ("none", 7)] {
            let filter = Filter { device: Some(device.into()), ..Filter::default() };
            let few = Query { filter, ..query(&vector, 9) };
            let expected = nearest(there().filter(|n| n % 5 == is_of), &vector, 9);
            assert_eq!(ids(&searcher.search(&few).unwrap()), expected, "{n} among {device}");
        }
    }
    let stats = store.stats().unwrap();
    assert_eq!((stats.windows, stats.deleted, searcher.check(400).unwrap()), (271, 0, vec![]));
}
