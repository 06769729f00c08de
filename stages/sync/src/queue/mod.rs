//! What the region does not have yet, on disk.
//!
//! Each class is a row of numbers from 1, without an end and never used twice: a number is an entry's, or lies in a gap that
//! says why there is none. Collectors add at the end, in the transaction that notes how far they have read; the sender takes
//! runs of numbers from the front, and what the region has is removed. Past a class's bounds its oldest entries go and
//! become a gap, in the transaction that adds.
//!
//! | died | what happens |
//! |---|---|
//! | before a commit | the messages come again |
//! | after it, before their ack | the reader goes on at its position |
//! | after a batch was published, before [`Queue::done`] | the hub's last message says up to which number it has all |

mod account;
mod error;
mod gaps;
mod read;
mod record;
mod store;
#[cfg(test)]
mod tests;
mod traced;
mod write;

use std::path::Path;

use eddy_runtime::position::Position;
use eddy_schemas::sync::{CHAIN_BYTES, Class};
use heed::RoTxn;
use tokio::sync::watch;

pub use self::{
    error::QueueError,
    read::Slice,
    write::{ENTRY_BYTES_MAX, Write},
};
use self::{
    store::{CLASSES, Store},
    traced::{Traced, Traces},
};

const ESTABLISHED: &str = "established";

/// Bounds of a queue.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// What a class's entries may weigh, in [`Class::ALL`]'s order: their records and 24 bytes each.
    pub bytes: [u64; CLASSES],
    /// Entries of a class.
    pub entries_max: u64,
    /// Address space; the file grows as it is used.
    pub map_bytes: usize,
}

/// What a class holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Entries.
    pub entries: u64,
    /// What they weigh.
    pub bytes: u64,
    /// The oldest number that the region does not have: an entry's or a gap's. `next` where it has all.
    pub oldest: u64,
    /// The number that is given out next.
    pub next: u64,
    /// Gaps that the region does not know of.
    pub gaps: u64,
}

impl Depth {
    /// How many of the numbers that the region does not have lie in gaps: their entries will never come.
    pub fn lost(&self) -> u64 {
        self.next.saturating_sub(self.oldest).saturating_sub(self.entries)
    }
}

/// The queue. All of it blocks on the disk.
#[derive(Debug)]
pub struct Queue {
    store: Store,
    bounds: Bounds,
    added: watch::Sender<u64>,
    traces: Traces,
}

impl Queue {
    /// Opens the queue in `folder`, or makes one, with a chain of its own.
    ///
    /// # Errors
    /// [`QueueError::InUse`] if another process has it; or the store's.
    pub fn open(folder: &Path, bounds: &Bounds) -> Result<Self, QueueError> {
        let store = Store::open(folder, bounds.map_bytes)?;
        Ok(Self { store, bounds: bounds.clone(), added: watch::Sender::new(0), traces: Traces::default() })
    }

    /// The chain of this queue.
    pub fn chain(&self) -> [u8; CHAIN_BYTES] {
        self.store.chain
    }

    /// Whether the chain may be known at the region: [`Self::establish`] was called.
    ///
    /// # Errors
    /// The store's.
    pub fn is_established(&self) -> Result<bool, QueueError> {
        let txn = self.store.read()?;
        Ok(self.store.meta.get(&txn, ESTABLISHED).map_err(self.store.wrap())?.is_some())
    }

    /// Notes that the chain may be known at the region from here on.
    ///
    /// # Errors
    /// The store's.
    pub fn establish(&self) -> Result<(), QueueError> {
        self.put(ESTABLISHED, &[1])
    }

    /// Where a reader stands.
    ///
    /// # Errors
    /// The store's.
    pub fn position(&self, reader: &str) -> Result<Option<Position>, QueueError> {
        self.position_in(&*self.store.read()?, reader)
    }

    fn position_key(reader: &str) -> String {
        format!("position/{reader}")
    }

