//! A copy of an LMDB environment that other processes write to meanwhile: one whole commit, and where it stands.

use std::path::Path;

use heed::{
    CommitOrAbort, CompactionOption, Env, EnvFlags, EnvOpenOptions, WithoutTls,
    types::{Bytes, Str},
};

use super::{POSITION, StoreError, VERSION, older::OLDER_POSITION, stage_version};
use crate::position::Position;

/// The file of an environment in its folder.
const DATA: &str = "data.mdb";
/// Its lock file, which whoever opens it with a lock makes, as its own: a stage of another user could not open it then.
const LOCK: &str = "lock.mdb";
/// Of an environment only its databases' names matter here; no stage has more.
const DATABASES: u32 = 128;

/// What was copied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// The position that its records reflect, where it keeps one as stages do.
    pub position: Option<Position>,
}

/// Copies the environment in the folder `from` to the file `to`, which must not be there, compacted.
///
/// It takes a reader's place in the environment's lock file, so it must run where the writers' process ids mean the same: not in
/// another container.
///
/// # Errors
/// That `from` holds none, or `to` cannot be written.
pub fn copy(from: &Path, to: &Path) -> Result<Copied, StoreError> {
    let io = |source| StoreError::Io { path: from.to_owned(), source };
    if !from.join(DATA).is_file() {
        return Err(io(std::io::Error::new(std::io::ErrorKind::NotFound, format!("no {DATA}"))));
    }
    if to.exists() {
        return Err(StoreError::Io { path: to.to_owned(), source: std::io::ErrorKind::AlreadyExists.into() });
    }
    look(from, |env| {
        // What was copied before is removed if somebody began to write meanwhile.
        let _ = std::fs::remove_file(to);
        let wrap = |source| StoreError::Lmdb { path: from.to_owned(), source };
        env.copy_to_path(to, CompactionOption::Enabled).map(drop).map_err(wrap)
    })??;
    Ok(Copied { position: position(to) })
}

/// The position in a copied file, if it keeps one as stages do: text under `position` in the database `meta`.
fn position(file: &Path) -> Option<Position> {
    let bytes = std::fs::metadata(file).ok()?.len() as usize;
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.max_dbs(DATABASES).map_size(bytes.next_multiple_of(1 << 20));
    let flags = EnvFlags::READ_ONLY | EnvFlags::NO_SUB_DIR | EnvFlags::NO_LOCK;
    // SAFETY: the file was made by this process a moment ago, and nobody else knows of it.
    let env = unsafe { options.flags(flags).open(file) }.ok()?;
    let found = |key| meta(&env, key)?.parse().ok();
    found(POSITION).or_else(|| found(OLDER_POSITION))
}

/// Whether the state of `stage` in `folder` is of the layout `expected`; nothing is written. An environment that cannot be read, or holds
/// no stage's state, passes: whoever opens it says what is wrong.
///
/// # Errors
/// That it is of another layout, with the way out.
pub(crate) fn check(folder: &Path, stage: &str, expected: u32) -> Result<(), StoreError> {
    let Some(found) = look(folder, |env| meta(env, VERSION)).ok().flatten() else { return Ok(()) };
    let found = stage_version(&found);
    if found == expected {
        return Ok(());
    }
    let (path, stage) = (folder.to_owned(), stage.to_owned());
    Err(StoreError::Version { path, stage, found, expected })
}

/// What `look` sees of an environment that others may write to meanwhile; no lock file is made. Without one nobody has opened it since it
/// was put there, so it is read without; if one is there afterwards, somebody has begun to write, and it is looked at again.
fn look<T>(folder: &Path, look: impl Fn(&Env<WithoutTls>) -> T) -> Result<T, StoreError> {
    if !folder.join(LOCK).exists() {
        let seen = look(&read_only(folder, EnvFlags::READ_ONLY | EnvFlags::NO_LOCK)?);
        if !folder.join(LOCK).exists() {
            return Ok(seen);
        }
    }
    Ok(look(&read_only(folder, EnvFlags::READ_ONLY)?))
}

