//! `eddy drill soak`: the recording again and again through one sandbox, with a region, while something is done to it all the time.
//!
//! Each round is the recording some weeks later, at a fixed rate well below what the gateway takes, so that what is late is late because of
//! what was done. In the end the same rounds go through another sandbox undisturbed, and the two are compared.

mod minutes;
mod report;
mod strikes;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

pub use self::report::SoakReport;
use self::{
    minutes::{Minute, Minutes},
    strikes::Strikes,
};
use crate::{
    feed,
    judge::{Run, judge},
    sandbox::config::Config,
    trial::{Kit, Trial},
};

const WEEK_NS: i64 = 7 * 86_400 * 1_000_000_000;
/// Bounds of the streams in MB: so small that the janitor has to work from the first minutes on, and the disk is flat.
const BOUNDS: [(&str, i64); 5] =
    [("ingest_mb", 64), ("readings_mb", 128), ("samples_mb", 128), ("embeddings_mb", 192), ("detections_mb", 192)];
/// How often it is looked whether something is due.
const TICK: Duration = Duration::from_millis(100);

/// How long, how fast, and where to.
#[derive(Clone, Debug)]
pub struct Soak {
    /// How long.
    pub time: Duration,
    /// Readings a second.
    pub rate: f64,
    /// Where `soak.json` and `soak.txt` are written; nowhere else than to standard output without it.
    pub out: Option<PathBuf>,
}

/// Runs it.
///
/// # Errors
/// If it cannot begin, or its report cannot be written; whatever else goes wrong is told in the report.
pub async fn run(kit: &Kit, soak: &Soak) -> Result<SoakReport> {
    let began = Instant::now();
    let mut config = kit.config.clone();
    for (stream, mb) in BOUNDS {
        config.set(&["gateway", "streams", stream], mb);
    }
    let mut strikes = Strikes::before(kit, &mut config).await?;
    let mut trial = Trial::new(kit, "soak", &config)?;
    let mut minutes = Minutes::default();
    let shifts = shifts(kit, soak);
    let played = play(&mut trial, &mut strikes, &mut minutes, soak, &shifts).await;
    let seen = trial.end().await;
    strikes.after().await;
    let mut report = SoakReport::new(kit, soak, &minutes);
    report.problems.append(&mut trial.problems);
    match (played, seen) {
        (Ok(rounds), Ok((run, letters))) => {
            strikes.check(&mut trial, &run, &letters);
            report.problems.append(&mut trial.problems);
            let undisturbed = undisturbed(kit, &config, &shifts[..rounds]).await;
            report.judged(rounds, &run, undisturbed.as_ref().ok());
            match undisturbed {
                Ok(undisturbed) => report.problems.extend(judge(&undisturbed, &run)),
                Err(problem) => report.problems.push(format!("undisturbed: {problem:#}")),
            }
        }
        (played, seen) => {
            let problems = [played.err(), seen.err()];
            report.problems.extend(problems.into_iter().flatten().map(|problem| format!("{problem:#}")));
        }
    }
    report.done = std::mem::take(&mut trial.done);
    report.more = std::mem::take(&mut trial.figures);
    trial.clean()?;
    report.finish(began.elapsed());
    if let Some(out) = &soak.out {
        report.write(out)?;
    }
    Ok(report)
}

/// By how much each round's times are later than recorded: whole weeks, the last one before now.
fn shifts(kit: &Kit, soak: &Soak) -> Vec<i64> {
    let (first, last) = kit.recording.span();
    let step = ((last - first) / WEEK_NS + 1) * WEEK_NS;
    let seconds_a_round = kit.recording.readings.len() as f64 / soak.rate;
    let rounds = (soak.time.as_secs_f64() / seconds_a_round).ceil() as i64 + 1;
    // A reading of the future is none: the last round ends a week ago at the latest.
    let newest = (eddy_cli::now() - WEEK_NS - last).div_euclid(WEEK_NS) * WEEK_NS;
    (0..rounds).map(|round| newest - (rounds - 1 - round) * step).collect()
}

/// As many whole rounds as it takes; how many.
async fn play(
    trial: &mut Trial<'_>,
    strikes: &mut Strikes,
    minutes: &mut Minutes,
    soak: &Soak,
    shifts: &[i64],
) -> Result<usize> {
    strikes.join(trial)?;
    trial.start().await?;
    strikes.ready(trial).await?;
    let (began, over) =
        (Instant::now(), Duration::from_secs_f64(trial.kit.recording.readings.len() as f64 / soak.rate));
    let mut rounds = 0;
    for shift in shifts {
        trial.feed_later(Some(over), *shift);
        while !trial.is_fed() {
            strikes.strike_if_due(trial).await?;
            if let Some(minute) = minutes.look(trial, began.elapsed()) {
                tell(trial, &minute);
            }
            trial.pause(TICK).await?;
        }
        trial.fed().await?;
        strikes.remember(trial).await?;
        // Two rounds ago all is settled.
        if rounds >= 2 {
            let (first, _) = trial.kit.recording.span();
            feed::open(&trial.books).close(first + shifts[rounds - 1]);
        }
        rounds += 1;
        if began.elapsed() >= soak.time {
            break;
        }
    }
    strikes.mend();
    trial.sandbox.through().await?;
    strikes.judge_region(trial).await?;
    Ok(rounds)
}

fn tell(trial: &Trial<'_>, minute: &Minute) {
    trial.kit.progress.tell(&minute.to_string());
}

async fn undisturbed(kit: &Kit, config: &Config, shifts: &[i64]) -> Result<Run> {
    kit.progress.begin("undisturbed");
    let mut config = config.clone();
    // The region that it names is gone.
    config.set(&["sync", "hub", "url"], "");
    let mut trial = Trial::new(kit, "soak-undisturbed", &config)?;
    let came = async {
        trial.start().await?;
        for (round, shift) in shifts.iter().enumerate() {
            trial.feed_later(None, *shift);
            trial.fed().await?;
            trial.sandbox.through().await?;
            if round >= 2 {
                let (first, _) = kit.recording.span();
                feed::open(&trial.books).close(first + shifts[round - 1]);
            }
        }
        anyhow::Ok(())
    };
    let came = came.await;
    let seen = trial.end().await;
    trial.clean()?;
    came?;
    Ok(seen.context("nothing can be read")?.0)
}
