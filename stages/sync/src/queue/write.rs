//! One transaction: what came, what the budgets took for it, and the position that is reached.

use bytes::Bytes;
use eddy_runtime::{position::Position, trace::Contexts};
use eddy_schemas::{
    Timestamp,
    sync::{Class, wire},
};
use heed::RwTxn;

use super::{Queue, Traced, account::Account, error::QueueError, gaps, record, store::CLASSES};

/// An entry takes no more bytes than that: a larger one becomes a gap, which says so.
pub const ENTRY_BYTES_MAX: usize = 512 << 10;

/// Entries of a class that its bounds pass over.
const PINNED_MAX: usize = 4;

/// A transaction. There is one at a time; a second one waits for the first, so a thread must not begin two. Dropped without
/// [`Self::commit`], nothing of it happened.
pub struct Write<'q> {
    queue: &'q Queue,
    txn: RwTxn<'q>,
    accounts: [Account; CLASSES],
    before: [Account; CLASSES],
    used_bytes: u64,
    traced: Vec<((Class, u64), Traced)>,
}

impl std::fmt::Debug for Write<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Write").field("accounts", &self.accounts).finish_non_exhaustive()
    }
}

impl<'q> Write<'q> {
    pub(super) fn new(queue: &'q Queue) -> Result<Self, QueueError> {
        let txn = queue.store.write()?;
        let mut accounts = [Account::default(); CLASSES];
        for (account, class) in accounts.iter_mut().zip(Class::ALL) {
            *account = queue.store.account(&txn, class)?;
        }
        let used_bytes = queue.store.used_bytes(&txn)?;
        Ok(Self { queue, txn, before: accounts, accounts, used_bytes, traced: Vec::new() })
    }

    /// Adds an entry (exactly one, with its own tables of series and bundles) and gives it its number.
    ///
    /// # Errors
    /// If it is no entry, or the store's.
    pub fn push(&mut self, class: Class, entry: wire::Entries) -> Result<u64, QueueError> {
        if let Some(problem) = record::problem(&entry) {
            return Err(QueueError::Entry { class, problem });
        }
        let bytes = prost::Message::encoded_len(&entry);
        if bytes > ENTRY_BYTES_MAX {
            let detail = format!("an entry of {bytes} bytes: at most {ENTRY_BYTES_MAX} are taken");
            tracing::error!(class = class.token(), detail, "not queued");
            let gap = wire::Gap { count: 1, cause: wire::Cause::Budget.into(), detail, ..Default::default() };
            return self.gap(class, gap);
        }
        let store = &self.queue.store;
        let (at, lane) = store.lane(class)?;
        let bundles = entry.bundles.clone();
        let bundles = bundles.iter().map(|digest| self.bundle(digest)).collect::<Result<Vec<_>, _>>()?;
        let record = record::write(entry, &bundles);
        let account = &mut self.accounts[at];
        let number = account.next;
        // It is the last one, so that pages are filled to their end.
        let flags = heed::PutFlags::APPEND;
        lane.entries.put_with_flags(&mut self.txn, flags, &number, &record).map_err(store.wrap())?;
        account.next += 1;
        account.entries += 1;
        account.bytes += Account::weight(record.len());
        Ok(number)
    }

    /// An entry is part of sampled traces, which go on where it is sent: its batch carries them, if this process sends it.
    pub fn trace(&mut self, class: Class, number: u64, contexts: Contexts, queued: Timestamp) {
        self.traced.push(((class, number), Traced { contexts, queued }));
    }

    /// Adds an entry that later ones of its class cannot be read without: the class's bounds pass it over. The newest
    /// four of a class are pinned.
    ///
    /// # Errors
    /// As for [`Self::push`].
    pub fn push_pinned(&mut self, class: Class, entry: wire::Entries) -> Result<u64, QueueError> {
        let number = self.push(class, entry)?;
        let store = &self.queue.store;
        let mut pinned = store.pinned(&self.txn, class)?;
        pinned.push(number);
        let newest = &pinned[pinned.len().saturating_sub(PINNED_MAX)..];
        store.put_pinned(&mut self.txn, class, newest)?;
        Ok(number)
    }

    /// The number of a bundle here.
    fn bundle(&mut self, digest: &Bytes) -> Result<u32, QueueError> {
        let store = &self.queue.store;
        if let Some(number) = store.bundles.get(&self.txn, digest).map_err(store.wrap())? {
            return Ok(number);
        }
        let last = store.digests.last(&self.txn).map_err(store.wrap())?;
        let number = last.map_or(1, |(number, _)| number + 1);
        store.bundles.put(&mut self.txn, digest, &number).map_err(store.wrap())?;
        store.digests.put(&mut self.txn, &number, digest).map_err(store.wrap())?;
        Ok(number)
    }

