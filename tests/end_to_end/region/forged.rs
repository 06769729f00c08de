//! A gateway that writes its batches by hand: right ones, and wrong ones.

use eddy_schemas::sync::wire::{Batch, Class, Entries, Entry, entry::What};
use prost::Message as _;

use super::feed::event;

/// A chain of alerts.
pub struct Forger {
    site: String,
    number: u64,
    last: u64,
    previous: Vec<u8>,
}

impl Forger {
    /// At its beginning.
    pub fn new(site: &str) -> Self {
        Self { site: site.to_owned(), number: 0, last: 0, previous: Vec::new() }
    }

    /// The batch that follows, of so many alerts.
    pub fn batch(&self, alerts: u64) -> Batch {
        let ids = self.last + 1..=self.last + alerts;
        let entry =
            |id| Entry { id, what: Some(What::Alert(event(&self.site, id, "pump", id as i64).to_json().into())) };
        let entries = Entries { entries: ids.map(entry).collect(), ..Default::default() };
        let mut batch = Batch {
            site: self.site.clone(),
            class: Class::Alerts.into(),
            chain: vec![7; 16].into(),
            number: self.number + 1,
            first: self.last + 1,
            last: self.last + alerts,
            previous: self.previous.clone().into(),
            ..Default::default()
        };
        batch.pack(&entries);
        batch
    }

    /// It was taken.
    pub fn sent(&mut self, batch: &Batch) {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&batch.previous).update(&batch.encode_to_vec());
        self.previous = hasher.finalize().as_bytes().to_vec();
        (self.number, self.last) = (batch.number, batch.last);
    }
}
