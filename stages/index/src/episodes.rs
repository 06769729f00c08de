//! Alerts whose episodes went like another one's.
//!
//! The window that opens an alert mostly shows what was before. So detect tells some windows of each channel a while after the
//! opening, too ([`flags::EPISODE`]), and episodes are compared by these: channel by channel, each as important as it was for the asked
//! alert. Components are measured in what is usual here (the learned head's spread over two orders of magnitude, and the largest ones
//! say least), and a distance is told as a part of both vectors' lengths, so that the same fault is near itself where it is stronger.

use std::collections::BTreeMap;

use eddy_schemas::{
    alert::Share,
    episodes::{EpisodesRequest, FoundEpisode},
    flags, names,
    search::FoundLabel,
};
use eddy_vectors::index::{Filter, IndexError, Label, Model, Neighbour, Searcher};

use crate::remembered::{self, Remembered};

/// So many kept windows at most say what is usual, spread evenly over all.
const USUAL_WINDOWS: usize = 1_000;
/// A component's usual size is at least this part of the mean one's.
const USUAL_LEAST: f32 = 0.01;

/// The windows of each channel (its token), in the order of time.
type Channels = BTreeMap<String, Vec<Vec<f32>>>;

/// An alert, as far as the store has windows of it.
pub struct Episode {
    alert: String,
    about: Remembered,
    pub(crate) model: Model,
    /// The window that opened it.
    opening: Neighbour,
    opened_by: Channels,
    /// By which it is compared; of none while it is young.
    channels: Channels,
    end: i64,
}

impl Episode {
    /// An alert; `None` if nothing is known of it, or its window was deleted.
    ///
    /// # Errors
    /// The store's.
    pub(crate) fn of(searcher: &Searcher, alert: &str) -> Result<Option<Self>, IndexError> {
        let Some(first) = searcher.tagged(alert)?.first().copied() else { return Ok(None) };
        let Some((opening, ..)) = searcher.window(first)? else { return Ok(None) };
        match remembered::of(searcher, alert, opening.facts.end)? {
            Some(about) => Self::read(searcher, alert, about),
            None => Ok(None),
        }
    }

    fn read(searcher: &Searcher, alert: &str, about: Remembered) -> Result<Option<Self>, IndexError> {
        let windows = searcher.tagged(alert)?;
        let Some(first) = windows.first() else { return Ok(None) };
        let Some((opening, vector, model)) = searcher.window(*first)? else { return Ok(None) };
        let opened_by = [(channel(&opening.series).to_owned(), vec![vector])].into();
        let (mut channels, mut end) = (Channels::new(), opening.facts.end);
        for window in &windows {
            let Some((window, vector, of)) = searcher.window(*window)? else { continue };
            end = end.max(window.facts.end);
            if window.facts.flags & flags::EPISODE != 0 && of == model {
                channels.entry(channel(&window.series).to_owned()).or_default().push(vector);
            }
        }
        Ok(Some(Self { alert: alert.to_owned(), about, model, opening, opened_by, channels, end }))
    }

    /// As it is told.
    pub(crate) fn told(self, distance: f32) -> FoundEpisode {
        let label = self.opening.label;
        FoundEpisode {
            alert: self.alert,
            device: names::decode(&self.about.device),
            opened: self.about.opened,
            start: self.opening.facts.start,
            end: self.end,
            distance,
            channels: self.about.channels,
            windows: self.channels.values().map(Vec::len).sum(),
            label: label.map(|label| FoundLabel { name: label.name, origin: label.origin, time: label.time }),
        }
    }

    fn is_asked_for(&self, request: &EpisodesRequest, asked: &Self) -> bool {
        let is_label = |label: &Label| request.label.as_ref().is_some_and(|name| name == "*" || *name == label.name);
        self.alert != asked.alert
            && self.model == asked.model
            && request.device.as_ref().is_none_or(|device| names::encode(device) == self.about.device)
            && !(request.others && self.about.device == asked.about.device)
            && request.since.is_none_or(|since| self.about.opened >= since)
            && request.until.is_none_or(|until| self.about.opened < until)
            && (request.label.is_none() || self.opening.label.as_ref().is_some_and(is_label))
    }

