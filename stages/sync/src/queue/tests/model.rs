//! The queue against a list in memory.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::queue::{account::Account, record};

/// What may happen to a queue.
#[derive(Clone, Debug)]
enum Step {
    /// In one commit: a class, and bytes of an entry, or none for a gap.
    Commit(Vec<(u8, Option<u8>)>),
    /// Dropped before its commit.
    Abort(u8),
    /// A run is taken, and perhaps told as done after the next step.
    Take {
        class: u8,
        bytes: u16,
        entries: u8,
        done: bool,
    },
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let one = (0u8..3, prop_oneof![4 => any::<u8>().prop_map(Some), 1 => Just(None)]);
    prop_oneof![
        6 => prop::collection::vec(one, 1..12).prop_map(Step::Commit),
        1 => (1u8..9).prop_map(Step::Abort),
        4 => (0u8..3, any::<u16>(), 1u8..20, any::<bool>())
            .prop_map(|(class, bytes, entries, done)| Step::Take { class, bytes, entries, done }),
        1 => Just(Step::Reopen),
    ]
}

/// A number of the list.
#[derive(Clone, Debug, PartialEq)]
enum Number {
    Entry(wire::Entries, u64),
    Source(u64),
    Budget,
}

#[derive(Debug)]
struct List {
    class: Class,
    numbers: BTreeMap<u64, Number>,
    next: u64,
    done: u64,
    /// How far the sender is.
    taken: u64,
}

const ENTRIES_MAX: u64 = 12;
const BYTES_MAX: u64 = 1500;

impl List {
    fn load(&self) -> (u64, u64) {
        let weights = self.numbers.values().filter_map(|number| match number {
            Number::Entry(_, weight) => Some(*weight),
            _ => None,
        });
        (weights.clone().count() as u64, weights.sum())
    }

    fn expire(&mut self) {
        while self.load().0 > ENTRIES_MAX || self.load().1 > BYTES_MAX {
            let oldest = self.numbers.iter_mut().find(|(_, number)| matches!(number, Number::Entry(..)));
            *oldest.unwrap().1 = Number::Budget;
        }
    }

    /// What the queue says of the numbers past `after`, up to the slice's end.
    fn check(&self, slice: &Slice, after: u64) {
        assert_eq!(slice.first, after + 1);
        let mut told: BTreeMap<u64, Number> = BTreeMap::new();
        for (number, entries) in &slice.entries {
            assert_eq!(entries.entries[0].id, *number);
            let weight = Account::weight(record::write(entries.clone(), &vec![1; entries.bundles.len()]).len());
            let mut entries = entries.clone();
            entries.entries[0].id = 0;
            told.insert(*number, Number::Entry(entries, weight));
        }
        let mut last_budget = None;
        for gap in &slice.gaps {
            match gap.cause() {
                wire::Cause::Source => {
                    assert_eq!(gap.first, gap.last);
                    told.insert(gap.first, Number::Source(gap.count));
                }
                wire::Cause::Budget => {
                    assert_eq!(gap.count, gap.last + 1 - gap.first);
                    assert_ne!(last_budget, Some(gap.first - 1), "neighbours are one");
                    last_budget = Some(gap.last);
                    told.extend((gap.first..=gap.last).map(|number| (number, Number::Budget)));
                }
                cause => panic!("{cause:?}"),
            }
        }
        let expected: BTreeMap<_, _> =
            self.numbers.range(slice.first..slice.last + 1).map(|(n, e)| (*n, e.clone())).collect();
        assert_eq!(told, expected);
    }
}

fn entry(class: Class, n: u64, bytes: u8) -> wire::Entries {
    if class == Class::Deltas {
        return delta(&format!("d{n}/t"), &[bytes % 3 + 1; 32], n);
    }
    alert(&"x".repeat(bytes.into()))
}

fn run(steps: Vec<Step>) {
    let folder = tempfile::tempdir().unwrap();
    let bounds = Bounds { bytes: [BYTES_MAX; 7], entries_max: ENTRIES_MAX, map_bytes: 8 << 20 };
    let mut queue = Queue::open(folder.path(), &bounds).unwrap();
    let classes = [Class::Alerts, Class::Deltas, Class::Readings];
    let mut lists = classes.map(|class| List { class, numbers: BTreeMap::new(), next: 1, done: 0, taken: 0 });
    let mut late: Option<(usize, u64)> = None;
    for step in steps {
        let due = late.take();
        match step {
            Step::Commit(items) => commit(&queue, |write| {
                for (at, bytes) in items {
                    let list = &mut lists[usize::from(at)];
                    let (given, number) = match bytes {
                        Some(bytes) => {
                            let entry = entry(list.class, list.next, bytes);
                            let weight =
                                Account::weight(record::write(entry.clone(), &vec![1; entry.bundles.len()]).len());
                            (write.push(list.class, entry.clone()).unwrap(), Number::Entry(entry, weight))
                        }
                        None => (write.gap(list.class, source_gap(list.next)).unwrap(), Number::Source(list.next)),
                    };
                    assert_eq!(given, list.next);
                    list.numbers.insert(given, number);
                    list.next += 1;
                }
            }),
            Step::Abort(n) => {
                let mut write = queue.write().unwrap();
                (0..n).for_each(|n| _ = write.push(classes[usize::from(n) % 3], alert("gone")).unwrap());
            }
            Step::Take { class, bytes, entries, done } => {
                let at = usize::from(class);
                let list = &mut lists[at];
                let slice = queue.next(list.class, list.taken, bytes.into(), entries.into()).unwrap();
                list.check(&slice, list.taken);
                assert_eq!(slice.is_empty(), list.taken + 1 == list.next);
                assert!(slice.entries.len() + slice.gaps.len() <= usize::from(entries));
                list.taken = slice.last;
                late = done.then_some((at, slice.last));
            }
            Step::Reopen => {
                drop(queue);
                queue = Queue::open(folder.path(), &bounds).unwrap();
                // The sender asks the region how far it is.
                lists.iter_mut().for_each(|list| list.taken = list.done);
            }
        }
        lists.iter_mut().for_each(List::expire);
        if let Some((at, last)) = due {
            let list = &mut lists[at];
            queue.done(list.class, last).unwrap();
            if last > list.done {
                list.done = last;
                list.taken = list.taken.max(last);
                list.numbers = list.numbers.split_off(&(last + 1));
            }
        }
        for list in &lists {
            let slice = all(&queue, list.class, list.done);
            list.check(&slice, list.done);
            let depth = queue.depth(list.class).unwrap();
            let (entries, bytes) = list.load();
            let gaps = slice.gaps.len() as u64;
            let expected = Depth { entries, bytes, oldest: list.done + 1, next: list.next, gaps };
            assert_eq!((slice.last, depth), (list.next - 1, expected));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_queue_is_the_list_that_was_put_into_it(steps in prop::collection::vec(step(), 1..40)) {
        run(steps);
    }
}
