//! Notes: records of the owner's, each under a name of its own, that are committed with the windows they tell of.
//!
//! What they say is the owner's affair, and so is how many there are: they do not age out with their windows, and count as bytes of
//! the store all the same.

use std::ops::Bound;

use heed::RoTxn;

use super::{
    batch::Batch,
    catalog::{Catalog, Notes},
    error::IndexError,
    search::Searcher,
    store::Store,
};

/// Bytes of a note's key; LMDB's own bound.
pub const NOTE_KEY_BYTES_MAX: usize = 511;

impl Batch<'_> {
    /// Writes a note; one under the same key is replaced.
    ///
    /// # Errors
    /// If the key is empty or longer than [`NOTE_KEY_BYTES_MAX`]; or the catalog's own.
    pub fn note(&mut self, key: &str, value: &[u8]) -> Result<(), IndexError> {
        check_key("note", key)?;
        let notes = self.notes_table()?;
        let catalog = &self.store.shared.catalog;
        notes.put(&mut self.txn, key, value).map_err(catalog.wrap())
    }

    /// A note, as it stands in this batch.
    ///
    /// # Errors
    /// The catalog's.
    pub fn noted(&self, key: &str) -> Result<Option<Vec<u8>>, IndexError> {
        get(&self.store.shared.catalog, &self.txn, key)
    }

    /// The first `limit` notes whose keys begin with `prefix`, by key, as they stand in this batch.
    ///
    /// # Errors
    /// The catalog's.
    pub fn notes(&self, prefix: &str, limit: usize) -> Result<Vec<(String, Vec<u8>)>, IndexError> {
        list(&self.store.shared.catalog, &self.txn, prefix, limit)
    }

    /// Removes a note; `false` if there is none.
    ///
    /// # Errors
    /// The catalog's.
    pub fn remove_note(&mut self, key: &str) -> Result<bool, IndexError> {
        if !fits(key) {
            return Ok(false);
        }
        let notes = self.notes_table()?;
        let catalog = &self.store.shared.catalog;
        notes.delete(&mut self.txn, key).map_err(catalog.wrap())
    }

    fn notes_table(&self) -> Result<Notes, IndexError> {
        let catalog = &self.store.shared.catalog;
        catalog.notes.ok_or_else(|| IndexError::Damaged {
            path: catalog.path.clone(),
            problem: "the database of notes is missing".into(),
        })
    }
}

impl Store {
    /// A note.
    ///
    /// # Errors
    /// If the catalog cannot be read.
    pub fn note(&self, key: &str) -> Result<Option<Vec<u8>>, IndexError> {
        let txn = self.shared.catalog.read()?;
        get(&self.shared.catalog, &txn, key)
    }

    /// The first `limit` notes whose keys begin with `prefix`, by key.
    ///
    /// # Errors
    /// If the catalog cannot be read.
    pub fn notes(&self, prefix: &str, limit: usize) -> Result<Vec<(String, Vec<u8>)>, IndexError> {
        let txn = self.shared.catalog.read()?;
        list(&self.shared.catalog, &txn, prefix, limit)
    }
}

/// As of the last commit. A searcher that was opened beside a writer of an older release sees none before it is opened again.
impl Searcher {
    /// A note.
    ///
    /// # Errors
    /// If the catalog cannot be read.
    pub fn note(&self, key: &str) -> Result<Option<Vec<u8>>, IndexError> {
        let txn = self.shared.catalog.read()?;
        get(&self.shared.catalog, &txn, key)
    }

    /// The first `limit` notes whose keys begin with `prefix`, by key.
    ///
    /// # Errors
    /// If the catalog cannot be read.
    pub fn notes(&self, prefix: &str, limit: usize) -> Result<Vec<(String, Vec<u8>)>, IndexError> {
        let txn = self.shared.catalog.read()?;
        list(&self.shared.catalog, &txn, prefix, limit)
    }
}

fn fits(key: &str) -> bool {
    (1..=NOTE_KEY_BYTES_MAX).contains(&key.len())
}

/// Refuses a name that LMDB cannot hold.
pub(super) fn check_key(what: &str, key: &str) -> Result<(), IndexError> {
    if fits(key) {
        return Ok(());
    }
    let head: String = key.chars().take(40).collect();
    Err(IndexError::Query(format!(
        "a {what} named {head:?} of {} bytes: 1 to {NOTE_KEY_BYTES_MAX} are taken",
        key.len()
    )))
}

fn get(catalog: &Catalog, txn: &RoTxn<'_>, key: &str) -> Result<Option<Vec<u8>>, IndexError> {
    let Some(notes) = catalog.notes.filter(|_| fits(key)) else { return Ok(None) };
    Ok(notes.get(txn, key).map_err(catalog.wrap())?.map(<[u8]>::to_vec))
}

fn list(catalog: &Catalog, txn: &RoTxn<'_>, prefix: &str, limit: usize) -> Result<Vec<(String, Vec<u8>)>, IndexError> {
    let Some(notes) = catalog.notes else { return Ok(Vec::new()) };
    // LMDB knows no empty key; and no key begins with what is longer than any.
    let from = match prefix.len() {
        0 => Bound::Unbounded,
        1..=NOTE_KEY_BYTES_MAX => Bound::Included(prefix),
        _ => return Ok(Vec::new()),
    };
    let mut listed = Vec::new();
    for item in notes.range(txn, &(from, Bound::Unbounded)).map_err(catalog.wrap())?.take(limit) {
        let (key, value) = item.map_err(catalog.wrap())?;
        if !key.starts_with(prefix) {
            break;
        }
        listed.push((key.to_owned(), value.to_vec()));
    }
    Ok(listed)
}
