//! What was exported, as the store itself says it.
//!
//! A **record** is the commit of one range of one class: it is written when all of the range's files are there, and is the
//! only thing that says so. Its name has the range's first sequence, and it is created, never replaced: so of two writers that export
//! the same stream one comes through. A **run manifest** is written last and holds the records of all that a run was asked for; its
//! name is its content's digest.

use std::collections::BTreeSet;

use bytes::Bytes;
use eddy_schemas::names;
use serde::{Deserialize, Serialize};

use crate::{
    class::Class,
    select::Filter,
    store::{Store, StoreError},
};

/// The format of records and manifests.
const FORMAT: u32 = 1;
/// Where both lie; readers of Parquet folders leave such names out.
const FOLDER: &str = "_manifests";

/// Sequences that the stream no longer held, both inclusive: what lay there is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The first.
    pub first: u64,
    /// The last.
    pub last: u64,
}

/// A message that is none of its class, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Its sequence.
    pub sequence: u64,
    /// What is wrong with it.
    pub problem: String,
}

/// A file of a range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Relative to the store's root.
    pub path: String,
    /// Its rows.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
    /// Of its bytes, lower-case hex.
    pub blake3: String,
}

/// A range that is exported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// [`FORMAT`].
    pub format: u32,
    /// The class.
    pub class: Class,
    /// The site.
    pub site: String,
    /// The stream.
    pub stream: String,
    /// When it was created: nanoseconds since the Unix epoch.
    pub incarnation: i64,
    /// The first sequence of the range.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// Which rows were taken; all if it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
    /// What raw data is for, where there is any.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub purpose: String,
    /// Messages that were there.
    pub messages: u64,
    /// Rows in all files.
    pub rows: u64,
    /// The files, in the order of their names.
    pub files: Vec<FileEntry>,
    /// What was not there any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
    /// How many messages, and entries of a hub's messages, could not be read as this class.
    #[serde(default)]
    pub skipped: u64,
    /// The first of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_skipped: Option<Skipped>,
}

/// What a run was asked for, all of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// The site.
    pub site: String,
    /// Which rows were taken; all if it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
    /// Rows in all files.
    pub rows: u64,
    /// Bytes in all files.
    pub bytes: u64,
    /// Class by class, the records in the order of their ranges.
    pub records: Vec<Record>,
}

/// What the files and records of a class of a site have in common.
#[derive(Clone, Debug)]
pub struct Naming {
    /// The class.
    pub class: Class,
    /// The site.
    pub site: String,
    /// The stream.
    pub stream: String,
    /// Of the stream.
    pub incarnation: i64,
    /// Of the filter.
    pub tag: Option<String>,
}

impl Naming {
    fn tag(&self) -> String {
        self.tag.as_ref().map_or_else(String::new, |tag| format!("-{tag}"))
    }

    /// The folder of the class' files.
    pub fn files(&self) -> String {
        format!("class={}/site={}", self.class.name(), names::encode(&self.site))
    }

    /// The folder of its records.
    pub fn records(&self) -> String {
        format!("{FOLDER}/{}", self.files())
    }

    /// The file of a range and an event date (`YYYY-MM-DD`), whose bytes have this digest: its beginning stands in the name, so that
    /// a writer of other bytes (of another policy, say) that loses does not write over the file of the one that wins.
    pub fn file(&self, first: u64, last: u64, date: &str, blake3: &str) -> String {
        let (files, tag, digest) = (self.files(), self.tag(), blake3.get(..8).unwrap_or(blake3));
        format!("{files}/date={date}/{:016x}-{first:012}-{last:012}{tag}-{digest}.parquet", self.incarnation)
    }

    /// The record of the range that begins there.
    pub fn record(&self, first: u64) -> String {
        format!("{}/{:016x}-{first:012}{}.json", self.records(), self.incarnation, self.tag())
    }

    /// Of a record's path its first sequence and tag, if it is of this incarnation.
    fn of_record(&self, path: &str) -> Option<(u64, Option<String>)> {
        let name = path.rsplit('/').next()?.strip_suffix(".json")?;
        let rest = name.strip_prefix(&format!("{:016x}-", self.incarnation))?;
        let (first, tag) = rest.split_once('-').map_or((rest, None), |(first, tag)| (first, Some(tag.to_owned())));
        Some((first.parse().ok()?, tag))
    }
}

/// A failure about what a store says of itself.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record cannot be read.
    #[error("{path}: {problem}; if the file is damaged, remove it, and its range is exported again")]
    Damaged {
        /// The record.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// The store holds rows of the same stream that were selected otherwise.
    #[error(
        "class {class} of site {site:?} lies there already, selected otherwise (--since, --until, --device): its rows would be there \
         twice; choose another folder"
    )]
    OtherSelection {
        /// The class.
        class: &'static str,
        /// The site.
        site: String,
    },
    /// The store holds the same rows as another stream has them: a gateway's, or its hub's.
    #[error(
        "class {class} of site {site:?} lies there already, from stream {there}: what {stream} has of it would be there twice; choose \
         another folder"
    )]
    OtherStream {
        /// The class.
        class: &'static str,
        /// The site.
        site: String,
        /// The stream of what is there.
        there: String,
        /// The stream that is to be exported.
        stream: String,
    },
}

impl Record {
    /// As it is written.
    pub fn bytes(&self) -> Bytes {
        json(self)
    }

