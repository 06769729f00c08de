//! What of a stream is exported already, and what is to be.

use std::collections::HashMap;

use crate::{
    manifest::{self, ManifestError, Naming, Record},
    store::Store,
};

/// Sequences that are to be exported, both inclusive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hole {
    /// The first.
    pub first: u64,
    /// The last.
    pub last: u64,
    /// They were exported before, and a file of them is gone: what is made has to be this again.
    pub redo: Option<Record>,
}

/// The ranges that are exported.
#[derive(Debug)]
pub struct Done {
    whole: Vec<Record>,
    /// Files of theirs are missing, or are not of the size that they had.
    damaged: Vec<Record>,
}

impl Done {
    /// As the store says it, whose files are looked at, but not read.
    ///
    /// # Errors
    /// See [`ManifestError`].
    pub async fn load(store: &Store, naming: &Naming) -> Result<Self, ManifestError> {
        let records = manifest::records(store, naming).await?;
        let files: HashMap<String, u64> =
            if records.is_empty() { HashMap::new() } else { store.list(&naming.files()).await?.into_iter().collect() };
        let is_whole = |record: &Record| record.files.iter().all(|file| files.get(&file.path) == Some(&file.bytes));
        let (whole, damaged) = records.into_iter().partition(is_whole);
        Ok(Self { whole, damaged })
    }

    /// What is to be exported of the sequences from `first` to `last`, in order.
    pub fn holes(&self, first: u64, last: u64) -> Vec<Hole> {
        let mut taken: Vec<(&Record, bool)> = self.whole.iter().map(|record| (record, false)).collect();
        taken.extend(self.damaged.iter().map(|record| (record, true)));
        taken.sort_by_key(|(record, _)| record.first);
        let (mut holes, mut next) = (Vec::new(), first);
        for (record, is_damaged) in taken {
            if record.last < first || record.first > last {
                continue;
            }
            if record.first > next {
                holes.push(Hole { first: next, last: record.first - 1, redo: None });
            }
            if is_damaged {
                holes.push(Hole { first: record.first, last: record.last, redo: Some(record.clone()) });
            }
            next = next.max(record.last + 1);
        }
        if next <= last {
            holes.push(Hole { first: next, last, redo: None });
        }
        holes
    }

    /// The whole ranges that have sequences from `first` to `last`.
    pub fn within(self, first: u64, last: u64) -> impl Iterator<Item = Record> {
        self.whole.into_iter().filter(move |record| record.last >= first && record.first <= last)
    }

    /// The sequence behind the last range.
    pub fn next_sequence(&self) -> u64 {
        self.whole.iter().chain(&self.damaged).map(|record| record.last).max().unwrap_or(0) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::Class;

    fn record(first: u64, last: u64) -> Record {
        let naming =
            Naming { class: Class::Scores, site: "s".into(), stream: "DETECTIONS".into(), incarnation: 1, tag: None };
        Record::new(&naming, first, last)
    }

    #[test]
    fn holes_are_what_no_record_covers_and_what_lost_a_file() {
        let done = Done { whole: vec![record(5, 9), record(20, 29)], damaged: vec![record(10, 12)] };
        let holes: Vec<_> =
            done.holes(1, 35).into_iter().map(|hole| (hole.first, hole.last, hole.redo.is_some())).collect();
        assert_eq!(holes, [(1, 4, false), (10, 12, true), (13, 19, false), (30, 35, false)]);
        assert_eq!(done.holes(21, 25), []);
        assert_eq!(done.holes(7, 9), []);
        assert_eq!(done.next_sequence(), 30);
        assert_eq!(done.within(6, 20).count(), 2);
    }
}
