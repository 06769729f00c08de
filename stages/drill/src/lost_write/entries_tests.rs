//! The strict mode's names against a naive model: the whole tree as it is now, and as it was synced.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::entries::{Entry, Id, Pending};

const ROOT: Id = 1;

type Tree = BTreeMap<Entry, Id>;

#[derive(Default)]
struct Model {
    now: Tree,
    folders: BTreeSet<Id>,
    pending: Pending,
    created: Id,
}

/// A step's numbers choose among what is there.
#[derive(Clone, Copy, Debug)]
enum Step {
    Create { folder: usize, name: u8, is_folder: bool },
    Remove { entry: usize },
    Rename { entry: usize, folder: usize, name: u8 },
    Sync { id: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (any::<usize>(), 0..4_u8, any::<bool>())
            .prop_map(|(folder, name, is_folder)| Step::Create { folder, name, is_folder }),
        2 => any::<usize>().prop_map(|entry| Step::Remove { entry }),
        3 => (any::<usize>(), any::<usize>(), 0..4_u8)
            .prop_map(|(entry, folder, name)| Step::Rename { entry, folder, name }),
        2 => any::<usize>().prop_map(|id| Step::Sync { id }),
    ]
}

impl Model {
    fn folder(&self, choice: usize) -> Id {
        let there: Vec<Id> = std::iter::once(ROOT).chain(self.folders.iter().copied()).collect();
        there[choice % there.len()]
    }

    fn entry(&self, choice: usize) -> Option<(Entry, Id)> {
        let at = choice.checked_rem(self.now.len())?;
        self.now.iter().nth(at).map(|(entry, id)| (entry.clone(), *id))
    }

    fn set(&mut self, entry: Entry, now: Option<Id>) {
        let was = match now {
            Some(id) => self.now.insert(entry.clone(), id),
            None => self.now.remove(&entry),
        };
        self.pending.changed(entry, was, now);
    }

    fn is_within(&self, mut folder: Id, of: Id) -> bool {
        while folder != of {
            match self.now.iter().find(|(_, id)| **id == folder) {
                Some((entry, _)) => folder = entry.0,
                None => return false,
            }
        }
        true
    }

    fn is_full(&self, folder: Id) -> bool {
        self.now.keys().any(|entry| entry.0 == folder)
    }

    /// What a cut would leave.
    fn synced(&mut self) -> Tree {
        let mut tree = self.now.clone();
        let changes = self.pending.cut();
        for (entry, change) in &changes {
            match change.synced {
                Some(id) => tree.insert(entry.clone(), id),
                None => tree.remove(entry),
            };
        }
        for (entry, change) in changes {
            self.pending.changed(entry.clone(), change.synced, change.now);
        }
        tree
    }

    /// Does a step other than a sync, if a file system would.
    fn change(&mut self, step: Step) {
        match step {
            Step::Create { folder, name, is_folder } => {
                let entry = (self.folder(folder), format!("{name}").into());
                if !self.now.contains_key(&entry) {
                    self.created += 1;
                    let id = ROOT + self.created;
                    if is_folder {
                        self.folders.insert(id);
                    }
                    self.set(entry, Some(id));
                }
            }
            Step::Remove { entry } => {
                let Some((entry, id)) = self.entry(entry).filter(|(_, id)| !self.is_full(*id)) else { return };
                self.folders.remove(&id);
                self.set(entry, None);
            }
            Step::Rename { entry, folder, name } => {
                let Some((from, id)) = self.entry(entry) else { return };
                let to = (self.folder(folder), format!("{name}").into());
                let over = self.now.get(&to).copied();
                let both_files = over.is_none_or(|over| !self.folders.contains(&over) && !self.folders.contains(&id));
                if over != Some(id) && both_files && !self.is_within(to.0, id) {
                    self.set(from, None);
                    self.set(to, Some(id));
                }
            }
            Step::Sync { .. } => {}
        }
    }
}

/// Every file once, and each in a folder that can be reached.
fn assert_is_tree(tree: &Tree) {
    let mut named = BTreeMap::from([(ROOT, None)]);
    for (entry, id) in tree {
        assert!(named.insert(*id, Some(entry.0)).is_none(), "{id} stands at two places: {tree:?}");
    }
    for id in tree.values() {
        let (mut at, mut steps) = (*id, 0);
        while let Some(folder) = named.get(&at).unwrap_or_else(|| panic!("{at} is not there: {tree:?}")) {
            (at, steps) = (*folder, steps + 1);
            assert!(steps <= tree.len(), "a folder in itself: {tree:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn a_cut_leaves_a_tree_with_what_was_synced(steps in prop::collection::vec(step(), 0..40)) {
        let mut model = Model::default();
        let mut synced = Tree::new();
        for step in steps {
            if let Step::Sync { id } = step {
                let ids: Vec<Id> = std::iter::once(ROOT).chain(model.now.values().copied()).collect();
                let id = ids[id % ids.len()];
                let gone = model.pending.sync(id);
                let after = model.synced();
                for entry in synced.keys().chain(model.now.keys()) {
                    let (was, is, now) = (synced.get(entry), after.get(entry), model.now.get(entry));
                    prop_assert!(is == was || is == now, "{entry:?}: {was:?} became {is:?}, and is {now:?} now");
                    if entry.0 == id || now == Some(&id) {
                        prop_assert_eq!(is, now, "{:?} was synced", entry);
                    }
                }
                for gone in gone {
                    prop_assert!(!after.values().chain(model.now.values()).any(|id| *id == gone), "{} is there", gone);
                }
                synced = after;
            } else {
                model.change(step);
            }
            let left = model.synced();
            prop_assert_eq!(&left, &synced, "only a sync changes what a cut leaves");
            assert_is_tree(&left);
        }
    }

    #[test]
    fn what_comes_back_is_told_before(steps in prop::collection::vec(step(), 1..40), entry in any::<usize>()) {
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Sync { .. } => drop(model.pending.sync(ROOT)),
                other => model.change(other),
            }
        }
        let Some((entry, id)) = model.entry(entry).filter(|(_, id)| !model.is_full(*id)) else { return Ok(()) };
        let comes_back = model.pending.comes_back(&entry, id);
        model.set(entry, None);
        prop_assert_eq!(comes_back, model.synced().values().any(|found| *found == id));
    }
}
