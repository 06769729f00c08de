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

mod record;

use std::collections::BTreeMap;

use eddy_schemas::{
    Timestamp, names,
    region::wire::{ChainReceipt, MissingRange},
    sync::{Class, wire},
};
use eddy_vectors::{
    codec::CodecError,
    index::{Batch, IndexError, Store},
};

pub use self::record::{Head, Missing, Record};
use crate::chain::{Chain, Known, Link, hex};

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

fn damaged(key: &str, error: &CodecError) -> IndexError {
    IndexError::Query(format!("the note {key} is damaged: {error}"))
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
        let Record { number, last, held, receipt, .. } = *record;
        Some(Known { chain: *chain, number, last, held, receipt })
    }

    /// The chains before the current one.
    pub fn past(&self) -> &[Chain] {
        self.head.chains.split_last().map_or(&[], |(_, past)| past)
    }

    /// Whether messages on the subject before this one were removed before they were read; and this one is read now.
    pub fn sees(&mut self, incarnation: i64, sequence: u64, predecessor: Option<u64>) -> bool {
        if self.head.incarnation != incarnation {
            self.head.anew |= !self.head.chains.is_empty();
            (self.head.incarnation, self.head.seen) = (incarnation, 0);
        }
        let lost = predecessor.is_some_and(|predecessor| predecessor > self.head.seen);
        self.head.seen = sequence;
        lost
    }

    /// The stream's end was lost: it is known up to `last`.
    pub fn lost_end(&mut self, last: u64) {
        self.head.anew |= !self.head.chains.is_empty();
        self.head.seen = self.head.seen.min(last);
    }

    /// Up to which entry all of the chain that this batch is of is accounted for already.
    pub fn held(&self, link: &Link) -> u64 {
        self.record.as_ref().filter(|_| !link.begins).map_or(0, |record| record.held)
    }

    /// A batch is taken; of its entries those past [`Self::held`] are new. `malformed` are entries of it that were none of their class.
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
        self.head.anew = false;
        let replaces = self.head.chains.iter().rev().nth(1).copied();
        let record = self.record.get_or_insert(Record {
            number: 0,
            batches: 0,
            entries: 0,
            first: link.missing.map_or(link.batch.first, |(first, _)| first),
            held: 0,
            last: 0,
            receipt: link.receipt,
            replaces,
            taken,
            missing: 0,
            missing_last: 0,
        });
        record.number = link.batch.number;
        record.batches += 1;
        let held = record.held;
        let new = link.entries.entries.iter().filter(|entry| entry.id > held).count();
        record.entries += (new as u64).saturating_sub(malformed.len() as u64);
        record.last = link.batch.last;
        record.held = held.max(link.batch.last);
        (record.receipt, record.taken) = (link.receipt, taken);
        let mut missing: Vec<Missing> = link.missing.into_iter().map(lost).collect();
        missing.extend(link.batch.gaps.iter().map(gap));
        missing.extend(malformed);
        missing.sort_by_key(|missing| missing.first);
        missing.into_iter().filter_map(|missing| after(held, missing)).try_for_each(|missing| self.miss(batch, missing))
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

/// What of a range lies past `held`.
fn after(held: u64, missing: Missing) -> Option<Missing> {
    let first = missing.first.max(held + 1);
    let is_whole = first == missing.first;
    let count = if is_whole { missing.count } else { missing.count.min((missing.last + 1).saturating_sub(first)) };
    (first <= missing.last).then_some(Missing { first, count, ..missing })
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
        last: record.held,
        receipt: hex(&record.receipt),
        missing: Vec::new(),
        taken: record.taken,
        current,
    }
}

#[cfg(test)]
mod tests;
