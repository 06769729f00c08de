//! What a gateway sends to the region: batches of entries, chained by their receipts (`proto/eddy/sync/v1/sync.proto`).

use bytes::Bytes;
use prost::{
    Message as _,
    encoding::{DecodeContext, decode_key, skip_field},
};
use serde::{Deserialize, Serialize};

use crate::names;

/// The protobuf messages, as `proto/eddy/sync/v1/sync.proto` documents them.
#[allow(missing_docs)]
pub mod wire {
    include!(concat!(env!("OUT_DIR"), "/eddy.sync.v1.rs"));
}

pub use wire::Class;

/// Bytes of a receipt.
pub const RECEIPT_BYTES: usize = 32;
/// Bytes of a chain's name.
pub const CHAIN_BYTES: usize = 16;
/// Entries of a batch take no more bytes than that, decompressed: what a reader is ready to hold.
pub const ENTRIES_BYTES_MAX: usize = 4 << 20;
/// A batch has no more entries than that.
pub const ENTRIES_MAX: usize = 1 << 17;
/// Each entry needs one series and one bundle at most; beside that tables may have so many more.
const TABLES_SPARE: usize = 64;
/// zstd's level: on a slow link a byte costs more than a microsecond.
const LEVEL: i32 = 9;

impl Class {
    /// Highest priority first.
    pub const ALL: [Self; 7] =
        [Self::Alerts, Self::Contexts, Self::Health, Self::Deltas, Self::Summaries, Self::Snippets, Self::Readings];

    /// Its token in subjects and config keys.
    pub fn token(self) -> &'static str {
        match self {
            Self::Alerts => "alerts",
            Self::Contexts => "contexts",
            Self::Health => "health",
            Self::Deltas => "deltas",
            Self::Summaries => "summaries",
            Self::Snippets => "snippets",
            Self::Readings => "readings",
            Self::Unspecified => "unspecified",
        }
    }

    /// The class with this token.
    pub fn of_token(token: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.token() == token)
    }
}

/// The method by which sync is asked how the way to the region stands: `eddy.region.<site>.uplink`, answered without the region.
pub const UPLINK: &str = "uplink";

/// The answer, as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UplinkStats {
    /// Where the region is.
    pub hub: String,
    /// Whether there is a connection.
    pub connected: bool,
    /// Classes that have ever had something, highest priority first.
    pub classes: Vec<ClassStats>,
}

/// What a class has that the region has not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassStats {
    /// See [`Class::token`].
    pub class: String,
    /// The next entry's number: so many were there, less one.
    pub next: u64,
    /// Entries that wait.
    pub waiting: u64,
    /// What they take on disk.
    pub waiting_bytes: u64,
    /// Entries that will never come, of which the region was not told yet.
    pub lost: u64,
}

/// The hub's stream of a site.
pub fn stream_of(site: &str) -> String {
    format!("{STREAM_PREFIX}{}", names::encode(site))
}

/// What the names of sites' streams begin with.
pub const STREAM_PREFIX: &str = "SITE_";

/// Where a site's batches of a class go.
pub fn subject_of(site: &str, class: Class) -> String {
    format!("sync.{}.{}", names::encode(site), class.token())
}

/// The receipt of a message: BLAKE3 of the receipt before it (empty for a chain's first) and the message's bytes.
pub fn receipt(previous: &[u8], message: &[u8]) -> [u8; RECEIPT_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(previous).update(message);
    *hasher.finalize().as_bytes()
}

impl wire::Batch {
    /// Puts `entries` in, and what says how many they are.
    pub fn pack(&mut self, entries: &wire::Entries) {
        let plain = entries.encode_to_vec();
        self.entries = Bytes::from(compress(&plain).expect("zstd compresses any bytes that fit into memory"));
        self.entries_bytes = u32::try_from(plain.len()).expect("the sender bounds entries far below 4 GiB");
        self.count = u32::try_from(entries.entries.len()).expect("the sender bounds entries far below 2^32");
    }

    /// Reads a message's bytes and its entries.
    ///
    /// # Errors
    /// What contradicts itself, with the offending value.
    pub fn read(message: &[u8]) -> Result<(Self, wire::Entries), String> {
        let batch = Self::decode(message).map_err(|error| format!("not a batch: {error}"))?;
        let bytes = batch.entries_bytes as usize;
        if bytes > ENTRIES_BYTES_MAX {
            return Err(format!("entries of {bytes} bytes: at most {ENTRIES_BYTES_MAX} are taken"));
        }
        if batch.chain.len() != CHAIN_BYTES {
            return Err(format!("a chain's name of {} bytes, not {CHAIN_BYTES}", batch.chain.len()));
        }
        if !matches!(batch.previous.len(), 0 | RECEIPT_BYTES) {
            return Err(format!("a receipt of {} bytes, not {RECEIPT_BYTES}", batch.previous.len()));
        }
        let plain = if batch.entries.is_empty() {
            Vec::new()
        } else {
            zstd::bulk::decompress(&batch.entries, bytes).map_err(|error| format!("entries: {error}"))?
        };
        if plain.len() != bytes {
            return Err(format!("entries of {} bytes where {bytes} are announced", plain.len()));
        }
        // An empty entry takes two bytes here, and a hundred once it is read.
        let (count, fields) = (batch.count as usize, fields(&plain).map_err(|error| format!("entries: {error}"))?);
        if count > ENTRIES_MAX || fields > 3 * count + TABLES_SPARE {
            return Err(format!(
                "{fields} entries, series and bundles where {count} entries are announced, of at most {ENTRIES_MAX}"
            ));
        }
        let entries = wire::Entries::decode(plain.as_slice()).map_err(|error| format!("entries: {error}"))?;
        batch.check(&entries)?;
        Ok((batch, entries))
    }

