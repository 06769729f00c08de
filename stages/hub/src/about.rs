//! What is known of an alert: the window that opened it, and what people said.
//!
//! A word may come before the window that it is about (alerts and labels overtake bulk), and several may disagree: the later one by
//! their speakers' clocks holds, of equally late ones the greater origin, and one that somebody said before one that index
//! derived. All that was said is kept.

use eddy_schemas::{Timestamp, names};
use eddy_vectors::{
    codec::{CodecError, Get, Put as _},
    index::{Batch, IndexError, Label, Store, WindowId},
};

use crate::kept::{self, Keeper};

/// Different words about one alert that are kept; the one that holds is, in any case.
const WORDS_MAX: u32 = 100;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct About {
    /// The window that opened it.
    pub opener: Option<WindowId>,
    /// The word that holds.
    pub word: Option<Label>,
    /// How many words were kept.
    said: u32,
}

fn key(site_token: &str, alert: &str) -> String {
    format!("about/{site_token}/{}", names::encode(alert))
}

fn said_prefix(site_token: &str, alert: &str) -> String {
    format!("said/{site_token}/{}/", names::encode(alert))
}

/// What is known of an alert; `None`: nothing.
///
/// # Errors
/// The store's.
pub fn read(store: &Store, site_token: &str, alert: &str) -> Result<Option<About>, IndexError> {
    let key = key(site_token, alert);
    kept::get(store, &key)?.map(|record| About::decode(&record).map_err(|error| damaged(&key, &error))).transpose()
}

/// All that was said of an alert, oldest first by the speakers' clocks.
///
/// # Errors
/// The store's.
pub fn history(store: &Store, site_token: &str, alert: &str) -> Result<Vec<Label>, IndexError> {
    let notes = kept::list(store, &said_prefix(site_token, alert), WORDS_MAX as usize)?;
    notes.iter().map(|(key, record)| label(&mut Get::new(record)).map_err(|error| damaged(key, &error))).collect()
}

fn damaged(key: &str, error: &CodecError) -> IndexError {
    IndexError::Query(format!("the note {key} is damaged: {error}"))
}

fn replaces(new: &Label, old: &Label) -> bool {
    // Of the same speaker at the same time the last word counts; the same word again is none.
    new != old && new.replaces(old)
}

fn put_label(record: &mut Vec<u8>, label: &Label) {
    record.put_text(&label.name);
    record.put_text(&label.origin);
    record.put_i64(label.time);
}

fn label(get: &mut Get<'_>) -> Result<Label, CodecError> {
    Ok(Label { name: get.text()?, origin: get.text()?, time: get.i64()? })
}

impl About {
    fn encode(&self) -> Vec<u8> {
        let mut record = Vec::new();
        record.put_u32(self.said);
        record.put_u8(u8::from(self.opener.is_some()));
        record.put_u64(self.opener.unwrap_or_default());
        if let Some(word) = &self.word {
            put_label(&mut record, word);
        }
        record
    }

    fn decode(record: &[u8]) -> Result<Self, CodecError> {
        let mut get = Get::new(record);
        let (said, has_opener, opener) = (get.u32()?, get.u8()? != 0, get.u64()?);
        let word = if get.left() > 0 { Some(label(&mut get)?) } else { None };
        get.end()?;
        Ok(Self { opener: has_opener.then_some(opener), word, said })
    }

    fn load(batch: &Batch<'_>, keeper: &Keeper, key: &str) -> Result<Self, IndexError> {
        let record = keeper.get(batch, key)?;
        let read = record.map(|record| Self::decode(&record).map_err(|error| damaged(key, &error)));
        Ok(read.transpose()?.unwrap_or_default())
    }
}

