//! The ledger's records, as they stand in notes.

use eddy_schemas::{
    Timestamp,
    sync::{CHAIN_BYTES, RECEIPT_BYTES},
};
use eddy_vectors::codec::{CodecError, Get, Put as _};

use crate::chain::{Chain, Receipt};

/// The chains of a class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The stream's incarnation that `seen` is of.
    pub incarnation: i64,
    /// Its last message on the class's subject that was read, whatever became of it.
    pub seen: u64,
    /// See [`crate::chain::Found::anew`].
    pub anew: bool,
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
    pub held: u64,
    /// The last one of the last batch.
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
    /// See [`super::cause`].
    pub cause: String,
    /// In words.
    pub detail: String,
}

impl Head {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut record = Vec::new();
        record.put_i64(self.incarnation);
        record.put_u64(self.seen);
        record.put_u8(u8::from(self.anew));
        self.chains.iter().for_each(|chain| record.put(chain));
        record
    }

    pub(super) fn decode(record: &[u8]) -> Result<Self, CodecError> {
        let mut get = Get::new(record);
        let (incarnation, seen, anew) = (get.i64()?, get.u64()?, get.u8()? != 0);
        let mut head = Self { incarnation, seen, anew, chains: Vec::new() };
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
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut record = Vec::new();
        let numbers = [self.number, self.batches, self.entries, self.first, self.held, self.last, self.missing_last];
        for number in numbers {
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

    pub(super) fn decode(record: &[u8]) -> Result<Self, CodecError> {
        let mut get = Get::new(record);
        let (number, batches, entries) = (get.u64()?, get.u64()?, get.u64()?);
        let (first, held, last, missing_last) = (get.u64()?, get.u64()?, get.u64()?, get.u64()?);
        let (missing, taken, receipt) = (get.u32()?, get.i64()?, array::<RECEIPT_BYTES>(&mut get)?);
        let replaces = if get.left() > 0 { Some(array::<CHAIN_BYTES>(&mut get)?) } else { None };
        get.end()?;
        Ok(Self { number, batches, entries, first, held, last, receipt, replaces, taken, missing, missing_last })
    }
}

impl Missing {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut record = Vec::new();
        [self.first, self.last, self.count].iter().for_each(|number| record.put_u64(*number));
        record.put_text(&self.cause);
        record.put_text(&self.detail);
        record
    }

    pub(super) fn decode(record: &[u8]) -> Result<Self, CodecError> {
        let mut get = Get::new(record);
        let missing =
            Self { first: get.u64()?, last: get.u64()?, count: get.u64()?, cause: get.text()?, detail: get.text()? };
        get.end()?;
        Ok(missing)
    }
}
