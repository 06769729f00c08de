//! Search by episode: how often an alert of a fault finds, of all earlier alerts of other devices, one of the same fault first.
//!
//! Each fault is asked about by its first alert, if any earlier alert of another device is of the same pattern. The answers are the index's
//! own, over what detect publishes.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use eddy_fixtures::{Fleet, FleetConfig, Format, record};
use eddy_index::{Message, Offline};
use eddy_schemas::{
    Timestamp,
    alert::{CloudEvent, Phase},
    episodes::EpisodesRequest,
    search::{Like, SearchRequest},
};
use serde::Serialize;

use crate::{
    fleet::{Truth, run_device},
    pipeline::{Pipeline, Settings},
    table,
};

/// Nearest windows among which one of an alert is looked for: the most that an index tells.
const WINDOWS: usize = 1_000;

/// Which fleets are asked.
#[derive(Clone, Debug, clap::Args)]
pub struct EpisodesArgs {
    /// Tells how many faults' alerts find an earlier one of the same fault on another device first
    #[arg(long)]
    pub episodes: bool,
    /// With --episodes: fleets of these seeds, made as the recorded one was, are asked too
    #[arg(long, value_delimiter = ',', requires = "episodes")]
    pub seeds: Vec<u64>,
    /// With --episodes: one line of JSON
    #[arg(long, requires = "episodes")]
    pub json: bool,
}

/// What one fleet's alerts found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Found {
    /// The recording's folder, or the seed it was made from.
    pub fleet: String,
    /// Faults that were asked about.
    pub episode_asked: u32,
    /// Of these, found first by episode.
    pub episode_first: u32,
    /// Found first by the windows near the one that opened the alert.
    pub window_first: u32,
    /// How many would be found first by chance.
    pub by_chance: f64,
    /// Alerts, all of them.
    pub alerts: u32,
    /// Slowest answer by episode, in microseconds.
    pub took_us_max: u64,
}

/// An alert that opened.
struct Alert {
    id: String,
    device: String,
    opened: Timestamp,
    /// The fault: its id and its pattern.
    fault: Option<(String, String)>,
}

/// Runs the fleets and prints what was found.
///
/// # Errors
/// If a file cannot be read or written.
pub fn run(settings: &Settings, data: &Path, args: &EpisodesArgs) -> Result<()> {
    let pipeline = Pipeline::new(settings)?;
    let mut all = vec![measure(&pipeline, data, &data.display().to_string())?];
    for seed in &args.seeds {
        let folder = tempfile::tempdir()?;
        record(Fleet::new(FleetConfig { seed: *seed, ..FleetConfig::default() })?, Format::Wide, folder.path())?;
        all.push(measure(&pipeline, folder.path(), &format!("seed {seed}"))?);
    }
    let sum = |of: fn(&Found) -> u32| all.iter().map(of).sum::<u32>();
    let whole = Found {
        fleet: "all".into(),
        episode_asked: sum(|found| found.episode_asked),
        episode_first: sum(|found| found.episode_first),
        window_first: sum(|found| found.window_first),
        by_chance: all.iter().map(|found| found.by_chance).sum(),
        alerts: sum(|found| found.alerts),
        took_us_max: all.iter().map(|found| found.took_us_max).max().unwrap_or(0),
    };
    if args.json {
        println!("{}", serde_json::json!({"fleets": all, "all": whole}));
        return Ok(());
    }
    for found in all.iter().chain([&whole]) {
        println!(
            "episodes {}: {} of {} find the same fault first ({} by windows, {:.1} by chance), {} alerts, {:.1} ms at most",
            found.fleet,
            found.episode_first,
            found.episode_asked,
            found.window_first,
            found.by_chance,
            found.alerts,
            found.took_us_max as f64 / 1e3,
        );
    }
    Ok(())
}

fn measure(pipeline: &Pipeline, data: &Path, name: &str) -> Result<Found> {
    let truth = Truth::read(data)?;
    let folder = tempfile::tempdir()?;
    let index = Offline::new(folder.path(), "bench")?;
    let mut alerts = Vec::new();
    let mut sequence = 0;
    for device in &truth.devices {
        let outcome = run_device(pipeline, data, device, truth.period_s, true)?;
        index.write(outcome.messages.iter().map(|message| {
            sequence += 1;
            Message { subject: &message.subject, sequence, payload: &message.payload }
        }))?;
        for event in outcome.alerts.iter().filter(|event| event.data.phase == Phase::Opened) {
            alerts.push(alert(&truth, event)?);
        }
    }
    alerts.sort_by_key(|alert| alert.opened);
    ask(&index, &alerts, name)
}

fn alert(truth: &Truth, event: &CloudEvent) -> Result<Alert> {
    let opened = table::time(&event.data.opened)?;
    let device = &event.data.device;
    let fault = truth.events.iter().find(|one| one.class == "fault" && one.device == *device && one.covers(opened));
    let fault = fault.map(|fault| (fault.id.clone(), fault.pattern.clone()));
    Ok(Alert { id: event.data.alert.clone(), device: device.clone(), opened, fault })
}

fn ask(index: &Offline, alerts: &[Alert], name: &str) -> Result<Found> {
    let mut found = Found { fleet: name.to_owned(), alerts: alerts.len() as u32, ..Found::default() };
    for (at, asked) in alerts.iter().enumerate() {
        let Some((fault, pattern)) = &asked.fault else { continue };
        let is_of = |alert: &Alert| alert.fault.as_ref().is_some_and(|(_, of)| of == pattern);
        let is_first = !alerts[..at].iter().any(|alert| alert.fault.as_ref().is_some_and(|(of, _)| of == fault));
        let earlier = alerts[..at].iter().filter(|alert| alert.device != asked.device && alert.opened < asked.opened);
        let (same, others) = (earlier.clone().filter(|alert| is_of(alert)).count(), earlier.count());
        if !is_first || same == 0 {
            continue;
        }
        found.episode_asked += 1;
        found.by_chance += same as f64 / others as f64;
        let is_same = |id: &str| alerts.iter().any(|alert| alert.id == id && is_of(alert));
        let (first, took_us) = by_episode(index, asked)?;
        found.episode_first += u32::from(first.is_some_and(|first| is_same(&first)));
        found.took_us_max = found.took_us_max.max(took_us);
        found.window_first += u32::from(by_window(index, asked)?.is_some_and(|first| is_same(&first)));
    }
    Ok(found)
}

/// The earlier alert of another device that went most like it, and how long the answer took.
fn by_episode(index: &Offline, asked: &Alert) -> Result<(Option<String>, u64)> {
    let request = EpisodesRequest { k: 1, others: true, until: Some(asked.opened), ..EpisodesRequest::new(&asked.id) };
    let answer = index.episodes(&request).map_err(|refusal| anyhow!(refusal.message))?;
    Ok((answer.episodes.into_iter().next().map(|episode| episode.alert), answer.took_us))
}

/// The alert of the nearest earlier window of another device that has one.
fn by_window(index: &Offline, asked: &Alert) -> Result<Option<String>> {
    let request = SearchRequest {
        k: WINDOWS,
        other_than_device: Some(asked.device.clone()),
        until: Some(asked.opened),
        ..eddy_cli::query::request(Like::Alert(asked.id.clone()))
    };
    let answer = index.search(&request).map_err(|refusal| anyhow!(refusal.message));
    let answer = answer.with_context(|| format!("alert {}", asked.id))?;
    Ok(answer.neighbours.into_iter().find_map(|window| window.alert))
}