    /// How unlike another one went, 0 to 1; `None` if there is nothing to compare. A channel that the other has not told is as unlike as
    /// can be. While this one is young, both are compared by what opened them.
    fn distance(&self, other: &Self, usual: &[f32]) -> Option<f32> {
        let young = self.channels.is_empty();
        let [own, others] = [self, other].map(|episode| if young { &episode.opened_by } else { &episode.channels });
        if !own.keys().any(|channel| others.contains_key(channel)) {
            return None;
        }
        let weights: Vec<f32> = own.keys().map(|channel| share(&self.about.channels, channel)).collect();
        let whole: f32 = weights.iter().sum();
        // What told the alert and what opened it may be different channels.
        let weight = |weight: f32| if whole > 0.0 { weight / whole } else { 1.0 / weights.len() as f32 };
        let unlike = own.iter().zip(&weights).map(|((channel, windows), of)| {
            weight(*of) * others.get(channel).map_or(1.0, |others| unlike(windows, others, usual))
        });
        Some(unlike.sum())
    }
}

fn channel(series: &str) -> &str {
    series.split_once('/').map_or("", |(_, channel)| channel)
}

fn share(shares: &[Share], channel: &str) -> f32 {
    shares.iter().find(|share| names::encode(&share.name) == channel).map_or(0.0, |share| share.share as f32)
}

/// The distance of the means of as many windows as both have, in what is usual, as a part of their lengths.
fn unlike(own: &[Vec<f32>], others: &[Vec<f32>], usual: &[f32]) -> f32 {
    let both = own.len().min(others.len()).max(1);
    let sum = |windows: &[Vec<f32>], at: usize| windows.iter().take(both).map(|vector| vector[at]).sum::<f32>();
    let (mut apart, mut long, mut other_long) = (0.0f32, 0.0f32, 0.0f32);
    for (at, usual) in usual.iter().enumerate() {
        let (x, y) = (sum(own, at) / usual, sum(others, at) / usual);
        apart += (x - y) * (x - y);
        long += x * x;
        other_long += y * y;
    }
    let lengths = long.sqrt() + other_long.sqrt();
    if lengths > 0.0 { (apart.sqrt() / lengths).min(1.0) } else { 0.0 }
}

/// The usual size of each component of a model's vectors: the median over the windows that detect kept, which extremes do not move.
fn usual(searcher: &Searcher, model: &Model) -> Result<Vec<f32>, IndexError> {
    let all = searcher.matching(&Filter::default())?;
    let mut components = vec![Vec::new(); model.dimensions];
    for window in all.iter().step_by(all.len().div_ceil(USUAL_WINDOWS).max(1)) {
        let Some((window, vector, of)) = searcher.window(*window)? else { continue };
        if window.facts.flags & flags::KEPT != 0 && of == *model {
            components.iter_mut().zip(&vector).for_each(|(all, x)| all.push(x.abs()));
        }
    }
    let medians: Vec<f32> = components.iter_mut().map(|all| median(all)).collect();
    let least = USUAL_LEAST * medians.iter().sum::<f32>() / medians.len().max(1) as f32;
    // Where nothing was kept, or all of it is nought, components count as they are.
    Ok(medians.iter().map(|usual| if least > 0.0 { usual.max(least) } else { 1.0 }).collect())
}

fn median(values: &mut [f32]) -> f32 {
    if values.is_empty() {
        return 0.0;
    }
    let middle = values.len() / 2;
    *values.select_nth_unstable_by(middle, f32::total_cmp).1
}

/// The alerts that went most like `asked`, and how many it was compared with.
///
/// # Errors
/// The store's.
pub fn like(
    searcher: &Searcher,
    asked: &Episode,
    request: &EpisodesRequest,
) -> Result<(Vec<FoundEpisode>, u64), IndexError> {
    let usual = usual(searcher, &asked.model)?;
    let mut found = Vec::new();
    for (alert, about) in remembered::all(searcher)? {
        let Some(other) = Episode::read(searcher, &alert, about)? else { continue };
        if other.is_asked_for(request, asked)
            && let Some(distance) = asked.distance(&other, &usual)
        {
            found.push((distance, other));
        }
    }
    let compared = found.len() as u64;
    // Of equally near ones the older first, as they came.
    found.sort_by(|a, b| a.0.total_cmp(&b.0));
    found.truncate(request.k);
    found.retain(|(distance, _)| request.radius.is_none_or(|radius| *distance <= radius));
    Ok((found.into_iter().map(|(distance, episode)| episode.told(distance)).collect(), compared))
}

#[cfg(test)]
mod tests;
