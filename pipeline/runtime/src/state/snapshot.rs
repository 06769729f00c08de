//! A snapshot that is written piece by piece, each a transaction of its own: one of everything would hold every page that it changes
//! in memory, and LMDB keeps that memory for the next one.

use std::hash::{BuildHasher as _, RandomState};

use heed::RwTxn;

use super::{
    Coverage, GENERATION, POSITION, Records, SEEN, StateStore, StoreError, WRITING, roomy, sweep::Rubbish,
    versions::Generation,
};
use crate::position::Position;

/// A snapshot of which nothing counts before [`StateStore::finish`].
#[derive(Debug)]
pub struct Snapshot {
    /// Where the store stands before it.
    before: Option<Position>,
    /// The mark that its last piece left in the store; none before the first. Whoever finds another one is not its writer any more, and
    /// who has seen an earlier one has not seen all of it.
    mark: Option<String>,
    /// Records that it says are gone.
    gone: Vec<Vec<u8>>,
}

/// Another one with each call.
pub(super) fn new_mark() -> String {
    format!("{}-{:016x}", std::process::id(), RandomState::new().hash_one(0))
}

impl StateStore {
    /// Begins a snapshot of a store that stands at `before`; nothing is written yet.
    pub fn begin(&self, before: Option<&Position>) -> Snapshot {
        Snapshot { before: before.cloned(), mark: None, gone: Vec::new() }
    }

    /// Writes a piece of a snapshot. It can be told again if it fails.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] if another instance has written, or begun to; others leave the snapshot as it was.
    pub fn write(&self, snapshot: &mut Snapshot, records: &Records) -> Result<(), StoreError> {
        self.piece(snapshot, records, None).map(drop)
    }

