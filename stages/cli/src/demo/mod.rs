//! `eddy demo`: a gateway of its own, a recorded fleet with known faults, and a judge. With `--sites`, several of them and their
//! [`region`].

pub mod export;
pub mod oracle;
pub mod region;
pub mod through;
pub mod truth;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clap::{Args, Parser};
use eddy_runtime::client::ReadFrom;
use eddy_schemas::{
    alert::{CloudEvent, Phase},
    context::Context,
};
use futures_util::StreamExt as _;
use tokio::sync::watch;

use crate::{
    alerts,
    gateway::Gateway,
    output, query,
    replay::{self, Progress, ReplayArgs},
    up::{Plan, Running},
};
use oracle::{Recording, Verdict};
use truth::{Score, Truth, beside};

/// Demo's part of the command line.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// Keep streams, state and logs in this folder, which must be new or empty [default: a temporary folder]
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
    /// The recording: a folder of .csv.gz files and truth.json [default: EDDY_RECORDING, else fixtures/fleet here or above]
    #[arg(long, value_name = "DIR")]
    pub recording: Option<PathBuf>,
    /// Readings in a message at most
    #[arg(long, default_value_t = 5000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=50_000))]
    pub rows_per_message: u32,
    /// Gateways; more than one send what they find to a hub, and the link of one of them is cut for a while
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=region::SITES_MAX))]
    pub sites: u8,
}

/// The demo's site.
const SITE: &str = "demo";
/// How long nothing may move before the demo is given up.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked whether something moves.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The command.
///
/// # Errors
/// That something did not start, was lost or doubled, or that too few faults were found.
pub async fn run(args: &DemoArgs) -> anyhow::Result<()> {
    let recording = match &args.recording {
        Some(path) => path.clone(),
        None => recorded().context("fixtures/fleet is neither here nor above: name it with --recording")?,
    };
    let temporary = tempfile::Builder::new().prefix("eddy-demo-").tempdir()?;
    let dir = match &args.keep {
        Some(dir) => {
            let is_empty = dir.read_dir().map_or(true, |mut entries| entries.next().is_none());
            anyhow::ensure!(is_empty, "{} is not empty: choose another folder to keep", dir.display());
            dir.as_path()
        }
        None => temporary.path(),
    };
    if args.sites > 1 {
        return region::run(dir, &recording, args.sites.into(), args.rows_per_message).await;
    }
    one(dir, &recording, args.rows_per_message, &export::folder(args.keep.as_deref())).await
}

/// One gateway.
async fn one(dir: &Path, recording: &Path, rows: u32, export: &Path) -> anyhow::Result<()> {
    let truth = Truth::read(recording)?;
    let mut plan = Plan::load(dir, None)?;
    SITE.clone_into(&mut plan.site);
    plan.config.machine.listen_on(0);
    plan.loud = false;
    let mut running = Running::start(&plan).await?;
    eprintln!("eddy: a gateway at {} ({})", running.machine.file().url, plan.dir.display());
    let mut given_up = running.machine.register.given_up();
    let shown = tokio::select! {
        shown = show(&running.gateway, recording, &truth, rows, plan.shards, "") => shown,
        given_up = given_up.wait_for(|all| !all.is_empty()) => Err(match given_up {
            Ok(all) => anyhow::anyhow!("{}: {}; it said:\n  {}", all[0].name, all[0].ending, all[0].said.join("\n  ")),
            Err(_) => anyhow::anyhow!("the supervisor ended"),
        }),
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    // The judge comes when the stages have stopped: a row that one of them writes on its way out counts too.
    running.stop_stages().await;
    let judged = match shown {
        Ok(()) => judged(&running.machine.file().url, SITE, recording, &truth).await,
        Err(problem) => Err(problem),
    };
    let judged = match judged {
        Ok(judged) => export::run(dir, export).await.map(|()| judged),
        Err(problem) => Err(problem),
    };
    running.stop().await;
    judged?.problem().map_or(Ok(()), |problem| Err(anyhow::anyhow!(problem)))
}

/// The folder of the recording that is shown: `EDDY_RECORDING`, or `fixtures/fleet` from here or from the eddy binary upwards.
pub fn recorded() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("EDDY_RECORDING") {
        return Some(path.into());
    }
    let (here, binary) = (std::env::current_dir().ok(), std::env::current_exe().ok());
    let folders = here.iter().chain(&binary).flat_map(|start| start.ancestors());
    folders.map(|folder| folder.join("fixtures/fleet")).find(|folder| folder.join("truth.json").is_file())
}

