//! What the store keeps of alerts beside their windows, as notes: which one is a device's newest, and what each was about.
//!
//! `newest/<device>`: the alert. `alert/<time of its opening>/<alert>`: a [`Remembered`], as JSON.

use eddy_schemas::{SeriesName, Timestamp, alert::Share, flags};
use eddy_vectors::index::{Batch, IndexError, Searcher, Window};
use serde::{Deserialize, Serialize};

const ALERTS: &str = "alert/";
const NEWEST: &str = "newest/";
/// Of the oldest alerts so many are looked at whenever one opens: those whose windows have aged out are forgotten, so that there
/// never are many more than the store has alerts' windows.
const SWEPT: usize = 4;
/// Devices of which it is forgotten at a time which alert is their newest.
const DOUBTED: usize = 1_024;

/// What an alert was about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Remembered {
    /// The device's token.
    pub(crate) device: String,
    /// Event time of its opening.
    pub(crate) opened: Timestamp,
    /// How much each channel contributed when it opened.
    pub(crate) channels: Vec<Share>,
}

/// Keys are in the order of time.
fn key(opened: Timestamp, alert: &str) -> String {
    format!("{ALERTS}{:016x}/{alert}", opened.cast_unsigned() ^ (1 << 63))
}

/// An alert has opened.
///
/// # Errors
/// The store's.
pub fn open(batch: &mut Batch<'_>, alert: &str, remembered: &Remembered) -> Result<(), IndexError> {
    for (old, _) in batch.notes(ALERTS, SWEPT)? {
        let is_gone = |alert: &str| batch.tagged(alert).map(|windows| windows.is_empty());
        if old.splitn(3, '/').nth(2).map_or(Ok(true), is_gone)? {
            batch.remove_note(&old)?;
        }
    }
    batch.note(&format!("{NEWEST}{}", remembered.device), alert.as_bytes())?;
    // A share is a number, and text is text.
    let json = serde_json::to_vec(remembered).map_err(|error| IndexError::Query(error.to_string()))?;
    batch.note(&key(remembered.opened, alert), &json)
}

/// The alert whose episode a window is compared by.
///
/// # Errors
/// The store's.
pub fn episode_of(batch: &Batch<'_>, window: &Window) -> Result<Option<String>, IndexError> {
    if window.facts.flags & flags::EPISODE == 0 {
        return Ok(None);
    }
    let newest = batch.noted(&format!("{NEWEST}{}", SeriesName::device_token(&window.series)))?;
    Ok(newest.and_then(|alert| String::from_utf8(alert).ok()))
}

/// It is not known any more which alert is a device's newest.
///
/// # Errors
/// The store's.
pub fn doubt(batch: &mut Batch<'_>, device: &str) -> Result<(), IndexError> {
    batch.remove_note(&format!("{NEWEST}{device}")).map(drop)
}

/// The same of all devices: openings may have been missed.
///
/// # Errors
/// The store's.
pub fn doubt_all(batch: &mut Batch<'_>) -> Result<(), IndexError> {
    loop {
        let some = batch.notes(NEWEST, DOUBTED)?;
        for (note, _) in &some {
            batch.remove_note(note)?;
        }
        if some.len() < DOUBTED {
            return Ok(());
        }
    }
}

/// What is remembered of an alert that opened then; nothing of one from before this was kept.
///
/// # Errors
/// The store's.
pub fn of(searcher: &Searcher, alert: &str, opened: Timestamp) -> Result<Option<Remembered>, IndexError> {
    Ok(searcher.note(&key(opened, alert))?.and_then(|note| read(&note)))
}

/// All alerts, the oldest first.
///
/// # Errors
/// The store's.
pub fn all(searcher: &Searcher) -> Result<Vec<(String, Remembered)>, IndexError> {
    let notes = searcher.notes(ALERTS, usize::MAX)?.into_iter();
    Ok(notes.filter_map(|(key, note)| Some((key.splitn(3, '/').nth(2)?.to_owned(), read(&note)?))).collect())
}

fn read(note: &[u8]) -> Option<Remembered> {
    serde_json::from_slice(note).ok()
}
