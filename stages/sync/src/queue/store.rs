//! The queue on disk: one LMDB environment, which one process opens.
//!
//! | database | key | value |
//! |---|---|---|
//! | `meta` | name | version, chain, positions, notes; an account and the pinned numbers of each class |
//! | `entries-<class>` | number | [`super::record`] |
//! | `gaps-<class>` | its first number | a `Gap` |
//! | `bundles` | digest | its number here |
//! | `digests` | that number | the digest |
//! | `kept` | the collectors' own | the collectors' own: what they carry from message to message |
//!
//! A class has its own databases, so that each only ever grows at its end: pages are full.

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
};

use eddy_schemas::sync::{CHAIN_BYTES, Class};
use heed::{
    CommitOrAbort, Database, Env, EnvOpenOptions, RoTxn, RwTxn, WithoutTls,
    byteorder::BigEndian,
    types::{Bytes, Str, U32, U64},
};
use rand::RngExt as _;

use super::{account::Account, error::QueueError};

/// Version of the layout.
const VERSION: u32 = 1;
const VERSION_KEY: &str = "version";
const CHAIN_KEY: &str = "chain";
/// How many classes there are.
pub(super) const CLASSES: usize = Class::ALL.len();
/// Databases of the environment.
const DATABASES: u32 = 2 * CLASSES as u32 + 4;

pub(super) type Numbered = Database<'static, U64<BigEndian>, Bytes>;

/// What a class has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lane {
    pub(super) entries: Numbered,
    pub(super) gaps: Numbered,
}

/// The environment and its databases.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) env: Env<WithoutTls>,
    pub(super) path: PathBuf,
    pub(super) map_bytes: usize,
    pub(super) meta: Database<'static, Str, Bytes>,
    pub(super) lanes: [Lane; CLASSES],
    pub(super) bundles: Database<'static, Bytes, U32<BigEndian>>,
    pub(super) digests: Database<'static, U32<BigEndian>, Bytes>,
    pub(super) kept: Database<'static, Bytes, Bytes>,
    pub(super) chain: [u8; CHAIN_BYTES],
    _lock: File,
}

/// A class's place in [`Class::ALL`]; none for no class.
pub(super) fn place(class: Class) -> Option<usize> {
    Class::ALL.iter().position(|known| *known == class)
}

