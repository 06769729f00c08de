//! A store that the release before wrote, with hannoy: `fixtures/index/hannoy`, 32 windows in one of its graphs, of which window 3
//! is deleted.

use super::*;

fn copied() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/index/hannoy");
    for file in ["data.mdb", "segments/00000008-graph/data.mdb"] {
        std::fs::create_dir_all(folder.path().join(file).parent().unwrap()).unwrap();
        std::fs::copy(from.join(file), folder.path().join(file)).unwrap();
    }
    folder
}

fn there() -> impl Iterator<Item = u64> {
    (0..32).filter(|n| *n != 3)
}

fn check(searcher: &Searcher) {
    for n in 0..32 {
        for recall in [Recall::Exact, Recall::AtLeast(0.5)] {
            let vector = window(n).vector;
            let asked = Query { recall, ..query(&vector, 5) };
            assert_eq!(ids(&searcher.search(&asked).unwrap()), nearest(there(), &vector, 5), "{n} {recall:?}");
        }
    }
    assert_eq!(searcher.window(9).unwrap().unwrap().1, window(9).vector);
    assert_eq!(searcher.check(32).unwrap(), Vec::<String>::new());
}

#[test]
fn a_graph_of_the_release_before_is_scanned_until_it_is_built_anew() {
    let folder = copied();
    let store = open(folder.path());
    let searcher = store.searcher().unwrap();
    let kinds = |searcher: &Searcher| searcher.segments().iter().map(|segment| segment.kind).collect::<Vec<_>>();
    assert_eq!(kinds(&searcher), [Kind::Hannoy]);
    check(&searcher);
    assert_eq!(build_all(&store), [Kind::Graph]);
    searcher.refresh().unwrap();
    assert_eq!(kinds(&searcher), [Kind::Graph]);
    check(&searcher);
    let folders = std::fs::read_dir(folder.path().join("segments")).unwrap();
    assert_eq!(folders.count(), 1, "the old one is gone");
    // And it goes on.
    let before = store.position().unwrap();
    let mut batch = store.batch().unwrap();
    assert_eq!(batch.add(&model(), &window(32)).unwrap(), 32);
    batch.commit(before.as_deref(), "34").unwrap();
}

#[test]
fn what_waited_is_built_before_what_the_release_before_built() {
    let folder = copied();
    let store = Store::open(folder.path(), Limits { graph_windows: 0, ..limits() }).unwrap();
    let before = store.position().unwrap();
    let mut batch = store.batch().unwrap();
    batch.add(&model(), &window(32)).unwrap();
    batch.seal().unwrap();
    batch.commit(before.as_deref(), "34").unwrap();
    let build = next_build(&store).unwrap();
    assert_eq!(build.windows(), 1);
    assert!(store.publish(build.run(&AtomicBool::new(false)).unwrap()).unwrap());
    assert_eq!(store.next_build().unwrap().unwrap().windows(), 32);
}

#[test]
fn a_forest_becomes_a_graph_when_nothing_waits() {
    let folder = tempfile::tempdir().unwrap();
    let before = || Limits { kind: Kind::Forest, graph_windows: 0, ..limits() };
    let store = Store::open(folder.path(), before()).unwrap();
    add(&store, 0..80);
    assert_eq!(build_all(&store), [Kind::Forest; 2]);
    drop(store);
    let store = Store::open(folder.path(), Limits { kind: Kind::Graph, ..before() }).unwrap();
    assert_eq!(build_all(&store), [Kind::Graph; 2]);
    let vector = window(50).vector;
    assert_eq!(ids(&store.searcher().unwrap().search(&query(&vector, 5)).unwrap()), nearest(0..80, &vector, 5));
}
