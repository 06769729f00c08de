//! Changes into the store, with the position that they reach, in one transaction.

use std::{collections::HashMap, time::Duration};

use eddy_schemas::SeriesName;
use eddy_vectors::index::{Batch, Filter, IndexError, Label, Model, Searcher, Store, Window, WindowId};

use crate::{
    changes::{AlertEvent, Change, Changes},
    context::{Due, ORIGIN, elsewhere_tag},
    openings::Openings,
    remembered::{self, Remembered},
};

/// What changes are filed in.
pub struct Filing<'a> {
    pub(crate) store: &'a Store,
    pub(crate) searcher: &'a Searcher,
    /// The own site.
    pub(crate) site: &'a str,
}

/// What goes into the transaction beside the changes.
pub struct Commit<'a> {
    /// Contexts that are out.
    pub(crate) sent: &'a [WindowId],
    /// Messages that were gone before they were read.
    pub(crate) missed: u64,
    /// Where the store must stand.
    pub(crate) before: Option<String>,
    /// Where it stands then.
    pub(crate) position: String,
}

impl Filing<'_> {
    /// Writes everything, or nothing.
    ///
    /// # Errors
    /// The store's.
    pub(crate) fn commit(&self, changes: &Changes, commit: &Commit<'_>) -> Result<(), IndexError> {
        let mut batch = self.store.batch()?;
        for window in commit.sent {
            batch.sent(*window)?;
        }
        if commit.missed > 0 {
            batch.missed(commit.missed)?;
            remembered::doubt_all(&mut batch)?;
        }
        let mut added: HashMap<&str, Vec<WindowId>> = HashMap::new();
        for change in &changes.changes {
            match change {
                Change::Open { device, alert, opened, channels } => {
                    let device = device.clone();
                    let remembered = Remembered { device, opened: *opened, channels: channels.clone() };
                    remembered::open(&mut batch, alert, &remembered)?;
                }
                Change::Add { model, window, alert } => {
                    let id = file(&mut batch, model, window, alert.as_ref())?;
                    added.entry(SeriesName::device_token(&window.series)).or_default().push(id);
                }
                Change::Label { alert, label } => {
                    // The window that opened it: one word is one vote, and what closed it looks ordinary.
                    if let Some(window) = batch.tagged(alert)?.first() {
                        batch.label(*window, label)?;
                    }
                }
                Change::Elsewhere { site, alert, model, window, label } => {
                    if *site != self.site {
                        file_elsewhere(&mut batch, &elsewhere_tag(site, alert), model, window, label)?;
                    }
                }
                Change::Forget { device } => self.forget(&mut batch, device, added.remove(device.as_str()))?,
            }
        }
        batch.commit(commit.before.as_deref(), &commit.position)?;
        // It is written, whatever the searcher sees of it: the next write or question refreshes it again.
        if let Err(error) = self.searcher.refresh() {
            tracing::error!(%error, "what was written is not searchable yet");
        }
        Ok(())
    }

    /// How long after its opening each alert of this site was labelled by somebody. After the commit. An alert that opened before this
    /// process began did so at its event time, on a gateway that is fed by devices.
    ///
    /// # Errors
    /// The store's.
    pub(crate) fn label_lags(&self, changes: &Changes, openings: &Openings) -> Result<Vec<Duration>, IndexError> {
        let mut lags = Vec::new();
        for change in &changes.changes {
            let Change::Label { alert, label } = change else { continue };
            // What the index says itself is nobody's word.
            let opening = self.searcher.tagged(alert)?.first().copied().filter(|_| label.origin != ORIGIN);
            let Some(window) = opening else { continue };
            if let Some((window, ..)) = self.searcher.window(window)? {
                let opened = openings.of(alert).unwrap_or(window.facts.end);
                let lag = u64::try_from(label.time.saturating_sub(opened)).unwrap_or(0);
                lags.push(Duration::from_nanos(lag));
            }
        }
        Ok(lags)
    }

    /// The searcher has seen all that is committed; what this batch added it has not.
    fn forget(&self, batch: &mut Batch<'_>, device: &str, added: Option<Vec<WindowId>>) -> Result<(), IndexError> {
        let known = self.searcher.matching(&Filter { device: Some(device.to_owned()), ..Filter::default() })?;
        for window in known.into_iter().chain(added.unwrap_or_default()) {
            batch.delete(window)?;
        }
        remembered::doubt(batch, device)
    }
}

/// A window, under the alert whose event came with it, or whose episode it is of; and the context that is due.
fn file(
    batch: &mut Batch<'_>,
    model: &Model,
    window: &Window,
    alert: Option<&AlertEvent>,
) -> Result<WindowId, IndexError> {
    let id = batch.add(model, window)?;
    if let Some(alert) = alert {
        batch.tag(&alert.id, id)?;
        if let Some(nth) = alert.opens {
            batch.send(id, &Due { window: id, nth, alert: alert.id.clone() }.record())?;
        }
    } else if let Some(alert) = remembered::episode_of(batch, window)? {
        batch.tag(&alert, id)?;
    }
    Ok(id)
}

/// Another site's window under the name of its alert, with the word that holds: once, however often it comes.
fn file_elsewhere(
    batch: &mut Batch<'_>,
    tag: &str,
    model: &Model,
    window: &Window,
    label: &Label,
) -> Result<(), IndexError> {
    let id = match batch.tagged(tag)?.first() {
        Some(known) => *known,
        None => {
            let id = batch.add(model, window)?;
            batch.tag(tag, id)?;
            id
        }
    };
    batch.label(id, label).map(drop)
}
