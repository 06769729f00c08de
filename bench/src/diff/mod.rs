//! `eddy replay --diff OLD NEW`: what another bundle or another configuration would have alerted on the same recording.
//!
//! Both sides run in this process and in step, message by message as `eddy replay` would publish them, through capture, preprocess, embed
//! and detect: so each side's alerts are those that a gateway tells of the recording (INV-3). Only alerts are kept.

pub mod episodes;
pub mod matched;
mod show;
mod side;

use std::{
    collections::BTreeSet,
    io::IsTerminal as _,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use anyhow::{Result, bail, ensure};
use eddy_cli::{
    demo::truth::{TrueEvent, Truth},
    readers::{Merged, open, open::BytesRead},
    replay::{
        ReplayArgs,
        chunks::{Chunker, Limits},
    },
};
use eddy_schemas::names;
use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use episodes::Episode;
use matched::{Change, Pair};
use side::Side;

/// The site that alerts are of, unless another one is named: a gateway's default.
const SITE: &str = eddy_cli::gateway::DEFAULT_SITE;

/// What one side said.
#[derive(Clone, Debug, Serialize)]
pub struct SideReport {
    /// As it was named on the command line.
    pub side: String,
    /// The bundle's name.
    pub bundle: String,
    /// Its version.
    pub version: String,
    /// Its digest.
    pub digest: String,
    /// Alerts that opened.
    pub alerts: usize,
    /// Of all events of alerts, as `eddy demo` tells it.
    pub alerts_hash: String,
    /// Readings that came after their place had gone out.
    pub late: u64,
    /// Readings that were refused.
    pub rejected: u64,
    /// Against the recording's known faults, where there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truth: Option<Found>,
}

/// Alerts against known faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Found {
    /// Faults of the recording's devices that an alert found.
    pub found: usize,
    /// All of these.
    pub faults: usize,
    /// Alerts of no fault.
    #[serde(rename = "false")]
    pub wrong: u64,
}

/// How many alerts of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// On both sides alike.
    pub unchanged: usize,
    /// On both sides, with another opening or severity.
    pub moved: usize,
    /// On the new side alone.
    pub added: usize,
    /// On the old side alone.
    pub removed: usize,
}

/// What a comparison tells.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Readings of the recording.
    pub readings: u64,
    /// Its devices.
    pub devices: usize,
    /// Cells and lines that were no numbers or times.
    pub skipped: u64,
    /// The old side.
    pub old: SideReport,
    /// The new one.
    pub new: SideReport,
    /// Counts.
    pub summary: Summary,
    /// Every alert, by opening and device.
    pub alerts: Vec<Pair>,
    /// Whether what is unchanged is left out of the text.
    #[serde(skip)]
    pub only_changes: bool,
}

/// Runs the comparison that `args.diff` names.
///
/// # Errors
/// A file that cannot be read, a recording without a reading; what is wrong with a side.
pub fn run(args: &ReplayArgs) -> Result<Report> {
    let [old, new] = args.diff.as_slice() else { bail!("--diff takes OLD and NEW") };
    let site = args.gateway.site.as_deref().unwrap_or(SITE);
    let make = |name: &Path| Side::new(&side::settings(name, args.config.as_ref()), site);
    let mut sides = [make(old)?, make(new)?];
    let truth = truth(&args.paths)?;
    let Replayed { devices, readings, skipped } = replay(args, site, &mut sides)?;
    let devices: Vec<String> = devices.into_iter().collect();
    let truth = truth.map(|truth| truth.of_devices(&devices));
    let [old_side, new_side] = sides;
    let (old, old_episodes) = told(old, old_side, truth.as_ref());
    let (new, new_episodes) = told(new, new_side, truth.as_ref());
    let mut alerts = matched::matched(old_episodes, new_episodes, (args.near * 1e9) as i64);
    for pair in &mut alerts {
        pair.fault = truth.as_ref().map(|truth| fault(truth, pair));
    }
    let count = |change: Change| alerts.iter().filter(|pair| pair.change == change).count();
    let summary = Summary {
        unchanged: count(Change::Unchanged),
        moved: count(Change::Moved),
        added: count(Change::Added),
        removed: count(Change::Removed),
    };
    let (devices, only_changes) = (devices.len(), args.only_changes);
    Ok(Report { readings, devices, skipped, old, new, summary, alerts, only_changes })
}

