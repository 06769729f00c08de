//! A stage's state on disk: keyed records in LMDB, and the input position that they reflect.
//!
//! A record's key is the stage's own (a series name); values are the stage's own encoding, whose version is kept here. What changed is
//! written as a [`Snapshot`], in pieces of which none counts before the last one is there with the position ([`versions`]).
//! Writing is guarded like a publish: a snapshot whose predecessor is not the position that this instance wrote last
//! is refused, so that two instances on one folder cannot interleave their records.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use heed::{
    CommitOrAbort, Database, Env, EnvOpenOptions, MdbError, RoTxn,
    types::{Bytes, Str},
};

use crate::position::Position;

mod copy;
mod older;
mod pages;
mod records;
mod snapshot;
mod sweep;
mod versions;
pub(crate) use copy::check;
pub use copy::{Copied, copy};
pub use records::{Pieces, Records};
pub use snapshot::Snapshot;
use sweep::Rubbish;
use versions::{Generation, Versions, newest};

/// Why state cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The folder or its files.
    #[error("state in {path}: {source}; check the disk and the folder's permissions")]
    Io {
        /// The folder.
        path: PathBuf,
        /// What failed.
        source: std::io::Error,
    },
    /// LMDB's own.
    #[error("state in {path}: {source}")]
    Lmdb {
        /// The folder.
        path: PathBuf,
        /// What failed.
        source: heed::Error,
    },
    /// Written by a release with another encoding.
    #[error("state in {path} has version {found}, this release reads {expected}: run `eddy-{stage} recover`")]
    Version {
        /// The folder.
        path: PathBuf,
        /// The stage.
        stage: String,
        /// The version found.
        found: u32,
        /// The version that is read.
        expected: u32,
    },
    /// The position record is not a position.
    #[error("state in {path} is damaged: {problem}: run `eddy-{stage} recover`")]
    Damaged {
        /// The folder.
        path: PathBuf,
        /// The stage.
        stage: String,
        /// What is wrong.
        problem: String,
    },
    /// Another instance wrote here since.
    #[error("state in {path} was moved on to {found} by another instance; this one had left it at {expected}")]
    Fenced {
        /// The folder.
        path: PathBuf,
        /// The position found.
        found: String,
        /// The position that this instance wrote or read last.
        expected: String,
    },
}

/// Keys of the database `meta`: the layout and the stage's version of it, ...
const VERSION: &str = "version";
/// ... the position that the last whole snapshot reflects, ...
const POSITION: &str = "reached";
/// ... the position past which none of its records has seen anything, ...
const SEEN: &str = "seen";
/// ... its number, ...
const GENERATION: &str = "generation";
/// ... and the mark of the one that is being written.
const WRITING: &str = "writing";
/// What the records of a store reflect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    /// All of them what came up to here: a restart replays from here on.
    pub all: Position,
    /// Some of them what came up to here, and none of them more: not before `all`.
    pub some: Position,
}

/// What a version of this layout begins with; that of one database had none.
const LAYOUT: &str = "2/";

/// The stage's version in a text under [`VERSION`]; 0 is nobody's.
fn stage_version(text: &str) -> u32 {
    text.strip_prefix(LAYOUT).unwrap_or(text).parse().unwrap_or(0)
}

/// LMDB's map may grow up to this; it is address space, not memory.
const MAP_BYTES_MAX: usize = 64 << 30;

/// The store of one stage instance.
#[derive(Clone, Debug)]
pub struct StateStore {
    env: Env,
    meta: Database<'static, Str, Str>,
    versions: Versions,
    path: Arc<PathBuf>,
    stage: Arc<str>,
    /// What the next snapshot removes before it begins.
    rubbish: Arc<Mutex<Rubbish>>,
}