    /// Adds a gap, which takes one number.
    ///
    /// # Errors
    /// The store's.
    pub fn gap(&mut self, class: Class, gap: wire::Gap) -> Result<u64, QueueError> {
        let (at, lane) = self.queue.store.lane(class)?;
        let account = &mut self.accounts[at];
        let number = account.next;
        account.next += 1;
        let gap = wire::Gap { first: number, last: number, detail: gaps::bounded(gap.detail), ..gap };
        self.queue.store.add_gap(&mut self.txn, lane, account, gap)?;
        Ok(number)
    }

    /// What a collector kept under `key`.
    ///
    /// # Errors
    /// The store's.
    pub fn kept(&self, key: &[u8]) -> Result<Option<Vec<u8>>, QueueError> {
        let store = &self.queue.store;
        Ok(store.kept.get(&self.txn, key).map_err(store.wrap())?.map(<[u8]>::to_vec))
    }

    /// Keeps what a collector carries from message to message, or forgets it.
    ///
    /// # Errors
    /// The store's.
    pub fn keep(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), QueueError> {
        let store = &self.queue.store;
        match value {
            Some(value) => store.kept.put(&mut self.txn, key, value).map_err(store.wrap()),
            None => store.kept.delete(&mut self.txn, key).map(drop).map_err(store.wrap()),
        }
    }

    /// Commits all of it, and that `reader` has reached `position`, if it still stands at `before`.
    ///
    /// # Errors
    /// [`QueueError::Fenced`] if it does not; others leave the queue as it was, too.
    pub fn commit(mut self, reader: &str, before: Option<&Position>, position: &Position) -> Result<(), QueueError> {
        let found = self.queue.position_in(&self.txn, reader)?;
        if found.as_ref() != before {
            let told = |position: Option<&Position>| position.map_or_else(|| "nothing".into(), Position::to_string);
            return Err(QueueError::Fenced {
                path: self.queue.store.path.clone(),
                reader: reader.to_owned(),
                found: told(found.as_ref()),
                expected: told(before),
            });
        }
        self.expire()?;
        let store = &self.queue.store;
        for (at, class) in Class::ALL.into_iter().enumerate() {
            if self.accounts[at] != self.before[at] {
                store.put_account(&mut self.txn, class, &self.accounts[at])?;
            }
        }
        let key = Queue::position_key(reader);
        store.meta.put(&mut self.txn, &key, position.to_string().as_bytes()).map_err(store.wrap())?;
        self.check_room()?;
        self.txn.commit().map_err(store.wrap())?;
        // Before the sender hears of it.
        self.queue.trace(self.traced);
        let added = |(now, before): (&Account, &Account)| now.next != before.next;
        if self.accounts.iter().zip(&self.before).any(added) {
            self.queue.added.send_modify(|commits| *commits += 1);
        }
        Ok(())
    }

    /// Takes a class's oldest entries until it is within its bounds.
    fn expire(&mut self) -> Result<(), QueueError> {
        let (store, bounds) = (&self.queue.store, &self.queue.bounds);
        for (at, class) in Class::ALL.into_iter().enumerate() {
            let (lane, budget, account) = (store.lanes[at], bounds.bytes[at], &mut self.accounts[at]);
            let is_within = |account: &Account| account.entries <= bounds.entries_max && account.bytes <= budget;
            if is_within(account) {
                continue;
            }
            let pinned = store.pinned(&self.txn, class)?;
            while !is_within(account) {
                // Numbers that follow each other go together.
                let (mut left, mut run) = (*account, None);
                for item in lane.entries.iter(&self.txn).map_err(store.wrap())? {
                    let (number, record) = item.map_err(store.wrap())?;
                    let is_pinned = pinned.contains(&number);
                    match run {
                        None if is_pinned => continue,
                        None => run = Some((number, number)),
                        Some((_, last)) if is_pinned || number != last + 1 || is_within(&left) => break,
                        Some((first, _)) => run = Some((first, number)),
                    }
                    left.without(Account::weight(record.len()));
                }
                let Some((first, last)) = run else { break };
                store.remove_entries(&mut self.txn, lane, account, first, last)?;
                let cause = wire::Cause::Budget.into();
                let gap = wire::Gap { first, last, count: last + 1 - first, cause, detail: String::new() };
                store.add_gap(&mut self.txn, lane, account, gap)?;
            }
        }
        Ok(())
    }

    /// Part of the map stays free: removing what the region took needs pages too.
    fn check_room(&self) -> Result<(), QueueError> {
        let store = &self.queue.store;
        let used = store.used_bytes(&self.txn)?;
        let reserve = (store.map_bytes as u64 / 8).max(128 << 10);
        if used > self.used_bytes && used + reserve > store.map_bytes as u64 {
            return Err(QueueError::MapFull { path: store.path.clone(), bytes: store.map_bytes });
        }
        Ok(())
    }
}
