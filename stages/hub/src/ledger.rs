//! What is proven of each site, class and chain: how far it is complete, what is missing of it and why, and the receipt of its last batch.
//!
//! | note | is |
//! |---|---|
//! | `ledger/<site>/<class>` | [`Head`]: the chains, and how far the class's subject was read |
//! | `ledger/<site>/<class>/<chain>` | [`Record`] |
//! | `ledger/<site>/<class>/<chain>/<entry>` | [`Missing`] |
//!
//! They are written in the transaction that merges the batch. Every shard's copy keeps the whole ledger: it reads every batch, and
//! merges what is its own.

use std::collections::BTreeMap;

use eddy_schemas::{
    Timestamp, names,
    region::wire::{ChainReceipt, MissingRange},
    sync::{CHAIN_BYTES, Class, RECEIPT_BYTES, wire},
};
use eddy_vectors::{
    codec::{CodecError, Get, Put as _},
    index::{Batch, IndexError, Store},
};

use crate::chain::{Chain, Known, Link, Receipt, hex};

/// Chains of a class that are remembered, the current one included. A gateway is replaced every few years.
const CHAINS_MAX: usize = 64;
/// Missing ranges of a chain that are told apart.
const MISSING_MAX: u32 = 1_000;
/// Notes of all ledgers: sites x classes x chains, and what is missing of them.
const NOTES_MAX: usize = 10_000_000;
/// Characters of a detail.
const DETAIL_CHARS_MAX: usize = 100;

/// Why something is missing.
pub mod cause {
    /// A budget on the gateway.
    pub const BUDGET: &str = "budget";
    /// The gateway's stream had dropped it before sync read it.
    pub const SOURCE: &str = "source";
    /// An operator dropped it.
    pub const OPERATOR: &str = "operator";
    /// The region's stream had dropped it before this copy read it.
    pub const REGION: &str = "region";
    /// It came, and was none of what its class holds.
    pub const MALFORMED: &str = "malformed";
    /// A cause of a later release.
    pub const OTHER: &str = "other";
}

/// The chains of a class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The stream's incarnation that `seen` is of.
    pub incarnation: i64,
    /// Its last message on the class's subject that was read, whatever became of it.
    pub seen: u64,
    /// Oldest first; the last one is the current one.
    pub chains: Vec<Chain>,
}

/// What is proven of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its last batch.
    pub number: u64,
    /// Batches that were taken.
    pub batches: u64,
    /// Entries that were taken.
    pub entries: u64,
    /// The first entry accounted for: it is here, or among what is missing.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// Receipt of the last batch.
    pub receipt: Receipt,
    /// The chain that it replaced.
    pub replaces: Option<Chain>,
    /// When the last batch reached the region.
    pub taken: Timestamp,
    /// Missing ranges.
    pub missing: u32,
    /// Where the last of them begins.
    pub missing_last: u64,
}

/// Entries that are not here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The first.
    pub first: u64,
    /// The last.
    pub last: u64,
    /// Entries, or messages that never became entries.
    pub count: u64,
    /// See [`cause`].
    pub cause: String,
    /// In words.
    pub detail: String,
}

fn damaged(key: &str, error: &CodecError) -> IndexError {
    IndexError::Query(format!("the note {key} is damaged: {error}"))
}

impl Head {
    fn encode(&self) -> Vec<u8> {
        let mut record = Vec::new();
        record.put_i64(self.incarnation);
        record.put_u64(self.seen);
        self.chains.iter().for_each(|chain| record.put(chain));
        record
    }

    fn decode(record: &[u8]) -> Result<Self, CodecError> {
        let mut get = Get::new(record);
        let mut head = Self { incarnation: get.i64()?, seen: get.u64()?, chains: Vec::new() };
        while get.left() > 0 {
            head.chains.push(array(&mut get)?);
        }
        Ok(head)
    }
}

fn array<const N: usize>(get: &mut Get<'_>) -> Result<[u8; N], CodecError> {
    let mut array = [0; N];
    array.copy_from_slice(get.bytes(N)?);
    Ok(array)
}

impl Record {
    fn encode(&self) -> Vec<u8> {
        let mut record = Vec::new();
        for number in [self.number, self.batches, self.entries, self.first, self.last, self.missing_last] {
            record.put_u64(number);
        }
        record.put_u32(self.missing);
        record.put_i64(self.taken);
        record.put(&self.receipt);
        if let Some(replaces) = &self.replaces {
            record.put(replaces);
        }
        record
    }

    fn decode(record: &[u8]) -> Result<Self, CodecError> {
        let mut get = Get::new(record);
        let (number, batches, entries) = (get.u64()?, get.u64()?, get.u64()?);
        let (first, last, missing_last) = (get.u64()?, get.u64()?, get.u64()?);
        let (missing, taken, receipt) = (get.u32()?, get.i64()?, array::<RECEIPT_BYTES>(&mut get)?);
        let replaces = if get.left() > 0 { Some(array::<CHAIN_BYTES>(&mut get)?) } else { None };
        get.end()?;
        Ok(Self { number, batches, entries, first, last, receipt, replaces, taken, missing, missing_last })
    }
}