    fn position_in(&self, txn: &RoTxn<'_>, reader: &str) -> Result<Option<Position>, QueueError> {
        let found = self.store.meta.get(txn, &Self::position_key(reader)).map_err(self.store.wrap())?;
        let wrong = |text: &[u8]| self.store.damaged(format!("{reader} stands at {:?}", String::from_utf8_lossy(text)));
        found
            .map(|text| std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or_else(|| wrong(text)))
            .transpose()
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// The store's.
    pub fn write(&self) -> Result<Write<'_>, QueueError> {
        Write::new(self)
    }

    /// The numbers of a class past `after`, in bounds of stored bytes and of entries and gaps; at least one if there is any.
    ///
    /// # Errors
    /// [`QueueError::Gone`] and [`QueueError::Behind`] if the region's `after` cannot be this queue's; or the store's.
    pub fn next(&self, class: Class, after: u64, bytes_max: usize, entries_max: usize) -> Result<Slice, QueueError> {
        self.store.slice(class, after, bytes_max, entries_max)
    }

    /// The region has all numbers up to `last`: they are removed. Doing it again, or for less, changes nothing.
    ///
    /// # Errors
    /// [`QueueError::Behind`] if this queue has not given out that number; or the store's.
    pub fn done(&self, class: Class, last: u64) -> Result<(), QueueError> {
        let store = &self.store;
        let (_, lane) = store.lane(class)?;
        let mut txn = store.write()?;
        let mut account = store.account(&txn, class)?;
        if last >= account.next {
            return Err(QueueError::Behind { path: store.path.clone(), class, last, next: account.next });
        }
        if last <= account.done {
            return Ok(());
        }
        let first = account.done + 1;
        store.remove_entries(&mut txn, lane, &mut account, first, last)?;
        store.remove_gaps(&mut txn, lane, &mut account, last)?;
        account.done = last;
        store.put_account(&mut txn, class, &account)?;
        txn.commit().map_err(store.wrap())
    }

    /// What a class holds.
    ///
    /// # Errors
    /// The store's.
    pub fn depth(&self, class: Class) -> Result<Depth, QueueError> {
        let account = self.store.account(&*self.store.read()?, class)?;
        Ok(Depth {
            entries: account.entries,
            bytes: account.bytes,
            oldest: account.done + 1,
            next: account.next,
            gaps: account.gaps,
        })
    }

    /// Changes after each commit that gave out a number.
    pub fn added(&self) -> watch::Receiver<u64> {
        self.added.subscribe()
    }

    /// Something that was noted.
    ///
    /// # Errors
    /// The store's.
    pub fn note(&self, key: &str) -> Result<Option<Vec<u8>>, QueueError> {
        let txn = self.store.read()?;
        let found = self.store.meta.get(&txn, &format!("note/{key}")).map_err(self.store.wrap())?;
        Ok(found.map(<[u8]>::to_vec))
    }

    /// Notes something.
    ///
    /// # Errors
    /// The store's.
    pub fn set_note(&self, key: &str, value: &[u8]) -> Result<(), QueueError> {
        self.put(&format!("note/{key}"), value)
    }

    fn put(&self, key: &str, value: &[u8]) -> Result<(), QueueError> {
        let mut txn = self.store.write()?;
        self.store.meta.put(&mut txn, key, value).map_err(self.store.wrap())?;
        txn.commit().map_err(self.store.wrap())
    }

    /// All that collectors kept under keys with this prefix.
    ///
    /// # Errors
    /// The store's, or what `each` says.
    pub fn kept<E: From<QueueError>>(
        &self,
        prefix: &[u8],
        mut each: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let txn = self.store.read()?;
        for item in self.store.kept.prefix_iter(&txn, prefix).map_err(self.store.wrap())? {
            let (key, value) = item.map_err(self.store.wrap())?;
            each(&key[prefix.len()..], value)?;
        }
        Ok(())
    }

    /// What collectors kept is not what they write.
    pub fn damaged(&self, problem: impl Into<String>) -> QueueError {
        self.store.damaged(problem)
    }

    /// The file's size.
    pub fn file_bytes(&self) -> u64 {
        self.store.env.real_disk_size().unwrap_or(0)
    }
}
