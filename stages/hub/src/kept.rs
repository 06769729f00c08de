//! Notes that age: alerts, contexts, conditions, summaries, what was said. The oldest go when there are too many, or they are too old.
//!
//! | note | is |
//! |---|---|
//! | its key | its number (8 bytes), then what was kept |
//! | `age/<number>` | when it came (8 bytes), then its key: the oldest first |
//! | `kept` | next number, how many there are, and their bytes |
//!
//! Each is written in the transaction of what it tells of, and those that go, go in the same.

use eddy_schemas::{Timestamp, names};
use eddy_vectors::{
    codec::{CodecError, Get, Put as _},
    index::{Batch, IndexError, Store},
};

const TOTALS: &str = "kept";
/// Notes that one transaction removes at most, beside its own work.
const REMOVED_MAX: usize = 2_048;
/// What a note costs beside its key and value, about.
const OVERHEAD: u64 = 64;
/// Bytes of a name within a key: longer ones are refused, so that every key fits.
pub const PART_BYTES_MAX: usize = 128;

/// Bounds of all that is kept.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Notes.
    pub count: u64,
    /// Bytes.
    pub bytes: u64,
    /// Nanoseconds, by the server's clock.
    pub age: i64,
}

/// Where an alert's events begin.
pub fn alert_prefix(site_token: &str, alert: &str) -> String {
    format!("alert/{site_token}/{}/", names::encode(alert))
}

/// A note that is kept.
///
/// # Errors
/// The store's.
pub fn get(store: &Store, key: &str) -> Result<Option<Vec<u8>>, IndexError> {
    Ok(store.note(key)?.map(value))
}

/// The first `limit` notes whose keys begin with `prefix`.
///
/// # Errors
/// The store's.
pub fn list(store: &Store, prefix: &str, limit: usize) -> Result<Vec<(String, Vec<u8>)>, IndexError> {
    let notes = store.notes(prefix, limit)?;
    Ok(notes.into_iter().map(|(key, note)| (key, value(note))).collect())
}

/// Without its number.
fn value(mut note: Vec<u8>) -> Vec<u8> {
    note.drain(..8.min(note.len()));
    note
}

/// What one transaction keeps.
#[derive(Debug)]
pub struct Keeper {
    bounds: Bounds,
    next: u64,
    count: u64,
    bytes: u64,
    newest: Timestamp,
}

fn age_key(number: u64) -> String {
    format!("age/{number:016x}")
}

fn cost(key: &str, value: &[u8]) -> u64 {
    2 * key.len() as u64 + value.len() as u64 + OVERHEAD
}

fn damaged(what: &str, error: &CodecError) -> IndexError {
    IndexError::Query(format!("the note {what} is damaged: {error}"))
}

impl Keeper {
    /// As `batch` has it.
    pub fn load(batch: &Batch<'_>, bounds: Bounds) -> Result<Self, IndexError> {
        let Some(note) = batch.noted(TOTALS)? else {
            return Ok(Self { bounds, next: 0, count: 0, bytes: 0, newest: i64::MIN });
        };
        let mut get = Get::new(&note);
        let read = (|| Ok((get.u64()?, get.u64()?, get.u64()?, get.i64()?)))();
        let (next, count, bytes, newest) = read.map_err(|error| damaged(TOTALS, &error))?;
        Ok(Self { bounds, next, count, bytes, newest })
    }

    /// As `batch` has it.
    pub fn get(&self, batch: &Batch<'_>, key: &str) -> Result<Option<Vec<u8>>, IndexError> {
        Ok(batch.noted(key)?.map(value))
    }

    /// Keeps `what`, in the place of what was kept under the key; it is as young as the message that came `at`.
    pub fn keep(&mut self, batch: &mut Batch<'_>, key: &str, what: &[u8], at: Timestamp) -> Result<(), IndexError> {
        self.forget(batch, key)?;
        let mut note = Vec::with_capacity(8 + what.len());
        note.put_u64(self.next);
        note.extend_from_slice(what);
        batch.note(key, &note)?;
        let mut aged = Vec::with_capacity(8 + key.len());
        aged.put_i64(at);
        aged.extend_from_slice(key.as_bytes());
        batch.note(&age_key(self.next), &aged)?;
        self.next += 1;
        self.count += 1;
        self.bytes += cost(key, &note);
        self.newest = self.newest.max(at);
        Ok(())
    }