    fn check(&self, entries: &wire::Entries) -> Result<(), String> {
        if self.count as usize != entries.entries.len() {
            return Err(format!("{} entries where {} are announced", entries.entries.len(), self.count));
        }
        // Each number is an entry's or a gap's, and none is told twice.
        let mut gaps = self.gaps.iter().peekable();
        let mut next = self.first;
        let wrong =
            |next: u64| format!("numbers {} to {}: {next} is neither an entry nor in a gap", self.first, self.last);
        for entry in &entries.entries {
            while let Some(gap) = gaps.next_if(|gap| gap.first == next) {
                next = gap.last.checked_add(1).filter(|after| *after > next).ok_or_else(|| wrong(next))?;
            }
            if entry.id != next {
                return Err(wrong(next));
            }
            next = next.checked_add(1).ok_or_else(|| wrong(next))?;
        }
        for gap in gaps {
            let after = gap.last.checked_add(1).filter(|after| gap.first == next && *after > next);
            next = after.ok_or_else(|| wrong(next))?;
        }
        if self.first == 0 || self.last.checked_add(1) != Some(next) || next == self.first {
            return Err(wrong(next));
        }
        Ok(())
    }
}

/// How many fields there are at the top, unread.
fn fields(mut plain: &[u8]) -> Result<usize, prost::DecodeError> {
    let mut count = 0;
    while !plain.is_empty() {
        let (tag, kind) = decode_key(&mut plain)?;
        skip_field(kind, tag, &mut plain, DecodeContext::default())?;
        count += 1;
    }
    Ok(count)
}

/// With zstd's checksum: the receipt would tell of a byte that changed only once the next batch comes.
fn compress(plain: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
    compressor.include_checksum(true)?;
    compressor.compress(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap(first: u64, last: u64) -> wire::Gap {
        wire::Gap { first, last, count: 1, ..Default::default() }
    }

    fn batch(ids: &[u64], gaps: &[(u64, u64)]) -> wire::Batch {
        let entry = |id: &u64| wire::Entry { id: *id, what: Some(wire::entry::What::Alert(Bytes::from_static(b"{}"))) };
        let entries = wire::Entries { entries: ids.iter().map(entry).collect(), ..Default::default() };
        let mut batch = wire::Batch {
            site: "s".into(),
            class: Class::Alerts.into(),
            chain: vec![7; CHAIN_BYTES].into(),
            number: 1,
            first: 3,
            last: 9,
            gaps: gaps.iter().map(|(first, last)| gap(*first, *last)).collect(),
            ..Default::default()
        };
        batch.pack(&entries);
        batch
    }

    #[test]
    fn a_batch_comes_back() {
        let (read, entries) = wire::Batch::read(&batch(&[4, 5, 8], &[(3, 3), (6, 7), (9, 9)]).encode_to_vec()).unwrap();
        assert_eq!((read.count, entries.entries.len(), entries.entries[1].id), (3, 3, 5));
        assert!(wire::Batch::read(&batch(&[], &[(3, 9)]).encode_to_vec()).is_ok());
        assert!(wire::Batch::read(&batch(&[3, 4, 5, 6, 7, 8, 9], &[]).encode_to_vec()).is_ok());
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let whole = || batch(&[3], &[(4, 9)]);
        let mut announced = whole();
        announced.entries_bytes += 1;
        // Two million empty entries in a few hundred bytes.
        let mut bomb = whole();
        bomb.entries = compress(&[0x0a, 0].repeat(ENTRIES_BYTES_MAX / 2)).unwrap().into();
        bomb.entries_bytes = ENTRIES_BYTES_MAX as u32;
        let many = wire::Batch { count: u32::MAX, ..bomb.clone() };
        let mut huge = whole();
        huge.entries_bytes = u32::MAX;
        for (wrong, part) in [
            (wire::Batch { count: 2, ..whole() }, "1 entries where 2"),
            (wire::Batch { first: 4, ..whole() }, "numbers 4 to 9"),
            (wire::Batch { last: 10, ..whole() }, "10 is neither"),
            (batch(&[3, 5], &[(6, 9)]), "4 is neither"),
            (batch(&[3, 3], &[(4, 9)]), "10 is neither"),
            (batch(&[3], &[(4, 9), (9, 9)]), "10 is neither"),
            (batch(&[3], &[(4, u64::MAX)]), "4 is neither"),
            (batch(&[], &[]), "3 is neither"),
            (wire::Batch { chain: Bytes::new(), ..whole() }, "chain's name"),
            (wire::Batch { previous: Bytes::from_static(b"x"), ..whole() }, "receipt of 1"),
            (announced, "announced"),
            (bomb, "2097152 entries, series and bundles where 1 entries"),
            (many, "of at most 131072"),
            (huge, "at most"),
        ] {
            let error = wire::Batch::read(&wrong.encode_to_vec()).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        assert!(wire::Batch::read(b"rubbish").is_err());
    }

    #[test]
    fn a_receipt_depends_on_what_came_before() {
        assert_ne!(receipt(&[], b"a"), receipt(&receipt(&[], b"b"), b"a"));
        assert_eq!(Class::of_token("deltas"), Some(Class::Deltas));
        assert_eq!(subject_of("plant 1", Class::Alerts), "sync.plant%201.alerts");
        assert!(Class::ALL.is_sorted());
    }
}
