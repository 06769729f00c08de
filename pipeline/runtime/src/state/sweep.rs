//! What a snapshot left behind that never became whole, and word of records that are gone.

use super::{
    Generation, StateStore, StoreError, WRITING,
    snapshot::new_mark,
    versions::{Pair, newest},
};

/// Records of one transaction.
const RECORDS_MAX: usize = 10_000;

/// What is to be removed before the next snapshot begins.
#[derive(Debug, Default)]
pub(super) struct Rubbish {
    /// The last whole snapshot when it was found.
    pub(super) whole: Generation,
    /// The snapshot that was being written, if one was.
    pub(super) writing: Option<String>,
    /// Records that are gone, or of which a version is of no whole snapshot.
    pub(super) keys: Vec<Vec<u8>>,
}

impl Rubbish {
    /// Notes a record, if it is some.
    pub(super) fn note(&mut self, (key, versions): &Pair<'_>) {
        let is_unfinished = versions.iter().flatten().any(|version| version.generation > self.whole);
        let is_there = newest(*versions, self.whole).is_some_and(|version| version.value.is_some());
        if is_unfinished || !is_there {
            self.keys.push(key.to_vec());
        }
    }
}

impl StateStore {
    /// Removes it, unless another instance has gone on since: then it is nobody's. One that is still writing its snapshot finds
    /// itself fenced.
    pub(super) fn sweep(&self) -> Result<(), StoreError> {
        let wrap = self.wrap();
        let mut rubbish = self.rubbish();
        while !rubbish.keys.is_empty() || rubbish.writing.is_some() {
            let mut txn = self.env.write_txn().map_err(&wrap)?;
            let writing = self.meta.get(&txn, WRITING).map_err(&wrap)?.map(str::to_owned);
            let whole = rubbish.whole;
            if self.generation(&txn)? != whole || writing != rubbish.writing {
                break;
            }
            let left = rubbish.keys.len().saturating_sub(RECORDS_MAX);
            for key in &rubbish.keys[left..] {
                let versions = self.versions.get(&txn, key).map_err(&wrap)?;
                let is_there = newest(versions, whole).is_some_and(|version| version.value.is_some());
                let is_rubbish = versions.map(|version| version.is_some_and(|v| !is_there || v.generation > whole));
                for (database, _) in self.versions.0.iter().zip(is_rubbish).filter(|(_, is_rubbish)| *is_rubbish) {
                    database.delete(&mut txn, key).map_err(&wrap)?;
                }
            }
            let goes_on = (left > 0).then(new_mark);
            match &goes_on {
                Some(mark) => self.meta.put(&mut txn, WRITING, mark).map_err(&wrap)?,
                None => self.meta.delete(&mut txn, WRITING).map(drop).map_err(&wrap)?,
            }
            txn.commit().map_err(&wrap)?;
            rubbish.keys.truncate(left);
            rubbish.writing = goes_on;
        }
        *rubbish = Rubbish::default();
        Ok(())
    }
}
