//! An entry as it is stored: the bundles that it names as numbers of this queue, then `Entries` without them, in protobuf.

use std::collections::HashMap;

use bytes::Bytes;
use eddy_schemas::sync::wire;
use eddy_vectors::codec::{CodecError, Get, Put as _};
use prost::Message as _;

/// An entry names one bundle, or none; more are no entry's.
const BUNDLES_MAX: usize = 8;

/// Writes an entry whose bundles have these numbers.
pub(super) fn write(mut entry: wire::Entries, bundles: &[u32]) -> Vec<u8> {
    entry.bundles.clear();
    entry.entries.iter_mut().for_each(|entry| entry.id = 0);
    let mut record = Vec::with_capacity(1 + 4 * bundles.len() + entry.encoded_len());
    record.put_varint(bundles.len() as u32);
    bundles.iter().for_each(|bundle| record.put_varint(*bundle));
    record.extend(entry.encode_to_vec());
    record
}

/// Reads the entry with this number; `digests` are the queue's bundles.
pub(super) fn read(number: u64, record: &[u8], digests: &HashMap<u32, Bytes>) -> Result<wire::Entries, CodecError> {
    let mut get = Get::new(record);
    let count = get.varint()? as usize;
    if count > BUNDLES_MAX {
        return Err(get.error("it names more bundles than an entry can"));
    }
    let mut bundles = Vec::with_capacity(count);
    for _ in 0..count {
        let digest = digests.get(&get.varint()?);
        bundles.push(digest.ok_or_else(|| get.error("it names a bundle that is not known"))?.clone());
    }
    let rest = get.bytes(get.left())?;
    let mut entry = wire::Entries::decode(rest).map_err(|_| get.error("it is not protobuf"))?;
    entry.bundles = bundles;
    match entry.entries.as_mut_slice() {
        [one] => one.id = number,
        _ => return Err(get.error("it is not one entry")),
    }
    Ok(entry)
}

/// What is wrong with an entry that is to be stored, if something is.
pub(super) fn problem(entry: &wire::Entries) -> Option<String> {
    if entry.entries.len() != 1 {
        return Some(format!("{} entries, not one", entry.entries.len()));
    }
    if entry.entries[0].what.is_none() {
        return Some("it says nothing".into());
    }
    if entry.bundles.len() > BUNDLES_MAX {
        return Some(format!("it names {} bundles", entry.bundles.len()));
    }
    // LMDB's keys.
    let wrong = |digest: &&Bytes| !(1..=500).contains(&digest.len());
    entry.bundles.iter().find(wrong).map(|digest| format!("a bundle's digest of {} bytes", digest.len()))
}
