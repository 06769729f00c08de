//! What a gateway's detect says of a recorded fleet, period by period.

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use clap::Parser as _;
use eddy_cli::{
    demo::through,
    replay::{self, Progress, ReplayArgs},
    up::{Plan, Running},
};
use eddy_runtime::client::ReadFrom;
use eddy_schemas::{
    Scores, ScoresBuilder, Timestamp, Told,
    alert::{CloudEvent, Phase},
    flags, time_of,
};
use futures_util::TryStreamExt as _;

/// A period of event time, nanoseconds.
pub(super) const PERIOD: i64 = 300_000_000_000;
/// How long nothing may move.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is said in a period.
#[derive(Debug, Default)]
pub(super) struct Period {
    /// Alerts as they are published.
    pub(super) alerts: Vec<CloudEvent>,
    /// The batch of scores, with the windows that are told.
    pub(super) scores: Vec<u8>,
    /// Whether some of them are summed up, once the period is over.
    pub(super) is_judged: bool,
}

impl Period {
    /// How many contexts follow.
    pub(super) fn opened(&self) -> u64 {
        self.alerts.iter().filter(|alert| alert.data.phase == Phase::Opened).count() as u64
    }
}

/// All of it.
pub(super) struct Recorded {
    pub(super) periods: Vec<Period>,
    pub(super) devices: u64,
    pub(super) readings: u64,
}

/// Replays the recording through a gateway of its own.
pub(super) async fn record(recording: &Path) -> Result<Recorded> {
    let folder = tempfile::Builder::new().prefix("eddy-bench-").tempdir()?;
    let mut plan = Plan::load(folder.path(), None)?;
    "bench".clone_into(&mut plan.site);
    plan.config.machine.listen_on(0);
    plan.loud = false;
    let running = Running::start(&plan).await?;
    let recorded = async {
        let summary = replay::replay(&replay_args(recording)?, &running.gateway, &Progress::silent()).await?;
        through::wait(&running.gateway, plan.shards, PATIENCE).await?;
        let periods = read(&running).await?;
        anyhow::Ok(Recorded { periods, devices: summary.devices as u64, readings: summary.readings })
    };
    let recorded = recorded.await;
    running.stop().await;
    recorded
}

fn replay_args(recording: &Path) -> Result<ReplayArgs> {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: ReplayArgs,
    }
    let line = ["replay".as_ref(), recording.as_os_str(), "--rows-per-message".as_ref(), "5000".as_ref()];
    Ok(Line::try_parse_from(line)?.args)
}

async fn read(running: &Running) -> Result<Vec<Period>> {
    let (mut alerts, mut batches) = (BTreeMap::<i64, Vec<CloudEvent>>::new(), BTreeMap::new());
    let mut messages = running.gateway.client.read("DETECTIONS", &[], ReadFrom::Start).await?;
    while let Some(message) = messages.try_next().await? {
        if message.subject.starts_with("scores.") {
            deal_out(&Scores::decode(&message.payload)?, &mut batches);
        } else if message.subject.starts_with("alerts.") {
            let event: CloudEvent = serde_json::from_slice(&message.payload)?;
            let time = time_of(&event.time).with_context(|| event.time.clone())?;
            alerts.entry(period_of(time)).or_default().push(event);
        }
    }
    let mut periods: BTreeMap<i64, Period> = BTreeMap::new();
    for (period, alerts) in alerts {
        periods.entry(period).or_default().alerts = alerts;
    }
    for (period, mut batch) in batches {
        let period = periods.entry(period).or_default();
        (period.scores, period.is_judged) = (batch.0.encode(), batch.1);
    }
    Ok(periods.into_values().collect())
}

fn period_of(time: Timestamp) -> i64 {
    time.div_euclid(PERIOD)
}

/// Each row to the batch of its period, and whether that has one which is judged.
fn deal_out(scores: &Scores, batches: &mut BTreeMap<i64, (ScoresBuilder, bool)>) {
    for row in 0..scores.rows.len() {
        let time = scores.rows.time[row];
        let new = || (ScoresBuilder::new(&scores.bundle), false);
        let (batch, is_judged) = batches.entry(period_of(time)).or_insert_with(new);
        if let Some(control) = scores.rows.control(row) {
            batch.push_control(control);
            continue;
        }
        let window = scores.window(row);
        let vector: Vec<f32> = window.iter().flat_map(|window| &window.vector).map(|x| x.to_f32()).collect();
        let told = window.map(|window| Told { span: window.span, filled: window.filled, vector: &vector });
        let (score, tail, flagged) = (scores.score[row], scores.tail[row], scores.flags[row]);
        *is_judged |= flagged & (flags::COMMISSIONING | flags::JOINT) == 0;
        batch.push(scores.rows.name(row), time, score, tail, flagged, told);
    }
}