fn read_only(folder: &Path, flags: EnvFlags) -> Result<Env<WithoutTls>, StoreError> {
    let io = |source| StoreError::Io { path: folder.to_owned(), source };
    // As large as the file, which is what a reader must see of it; no more address space is taken.
    let bytes = std::fs::metadata(folder.join(DATA)).map_err(io)?.len() as usize;
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.max_dbs(DATABASES).map_size(bytes.next_multiple_of(1 << 20) + (64 << 20));
    // SAFETY: LMDB asks that the file is not changed behind its back while mapped. It is opened read-only, and everybody who writes to
    // it does so through LMDB: with its lock file, or without one where there is none, which any writer would make before it writes.
    // One that begins meanwhile keeps the pages of the commit that is read in its first transaction, and `look` throws away what was seen.
    let env = unsafe { options.flags(flags).open(folder) };
    env.map_err(|source| StoreError::Lmdb { path: folder.to_owned(), source })
}

/// A text of the database `meta`.
fn meta(env: &Env<WithoutTls>, key: &str) -> Option<String> {
    let txn = env.read_txn().ok()?;
    let opened = env.open_databases_and_commit(txn, |opener, txn| {
        let meta = opener.open_database::<Str, Bytes>(txn, Some("meta"))?;
        Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(meta))
    });
    let meta = opened.ok()?.unwrap_commit()?;
    let txn = env.read_txn().ok()?;
    let bytes = meta.get(&txn, key).ok()??;
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{position::Place, state::StateStore};

    #[test]
    fn a_copy_is_one_commit_and_says_where_it_stands() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let store = StateStore::open(&from, "test", 1, 1 << 20).unwrap();
        let at = |sequence| Position([("S".to_owned(), Place::whole(1, sequence))].into());
        store.commit(None, &at(7), &[("a", Some(vec![1; 5000]))].into_iter().collect()).unwrap();
        drop(store);
        std::fs::create_dir(&to).unwrap();
        let copied = copy(&from, &to.join("data.mdb")).unwrap();
        assert_eq!(copied.position, Some(at(7)));
        let store = StateStore::open(&to, "test", 1, 1 << 20).unwrap();
        let mut records = Vec::new();
        let position = store.load::<StoreError>("test", |key, value| {
            records.push((key.to_vec(), value.len()));
            Ok(())
        });
        assert_eq!(
            (position.unwrap().map(|coverage| coverage.all), records),
            (Some(at(7)), vec![(b"a".to_vec(), 5000)])
        );
    }

    #[test]
    fn a_layout_of_another_release_is_told_and_nothing_is_written() {
        let dir = tempfile::tempdir().unwrap();
        assert!(check(dir.path(), "test", 1).is_ok(), "nothing is there yet");
        drop(StateStore::open(dir.path(), "test", 1, 1 << 20).unwrap());
        assert!(check(dir.path(), "test", 1).is_ok());
        let told = check(dir.path(), "test", 2).unwrap_err().to_string();
        assert!(told.contains("version 1") && told.contains("eddy-test recover"), "{told}");
        drop(StateStore::open(dir.path(), "test", 1, 1 << 20).unwrap());
    }

    #[test]
    fn a_folder_without_an_environment_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let error = copy(dir.path(), &dir.path().join("to")).unwrap_err().to_string();
        assert!(error.contains("no data.mdb"), "{error}");
    }

    #[test]
    fn nobody_elses_lock_file_is_made_and_one_that_is_there_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        drop(StateStore::open(&from, "test", 1, 1 << 20).unwrap());
        std::fs::remove_file(from.join(LOCK)).unwrap();
        assert!(check(&from, "test", 1).is_ok() && check(&from, "test", 2).is_err());
        copy(&from, &to).unwrap();
        assert!(!from.join(LOCK).exists());
        let store = StateStore::open(&from, "test", 1, 1 << 20).unwrap();
        drop(store);
        assert!(from.join(LOCK).exists() && check(&from, "test", 2).is_err());
    }
}