impl Store {
    /// Opens or creates the queue in `path`.
    pub(super) fn open(path: &Path, map_bytes: usize) -> Result<Self, QueueError> {
        let lock = lock_folder(path)?;
        let wrap = |error| QueueError::lmdb(path, map_bytes, error);
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options.max_dbs(DATABASES).map_size(map_bytes).max_readers(64);
        // SAFETY: LMDB asks that the file is not changed behind its back while mapped. Only the holder of the folder's
        // lock file opens it, always through LMDB, and heed refuses a second environment in one process.
        let env = unsafe { options.open(path) }.map_err(wrap)?;
        let txn = env.write_txn().map_err(wrap)?;
        let databases = env.create_databases_and_commit(txn, |opener, txn| {
            let mut numbered = |kind: &str| -> Result<[_; CLASSES], heed::Error> {
                let mut all = Vec::with_capacity(CLASSES);
                for class in Class::ALL {
                    let name = format!("{kind}-{}", class.token());
                    all.push(opener.create_database::<U64<BigEndian>, Bytes>(txn, Some(&name))?);
                }
                Ok(all.try_into().unwrap_or_else(|_| unreachable!("there is one for each class")))
            };
            let (entries, gaps) = (numbered("entries")?, numbered("gaps")?);
            Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit((
                entries,
                gaps,
                opener.create_database(txn, Some("meta"))?,
                opener.create_database(txn, Some("bundles"))?,
                opener.create_database(txn, Some("digests"))?,
                opener.create_database(txn, Some("kept"))?,
            )))
        });
        let (entries, gaps, meta, bundles, digests, kept) = databases.map_err(wrap)?.unwrap_commit();
        let lanes = std::array::from_fn(|at| Lane { entries: entries[at], gaps: gaps[at] });
        let chain = [0; CHAIN_BYTES];
        let path = path.to_owned();
        let mut store = Self { env, path, map_bytes, meta, lanes, bundles, digests, kept, chain, _lock: lock };
        store.chain = store.identify()?;
        Ok(store)
    }

    /// The chain: a queue that is new draws one.
    fn identify(&self) -> Result<[u8; CHAIN_BYTES], QueueError> {
        let mut txn = self.write()?;
        let Some(found) = self.meta.get(&txn, VERSION_KEY).map_err(self.wrap())? else {
            let chain: [u8; CHAIN_BYTES] = rand::rng().random();
            self.meta.put(&mut txn, VERSION_KEY, &VERSION.to_le_bytes()).map_err(self.wrap())?;
            self.meta.put(&mut txn, CHAIN_KEY, &chain).map_err(self.wrap())?;
            txn.commit().map_err(self.wrap())?;
            return Ok(chain);
        };
        if found != VERSION.to_le_bytes() {
            let found = found.try_into().map_or_else(|_| format!("{found:?}"), |le| u32::from_le_bytes(le).to_string());
            return Err(QueueError::Version { path: self.path.clone(), found, expected: VERSION });
        }
        let chain = self.meta.get(&txn, CHAIN_KEY).map_err(self.wrap())?;
        chain.and_then(|chain| chain.try_into().ok()).ok_or_else(|| self.damaged("it has no chain"))
    }

    pub(super) fn wrap(&self) -> impl Fn(heed::Error) -> QueueError + '_ {
        |error| QueueError::lmdb(&self.path, self.map_bytes, error)
    }

    pub(super) fn damaged(&self, problem: impl Into<String>) -> QueueError {
        QueueError::Damaged { path: self.path.clone(), problem: problem.into() }
    }

    pub(super) fn read(&self) -> Result<RoTxn<'_, WithoutTls>, QueueError> {
        self.env.read_txn().map_err(self.wrap())
    }

    pub(super) fn write(&self) -> Result<RwTxn<'_>, QueueError> {
        self.env.write_txn().map_err(self.wrap())
    }

    /// The lane of a class, and its place.
    pub(super) fn lane(&self, class: Class) -> Result<(usize, Lane), QueueError> {
        let no_class = || QueueError::Entry { class, problem: "that is no class".into() };
        place(class).map(|at| (at, self.lanes[at])).ok_or_else(no_class)
    }

    pub(super) fn account(&self, txn: &RoTxn<'_>, class: Class) -> Result<Account, QueueError> {
        let record = self.meta.get(txn, &Account::key(class)).map_err(self.wrap())?;
        let damaged = |problem| self.damaged(format!("account of {}: {problem}", class.token()));
        record.map_or(Ok(Account::default()), |record| Account::read(record).map_err(damaged))
    }

    pub(super) fn put_account(&self, txn: &mut RwTxn<'_>, class: Class, account: &Account) -> Result<(), QueueError> {
        self.meta.put(txn, &Account::key(class), &account.record()).map_err(self.wrap())
    }

    /// Numbers of a class that its bounds pass over.
    pub(super) fn pinned(&self, txn: &RoTxn<'_>, class: Class) -> Result<Vec<u64>, QueueError> {
        let record = self.meta.get(txn, &pinned_key(class)).map_err(self.wrap())?.unwrap_or_default();
        Ok(record.chunks_exact(8).filter_map(|number| number.try_into().ok()).map(u64::from_le_bytes).collect())
    }

    pub(super) fn put_pinned(&self, txn: &mut RwTxn<'_>, class: Class, numbers: &[u64]) -> Result<(), QueueError> {
        let record: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        self.meta.put(txn, &pinned_key(class), &record).map_err(self.wrap())
    }

    /// Bytes of the pages that hold something.
    pub(super) fn used_bytes(&self, txn: &RoTxn<'_>) -> Result<u64, QueueError> {
        let mut bytes = 0;
        let of_lanes = self.lanes.iter().flat_map(|lane| [lane.entries.stat(txn), lane.gaps.stat(txn)]);
        let others = [self.meta.stat(txn), self.bundles.stat(txn), self.digests.stat(txn), self.kept.stat(txn)];
        for stat in of_lanes.chain(others) {
            bytes += stat.map_err(self.wrap())?.non_free_page_size() as u64;
        }
        Ok(bytes)
    }
}

fn pinned_key(class: Class) -> String {
    format!("pinned/{}", class.token())
}

fn lock_folder(path: &Path) -> Result<File, QueueError> {
    let io = |source| QueueError::Io { path: path.to_owned(), source };
    std::fs::create_dir_all(path).map_err(io)?;
    let file = File::options().create(true).truncate(false).write(true).open(path.join("queue.lock")).map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(QueueError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(io(source)),
    }
}