impl StateStore {
    /// Opens or creates the store of `stage` in the folder `path`.
    ///
    /// # Errors
    /// If the folder cannot be used, or holds another version's state.
    pub fn open(path: &Path, stage: &str, version: u32, map_bytes: usize) -> Result<Self, StoreError> {
        std::fs::create_dir_all(path).map_err(|source| StoreError::Io { path: path.to_owned(), source })?;
        let wrap = |source| StoreError::Lmdb { path: path.to_owned(), source };
        // SAFETY: LMDB asks that the file is not changed behind its back while mapped. Only eddy's own processes open
        // this folder, always through LMDB with its lock file, and heed refuses a second environment in one process.
        let env = unsafe { EnvOpenOptions::new().max_dbs(4).map_size(map_bytes).open(path) }.map_err(wrap)?;
        let (meta, even, odd, older) = roomy(&env, path, || {
            let txn = env.write_txn().map_err(wrap)?;
            let databases = env.create_databases_and_commit(txn, |opener, txn| {
                let meta = opener.create_database::<Str, Str>(txn, Some("meta"))?;
                let even = opener.create_database::<Bytes, Bytes>(txn, Some("versions-0"))?;
                let odd = opener.create_database::<Bytes, Bytes>(txn, Some("versions-1"))?;
                let older = opener.open_database::<Bytes, Bytes>(txn, Some(older::NAME))?;
                Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit((meta, even, odd, older)))
            });
            Ok(databases.map_err(wrap)?.unwrap_commit())
        })?;
        let versions = Versions([even, odd]);
        let written = format!("{LAYOUT}{version}");
        roomy(&env, path, || {
            let mut txn = env.write_txn().map_err(wrap)?;
            match meta.get(&txn, VERSION).map_err(wrap)?.map(str::to_owned) {
                Some(found) if found == written => {}
                Some(found) if stage_version(&found) != version => {
                    let (path, stage, found) = (path.to_owned(), stage.to_owned(), stage_version(&found));
                    return Err(StoreError::Version { path, stage, found, expected: version });
                }
                found => {
                    if found.is_some() {
                        older::move_position(&mut txn, meta).map_err(wrap)?;
                    }
                    meta.put(&mut txn, VERSION, &written).map_err(wrap)?;
                }
            }
            txn.commit().map_err(wrap)
        })?;
        if let Some(older) = older {
            while !roomy(&env, path, || older::move_some(&env, older, &versions).map_err(wrap))? {}
        }
        Ok(Self { env, meta, versions, path: Arc::new(path.to_owned()), stage: stage.into(), rubbish: Arc::default() })
    }

    fn rubbish(&self) -> MutexGuard<'_, Rubbish> {
        self.rubbish.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which snapshot is the last whole one.
    fn generation(&self, txn: &RoTxn<'_>) -> Result<Generation, StoreError> {
        let text = self.meta.get(txn, GENERATION).map_err(self.wrap())?;
        let damaged = |text: &str| StoreError::Damaged {
            path: self.path.to_path_buf(),
            stage: self.stage.to_string(),
            problem: format!("the number of its snapshot is {text:?}"),
        };
        text.map_or(Ok(0), |text| text.parse().map_err(|_| damaged(text)))
    }

    fn wrap(&self) -> impl Fn(heed::Error) -> StoreError + '_ {
        |source| StoreError::Lmdb { path: self.path.to_path_buf(), source }
    }

    /// Reads everything in one snapshot: `record` is called per record. `None`: nothing was ever written.
    ///
    /// # Errors
    /// If the store is damaged, or `record` fails.
    pub fn load<E: From<StoreError>>(
        &self,
        stage: &str,
        mut record: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<Option<Coverage>, E> {
        let wrap = self.wrap();
        let txn = self.env.read_txn().map_err(&wrap)?;
        let position = |key| -> Result<Option<Position>, StoreError> {
            let parsed = self.meta.get(&txn, key).map_err(&wrap)?.map(str::parse).transpose();
            parsed.map_err(|error: crate::position::PositionError| StoreError::Damaged {
                path: self.path.to_path_buf(),
                stage: stage.to_owned(),
                problem: error.to_string(),
            })
        };
        let (all, some) = (position(POSITION)?, position(SEEN)?);
        // A release before wrote all of a snapshot as of one position.
        let coverage = all.map(|all| Coverage { some: some.unwrap_or_else(|| all.clone()), all });
        let writing = self.meta.get(&txn, WRITING).map_err(&wrap)?.map(str::to_owned);
        let mut rubbish = Rubbish { whole: self.generation(&txn)?, writing, keys: Vec::new() };
        for pair in self.versions.iter(&txn).map_err(&wrap)? {
            let pair = pair.map_err(&wrap)?;
            rubbish.note(&pair);
            let (key, versions) = pair;
            if let Some(value) = newest(versions, rubbish.whole).and_then(|version| version.value) {
                record(key, value)?;
            }
        }
        drop(txn);
        self.let_pages_go();
        *self.rubbish() = rubbish;
        Ok(coverage)
    }

    /// Writes a whole snapshot, of one position, in one transaction, if the store still stands at `before`.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] if another instance has written; others leave the store as it was.
    pub fn commit(&self, before: Option<&Position>, position: &Position, records: &Records) -> Result<(), StoreError> {
        let coverage = Coverage { all: position.clone(), some: position.clone() };
        self.finish(&mut self.begin(before), records, &coverage)
    }

    fn let_pages_go(&self) {
        // SAFETY: the environment is held, so it is not closed, and only a snapshot's pieces resize it: the stage loop runs one of them, or a
        // `load`, at a time.
        unsafe { pages::let_go(&self.path.join("data.mdb")) };
    }

    /// The file's size.
    pub fn bytes(&self) -> u64 {
        self.env.real_disk_size().unwrap_or(0)
    }
}

