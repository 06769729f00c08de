//! The two versions of a record, of which a snapshot that is being written takes the one that no restart needs.
//!
//! Each lies in a database of its own, behind eight bytes that say which snapshot it is of and whether the record is there: what the last
//! whole snapshot wrote, or one before it, is a record's value until the next one is whole.

use std::io::Write as _;

use heed::{Database, RoIter, RoTxn, RwTxn, types::Bytes};

/// Number of a snapshot, ascending; what an earlier release wrote is of number 0.
pub(super) type Generation = u64;

/// Bytes before a record's value.
const HEAD_BYTES: usize = 8;

/// Both databases.
#[derive(Clone, Copy, Debug)]
pub(super) struct Versions(pub(super) [Database<'static, Bytes, Bytes>; 2]);

/// A version of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version<'t> {
    pub(super) generation: Generation,
    /// `None`: the snapshot says that it is gone.
    pub(super) value: Option<&'t [u8]>,
}

impl<'t> Version<'t> {
    fn read(stored: &'t [u8]) -> heed::Result<Self> {
        let Some((head, value)) = stored.split_first_chunk::<HEAD_BYTES>() else {
            return Err(heed::Error::Decoding("a record without the number of its snapshot".into()));
        };
        let head = u64::from_be_bytes(*head);
        Ok(Self { generation: head >> 1, value: (head & 1 == 1).then_some(value) })
    }
}

/// Of both versions the one that counts while `whole` is the last whole snapshot.
pub(super) fn newest<'t>(versions: [Option<Version<'t>>; 2], whole: Generation) -> Option<Version<'t>> {
    versions
        .into_iter()
        .flatten()
        .filter(|version| version.generation <= whole)
        .max_by_key(|version| version.generation)
}

impl Versions {
    /// Both versions of a record.
    pub(super) fn get<'t>(&self, txn: &'t RoTxn<'_>, key: &[u8]) -> heed::Result<[Option<Version<'t>>; 2]> {
        let of = |database: &Database<Bytes, Bytes>| database.get(txn, key)?.map(Version::read).transpose();
        let [first, second] = &self.0;
        Ok([of(first)?, of(second)?])
    }

    /// Writes what snapshot `whole + 1` says of a record. Returns whether it left word that the record is gone, to
    /// be swept once that snapshot is whole.
    pub(super) fn put(
        &self,
        txn: &mut RwTxn<'_>,
        key: &[u8],
        value: Option<&[u8]>,
        whole: Generation,
    ) -> heed::Result<bool> {
        let there = self.get(txn, key)?.map(|version| version.map(|version| version.generation));
        let place = match there {
            [None, None] if value.is_none() => return Ok(false),
            // This snapshot told it before.
            [Some(first), _] if first > whole => 0,
            [_, Some(second)] if second > whole => 1,
            [None, _] => 0,
            [_, None] => 1,
            [Some(first), Some(second)] => usize::from(second < first),
        };
        put_version(self.0[place], txn, key, whole + 1, value)?;
        Ok(value.is_none())
    }

    /// All records, by key.
    pub(super) fn iter<'t>(&self, txn: &'t RoTxn<'_>) -> heed::Result<Both<'t>> {
        let [first, second] = &self.0;
        let (mut first, mut second) = (first.iter(txn)?, second.iter(txn)?);
        let heads = [first.next().transpose()?, second.next().transpose()?];
        Ok(Both { iters: [first, second], heads })
    }
}

/// Writes a version of a record.
pub(super) fn put_version(
    database: Database<'static, Bytes, Bytes>,
    txn: &mut RwTxn<'_>,
    key: &[u8],
    generation: Generation,
    value: Option<&[u8]>,
) -> heed::Result<()> {
    let head = (generation << 1 | u64::from(value.is_some())).to_be_bytes();
    let value = value.unwrap_or_default();
    database.put_reserved(txn, key, HEAD_BYTES + value.len(), |space| {
        space.write_all(&head)?;
        space.write_all(value)
    })
}

/// A record: its key and both versions.
pub(super) type Pair<'t> = (&'t [u8], [Option<Version<'t>>; 2]);

/// Both databases side by side.
pub(super) struct Both<'t> {
    iters: [RoIter<'t, Bytes, Bytes>; 2],
    heads: [Option<(&'t [u8], &'t [u8])>; 2],
}

impl<'t> Iterator for Both<'t> {
    type Item = heed::Result<Pair<'t>>;

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.heads.iter().flatten().map(|(key, _)| *key).min()?;
        let mut versions = [None; 2];
        for ((head, iter), version) in self.heads.iter_mut().zip(&mut self.iters).zip(&mut versions) {
            if let Some((_, stored)) = head.take_if(|(own, _)| *own == key) {
                match Version::read(stored).and_then(|read| Ok((read, iter.next().transpose()?))) {
                    Ok((read, next)) => (*version, *head) = (Some(read), next),
                    Err(error) => return Some(Err(error)),
                }
            }
        }
        Some(Ok((key, versions)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_versions_the_newest_of_a_whole_snapshot_counts() {
        let version = |generation| Version { generation, value: Some(b"v".as_slice()) };
        for (pair, whole, counts) in [
            ([None, None], 5, None),
            ([Some(3), None], 5, Some(3)),
            ([Some(6), Some(3)], 5, Some(3)),
            ([Some(6), Some(3)], 6, Some(6)),
            ([Some(4), Some(5)], 5, Some(5)),
            ([Some(6), None], 5, None),
        ] {
            let pair: [Option<u64>; 2] = pair;
            let found = newest(pair.map(|one| one.map(version)), whole).map(|version| version.generation);
            assert_eq!(found, counts, "{pair:?} at {whole}");
        }
        assert!(Version::read(b"cut").is_err());
    }
}