impl Missing {
    fn encode(&self) -> Vec<u8> {
        let mut record = Vec::new();
        [self.first, self.last, self.count].iter().for_each(|number| record.put_u64(*number));
        record.put_text(&self.cause);
        record.put_text(&self.detail);
        record
    }

    fn decode(record: &[u8]) -> Result<Self, CodecError> {
        let mut get = Get::new(record);
        let missing =
            Self { first: get.u64()?, last: get.u64()?, count: get.u64()?, cause: get.text()?, detail: get.text()? };
        get.end()?;
        Ok(missing)
    }
}

/// One class's part of the ledger, while a transaction is made.
#[derive(Debug)]
pub struct Account {
    key: String,
    /// The class's chains.
    pub head: Head,
    /// What is proven of the current one.
    pub record: Option<Record>,
}

impl Account {
    /// As `batch` has it.
    ///
    /// # Errors
    /// The store's.
    pub fn load(batch: &Batch<'_>, site_token: &str, class: Class) -> Result<Self, IndexError> {
        let key = format!("ledger/{site_token}/{}", class.token());
        let head = batch.noted(&key)?.map(|record| Head::decode(&record).map_err(|error| damaged(&key, &error)));
        let mut account = Self { key, head: head.transpose()?.unwrap_or_default(), record: None };
        if let Some(chain) = account.head.chains.last() {
            let key = account.chain_key(chain);
            let record = batch.noted(&key)?;
            account.record =
                record.map(|record| Record::decode(&record).map_err(|error| damaged(&key, &error))).transpose()?;
        }
        Ok(account)
    }

    fn chain_key(&self, chain: &Chain) -> String {
        format!("{}/{}", self.key, hex(chain))
    }

    /// What a batch must follow.
    pub fn known(&self) -> Option<Known> {
        let (chain, record) = (self.head.chains.last()?, self.record.as_ref()?);
        Some(Known { chain: *chain, number: record.number, last: record.last, receipt: record.receipt })
    }

    /// The chains before the current one.
    pub fn past(&self) -> &[Chain] {
        self.head.chains.split_last().map_or(&[], |(_, past)| past)
    }

    /// Whether messages on the subject before this one were removed before they were read; and this one is read now.
    pub fn sees(&mut self, incarnation: i64, sequence: u64, predecessor: Option<u64>) -> bool {
        if self.head.incarnation != incarnation {
            (self.head.incarnation, self.head.seen) = (incarnation, 0);
        }
        let lost = predecessor.is_some_and(|predecessor| predecessor > self.head.seen);
        self.head.seen = sequence;
        lost
    }

    /// A batch is taken. `malformed` are entries of it that were none of their class.
    ///
    /// # Errors
    /// The store's.
    pub fn take(
        &mut self,
        batch: &mut Batch<'_>,
        link: &Link,
        malformed: Vec<Missing>,
        taken: Timestamp,
    ) -> Result<(), IndexError> {
        if link.begins {
            self.begin(batch, link)?;
        }
        let replaces = self.head.chains.iter().rev().nth(1).copied();
        let record = self.record.get_or_insert(Record {
            number: 0,
            batches: 0,
            entries: 0,
            first: link.missing.map_or(link.batch.first, |(first, _)| first),
            last: 0,
            receipt: link.receipt,
            replaces,
            taken,
            missing: 0,
            missing_last: 0,
        });
        record.number = link.batch.number;
        record.batches += 1;
        record.entries += u64::from(link.batch.count).saturating_sub(malformed.len() as u64);
        record.last = link.batch.last;
        (record.receipt, record.taken) = (link.receipt, taken);
        let mut missing: Vec<Missing> = link.missing.into_iter().map(lost).collect();
        missing.extend(link.batch.gaps.iter().map(gap));
        missing.extend(malformed);
        missing.sort_by_key(|missing| missing.first);
        missing.into_iter().try_for_each(|missing| self.miss(batch, missing))
    }

    fn begin(&mut self, batch: &mut Batch<'_>, link: &Link) -> Result<(), IndexError> {
        // What is proven of the chain before it stays as it is.
        self.save(batch)?;
        self.head.chains.push(link.chain);
        self.record = None;
        while self.head.chains.len() > CHAINS_MAX {
            let oldest = self.head.chains.remove(0);
            let key = self.chain_key(&oldest);
            let missing = batch.notes(&format!("{key}/"), MISSING_MAX as usize + 1)?;
            for (key, _) in missing {
                batch.remove_note(&key)?;
            }
            batch.remove_note(&key)?;
        }
        Ok(())
    }

