//! The drills, a file each: what is done to a sandbox while the recording goes through it.

pub(crate) mod bad_model;
mod clock_jump;
mod crash;
mod disk_full;
mod flood;
mod link_cut;
mod linked;
pub(crate) mod poison;
mod power_cut;
mod server_kill;
mod slow_link;
pub(crate) mod throttle;

use std::time::Instant;

use anyhow::Result;
use eddy_runtime::dead_letter::DeadLetter;

use crate::{
    drill::Drill,
    judge::{Run, judge},
    report::Report,
    sandbox::config::Config,
    trial::{CannotRun, Kit, Trial},
};

/// A drill's part of a run.
pub(crate) trait Disturb {
    /// Before there is a sandbox: what is other in its config.
    async fn before(&mut self, _kit: &Kit, _config: &mut Config) -> Result<()> {
        Ok(())
    }

    /// Before the sandbox starts.
    async fn prepare(&mut self, _trial: &mut Trial<'_>) -> Result<()> {
        Ok(())
    }

    /// While the recording is fed. What it did it has mended when it returns.
    async fn act(&mut self, trial: &mut Trial<'_>) -> Result<()>;

    /// When all has come through, and everything still runs.
    async fn after(&mut self, _trial: &mut Trial<'_>) -> Result<()> {
        Ok(())
    }

    /// When all is read: what of its own it judges.
    fn check(&mut self, _trial: &mut Trial<'_>, _run: &Run, _letters: &[DeadLetter]) {}

    /// When the sandbox is stopped, or was never started; whether folders are to stay. It may be told twice.
    async fn clean(&mut self, _keep: bool) {}
}

/// Runs a drill and judges it by the undisturbed run; whatever goes wrong is told in the report.
pub async fn run(kit: &Kit, drill: Drill, undisturbed: &Run) -> Report {
    kit.progress.begin(&drill.name());
    match drill {
        Drill::Crash => play(kit, drill, undisturbed, crash::Crash::default()).await,
        Drill::ServerKill => play(kit, drill, undisturbed, server_kill::ServerKill).await,
        Drill::Throttle => play(kit, drill, undisturbed, throttle::Throttle).await,
        Drill::ClockJump => play(kit, drill, undisturbed, clock_jump::ClockJump::default()).await,
        Drill::Poison => play(kit, drill, undisturbed, poison::Poison::default()).await,
        Drill::BadModel => {
            let bundles = bad_model::BadModel::new(kit.dir.join("bad-model-bundles"));
            play(kit, drill, undisturbed, bundles).await
        }
        Drill::Flood => play(kit, drill, undisturbed, flood::Flood).await,
        Drill::LinkCut => play(kit, drill, undisturbed, link_cut::LinkCut::default()).await,
        Drill::SlowLink => play(kit, drill, undisturbed, slow_link::SlowLink::default()).await,
        Drill::DiskFull => play(kit, drill, undisturbed, disk_full::DiskFull::default()).await,
        Drill::PowerCut => play(kit, drill, undisturbed, power_cut::PowerCut::default()).await,
    }
}

async fn play(kit: &Kit, drill: Drill, undisturbed: &Run, mut disturb: impl Disturb) -> Report {
    let began = Instant::now();
    let mut report = empty(kit, drill, undisturbed);
    let judged = begun(kit, drill, &mut disturb, undisturbed, &mut report).await;
    disturb.clean(kit.keep).await;
    let problems = judged.unwrap_or_else(|problem| {
        report.cannot_run = problem.downcast_ref::<CannotRun>().map(ToString::to_string);
        vec![format!("{problem:#}")]
    });
    report.problems.extend(problems);
    report.passed = report.problems.is_empty();
    report.seconds = (began.elapsed().as_secs_f64() * 10.0).round() / 10.0;
    report
}

async fn begun(
    kit: &Kit,
    drill: Drill,
    disturb: &mut impl Disturb,
    undisturbed: &Run,
    report: &mut Report,
) -> Result<Vec<String>> {
    let mut config = kit.config.clone();
    disturb.before(kit, &mut config).await?;
    let mut trial = Trial::new(kit, &drill.name(), &config)?;
    let problems = judged(&mut trial, disturb, undisturbed, report).await;
    disturb.clean(kit.keep).await;
    report.problems.append(&mut trial.problems);
    report.done = std::mem::take(&mut trial.done);
    report.more = std::mem::take(&mut trial.figures);
    if let Err(problem) = trial.clean() {
        report.problems.push(format!("{problem:#}"));
    }
    problems
}

/// Plays it to the end, whatever happens; the judgement.
async fn judged(
    trial: &mut Trial<'_>,
    disturb: &mut impl Disturb,
    undisturbed: &Run,
    report: &mut Report,
) -> Result<Vec<String>> {
    let played = played(trial, disturb).await;
    let seen = trial.end().await;
    if let Ok((run, _)) = &seen {
        report.figures = run.figures();
    }
    played?;
    let (run, letters) = seen?;
    disturb.check(trial, &run, &letters);
    Ok(judge(undisturbed, &run))
}

async fn played(trial: &mut Trial<'_>, disturb: &mut impl Disturb) -> Result<()> {
    disturb.prepare(trial).await?;
    trial.start().await?;
    trial.feed(Some(trial.kit.over));
    disturb.act(trial).await?;
    trial.fed().await?;
    trial.sandbox.through().await?;
    disturb.after(trial).await
}

fn empty(kit: &Kit, drill: Drill, undisturbed: &Run) -> Report {
    let about = drill.about();
    Report {
        drill: drill.name(),
        passed: false,
        cannot_run: None,
        problems: Vec::new(),
        done: std::collections::BTreeMap::new(),
        seed: kit.seed,
        on_time_s: kit.on_time.as_secs_f64(),
        figures: crate::judge::Figures::default(),
        expected_alerts_hash: undisturbed.outcome.alerts_hash(),
        more: serde_json::Map::new(),
        seconds: 0.0,
        proves: about.proves,
        does_not_prove: about.does_not_prove,
    }
}