/// Replays the recording and prints alerts, and what the index knows of each, as they come, until everything is through. Lines begin
/// with `prefix`.
async fn show(
    gateway: &Gateway,
    recording: &Path,
    truth: &Truth,
    rows: u32,
    shards: u32,
    prefix: &str,
) -> anyhow::Result<()> {
    let started = Instant::now();
    let (printed, mut printing) = watch::channel(Printed::default());
    let filter = alerts::alerts_of(gateway);
    let alerts = gateway.client.follow("DETECTIONS", &[&filter], ReadFrom::Start).await?;
    let contexts = gateway.client.follow("CONTEXT", &[], ReadFrom::Start).await?;
    let mut messages = futures_util::stream::select(alerts, contexts);
    let print = async {
        while let Some(message) = messages.next().await {
            let message = message?;
            if message.subject.starts_with("context.") {
                let context: Context = serde_json::from_slice(&message.payload)?;
                output::line(&format!("{prefix}{}", told(&context)));
                printed.send_modify(|printed| printed.contexts += 1);
                continue;
            }
            let event: CloudEvent = serde_json::from_slice(&message.payload)?;
            output::line(&format!("{prefix}{}   <- {}", alerts::line(&event), beside(truth, &event.data)));
            printed.send_modify(|printed| {
                printed.last = message.sequence;
                printed.opened += u64::from(event.data.phase == Phase::Opened);
            });
        }
        anyhow::bail!("the alerts ended")
    };
    let replayed = async {
        let summary = replay::replay(&replay_args(recording, rows)?, gateway, &Progress::silent()).await?;
        through::wait(gateway, shards, PATIENCE).await?;
        let seconds = started.elapsed().as_secs_f64();
        let last = gateway.client.last("DETECTIONS", &filter).await?.map_or(0, |last| last.sequence);
        let is_done = |printed: &Printed| printed.last >= last && printed.contexts >= printed.opened;
        tokio::time::timeout(PATIENCE, printing.wait_for(is_done)).await??;
        eprintln!(
            "eddy: {prefix}{} readings of {} devices through in {seconds:.2} s ({:.0} readings/s)",
            summary.readings,
            summary.devices,
            summary.readings as f64 / seconds.max(1e-3),
        );
        Ok(())
    };
    tokio::select! {
        ended = print => ended,
        done = replayed => done,
    }
}

/// What of the alerts and contexts was printed.
#[derive(Debug, Default)]
struct Printed {
    last: u64,
    opened: u64,
    contexts: u64,
}

/// A context as one line: what it says, and the nearest windows.
fn told(context: &Context) -> String {
    let nearest: Vec<String> = context.neighbours.iter().take(2).map(query::brief).collect();
    let nearest = if nearest.is_empty() { "nothing yet".to_owned() } else { nearest.join("; ") };
    format!("  {} {}: {}; nearest: {nearest}", context.alert, output::printable(&context.device), context.text)
}

/// What `eddy replay RECORDING` would be given.
fn replay_args(recording: &Path, rows: u32) -> anyhow::Result<ReplayArgs> {
    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: ReplayArgs,
    }
    let rows = rows.to_string();
    let line = ["replay".as_ref(), recording.as_os_str(), "--rows-per-message".as_ref(), rows.as_ref()];
    Ok(Line::try_parse_from(line)?.args)
}

/// What is said of a gateway in the end.
#[derive(Clone, Debug, Default)]
struct Judged {
    verdict: Verdict,
    found: usize,
    faults: usize,
}

/// Prints a gateway's last line, and what is wrong.
async fn judged(url: &str, site: &str, recording: &Path, truth: &Truth) -> anyhow::Result<Judged> {
    let folder = recording.to_owned();
    let recording = tokio::task::spawn_blocking(move || Recording::read(&folder)).await??;
    let verdict = oracle::judge(url, site, &recording).await?;
    let alerts = oracle::alerts(url, site).await?;
    let mut score = Score::new(truth);
    for payload in &alerts {
        score.count(&serde_json::from_slice::<CloudEvent>(payload)?.data);
    }
    for fault in score.missed() {
        eprintln!("eddy: missed on {}: {}", output::printable(&fault.device), fault.brief());
    }
    for fault in score.unnamed() {
        let device = output::printable(&fault.device);
        eprintln!("eddy: found on {device}, but no alert names a channel of it: {}", fault.brief());
    }
    for example in &verdict.examples {
        eprintln!("eddy: {example}");
    }
    let (found, faults, hash) = (score.found(), truth.faults(), oracle::alerts_hash(alerts));
    let of_site = if site == SITE { String::new() } else { format!("site={site} ") };
    output::line(&format!(
        "demo: {of_site}readings={} scored={} found={found}/{faults} false={} lost={} duplicated={} alerts_hash={hash}",
        recording.readings,
        verdict.scored,
        score.wrong(),
        verdict.lost,
        verdict.duplicated,
    ));
    Ok(Judged { verdict, found, faults })
}

impl Judged {
    /// What of the readings is wrong.
    fn readings(&self) -> Option<String> {
        let Verdict { lost, duplicated, .. } = self.verdict;
        (lost > 0 || duplicated > 0).then(|| format!("{lost} readings are lost and {duplicated} doubled"))
    }

    fn problem(&self) -> Option<String> {
        let Self { found, faults, .. } = self;
        let too_few =
            || (found * 10 < faults * 9).then(|| format!("{found} of {faults} faults were found: fewer than 90%"));
        self.readings().or_else(too_few)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_the_demo_fail() {
        let judged = |lost, duplicated, found, faults| {
            let verdict = Verdict { lost, duplicated, ..Verdict::default() };
            Judged { verdict, found, faults }.problem()
        };
        assert_eq!(judged(0, 0, 9, 10), None);
        assert!(judged(1, 0, 10, 10).is_some());
        assert!(judged(0, 1, 10, 10).is_some());
        assert!(judged(0, 0, 8, 9).is_some());
    }

    #[test]
    fn the_recording_is_replayed_as_the_command_would() {
        let args = replay_args(Path::new("fixtures/fleet"), 7).unwrap();
        assert_eq!((args.rows_per_message, args.speed), (7, crate::replay::Speed::Max));
    }
}