    /// Entries of the current chain are not here. In rising order.
    fn miss(&mut self, batch: &mut Batch<'_>, missing: Missing) -> Result<(), IndexError> {
        let Some(chain) = self.head.chains.last() else { return Ok(()) };
        let prefix = self.chain_key(chain);
        let key = |first: u64| format!("{prefix}/{first:016x}");
        let Some(record) = &mut self.record else { return Ok(()) };
        if record.missing > 0 {
            let last_key = key(record.missing_last);
            let last = batch.noted(&last_key)?;
            let last =
                last.map(|last| Missing::decode(&last).map_err(|error| damaged(&last_key, &error))).transpose()?;
            if let Some(mut last) = last {
                let goes_on = last.last.checked_add(1) == Some(missing.first)
                    && (&last.cause, &last.detail) == (&missing.cause, &missing.detail);
                let is_full = record.missing >= MISSING_MAX;
                if goes_on || is_full {
                    if !goes_on {
                        "several ranges up to here, with entries between them that are held"
                            .clone_into(&mut last.detail);
                    }
                    last.last = missing.last;
                    last.count = last.count.saturating_add(missing.count);
                    return batch.note(&last_key, &last.encode());
                }
            }
        }
        record.missing += 1;
        record.missing_last = missing.first;
        batch.note(&key(missing.first), &missing.encode())
    }

    /// Writes down what changed.
    ///
    /// # Errors
    /// The store's.
    pub fn save(&self, batch: &mut Batch<'_>) -> Result<(), IndexError> {
        if let (Some(chain), Some(record)) = (self.head.chains.last(), &self.record) {
            batch.note(&self.chain_key(chain), &record.encode())?;
        }
        batch.note(&self.key, &self.head.encode())
    }
}

fn lost((first, last): (u64, u64)) -> Missing {
    let detail = "batches were removed from the region's stream before this copy read them".to_owned();
    Missing { first, last, count: last - first + 1, cause: cause::REGION.to_owned(), detail }
}

fn gap(gap: &wire::Gap) -> Missing {
    let cause = match gap.cause() {
        wire::Cause::Budget => cause::BUDGET,
        wire::Cause::Source => cause::SOURCE,
        wire::Cause::Operator => cause::OPERATOR,
        wire::Cause::Unspecified => cause::OTHER,
    };
    let detail = gap.detail.chars().take(DETAIL_CHARS_MAX).collect();
    Missing { first: gap.first, last: gap.last, count: gap.count, cause: cause.to_owned(), detail }
}

/// What this copy can prove, by site, class and chain.
///
/// # Errors
/// If the store cannot be read.
pub fn read(store: &Store) -> Result<Vec<ChainReceipt>, IndexError> {
    read_under(store, "ledger/")
}

/// The same of one site.
///
/// # Errors
/// If the store cannot be read.
pub fn read_site(store: &Store, site: &str) -> Result<Vec<ChainReceipt>, IndexError> {
    read_under(store, &format!("ledger/{}/", names::encode(site)))
}

fn read_under(store: &Store, prefix: &str) -> Result<Vec<ChainReceipt>, IndexError> {
    let mut current: BTreeMap<String, Chain> = BTreeMap::new();
    let mut receipts: BTreeMap<String, ChainReceipt> = BTreeMap::new();
    for (key, record) in store.notes(prefix, NOTES_MAX)? {
        let wrong = |error: CodecError| damaged(&key, &error);
        let parts: Vec<&str> = key.split('/').skip(1).collect();
        match parts.as_slice() {
            [_, _] => {
                let head = Head::decode(&record).map_err(wrong)?;
                current.extend(head.chains.last().map(|chain| (key.clone(), *chain)));
            }
            [site, class, chain] => {
                let record = Record::decode(&record).map_err(wrong)?;
                let head = key.trim_end_matches(chain).trim_end_matches('/');
                let is_current = current.get(head).is_some_and(|current| hex(current) == *chain);
                receipts.insert(key.clone(), told(&names::decode(site), class, chain, &record, is_current));
            }
            [_, _, _, entry] => {
                let missing = Missing::decode(&record).map_err(wrong)?;
                let chain = key.trim_end_matches(entry).trim_end_matches('/');
                if let Some(receipt) = receipts.get_mut(chain) {
                    let Missing { first, last, count, cause, detail } = missing;
                    receipt.missing.push(MissingRange { first, last, count, cause, detail });
                }
            }
            _ => {}
        }
    }
    Ok(receipts.into_values().collect())
}

fn told(site: &str, class: &str, chain: &str, record: &Record, current: bool) -> ChainReceipt {
    ChainReceipt {
        site: site.to_owned(),
        class: class.to_owned(),
        chain: chain.to_owned(),
        replaces: record.replaces.map(|chain| hex(&chain)).unwrap_or_default(),
        batches: record.batches,
        entries: record.entries,
        first: record.first,
        last: record.last,
        receipt: hex(&record.receipt),
        missing: Vec::new(),
        taken: record.taken,
        current,
    }
}

#[cfg(test)]
mod tests;