    fn forget(&mut self, batch: &mut Batch<'_>, key: &str) -> Result<(), IndexError> {
        let Some(old) = batch.noted(key)? else { return Ok(()) };
        let number = Get::new(&old).u64().map_err(|error| damaged(key, &error))?;
        batch.remove_note(&age_key(number))?;
        batch.remove_note(key)?;
        self.count = self.count.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(cost(key, &old));
        Ok(())
    }

    /// Removes what is too much or too old, and writes down what there is; how many went.
    pub fn finish(mut self, batch: &mut Batch<'_>) -> Result<usize, IndexError> {
        let mut removed = 0;
        'rounds: while removed < REMOVED_MAX {
            let oldest = batch.notes("age/", 64)?;
            if oldest.is_empty() {
                break;
            }
            for (age_key, aged) in oldest {
                let mut get = Get::new(&aged);
                let at = get.i64().map_err(|error| damaged(&age_key, &error))?;
                let too_old = self.newest.saturating_sub(at) > self.bounds.age;
                if !too_old && self.count <= self.bounds.count && self.bytes <= self.bounds.bytes {
                    break 'rounds;
                }
                let key = String::from_utf8_lossy(&aged[8..]).into_owned();
                self.forget(batch, &key)?;
                // Also where its note is gone.
                batch.remove_note(&age_key)?;
                removed += 1;
            }
        }
        let mut note = Vec::new();
        note.put_u64(self.next);
        note.put_u64(self.count);
        note.put_u64(self.bytes);
        note.put_i64(self.newest);
        batch.note(TOTALS, &note)?;
        Ok(removed)
    }
}

#[cfg(test)]
mod tests {
    use eddy_vectors::index::Limits;

    use super::*;

    fn kept(store: &Store, bounds: Bounds, keys: &[(&str, i64)]) -> usize {
        let mut batch = store.batch().unwrap();
        let mut keeper = Keeper::load(&batch, bounds).unwrap();
        keys.iter().for_each(|(key, at)| keeper.keep(&mut batch, key, key.as_bytes(), *at).unwrap());
        let removed = keeper.finish(&mut batch).unwrap();
        let before = store.position().unwrap();
        batch.commit(before.as_deref(), "S@1:1").unwrap();
        removed
    }

    #[test]
    fn the_oldest_go_and_what_is_written_again_is_young() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Limits::default()).unwrap();
        let roomy = Bounds { count: 4, bytes: 1 << 20, age: 1_000 };
        assert_eq!(kept(&store, roomy, &[("a/1", 1), ("a/2", 2), ("a/3", 3), ("a/1", 4)]), 0);
        assert_eq!(kept(&store, roomy, &[("a/4", 5), ("a/5", 6)]), 1, "a/2 was the oldest");
        let keys: Vec<String> = list(&store, "a/", 10).unwrap().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["a/1", "a/3", "a/4", "a/5"]);
        assert_eq!(get(&store, "a/4").unwrap().unwrap(), b"a/4");
        assert_eq!(kept(&store, roomy, &[("b/1", 1_005)]), 2, "a/3 and a/1 are too old");
        assert_eq!(store.notes("age/", 10).unwrap().len(), 3);
        let tight = Bounds { bytes: 200, ..roomy };
        assert_eq!(kept(&store, tight, &[("b/2", 1_006)]), 2);
        assert_eq!(list(&store, "", 99).unwrap().len(), 2 * 2 + 1, "two notes, their ages and the totals");
    }

    #[test]
    fn one_transaction_removes_a_bounded_number() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Limits::default()).unwrap();
        let roomy = Bounds { count: u64::MAX, bytes: u64::MAX, age: i64::MAX };
        let keys: Vec<String> = (0..5_000).map(|n| format!("k/{n}")).collect();
        let all: Vec<(&str, i64)> = keys.iter().map(|key| (key.as_str(), 0)).collect();
        assert_eq!(kept(&store, roomy, &all), 0);
        let none = Bounds { count: 0, ..roomy };
        let mut removed = Vec::new();
        while removed.last() != Some(&0) {
            removed.push(kept(&store, none, &[]));
        }
        assert!(removed.iter().all(|round| *round <= REMOVED_MAX + 64) && removed.iter().sum::<usize>() == 5_000);
    }
}
