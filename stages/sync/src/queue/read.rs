//! What the sender takes: a run of numbers, each an entry or in a gap.

use std::collections::HashMap;

use bytes::Bytes;
use eddy_schemas::sync::{Class, wire};
use heed::{RoTxn, WithoutTls};
use prost::Message as _;

use super::{error::QueueError, gaps, record, store::Store};

/// A run of numbers of one class.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Slice {
    /// The first number.
    pub first: u64,
    /// The last one; before the first where there is none.
    pub last: u64,
    /// Those that are entries, ascending. Each is one entry with its own tables.
    pub entries: Vec<(u64, wire::Entries)>,
    /// Those that are in gaps, ascending.
    pub gaps: Vec<wire::Gap>,
}

impl Slice {
    /// Whether there is no number.
    pub fn is_empty(&self) -> bool {
        self.last < self.first
    }
}

impl Store {
    /// The numbers past `after`, up to these bounds but for the first one.
    pub(super) fn slice(
        &self,
        class: Class,
        after: u64,
        bytes_max: usize,
        entries_max: usize,
    ) -> Result<Slice, QueueError> {
        let (_, lane) = self.lane(class)?;
        let txn = self.read()?;
        let account = self.account(&txn, class)?;
        if after < account.done {
            return Err(QueueError::Gone { path: self.path.clone(), class, after, done: account.done });
        }
        if after >= account.next {
            return Err(QueueError::Behind { path: self.path.clone(), class, last: after, next: account.next });
        }
        let digests = self.digests(&txn)?;
        // One that began before goes on here.
        let within = lane.gaps.get_lower_than_or_equal_to(&txn, &after).map_err(self.wrap())?;
        let ahead = lane.gaps.range(&txn, &(after + 1..)).map_err(self.wrap())?;
        let gaps_here = within.map(Ok).into_iter().chain(ahead).map(|item| {
            let (first, record) = item.map_err(self.wrap())?;
            Ok::<_, QueueError>(gaps::after(self.read_gap(first, record)?, after))
        });
        let mut gaps_here = gaps_here.filter_map(Result::transpose).peekable();
        let mut entries_here = lane.entries.range(&txn, &(after + 1..)).map_err(self.wrap())?;
        let mut slice = Slice { first: after + 1, last: after, ..Slice::default() };
        let (mut bytes, mut items) = (0, 0);
        while slice.last + 1 < account.next && items < entries_max.max(1) {
            let next = slice.last + 1;
            let is_next = |gap: &Result<wire::Gap, _>| gap.as_ref().map_or(true, |gap| gap.first <= next);
            items += 1;
            if let Some(gap) = gaps_here.next_if(is_next) {
                let gap = gap?;
                bytes += gap.encoded_len();
                if bytes > bytes_max && items > 1 {
                    break;
                }
                slice.last = gap.last;
                slice.gaps.push(gap);
                continue;
            }
            let item = entries_here.next().transpose().map_err(self.wrap())?;
            let Some((number, record)) = item.filter(|(number, _)| *number == next) else {
                return Err(self.damaged(format!("{} {next} is neither an entry nor in a gap", class.token())));
            };
            bytes += record.len();
            if bytes > bytes_max && items > 1 {
                break;
            }
            let wrong = |error| self.damaged(format!("{} {number}: {error}", class.token()));
            slice.entries.push((number, record::read(number, record, &digests).map_err(wrong)?));
            slice.last = number;
        }
        Ok(slice)
    }

    fn digests(&self, txn: &RoTxn<'_, WithoutTls>) -> Result<HashMap<u32, Bytes>, QueueError> {
        let items = self.digests.iter(txn).map_err(self.wrap())?;
        let owned = |(number, digest)| (number, Bytes::copy_from_slice(digest));
        items.map(|item| item.map(owned).map_err(self.wrap())).collect()
    }
}
