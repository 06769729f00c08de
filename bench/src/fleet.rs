//! The made-up fleet of `fixtures/fleet`: which faults are found, and how many alerts are of nothing.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use anyhow::{Context, Result};
use eddy_schemas::{SeriesName, Timestamp, alert::Phase, quality};
use serde::Deserialize;

use crate::{
    chain::Outcome,
    pipeline::{Pipeline, Settings},
    table,
};

#[derive(Debug, Deserialize)]
pub(crate) struct Truth {
    pub(crate) period_s: i64,
    weeks: f64,
    channels: Vec<String>,
    pub(crate) devices: Vec<String>,
    pub(crate) events: Vec<Event>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) device: String,
    pub(crate) class: String,
    kind: String,
    pub(crate) pattern: String,
    start: String,
    end: String,
    grace_s: i64,
}

impl Truth {
    pub(crate) fn read(data: &Path) -> Result<Self> {
        Ok(serde_json::from_slice(&std::fs::read(data.join("truth.json")).context("truth.json")?)?)
    }
}

impl Event {
    /// Whether an alert that opened then counts as this event's.
    pub(crate) fn covers(&self, opened: Timestamp) -> bool {
        let (from, to) = (table::time(&self.start).ok(), table::time(&self.end).ok());
        from.zip(to).is_some_and(|(from, to)| (from..=to + self.grace_s * 1_000_000_000).contains(&opened))
    }
}

/// Longest gap, in periods, over which windows go on.
const GAP_PERIODS: i64 = 6;

/// Runs the fleet and prints the faults found and missed, by kind, and the episodes of nothing.
///
/// # Errors
/// If a file cannot be read.
pub fn run(settings: &Settings, data: &Path) -> Result<()> {
    let pipeline = Pipeline::new(settings)?;
    let truth = Truth::read(data)?;
    let mut by_kind: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    let (mut found, mut all, mut wrong, mut right, mut state_max) = (0, 0, 0, 0, 0);
    for device in &truth.devices {
        let (opened, state) = episodes(&pipeline, data, device, truth.period_s, truth.channels.len())?;
        state_max = state_max.max(state);
        let events: Vec<&Event> = truth.events.iter().filter(|event| event.device == *device).collect();
        let mut hits: HashMap<&str, &str> = HashMap::new();
        for (time, heads) in &opened {
            let within = |event: &&&Event| event.covers(*time);
            match events.iter().find(within) {
                Some(event) => _ = hits.entry(&event.id).or_insert(heads),
                None => println!("fleet {device}: of nothing: {} {heads}", eddy_schemas::rfc3339(*time)),
            }
            let is_fault = events.iter().find(within).is_some_and(|event| event.class == "fault");
            if is_fault { right += 1 } else { wrong += 1 }
        }
        for event in events.iter().filter(|event| event.class == "fault") {
            let count = by_kind.entry(&event.kind).or_default();
            let hit = hits.get(event.id.as_str());
            (count.0, count.1) = (count.0 + u32::from(hit.is_some()), count.1 + 1);
            (found, all) = (found + u32::from(hit.is_some()), all + 1);
            let told = hit.map_or("MISSED".to_owned(), |heads| format!("by {heads}"));
            println!("fleet {device}: {} {} {} .. {} {told}", event.kind, event.pattern, event.start, event.end);
        }
    }
    for (kind, (found, all)) in &by_kind {
        println!("fleet {kind}: {found}/{all}");
    }
    let device_weeks = truth.weeks * truth.devices.len() as f64;
    println!("fleet state: {state_max} bytes per series at most");
    println!(
        "fleet all: found {found}/{all}, episodes of faults {right}, of nothing {wrong}, {:.3} per device-week",
        f64::from(wrong) / device_weeks
    );
    Ok(())
}

/// One device of the fleet through the stages.
///
/// # Errors
/// If its file cannot be read.
pub fn run_device(pipeline: &Pipeline, data: &Path, device: &str, period_s: i64, messages: bool) -> Result<Outcome> {
    let file = data.join(format!("{}.csv.gz", eddy_schemas::names::encode(device)));
    let table = table::read(&file, b',')?;
    let chain = pipeline.chain_of_samples(0)?;
    let mut chain = if messages { chain.with_messages() } else { chain };
    let names: Vec<String> = table.header[1..].iter().map(|channel| SeriesName::encode(device, channel)).collect();
    let period = period_s * 1_000_000_000;
    let mut newest = vec![Timestamp::MIN; names.len()];
    for row in &table.rows {
        let time = table::time(&row[0])?;
        for (at, cell) in row[1..].iter().enumerate().filter(|(_, cell)| !cell.is_empty()) {
            if time <= newest[at] {
                continue;
            }
            let is_break = newest[at] != Timestamp::MIN && time - newest[at] > GAP_PERIODS * period;
            let quality = if is_break { quality::BREAK } else { 0 };
            chain.push_sample(&names[at], time, cell.parse()?, quality, period)?;
            newest[at] = time;
        }
    }
    chain.finish()
}

/// When the device's episodes opened, and by which channel and head; bytes of its state per series.
fn episodes(
    pipeline: &Pipeline,
    data: &Path,
    device: &str,
    period_s: i64,
    channels: usize,
) -> Result<(Vec<(Timestamp, String)>, usize)> {
    let outcome = run_device(pipeline, data, device, period_s, false)?;
    let state = outcome.state_end.detect / channels.max(1);
    let opened = outcome.alerts.iter().filter(|alert| alert.data.phase == Phase::Opened);
    let told = opened.map(|alert| {
        let data = &alert.data;
        let of = |shares: &[eddy_schemas::alert::Share]| {
            shares.first().map_or(String::new(), |share| format!("{} {:.2}", share.name, share.share))
        };
        let told =
            format!("{} / {}, tail {:.1e} of {:.1e}", of(&data.channels), of(&data.heads), data.tail, data.threshold);
        Ok((table::time(&data.opened)?, told))
    });
    Ok((told.collect::<Result<_>>()?, state))
}
