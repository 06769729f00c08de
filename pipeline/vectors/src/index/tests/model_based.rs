use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// What may happen to a store.
#[derive(Clone, Debug)]
enum Step {
    Add(u8),
    Delete(u16),
    Label(u16, bool),
    Seal,
    Build,
    /// Prepared, and published after the next step: what is next, or what is next but for bringing to disk.
    BuildLate(bool),
    Age,
    Reopen,
    /// A batch that is never committed.
    Abort(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (1u8..30).prop_map(Step::Add),
        2 => any::<u16>().prop_map(Step::Delete),
        1 => (any::<u16>(), any::<bool>()).prop_map(|(n, normal)| Step::Label(n, normal)),
        1 => Just(Step::Seal),
        2 => Just(Step::Build),
        1 => any::<bool>().prop_map(Step::BuildLate),
        1 => Just(Step::Age),
        1 => Just(Step::Reopen),
        1 => (1u8..9).prop_map(Step::Abort),
    ]
}

/// The list: what is there, and what is said of it.
#[derive(Default)]
struct List {
    next: u64,
    there: BTreeSet<u64>,
    labels: BTreeMap<u64, String>,
}

const AGE: i64 = 150;

fn run(steps: Vec<Step>, kind: Kind, graph_after: u64) {
    let folder = tempfile::tempdir().unwrap();
    let limits = || Limits { segment_windows: 25, graph_after, graph_windows: 110, age_max: AGE, kind, ..limits() };
    let mut store = Store::open(folder.path(), limits()).unwrap();
    let mut searcher = store.searcher().unwrap();
    let (mut list, mut late, mut commits) = (List::default(), None, 0u32);
    for step in steps {
        let publish = late.take();
        let before = store.position().unwrap();
        let mut batch = store.batch().unwrap();
        match step {
            Step::Add(n) => {
                for n in list.next..list.next + u64::from(n) {
                    assert_eq!(batch.add(&model(), &window(n)).unwrap(), n);
                    list.there.insert(n);
                }
                list.next += u64::from(n);
            }
            Step::Abort(n) => {
                for n in 0..u64::from(n) {
                    batch.add(&model(), &window(list.next + n)).unwrap();
                }
                drop(batch);
                batch = store.batch().unwrap();
            }
            Step::Delete(n) => {
                let n = u64::from(n) % list.next.max(1);
                // One that aged out may or may not be counted as deleted: it is gone anyway.
                let deleted = batch.delete(n).unwrap();
                assert!(list.there.remove(&n) <= deleted);
                list.labels.remove(&n);
            }
            Step::Label(n, normal) => {
                let n = u64::from(n) % list.next.max(1);
                let name = if normal { Label::NORMAL } else { "leak" };
                commits += 1;
                let label = Label { name: name.into(), origin: "test".into(), time: commits.into() };
                if batch.label(n, &label).unwrap() && list.there.contains(&n) {
                    list.labels.insert(n, name.into());
                }
            }
            Step::Seal => batch.seal().unwrap(),
            Step::Build | Step::BuildLate(_) | Step::Age | Step::Reopen => {}
        }
        commits += 1;
        batch.commit(before.as_deref(), &commits.to_string()).unwrap();
        match step {
            Step::Build => drop(build_all(&store)),
            Step::BuildLate(after_all_is_on_disk) => {
                let build = if after_all_is_on_disk { next_build(&store) } else { store.next_build().unwrap() };
                late = build.map(|build| build.run(&AtomicBool::new(false)).unwrap());
            }
            Step::Age => {
                store.age().unwrap();
                let oldest = searcher_of(&store).segments().first().map_or(list.next, |segment| segment.first);
                let newest = list.next as i64 - 1;
                // Nothing goes early.
                assert!(list.there.range(..oldest).all(|n| newest - *n as i64 > AGE), "{oldest} of {newest}");
                list.there = list.there.split_off(&oldest);
                list.labels = list.labels.split_off(&oldest);
            }
            Step::Reopen => {
                late = None;
                drop((searcher, store));
                store = Store::open(folder.path(), limits()).unwrap();
                searcher = store.searcher().unwrap();
            }
            _ => {}
        }
        if let Some(built) = publish
            && !matches!(step, Step::Reopen)
        {
            // Its sources may be built or gone by now.
            let _ = store.publish(built).unwrap();
        }
        check(&store, &searcher, &list);
    }
}

fn searcher_of(store: &Store) -> Searcher {
    store.searcher().unwrap()
}

fn check(store: &Store, searcher: &Searcher, list: &List) {
    searcher.refresh().unwrap();
    let there: Vec<u64> = list.there.iter().copied().collect();
    assert_eq!(searcher.matching(&Filter::default()).unwrap(), there);
    assert_eq!(store.stats().unwrap().windows, there.len() as u64);
    for probe in [list.next / 2, list.next] {
        let vector = window(probe).vector;
        let found = searcher.search(&query(&vector, 9)).unwrap();
        assert_eq!(ids(&found), nearest(there.iter().copied(), &vector, 9));
        for one in found {
            assert_eq!(one.label.map(|label| label.name), list.labels.get(&one.window).cloned());
        }
        let mut asked = query(&vector, 9);
        asked.recall = Recall::AtLeast(0.9);
        assert_eq!(searcher.search(&asked).unwrap().len(), there.len().min(9));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_store_is_the_list_that_was_put_into_it(
        steps in prop::collection::vec(step(), 1..40),
        kind in prop::sample::select(vec![Kind::Graph, Kind::Forest]),
        graph_after in prop::sample::select(vec![0, u64::MAX]),
    ) {
        run(steps, kind, graph_after);
    }
}
