//! Which names of which folders have not been synced, in the strict mode: without any file system.
//!
//! A name is an entry of a folder; files and folders are told apart by numbers. A change of an entry is pending until
//! its folder, or the file that it names, is synced. What must not come apart is synced together: both ends of a
//! rename, a new entry and the new folders above it, a removed folder and what it had held.

use std::{collections::BTreeMap, ffi::OsString};

/// A file's or a folder's number.
pub(super) type Id = u64;

/// An entry: the folder and the name in it.
pub(super) type Entry = (Id, OsString);

/// What an entry names: what it would after a cut, and what it does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// At the last sync.
    pub(super) synced: Option<Id>,
    /// Now.
    pub(super) now: Option<Id>,
}

impl Change {
    fn tells_of(self, id: Id) -> bool {
        self.synced == Some(id) || self.now == Some(id)
    }
}

/// The entries that a cut would change back.
#[derive(Debug, Default)]
pub(super) struct Pending {
    changes: BTreeMap<Entry, Change>,
}

impl Pending {
    /// `entry` named `was` and names `now`.
    pub(super) fn changed(&mut self, entry: Entry, was: Option<Id>, now: Option<Id>) {
        let synced = self.changes.get(&entry).map_or(was, |change| change.synced);
        if synced == now {
            self.changes.remove(&entry);
        } else {
            self.changes.insert(entry, Change { synced, now });
        }
    }

    /// Whether a cut brings `id` back under some name, once `entry` has stopped naming it.
    pub(super) fn comes_back(&self, entry: &Entry, id: Id) -> bool {
        !self.changes.contains_key(entry) || self.changes.values().any(|change| change.synced == Some(id))
    }

    /// `id` is synced: a file's names, a folder's entries and its own. Returns what no cut can bring back any more.
    pub(super) fn sync(&mut self, id: Id) -> Vec<Id> {
        let mut done: Vec<Change> = Vec::new();
        let mut work = self.entries(|entry, change| change.tells_of(id) || entry.0 == id);
        while let Some(entry) = work.pop() {
            let Some(change) = self.changes.remove(&entry) else { continue };
            done.push(change);
            let removed = change.synced.filter(|id| !self.is_named(*id, &done));
            work.extend(self.entries(|other, beside| {
                let moves_along = [change.synced, change.now].into_iter().flatten().any(|id| beside.tells_of(id));
                moves_along || beside.tells_of(entry.0) || removed == Some(other.0)
            }));
        }
        done.iter().filter_map(|change| change.synced).filter(|id| !self.is_named(*id, &done)).collect()
    }

    /// Whether an entry names `id` now; `done` were synced just now, others that name it are pending.
    fn is_named(&self, id: Id, done: &[Change]) -> bool {
        self.changes.values().chain(done).any(|change| change.now == Some(id))
    }

    fn entries(&self, which: impl Fn(&Entry, &Change) -> bool) -> Vec<Entry> {
        self.changes.iter().filter(|(entry, change)| which(entry, change)).map(|(entry, _)| entry.clone()).collect()
    }

    /// What a cut changes back.
    pub(super) fn cut(&mut self) -> BTreeMap<Entry, Change> {
        std::mem::take(&mut self.changes)
    }
}