/// What was read of a recording.
struct Replayed {
    devices: BTreeSet<String>,
    readings: u64,
    skipped: u64,
}

/// The recording through both sides, as `eddy replay` would publish it.
fn replay(args: &ReplayArgs, site: &str, sides: &mut [Side; 2]) -> Result<Replayed> {
    let (files, bytes) = open::files(&args.paths)?;
    let bytes_read = BytesRead::default();
    let progress = progress(bytes, args.json);
    let recording = Merged::open(&files, &args.read_options(), &bytes_read)?;
    let mut chunker = Chunker::new(recording, Limits::of(args.rows_per_message), &names::encode(site), None);
    // A recording is replayed now, so no reading of it is of the future that would not be one on a gateway.
    let arrival = eddy_cli::now();
    let mut replayed = Replayed { devices: BTreeSet::new(), readings: 0, skipped: 0 };
    while let Some(chunk) = chunker.next_chunk()? {
        for message in &chunk.messages {
            let device = message.subject.rsplit('.').next().unwrap_or_default();
            if !replayed.devices.contains(device) {
                replayed.devices.insert(device.to_owned());
            }
            sides.iter_mut().try_for_each(|side| side.ingest(&message.subject, &message.payload, arrival))?;
        }
        replayed.readings += chunk.readings;
        progress.set_position(bytes_read.load(Ordering::Relaxed));
        progress.set_message(format!("{} readings", HumanCount(replayed.readings)));
    }
    progress.finish_and_clear();
    ensure!(replayed.readings > 0, "none of {} files holds a reading with a time and a number", files.len());
    replayed.skipped = chunker.skipped().count;
    replayed.devices = replayed.devices.iter().map(|token| names::decode(token)).collect();
    Ok(replayed)
}

fn progress(bytes: u64, quiet: bool) -> ProgressBar {
    let seen = std::io::stderr().is_terminal() && !quiet;
    let target = if seen { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style = ProgressStyle::with_template("{bar:30} {percent:>3}% {msg}  {elapsed} (left {eta})");
    ProgressBar::with_draw_target(Some(bytes), target)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// The known faults, if a `truth.json` lies in a folder that is replayed, or beside a file that is; of several the first.
fn truth(paths: &[PathBuf]) -> Result<Option<Truth>> {
    let folder = |path: &PathBuf| if path.is_dir() { Some(path.clone()) } else { path.parent().map(Path::to_owned) };
    let mut folders = paths.iter().filter_map(folder);
    folders.find(|folder| folder.join("truth.json").is_file()).map(|folder| Truth::read(&folder)).transpose()
}

/// What a side says, and its alerts.
fn told(name: &Path, side: Side, truth: Option<&Truth>) -> (SideReport, Vec<Episode>) {
    let aside = side.aside();
    let (episodes, alerts_hash) = side.episodes.finish();
    let report = SideReport {
        side: name.display().to_string(),
        bundle: side.pipeline.manifest.name.clone(),
        version: side.pipeline.manifest.version.clone(),
        digest: side.pipeline.digest.clone(),
        alerts: episodes.len(),
        alerts_hash,
        late: aside.late,
        rejected: aside.rejected,
        truth: truth.map(|truth| found(truth, &episodes)),
    };
    (report, episodes)
}

fn found(truth: &Truth, episodes: &[Episode]) -> Found {
    let of = |episode: &Episode| truth.at(&episode.device, &episode.opened).map(|fault| fault.id.as_str());
    let hits: Vec<&str> = episodes.iter().filter_map(of).collect();
    let wrong = (episodes.len() - hits.len()) as u64;
    Found { found: hits.into_iter().collect::<BTreeSet<_>>().len(), faults: truth.faults(), wrong }
}

/// The true faults beside an alert: one where both sides' openings found the same.
fn fault(truth: &Truth, pair: &Pair) -> String {
    let of = |episode: &Episode| {
        let fault = truth.at(&episode.device, &episode.opened);
        fault.map_or_else(|| "no fault".to_owned(), TrueEvent::brief)
    };
    match (pair.old.as_ref().map(of), pair.new.as_ref().map(of)) {
        (Some(old), Some(new)) if old != new => format!("old: {old}; new: {new}"),
        (Some(one), _) | (None, Some(one)) => one,
        (None, None) => String::new(),
    }
}
