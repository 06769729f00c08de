//! What a sink keeps on disk: its position, what of it is still open, and records of its receiver's.
//!
//! One LMDB store a sink. Everything of one commit is one transaction, and is on disk when it returns.

use std::path::Path;

use eddy_runtime::{
    position::Position,
    reader::Kept,
    state::{Records, StateStore, StoreError},
};

/// The encoding of the records.
const VERSION: u32 = 1;
/// The stage, in messages about the store.
const STAGE: &str = "notify";
/// The stream that the position is about.
pub const STREAM: &str = "DETECTIONS";
/// The key of what is open: sequences, eight bytes each, big-endian.
const OPEN: &[u8] = b"open";
/// What the keys of the receiver's records begin with.
const RECORD: &[u8] = b"r/";

/// The store of one sink.
#[derive(Clone, Debug)]
pub struct Ledger {
    store: StateStore,
    written: Option<Kept>,
}

/// A receiver's record: key and value.
pub type Kv = (String, Vec<u8>);

impl Ledger {
    /// Opens or creates the store in the folder `path`.
    ///
    /// # Errors
    /// If the folder cannot be used, or holds something else.
    pub fn open(path: &Path, map_bytes: usize) -> Result<Self, StoreError> {
        Ok(Self { store: StateStore::open(path, STAGE, VERSION, map_bytes)?, written: None })
    }

    /// Reads everything.
    ///
    /// # Errors
    /// If the store is damaged.
    pub fn load(&mut self) -> Result<(Option<Kept>, Vec<Kv>), StoreError> {
        let (mut open, mut records) = (Vec::new(), Vec::new());
        let coverage = self.store.load::<StoreError>(STAGE, |key, value| {
            if key == OPEN {
                let (sequences, _) = value.as_chunks::<8>();
                open = sequences.iter().map(|bytes| u64::from_be_bytes(*bytes)).collect();
            } else if let Some(key) = key.strip_prefix(RECORD) {
                records.push((String::from_utf8_lossy(key).into_owned(), value.to_vec()));
            }
            Ok(())
        })?;
        let place = coverage.as_ref().and_then(|coverage| coverage.all.place(STREAM)).cloned();
        self.written = place.map(|place| Kept { place, open });
        Ok((self.written.clone(), records))
    }

    /// What was written last.
    pub fn written(&self) -> Option<&Kept> {
        self.written.as_ref()
    }

    /// Writes a position and records.
    ///
    /// # Errors
    /// If another process has written, or the disk refuses: nothing of it is written then.
    pub fn commit(&mut self, kept: &Kept, records: Vec<Kv>) -> Result<(), StoreError> {
        let position = |kept: &Kept| Position([(STREAM.to_owned(), kept.place.clone())].into());
        let open: Vec<u8> = kept.open.iter().flat_map(|sequence| sequence.to_be_bytes()).collect();
        let records = records.into_iter().map(|(key, value)| ([RECORD, key.as_bytes()].concat(), Some(value)));
        let written: Records = std::iter::once((OPEN.to_vec(), Some(open))).chain(records).collect();
        self.store.commit(self.written.as_ref().map(position).as_ref(), &position(kept), &written)?;
        self.written = Some(kept.clone());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use eddy_runtime::position::Place;

    use super::*;

    #[test]
    fn position_open_ones_and_records_come_back_together() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(folder.path(), 1 << 20).unwrap();
        assert_eq!(ledger.load().unwrap(), (None, vec![]));
        let kept = |sequence, open: &[u64]| Kept { place: Place::whole(5, sequence), open: open.to_vec() };
        ledger.commit(&kept(9, &[3, 1_000_000]), vec![("a/b".into(), b"1".to_vec())]).unwrap();
        ledger.commit(&kept(9, &[3]), vec![("open".into(), b"2".to_vec())]).unwrap();
        drop(ledger);
        let mut ledger = Ledger::open(folder.path(), 1 << 20).unwrap();
        let records = vec![("a/b".to_owned(), b"1".to_vec()), ("open".to_owned(), b"2".to_vec())];
        assert_eq!(ledger.load().unwrap(), (Some(kept(9, &[3])), records));
        ledger.commit(&kept(12, &[]), Vec::new()).unwrap();
        assert_eq!(ledger.written(), Some(&kept(12, &[])));
    }
}