/// Does `write`, which is a transaction, with as much room for the map as it takes.
fn roomy<T>(env: &Env, path: &Path, write: impl Fn() -> Result<T, StoreError>) -> Result<T, StoreError> {
    loop {
        match write() {
            Err(StoreError::Lmdb { source: heed::Error::Mdb(MdbError::MapFull), .. }) => grow(env, path)?,
            result => return result,
        }
    }
}

fn grow(env: &Env, path: &Path) -> Result<(), StoreError> {
    let bytes = env.info().map_size;
    if bytes >= MAP_BYTES_MAX {
        let source = std::io::Error::other(format!("the map has grown to its bound of {MAP_BYTES_MAX} bytes"));
        return Err(StoreError::Io { path: path.to_owned(), source });
    }
    tracing::info!(path = %path.display(), to_bytes = bytes * 2, "growing the state's map");
    // SAFETY: no transaction of this process is active: opening, writing and `load` finish theirs before they return, and the stage
    // loop runs one of them at a time.
    unsafe { env.resize(bytes * 2) }.map_err(|source| StoreError::Lmdb { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Place;

    fn at(sequence: u64) -> Position {
        Position([("S".to_owned(), Place::whole(1, sequence))].into())
    }

    type Found = (Option<Position>, Vec<(Vec<u8>, Vec<u8>)>);

    fn read(store: &StateStore) -> Found {
        let mut records = Vec::new();
        let position = store
            .load::<StoreError>("test", |key, value| {
                records.push((key.to_vec(), value.to_vec()));
                Ok(())
            })
            .unwrap();
        (position.map(|coverage| coverage.all), records)
    }

    #[test]
    fn records_and_position_change_together_and_survive_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let store = StateStore::open(dir.path(), "test", 1, 1 << 20).unwrap();
        assert_eq!(read(&store), (None, vec![]));
        store.commit(None, &at(1), &[("a", Some("1")), ("b", Some(""))].into_iter().collect()).unwrap();
        store.commit(Some(&at(1)), &at(2), &[("b", None::<&str>)].into_iter().collect()).unwrap();
        drop(store);
        let store = StateStore::open(dir.path(), "test", 1, 1 << 20).unwrap();
        assert_eq!(read(&store), (Some(at(2)), vec![(b"a".to_vec(), b"1".to_vec())]));
    }

    #[test]
    fn a_second_writer_is_fenced() {
        let dir = tempfile::tempdir().unwrap();
        let store = StateStore::open(dir.path(), "test", 1, 1 << 20).unwrap();
        store.commit(None, &at(5), &Records::default()).unwrap();
        let error = store.commit(Some(&at(4)), &at(6), &[("a", Some("1"))].into_iter().collect()).unwrap_err();
        assert!(matches!(error, StoreError::Fenced { .. }), "{error}");
        assert_eq!(read(&store), (Some(at(5)), vec![]));
    }

    #[test]
    fn the_map_grows() {
        let dir = tempfile::tempdir().unwrap();
        let store = StateStore::open(dir.path(), "test", 1, 1 << 20).unwrap();
        store.commit(None, &at(1), &[("big", Some(vec![7; 5 << 20]))].into_iter().collect()).unwrap();
        assert_eq!(read(&store).1[0].1.len(), 5 << 20);
    }

    #[test]
    fn another_version_is_refused_with_the_way_out() {
        let dir = tempfile::tempdir().unwrap();
        drop(StateStore::open(dir.path(), "test", 1, 1 << 20).unwrap());
        let error = StateStore::open(dir.path(), "test", 2, 1 << 20).unwrap_err().to_string();
        assert!(error.contains("version 1") && error.contains("eddy-test recover"), "{error}");
    }

    #[test]
    fn a_number_that_is_none_is_damage_and_nothing_is_swept() {
        let dir = tempfile::tempdir().unwrap();
        let store = StateStore::open(dir.path(), "test", 1, 1 << 20).unwrap();
        store.commit(None, &at(1), &[("a", Some("1"))].into_iter().collect()).unwrap();
        let put = |text: &str| {
            let mut txn = store.env.write_txn().unwrap();
            store.meta.put(&mut txn, GENERATION, text).unwrap();
            txn.commit().unwrap();
        };
        put("x");
        let error = store.load::<StoreError>("test", |_, _| Ok(())).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        assert!(store.commit(Some(&at(1)), &at(2), &Records::default()).is_err());
        put("1");
        assert_eq!(read(&store).1.len(), 1);
    }

    #[test]
    fn state_of_the_layout_before_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let store = StateStore::open(dir.path(), "test", 7, 64 << 20).unwrap();
        let txn = store.env.write_txn().unwrap();
        let older = store.env.create_databases_and_commit(txn, |opener, txn| {
            let older = opener.create_database::<Bytes, Bytes>(txn, Some(older::NAME))?;
            Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(older))
        });
        let older = older.unwrap().unwrap_commit();
        let mut txn = store.env.write_txn().unwrap();
        for n in 0..10_000_u32 {
            older.put(&mut txn, &n.to_be_bytes(), &[7; 1_000]).unwrap();
        }
        store.meta.put(&mut txn, VERSION, "7").unwrap();
        store.meta.put(&mut txn, older::OLDER_POSITION, &at(9).to_string()).unwrap();
        txn.commit().unwrap();
        drop(store);
        check(dir.path(), "test", 7).unwrap();
        assert!(matches!(StateStore::open(dir.path(), "test", 8, 64 << 20), Err(StoreError::Version { found: 7, .. })));
        for _ in 0..2 {
            // Its map is as large as its file, which is full.
            let store = StateStore::open(dir.path(), "test", 7, 1 << 20).unwrap();
            let (position, records) = read(&store);
            assert_eq!((position, records.len()), (Some(at(9)), 10_000));
            let txn = store.env.read_txn().unwrap();
            let left = store.meta.get(&txn, older::OLDER_POSITION).unwrap().unwrap();
            assert!(left.parse::<Position>().is_err(), "one of that release that still runs is fenced: {left}");
            assert!(records.iter().all(|(_, value)| *value == [7; 1_000]));
        }
        let store = StateStore::open(dir.path(), "test", 7, 64 << 20).unwrap();
        read(&store);
        let changed = (0..10_u32).map(|n| (n.to_be_bytes(), Some("new"))).collect();
        store.commit(Some(&at(9)), &at(10), &changed).unwrap();
        let (position, records) = read(&store);
        assert_eq!((position, records.len()), (Some(at(10)), 10_000));
        assert!(records.iter().take(10).all(|(_, value)| value == b"new") && records[10].1 == [7; 1_000]);
    }
}
