//! What is known of a class without looking at its entries.

use eddy_schemas::sync::Class;
use eddy_vectors::codec::{CodecError, Get, Put as _};

/// Its numbers and its load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Account {
    /// The next number; the first one is 1.
    pub(super) next: u64,
    /// The region has all numbers up to here.
    pub(super) done: u64,
    /// Entries that are stored.
    pub(super) entries: u64,
    /// What they weigh against the budget.
    pub(super) bytes: u64,
    /// Gaps that are stored.
    pub(super) gaps: u64,
}

impl Default for Account {
    fn default() -> Self {
        Self { next: 1, done: 0, entries: 0, bytes: 0, gaps: 0 }
    }
}

impl Account {
    /// What an entry costs beside its record: key, node, and its share of the tree.
    const ENTRY_BYTES: u64 = 24;

    /// What an entry with a record of `bytes` weighs.
    pub(super) fn weight(bytes: usize) -> u64 {
        bytes as u64 + Self::ENTRY_BYTES
    }

    pub(super) fn key(class: Class) -> String {
        format!("class/{}", class.token())
    }

    pub(super) fn record(&self) -> Vec<u8> {
        let mut record = Vec::with_capacity(40);
        [self.next, self.done, self.entries, self.bytes, self.gaps].iter().for_each(|number| record.put_u64(*number));
        record
    }

    pub(super) fn read(record: &[u8]) -> Result<Self, CodecError> {
        let mut get = Get::new(record);
        let mut next = || get.u64();
        let account = Self { next: next()?, done: next()?, entries: next()?, bytes: next()?, gaps: next()? };
        get.end()?;
        if account.done >= account.next {
            return Err(get.error("the region has numbers that were not given out"));
        }
        Ok(account)
    }

    /// An entry of this weight is gone.
    pub(super) fn without(&mut self, weight: u64) {
        self.entries = self.entries.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(weight);
    }
}