    /// Writes the last piece of a snapshot: from now on it is what the store holds.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn finish(&self, snapshot: &mut Snapshot, records: &Records, coverage: &Coverage) -> Result<(), StoreError> {
        let whole = self.piece(snapshot, records, Some(coverage))? + 1;
        *self.rubbish() = Rubbish { whole, writing: None, keys: std::mem::take(&mut snapshot.gone) };
        Ok(())
    }

    /// Returns which snapshot was the last whole one before.
    fn piece(
        &self,
        snapshot: &mut Snapshot,
        records: &Records,
        last: Option<&Coverage>,
    ) -> Result<Generation, StoreError> {
        let mark = new_mark();
        let written = roomy(&self.env, &self.path, || {
            if snapshot.mark.is_none() {
                self.sweep()?;
            }
            self.try_piece(snapshot, &mark, records, last)
        });
        self.let_pages_go();
        let (whole, gone) = written?;
        snapshot.mark = Some(mark);
        snapshot.gone.extend(gone);
        Ok(whole)
    }

    /// The same, and what it says is gone.
    fn try_piece(
        &self,
        snapshot: &Snapshot,
        mark: &str,
        records: &Records,
        last: Option<&Coverage>,
    ) -> Result<(Generation, Vec<Vec<u8>>), StoreError> {
        let wrap = self.wrap();
        let mut txn = self.env.write_txn().map_err(&wrap)?;
        let whole = self.fenced(&txn, snapshot)?;
        let mut gone = Vec::new();
        for (key, value) in records.iter() {
            if self.versions.put(&mut txn, key, value, whole).map_err(&wrap)? {
                gone.push(key.to_vec());
            }
        }
        match last {
            None => self.meta.put(&mut txn, WRITING, mark).map_err(&wrap)?,
            Some(Coverage { all, some }) => {
                self.meta.put(&mut txn, POSITION, &all.to_string()).map_err(&wrap)?;
                self.meta.put(&mut txn, SEEN, &some.to_string()).map_err(&wrap)?;
                self.meta.put(&mut txn, GENERATION, &(whole + 1).to_string()).map_err(&wrap)?;
                self.meta.delete(&mut txn, WRITING).map_err(&wrap)?;
            }
        }
        txn.commit().map_err(&wrap)?;
        Ok((whole, gone))
    }

    /// That nobody else has written since; and which snapshot is the last whole one.
    fn fenced(&self, txn: &RwTxn<'_>, snapshot: &Snapshot) -> Result<Generation, StoreError> {
        let text = |key| self.meta.get(txn, key).map_err(self.wrap());
        let path = || self.path.to_path_buf();
        let (found, expected) = (text(POSITION)?, snapshot.before.as_ref().map(Position::to_string));
        if found != expected.as_deref() {
            let found = found.unwrap_or("nothing").to_owned();
            return Err(StoreError::Fenced {
                path: path(),
                found,
                expected: expected.unwrap_or_else(|| "nothing".into()),
            });
        }
        let (found, expected) = (text(WRITING)?, snapshot.mark.as_deref());
        if found != expected {
            let of =
                |mark: Option<&str>| mark.map_or_else(|| "no snapshot".to_owned(), |mark| format!("snapshot {mark}"));
            return Err(StoreError::Fenced { path: path(), found: of(found), expected: of(expected) });
        }
        self.generation(txn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Place;

    fn at(sequence: u64) -> Position {
        Position([("S".to_owned(), Place::whole(1, sequence))].into())
    }

    fn whole(sequence: u64) -> Coverage {
        Coverage { all: at(sequence), some: at(sequence) }
    }

    fn records<const N: usize>(told: [(&str, Option<&str>); N]) -> Records {
        told.into_iter().collect()
    }

    fn read(store: &StateStore) -> (Option<Position>, Vec<(String, String)>) {
        let mut found = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let position = store.load::<StoreError>("test", |key, value| {
            found.push((text(key), text(value)));
            Ok(())
        });
        (position.unwrap().map(|coverage| coverage.all), found)
    }

    fn owned<const N: usize>(pairs: [(&str, &str); N]) -> Vec<(String, String)> {
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
    }

    /// How many entries both databases hold.
    fn entries(store: &StateStore) -> u64 {
        let txn = store.env.read_txn().unwrap();
        store.versions.0.iter().map(|database| database.len(&txn).unwrap()).sum()
    }

    #[test]
    fn nothing_of_a_snapshot_counts_before_all_of_it_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let store = StateStore::open(dir.path(), "test", 1, 1 << 20).unwrap();
        store.commit(None, &at(1), &records([("a", Some("1")), ("b", Some("1")), ("c", Some("1"))])).unwrap();
        let before = (Some(at(1)), owned([("a", "1"), ("b", "1"), ("c", "1")]));
        let mut snapshot = store.begin(Some(&at(1)));
        store.write(&mut snapshot, &records([("a", Some("2")), ("d", Some("2"))])).unwrap();
        assert_eq!(read(&store), before);
        store.write(&mut snapshot, &records([("b", None), ("a", Some("3"))])).unwrap();
        assert_eq!(read(&store), before);
        store.finish(&mut snapshot, &records([("d", None), ("e", Some("2"))]), &whole(2)).unwrap();
        assert_eq!(read(&store), (Some(at(2)), owned([("a", "3"), ("c", "1"), ("e", "2")])));
        // Word of what is gone is swept by the next one: two versions of a, one of c and one of e are left, and that of f.
        store.commit(Some(&at(2)), &at(3), &records([("f", Some("3"))])).unwrap();
        assert_eq!((entries(&store), read(&store).1.len()), (5, 4));
    }

    #[test]
    fn what_a_dead_writer_left_never_counts() {
        let dir = tempfile::tempdir().unwrap();
        let store = StateStore::open(dir.path(), "test", 1, 1 << 20).unwrap();
        store.commit(None, &at(1), &records([("a", Some("1")), ("b", Some("1"))])).unwrap();
        let mut dead = store.begin(Some(&at(1)));
        store.write(&mut dead, &records([("a", Some("lost")), ("b", None), ("z", Some("lost"))])).unwrap();
        drop(store);
        let store = StateStore::open(dir.path(), "test", 1, 1 << 20).unwrap();
        let unread = store.commit(Some(&at(1)), &at(2), &Records::default()).unwrap_err();
        assert!(matches!(unread, StoreError::Fenced { .. }), "it must be read first: {unread}");
        let first = (Some(at(1)), owned([("a", "1"), ("b", "1")]));
        assert_eq!((read(&store), read(&store)), (first.clone(), first));
        // Of the same number as the lost one, and of other records.
        store.commit(Some(&at(1)), &at(2), &records([("c", Some("2"))])).unwrap();
        assert_eq!(read(&store), (Some(at(2)), owned([("a", "1"), ("b", "1"), ("c", "2")])));
        assert_eq!(entries(&store), 3);
    }

    #[test]
    fn of_two_writers_the_one_that_was_overtaken_is_fenced() {
        let dir = tempfile::tempdir().unwrap();
        let store = StateStore::open(dir.path(), "test", 1, 1 << 20).unwrap();
        store.commit(None, &at(1), &records([("a", Some("1"))])).unwrap();
        let (mut first, mut second) = (store.begin(Some(&at(1))), store.begin(Some(&at(1))));
        store.write(&mut first, &records([("a", Some("first"))])).unwrap();
        // As another process would, it reads, and takes over.
        let taken = read(&store);
        store.write(&mut second, &records([("b", Some("second"))])).unwrap();
        for _ in 0..2 {
            let fenced = store.write(&mut first, &records([("c", Some("first"))])).unwrap_err();
            assert!(matches!(fenced, StoreError::Fenced { .. }), "{fenced}");
        }
        store.finish(&mut second, &Records::default(), &whole(2)).unwrap();
        let fenced = store.finish(&mut first, &Records::default(), &whole(3)).unwrap_err();
        assert!(matches!(fenced, StoreError::Fenced { .. }), "{fenced}");
        assert_eq!(taken, (Some(at(1)), owned([("a", "1")])));
        assert_eq!(read(&store), (Some(at(2)), owned([("a", "1"), ("b", "second")])));
    }

    /// What it wrote after it was read stands in nobody's list of rubbish.
    #[test]
    fn a_writer_that_goes_on_fences_whoever_read_before() {
        let dir = tempfile::tempdir().unwrap();
        let store = StateStore::open(dir.path(), "test", 1, 1 << 20).unwrap();
        store.commit(None, &at(1), &records([("a", Some("1"))])).unwrap();
        let mut first = store.begin(Some(&at(1)));
        store.write(&mut first, &records([("a", Some("first"))])).unwrap();
        let before = read(&store);
        store.write(&mut first, &records([("b", Some("first"))])).unwrap();
        let fenced = store.commit(Some(&at(1)), &at(2), &records([("c", Some("second"))])).unwrap_err();
        assert!(matches!(fenced, StoreError::Fenced { .. }), "{fenced}");
        assert_eq!(read(&store), before);
        store.commit(Some(&at(1)), &at(2), &records([("c", Some("second"))])).unwrap();
        assert_eq!(read(&store), (Some(at(2)), owned([("a", "1"), ("c", "second")])));
    }

    #[test]
    fn a_snapshot_that_another_one_finished_meanwhile_is_nobodys_rubbish() {
        let dir = tempfile::tempdir().unwrap();
        let store = StateStore::open(dir.path(), "test", 1, 1 << 20).unwrap();
        let mut first = store.begin(None);
        store.write(&mut first, &records([("a", Some("1"))])).unwrap();
        assert_eq!(read(&store), (None, vec![]));
        // It has been read as rubbish, but is finished before that is swept.
        let seen = std::mem::take(&mut *store.rubbish());
        store.finish(&mut first, &Records::default(), &whole(1)).unwrap();
        *store.rubbish() = seen;
        let fenced = store.commit(None, &at(2), &records([("b", Some("2"))])).unwrap_err();
        assert!(matches!(fenced, StoreError::Fenced { .. }), "{fenced}");
        assert_eq!(read(&store), (Some(at(1)), owned([("a", "1")])));
    }

    #[test]
    fn what_some_records_have_seen_is_kept_beside_what_all_have() {
        let dir = tempfile::tempdir().unwrap();
        let store = StateStore::open(dir.path(), "test", 1, 1 << 20).unwrap();
        let coverage = |store: &StateStore| store.load::<StoreError>("test", |_, _| Ok(())).unwrap();
        let apart = Coverage { all: at(1), some: at(3) };
        store.finish(&mut store.begin(None), &Records::default(), &apart).unwrap();
        assert_eq!(coverage(&store), Some(apart));
        // What goes on is what all of them have seen.
        assert!(store.commit(Some(&at(3)), &at(4), &Records::default()).is_err());
        store.commit(Some(&at(1)), &at(4), &Records::default()).unwrap();
        assert_eq!(coverage(&store), Some(whole(4)));
    }

    #[test]
    fn many_records_that_are_gone_are_swept_in_turns() {
        let dir = tempfile::tempdir().unwrap();
        let store = StateStore::open(dir.path(), "test", 1, 1 << 20).unwrap();
        let all =
            |value: Option<&'static str>| (0..25_000_u32).map(move |n| (n.to_be_bytes(), value)).collect::<Records>();
        store.commit(None, &at(1), &all(Some("there"))).unwrap();
        store.commit(Some(&at(1)), &at(2), &all(None)).unwrap();
        assert_eq!((read(&store).1.len(), entries(&store)), (0, 50_000));
        store.commit(Some(&at(2)), &at(3), &Records::default()).unwrap();
        assert_eq!(entries(&store), 0);
    }
}