    /// What is wrong with what was written; the format is looked at first.
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let record: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if record.format != FORMAT || record.first > record.last {
            return Err(format!("format {}, sequences {} to {}", record.format, record.first, record.last));
        }
        Ok(record)
    }

    /// An empty one of that format.
    pub fn new(naming: &Naming, first: u64, last: u64) -> Self {
        Self {
            format: FORMAT,
            class: naming.class,
            site: naming.site.clone(),
            stream: naming.stream.clone(),
            incarnation: naming.incarnation,
            first,
            last,
            filter: None,
            purpose: String::new(),
            messages: 0,
            rows: 0,
            files: Vec::new(),
            gaps: Vec::new(),
            skipped: 0,
            first_skipped: None,
        }
    }
}

/// The records of a class of a site and an incarnation, by their first sequence.
///
/// # Errors
/// See [`ManifestError`].
pub async fn records(store: &Store, naming: &Naming) -> Result<Vec<Record>, ManifestError> {
    let mut records = Vec::new();
    let mut others = BTreeSet::new();
    for (path, _) in store.list(&naming.records()).await? {
        let Some((_, tag)) = naming.of_record(&path) else {
            // One record tells of a whole incarnation, and names begin with that.
            let incarnation = path.rsplit('/').next().and_then(|name| name.split_once('-')).map(|(first, _)| first);
            if incarnation.is_some_and(|incarnation| others.insert(incarnation.to_owned())) {
                is_of_stream(store, naming, &path).await?;
            }
            continue;
        };
        if tag != naming.tag {
            return Err(ManifestError::OtherSelection { class: naming.class.name(), site: naming.site.clone() });
        }
        records.extend(read(store, &path).await?);
    }
    Ok(records)
}

/// That the record is of an earlier incarnation of the same stream.
async fn is_of_stream(store: &Store, naming: &Naming, path: &str) -> Result<(), ManifestError> {
    match read(store, path).await? {
        Some(Record { stream: there, .. }) if there != naming.stream => Err(ManifestError::OtherStream {
            class: naming.class.name(),
            site: naming.site.clone(),
            there,
            stream: naming.stream.clone(),
        }),
        _ => Ok(()),
    }
}

/// The newest record of an incarnation whose name comes behind `after`, and its name.
///
/// # Errors
/// See [`ManifestError`].
pub async fn newest(store: &Store, naming: &Naming, after: &str) -> Result<Option<(String, Record)>, ManifestError> {
    let names = store.list_after(&naming.records(), after).await?;
    let is_own = |path: &String| naming.of_record(path).is_some_and(|(_, tag)| tag == naming.tag);
    let Some(path) = names.into_iter().rfind(is_own) else { return Ok(None) };
    let record = read(store, &path).await?;
    Ok(record.map(|record| (path, record)))
}

/// Every record of a store.
///
/// # Errors
/// See [`ManifestError`].
pub async fn all(store: &Store) -> Result<Vec<Record>, ManifestError> {
    let mut records = Vec::new();
    for class in Class::ALL {
        for (path, _) in store.list(&format!("{FOLDER}/class={}", class.name())).await? {
            records.extend(read(store, &path).await?);
        }
    }
    Ok(records)
}

async fn read(store: &Store, path: &str) -> Result<Option<Record>, ManifestError> {
    let Some(bytes) = store.get(path).await? else { return Ok(None) };
    let damaged = |problem| ManifestError::Damaged { path: path.to_owned(), problem };
    Record::parse(&bytes).map(Some).map_err(damaged)
}

impl Manifest {
    /// Of these records.
    pub fn new(site: &str, filter: &Filter, records: Vec<Record>) -> Self {
        let files = || records.iter().flat_map(|record| &record.files);
        Self {
            format: FORMAT,
            site: site.to_owned(),
            filter: filter.tag().map(|_| filter.clone()),
            rows: records.iter().map(|record| record.rows).sum(),
            bytes: files().map(|file| file.bytes).sum(),
            records,
        }
    }

    /// Writes it; returns its path.
    ///
    /// # Errors
    /// The store's.
    pub async fn write(&self, store: &Store) -> Result<String, StoreError> {
        let bytes = json(self);
        let path = format!("{FOLDER}/runs/manifest={}.json", &blake3::hash(&bytes).to_hex()[..16]);
        store.create(&path, bytes).await?;
        Ok(path)
    }
}

fn json(value: &impl Serialize) -> Bytes {
    let mut text =
        serde_json::to_vec_pretty(value).expect("records have string keys and no number that JSON does not know");
    text.push(b'\n');
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_they_are_of() {
        let naming = Naming {
            class: Class::Scores,
            site: "plant 1".into(),
            stream: "DETECTIONS".into(),
            incarnation: 255,
            tag: Some("0a0b0c0d".into()),
        };
        assert_eq!(
            naming.file(1, 20, "2026-01-05", "89abcdef01234567"),
            "class=scores/site=plant%201/date=2026-01-05/00000000000000ff-000000000001-000000000020-0a0b0c0d-89abcdef.parquet"
        );
        let record = naming.record(7);
        assert_eq!(record, "_manifests/class=scores/site=plant%201/00000000000000ff-000000000007-0a0b0c0d.json");
        assert_eq!(naming.of_record(&record), Some((7, Some("0a0b0c0d".into()))));
        assert_eq!(naming.of_record("x/00000000000000fe-000000000007.json"), None);
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let naming =
            Naming { class: Class::Alerts, site: "s".into(), stream: "DETECTIONS".into(), incarnation: 1, tag: None };
        let record = Record { gaps: vec![Gap { first: 1, last: 3 }], ..Record::new(&naming, 1, 9) };
        assert_eq!(Record::parse(&record.bytes()), Ok(record));
        assert!(Record::parse(b"{").is_err());
    }
}
