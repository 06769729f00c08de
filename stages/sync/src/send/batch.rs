//! Cuts a class's next batch: what the queue has past its head, as large as the link likes it.

use bytes::Bytes;
use eddy_schemas::sync::{Class, ENTRIES_BYTES_MAX, RECEIPT_BYTES, receipt, wire};
use prost::Message as _;

use super::checkpoint::{Head, Identity};
use crate::{
    pack,
    queue::{Queue, QueueError, Slice},
};

/// Entries and gaps of a batch, at most.
const ITEMS_MAX: usize = 4_096;
/// Stored bytes of a batch, at most, beside a single entry's: compressing them takes some milliseconds, and an alert may
/// come meanwhile.
const STORED_BYTES_MAX: usize = 512 << 10;
/// A batch that came out larger than it should, by so much, is cut again.
const TOO_LARGE: f64 = 1.25;
/// How often it is.
const CUTS_MAX: u32 = 4;

/// A batch that is ready to go.
#[derive(Clone, Debug)]
pub struct Cut {
    /// The message.
    pub message: Bytes,
    /// Its receipt.
    pub receipt: [u8; RECEIPT_BYTES],
    /// Its number in the chain.
    pub number: u64,
    /// The last number that it covers.
    pub last: u64,
    /// Entries in it.
    pub entries: u64,
    /// Entries that its gaps stand for.
    pub missing: u64,
    /// How many stored bytes make one of the message's.
    pub ratio: f64,
}

/// The batch after `head`, of about `target` bytes where `ratio` stored bytes become one; `None` if there is nothing for it.
///
/// # Errors
/// The queue's.
pub fn cut(
    queue: &Queue,
    identity: &Identity,
    class: Class,
    head: &Head,
    (target, ratio): (usize, f64),
) -> Result<Option<Cut>, QueueError> {
    let mut bounds = ((target as f64 * ratio) as usize).clamp(target, STORED_BYTES_MAX.max(target));
    let mut tries = 1;
    loop {
        let slice = queue.next(class, head.last, bounds, ITEMS_MAX)?;
        if slice.is_empty() {
            return Ok(None);
        }
        let stored = stored_bytes(&slice);
        let (items, plain, mut cut) = build(identity, class, head, slice);
        let message = cut.message.len() as f64;
        let is_small = plain <= ENTRIES_BYTES_MAX && message <= target as f64 * TOO_LARGE;
        if items == 1 || is_small || (plain <= ENTRIES_BYTES_MAX && tries >= CUTS_MAX) {
            cut.ratio = stored as f64 / message;
            return Ok(Some(cut));
        }
        // Always less than before, in the end a single item.
        bounds = (stored as f64 * (target as f64 / message).min(0.8)) as usize;
        tries += 1;
    }
}

/// What the queue counts for a slice.
fn stored_bytes(slice: &Slice) -> usize {
    let digests = |entry: &wire::Entries| entry.bundles.iter().map(Bytes::len).sum::<usize>();
    let entries = slice.entries.iter().map(|(_, entry)| entry.encoded_len().saturating_sub(digests(entry)));
    entries.sum::<usize>() + slice.gaps.iter().map(wire::Gap::encoded_len).sum::<usize>()
}

/// The batch of a slice, with how many items and plain bytes are in it.
fn build(identity: &Identity, class: Class, head: &Head, slice: Slice) -> (usize, usize, Cut) {
    let items = slice.entries.len() + slice.gaps.len();
    let (first, last) = (slice.first, slice.last);
    let mut batch = wire::Batch {
        site: identity.site.clone(),
        class: class.into(),
        chain: Bytes::copy_from_slice(&identity.chain),
        number: head.number + 1,
        first,
        last,
        gaps: slice.gaps,
        previous: head.receipt.clone(),
        replaces: head.replaces.clone(),
        ..Default::default()
    };
    let missing = batch.gaps.iter().map(|gap| gap.count).sum();
    if !slice.entries.is_empty() {
        batch.pack(&pack::merge(slice.entries));
    }
    let plain = batch.entries_bytes as usize;
    let message = Bytes::from(batch.encode_to_vec());
    let cut = Cut {
        receipt: receipt(&head.receipt, &message),
        number: batch.number,
        last,
        entries: u64::from(batch.count),
        missing,
        ratio: 1.0,
        message,
    };
    (items, plain, cut)
}
