//! Gaps of a class: numbers that will never be entries, and why. The list has a bound of its own.
//!
//! Numbers that the budget took are one gap as long as they follow each other: such a gap counts exactly its numbers, and may
//! be cut anywhere. One of the source takes a single number, and is told as a whole or not at all.

use eddy_schemas::sync::wire::{Cause, Gap};
use heed::RwTxn;
use prost::Message as _;

use super::{
    account::Account,
    error::QueueError,
    store::{Lane, Store},
};

/// Gaps of a class at most. Past it the two oldest become one, with the entries between them.
pub(super) const GAPS_MAX: u64 = 1000;
/// Bytes of a gap's detail.
const DETAIL_BYTES_MAX: usize = 256;

/// The part of a gap past number `after`; none if it ends there.
pub(super) fn after(mut gap: Gap, after: u64) -> Option<Gap> {
    if gap.last <= after {
        return None;
    }
    if gap.first <= after {
        gap.count = gap.count.saturating_sub(after + 1 - gap.first).max(1);
        gap.first = after + 1;
    }
    Some(gap)
}

/// Both, and `between` entries that lay between them and went too.
fn joined(one: Gap, other: &Gap, between: u64) -> Gap {
    let same = one.cause == other.cause && between == 0;
    let mut detail = one.detail;
    if !other.detail.is_empty() && detail.len() < DETAIL_BYTES_MAX {
        let and = if detail.is_empty() { "" } else { "; " };
        detail = bounded(format!("{detail}{and}{}", other.detail));
    }
    let count = one.count + between + other.count;
    let cause = if same { one.cause } else { Cause::Budget.into() };
    Gap { first: one.first, last: other.last, count, cause, detail }
}

/// The detail, cut where it is too long.
pub(super) fn bounded(mut detail: String) -> String {
    if detail.len() > DETAIL_BYTES_MAX {
        detail.truncate(detail.floor_char_boundary(DETAIL_BYTES_MAX - 4));
        detail.push('…');
    }
    detail
}

impl Store {
    pub(super) fn read_gap(&self, first: u64, record: &[u8]) -> Result<Gap, QueueError> {
        let gap = Gap::decode(record).ok().filter(|gap| gap.first == first && gap.first <= gap.last);
        gap.ok_or_else(|| self.damaged(format!("gap {first} is none")))
    }

    /// Adds a gap; one of the budget grows together with its neighbours.
    pub(super) fn add_gap(
        &self,
        txn: &mut RwTxn<'_>,
        lane: Lane,
        account: &mut Account,
        mut gap: Gap,
    ) -> Result<(), QueueError> {
        let is_budget = |gap: &Gap| gap.cause == i32::from(Cause::Budget);
        if is_budget(&gap) {
            if let Some((key, record)) = lane.gaps.get_lower_than(txn, &gap.first).map_err(self.wrap())? {
                let before = self.read_gap(key, record)?;
                if is_budget(&before) && before.last + 1 == gap.first {
                    self.take_gap(txn, lane, account, key)?;
                    gap = joined(before, &gap, 0);
                }
            }
            if let Some(record) = lane.gaps.get(txn, &(gap.last + 1)).map_err(self.wrap())? {
                let behind = self.read_gap(gap.last + 1, record)?;
                if is_budget(&behind) {
                    self.take_gap(txn, lane, account, behind.first)?;
                    gap = joined(gap, &behind, 0);
                }
            }
        }
        self.put_gap(txn, lane, account, &gap)?;
        while account.gaps > GAPS_MAX {
            self.fold(txn, lane, account)?;
        }
        Ok(())
    }

    fn put_gap(&self, txn: &mut RwTxn<'_>, lane: Lane, account: &mut Account, gap: &Gap) -> Result<(), QueueError> {
        account.gaps += 1;
        lane.gaps.put(txn, &gap.first, &gap.encode_to_vec()).map_err(self.wrap())
    }

    fn take_gap(&self, txn: &mut RwTxn<'_>, lane: Lane, account: &mut Account, first: u64) -> Result<(), QueueError> {
        account.gaps = account.gaps.saturating_sub(1);
        lane.gaps.delete(txn, &first).map_err(self.wrap())?;
        Ok(())
    }

    /// Makes one gap of the two oldest and what lies between them.
    fn fold(&self, txn: &mut RwTxn<'_>, lane: Lane, account: &mut Account) -> Result<(), QueueError> {
        let mut oldest = Vec::with_capacity(2);
        for item in lane.gaps.iter(txn).map_err(self.wrap())?.take(2) {
            let (first, record) = item.map_err(self.wrap())?;
            oldest.push(self.read_gap(first, record)?);
        }
        let [one, other] = <[Gap; 2]>::try_from(oldest).map_err(|_| self.damaged("its gaps are miscounted"))?;
        let before = account.entries;
        self.remove_entries(txn, lane, account, one.last + 1, other.first - 1)?;
        self.take_gap(txn, lane, account, one.first)?;
        self.take_gap(txn, lane, account, other.first)?;
        self.put_gap(txn, lane, account, &joined(one, &other, before - account.entries))
    }

    /// Removes entries, from the first to the last of these numbers.
    pub(super) fn remove_entries(
        &self,
        txn: &mut RwTxn<'_>,
        lane: Lane,
        account: &mut Account,
        first: u64,
        last: u64,
    ) -> Result<(), QueueError> {
        if first > last {
            return Ok(());
        }
        for item in lane.entries.range(txn, &(first..=last)).map_err(self.wrap())? {
            let (_, record) = item.map_err(self.wrap())?;
            account.without(Account::weight(record.len()));
        }
        lane.entries.delete_range(txn, &(first..=last)).map_err(self.wrap())?;
        Ok(())
    }

    /// Removes gaps up to number `last`, and of one that goes on behind it that part.
    pub(super) fn remove_gaps(
        &self,
        txn: &mut RwTxn<'_>,
        lane: Lane,
        account: &mut Account,
        last: u64,
    ) -> Result<(), QueueError> {
        while let Some((first, record)) = lane.gaps.first(txn).map_err(self.wrap())? {
            if first > last {
                break;
            }
            let gap = self.read_gap(first, record)?;
            self.take_gap(txn, lane, account, first)?;
            if let Some(rest) = after(gap, last) {
                self.put_gap(txn, lane, account, &rest)?;
                break;
            }
        }
        Ok(())
    }
}