/// A word is said; returns it with the window that it is about, if it holds now and that window is known.
pub fn say(
    batch: &mut Batch<'_>,
    keeper: &mut Keeper,
    (site_token, alert): (&str, &str),
    word: &Label,
    at: Timestamp,
) -> Result<Option<(WindowId, Label)>, IndexError> {
    let key = key(site_token, alert);
    let mut about = About::load(batch, keeper, &key)?;
    // Sorted by the speakers' clocks, of which none runs before 1970.
    let mut record = Vec::new();
    put_label(&mut record, word);
    let hash = blake3::hash(&record).to_hex();
    let said = format!("{}{:016x}/{}", said_prefix(site_token, alert), word.time.max(0), &hash[..16]);
    if keeper.get(batch, &said)?.is_none() && about.said < WORDS_MAX {
        keeper.keep(batch, &said, &record, at)?;
        about.said += 1;
    }
    let holds = about.word.as_ref().is_none_or(|old| replaces(word, old));
    if holds {
        about.word = Some(word.clone());
    }
    keeper.keep(batch, &key, &about.encode(), at)?;
    Ok(about.opener.filter(|_| holds).map(|window| (window, word.clone())))
}

/// A window opened an alert; returns what was said of it before.
pub fn open(
    batch: &mut Batch<'_>,
    keeper: &mut Keeper,
    (site_token, alert): (&str, &str),
    window: WindowId,
    at: Timestamp,
) -> Result<Option<Label>, IndexError> {
    let key = key(site_token, alert);
    let mut about = About::load(batch, keeper, &key)?;
    about.opener = Some(window);
    keeper.keep(batch, &key, &about.encode(), at)?;
    Ok(about.word)
}

#[cfg(test)]
mod tests {
    use eddy_vectors::index::Limits;

    use super::*;
    use crate::kept::Bounds;

    fn word(name: &str, origin: &str, time: i64) -> Label {
        Label { name: name.into(), origin: origin.into(), time }
    }

    #[test]
    fn records_come_back_and_the_later_word_holds() {
        let about = About { opener: Some(4), word: Some(word("leak", "s/cli", 7)), said: 2 };
        assert_eq!(About::decode(&about.encode()), Ok(about.clone()));
        assert_eq!(About::decode(&About::default().encode()), Ok(About::default()));
        assert!(About::decode(&about.encode()[..20]).is_err());
        let (early, late) = (word("leak", "s/cli", 7), word("normal", "a/cli", 8));
        assert!(replaces(&late, &early) && !replaces(&early, &late) && !replaces(&early, &early));
        assert!(replaces(&word("leak", "t/cli", 8), &late), "a tie goes by the origin");
        let derived = word("normal", "s/index", 99);
        assert!(!replaces(&derived, &early) && replaces(&early, &derived));
    }

    #[test]
    fn words_before_and_after_the_window_meet_it_and_all_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Limits::default()).unwrap();
        let mut batch = store.batch().unwrap();
        let mut keeper = Keeper::load(&batch, Bounds { count: 1_000, bytes: 1 << 20, age: i64::MAX }).unwrap();
        let alert = ("s", "a/1");
        let mut say = |batch: &mut Batch<'_>, said: &Label| say(batch, &mut keeper, alert, said, 0).unwrap();
        assert_eq!(say(&mut batch, &word("leak", "s/cli", 5)), None);
        let mut keeper_again = Keeper::load(&batch, Bounds { count: 1_000, bytes: 1 << 20, age: i64::MAX }).unwrap();
        assert_eq!(open(&mut batch, &mut keeper_again, alert, 3, 0).unwrap(), Some(word("leak", "s/cli", 5)));
        assert_eq!(say(&mut batch, &word("wear", "s/cli", 4)), None, "an earlier one");
        assert_eq!(say(&mut batch, &word("wear", "s/cli", 6)), Some((3, word("wear", "s/cli", 6))));
        assert_eq!(say(&mut batch, &word("wear", "s/cli", 6)), None, "the same again");
        for time in 100..300 {
            say(&mut batch, &word("wear", "s/cli", time));
        }
        batch.commit(None, "S@1:1").unwrap();
        let about = read(&store, "s", "a/1").unwrap().unwrap();
        assert_eq!((about.opener, about.word, about.said), (Some(3), Some(word("wear", "s/cli", 299)), 100));
        let history = history(&store, "s", "a/1").unwrap();
        let times: Vec<i64> = history.iter().map(|said| said.time).collect();
        assert_eq!((history.len(), &times[..4]), (100, [4, 5, 6, 100].as_slice()));
        assert_eq!(read(&store, "s", "a/2").unwrap(), None);
    }
}
