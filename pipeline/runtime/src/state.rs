//! A stage's state on disk: keyed records in LMDB, with the input position that they reflect in the same transaction.
//!
//! A record's key is the stage's own (a series name); values are the stage's own encoding, whose version is kept here.
//! Writing is guarded like a publish: a transaction whose predecessor is not the position that this instance wrote last
//! is refused, so that two instances on one folder cannot interleave their records.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use heed::{
    CommitOrAbort, Database, Env, EnvOpenOptions, MdbError,
    types::{Bytes, Str},
};

use crate::position::Position;

mod copy;
mod pages;
pub(crate) use copy::check;
pub use copy::{Copied, copy};

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

/// A record that changed: its key, and its value or `None` if it is gone.
pub type Record = (Vec<u8>, Option<Vec<u8>>);

/// LMDB's map may grow up to this; it is address space, not memory.
const MAP_BYTES_MAX: usize = 64 << 30;

/// The store of one stage instance.
#[derive(Clone, Debug)]
pub struct StateStore {
    env: Env,
    meta: Database<'static, Str, Str>,
    records: Database<'static, Bytes, Bytes>,
    path: Arc<PathBuf>,
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
        let env = unsafe { EnvOpenOptions::new().max_dbs(2).map_size(map_bytes).open(path) }.map_err(wrap)?;
        let txn = env.write_txn().map_err(wrap)?;
        let databases = env.create_databases_and_commit(txn, |opener, txn| {
            let meta = opener.create_database::<Str, Str>(txn, Some("meta"))?;
            let records = opener.create_database::<Bytes, Bytes>(txn, Some("records"))?;
            Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit((meta, records)))
        });
        let (meta, records) = databases.map_err(wrap)?.unwrap_commit();
        let mut txn = env.write_txn().map_err(wrap)?;
        match meta.get(&txn, "version").map_err(wrap)? {
            None => meta.put(&mut txn, "version", &version.to_string()).map_err(wrap)?,
            Some(found) if found == version.to_string() => {}
            Some(found) => {
                let found = found.parse().unwrap_or(0);
                let (path, stage) = (path.to_owned(), stage.to_owned());
                return Err(StoreError::Version { path, stage, found, expected: version });
            }
        }
        txn.commit().map_err(wrap)?;
        Ok(Self { env, meta, records, path: Arc::new(path.to_owned()) })
    }

    fn wrap(&self) -> impl Fn(heed::Error) -> StoreError + '_ {
        |source| StoreError::Lmdb { path: self.path.to_path_buf(), source }
    }

    /// Reads everything in one snapshot: `record` is called per record; the position is the one that they reflect.
    /// `None`: nothing was ever written.
    ///
    /// # Errors
    /// If the store is damaged, or `record` fails.
    pub fn load<E: From<StoreError>>(
        &self,
        stage: &str,
        mut record: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<Option<Position>, E> {
        let wrap = self.wrap();
        let txn = self.env.read_txn().map_err(&wrap)?;
        let Some(position) = self.meta.get(&txn, "position").map_err(&wrap)? else { return Ok(None) };
        let position = position.parse().map_err(|error: crate::position::PositionError| StoreError::Damaged {
            path: self.path.to_path_buf(),
            stage: stage.to_owned(),
            problem: error.to_string(),
        })?;
        for item in self.records.iter(&txn).map_err(&wrap)? {
            let (key, value) = item.map_err(&wrap)?;
            record(key, value)?;
        }
        drop(txn);
        self.let_pages_go();
        Ok(Some(position))
    }

    /// Writes `records` and `position` in one transaction, if the store still stands at `before`.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] if another instance has written; others leave the store as it was.
    pub fn commit(&self, before: Option<&Position>, position: &Position, records: &[Record]) -> Result<(), StoreError> {
        loop {
            match self.try_commit(before, position, records) {
                Err(StoreError::Lmdb { source: heed::Error::Mdb(MdbError::MapFull), .. }) => self.grow()?,
                result => {
                    self.let_pages_go();
                    return result;
                }
            }
        }
    }

    fn try_commit(&self, before: Option<&Position>, position: &Position, records: &[Record]) -> Result<(), StoreError> {
        let wrap = self.wrap();
        let mut txn = self.env.write_txn().map_err(&wrap)?;
        let found = self.meta.get(&txn, "position").map_err(&wrap)?.map(str::to_owned);
        let expected = before.map(Position::to_string);
        if found != expected {
            return Err(StoreError::Fenced {
                path: self.path.to_path_buf(),
                found: found.unwrap_or_else(|| "nothing".into()),
                expected: expected.unwrap_or_else(|| "nothing".into()),
            });
        }
        for (key, value) in records {
            match value {
                Some(value) => self.records.put(&mut txn, key, value).map_err(&wrap)?,
                None => {
                    self.records.delete(&mut txn, key).map_err(&wrap)?;
                }
            }
        }
        self.meta.put(&mut txn, "position", &position.to_string()).map_err(&wrap)?;
        txn.commit().map_err(&wrap)
    }

    fn let_pages_go(&self) {
        // SAFETY: the environment is held, so it is not closed, and only `commit` resizes it: the stage loop runs one of them, or a
        // `load`, at a time.
        unsafe { pages::let_go(&self.path.join("data.mdb")) };
    }

    fn grow(&self) -> Result<(), StoreError> {
        let bytes = self.env.info().map_size;
        if bytes >= MAP_BYTES_MAX {
            let source = std::io::Error::other(format!("the map has grown to its bound of {MAP_BYTES_MAX} bytes"));
            return Err(StoreError::Io { path: self.path.to_path_buf(), source });
        }
        tracing::info!(path = %self.path.display(), to_bytes = bytes * 2, "growing the state's map");
        // SAFETY: no transaction of this process is active: `commit` and `load` finish theirs before they return, and
        // the stage loop runs one of them at a time.
        unsafe { self.env.resize(bytes * 2) }.map_err(self.wrap())
    }

    /// The file's size.
    pub fn bytes(&self) -> u64 {
        self.env.real_disk_size().unwrap_or(0)
    }
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
        (position, records)
    }

    #[test]
    fn records_and_position_change_together_and_survive_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let store = StateStore::open(dir.path(), "test", 1, 1 << 20).unwrap();
        assert_eq!(read(&store), (None, vec![]));
        store.commit(None, &at(1), &[(b"a".to_vec(), Some(b"1".to_vec())), (b"b".to_vec(), Some(vec![]))]).unwrap();
        store.commit(Some(&at(1)), &at(2), &[(b"b".to_vec(), None)]).unwrap();
        drop(store);
        let store = StateStore::open(dir.path(), "test", 1, 1 << 20).unwrap();
        assert_eq!(read(&store), (Some(at(2)), vec![(b"a".to_vec(), b"1".to_vec())]));
    }

    #[test]
    fn a_second_writer_is_fenced() {
        let dir = tempfile::tempdir().unwrap();
        let store = StateStore::open(dir.path(), "test", 1, 1 << 20).unwrap();
        store.commit(None, &at(5), &[]).unwrap();
        let error = store.commit(Some(&at(4)), &at(6), &[(b"a".to_vec(), Some(vec![1]))]).unwrap_err();
        assert!(matches!(error, StoreError::Fenced { .. }), "{error}");
        assert_eq!(read(&store), (Some(at(5)), vec![]));
    }

    #[test]
    fn the_map_grows() {
        let dir = tempfile::tempdir().unwrap();
        let store = StateStore::open(dir.path(), "test", 1, 1 << 20).unwrap();
        let record = (b"big".to_vec(), Some(vec![7; 5 << 20]));
        store.commit(None, &at(1), std::slice::from_ref(&record)).unwrap();
        assert_eq!(read(&store).1[0].1.len(), 5 << 20);
    }

    #[test]
    fn another_version_is_refused_with_the_way_out() {
        let dir = tempfile::tempdir().unwrap();
        drop(StateStore::open(dir.path(), "test", 1, 1 << 20).unwrap());
        let error = StateStore::open(dir.path(), "test", 2, 1 << 20).unwrap_err().to_string();
        assert!(error.contains("version 1") && error.contains("eddy-test recover"), "{error}");
    }
}
