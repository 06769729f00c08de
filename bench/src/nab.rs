//! The Numenta Anomaly Benchmark: result files for its scorer, and what alerts alone would have told.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result};
use eddy_schemas::{SeriesName, Timestamp, alert::Phase};

use crate::{
    chain::{Chain, Settings},
    table,
};

/// Rows for which a score must exceed all that stood before to stand itself.
const REFRACTORY_ROWS: usize = 100;

/// Runs every file of `data` and writes `nab`, `nab-refractory` and `nab-tail` under `out`.
///
/// # Errors
/// If a file cannot be read or written.
pub fn run(settings: &Settings, data: &Path, out: &Path) -> Result<()> {
    let windows = fs::read(data.join("combined_windows.json")).context("nab/combined_windows.json")?;
    let windows: BTreeMap<String, Vec<[String; 2]>> = serde_json::from_slice(&windows)?;
    let (mut found, mut all, mut inside, mut outside, mut days) = (0, 0, 0, 0, 0.0);
    for (name, labelled) in &windows {
        let rows = table::read(&data.join("data").join(name), b',')?.rows;
        let times: Vec<Timestamp> = rows.iter().map(|row| table::time(&row[0])).collect::<Result<_>>()?;
        let commissioning = (rows.len() * 15 / 100).clamp(2, 750);
        let mut chain = Chain::new(settings, commissioning)?;
        let series = SeriesName::encode(name, "value");
        let mut newest = Timestamp::MIN;
        let mut sample_of: Vec<usize> = Vec::new();
        let mut samples = 0;
        for (row, time) in rows.iter().zip(&times) {
            // A repeated hour of a clock that was put back: such readings are late.
            if *time > newest {
                chain.push(&series, *time, row[1].parse()?, 0, 0)?;
                (newest, samples) = (*time, samples + 1);
            }
            sample_of.push(samples - 1);
        }
        let outcome = chain.finish()?;
        let scores: Vec<f64> = sample_of.iter().map(|sample| outcome.rows[*sample].score).collect();
        let tails: Vec<f64> = sample_of.iter().map(|sample| -outcome.rows[*sample].tail.log10()).collect();
        let stamps = || rows.iter().map(|row| row[0].as_str());
        table::write(&out.join("nab").join(name), stamps().zip(scores.iter().copied()))?;
        table::write(&out.join("nab-refractory").join(name), stamps().zip(refractory(&scores)))?;
        table::write(&out.join("nab-tail").join(name), stamps().zip(tails.iter().copied()))?;
        table::write(&out.join("nab-tail-refractory").join(name), stamps().zip(refractory(&tails)))?;

        let windows: Vec<(Timestamp, Timestamp)> =
            labelled.iter().map(|[from, to]| Ok((table::time(from)?, table::time(to)?))).collect::<Result<_>>()?;
        let opened: Vec<Timestamp> = outcome
            .alerts
            .iter()
            .filter(|alert| alert.data.phase == Phase::Opened)
            .map(|alert| table::time(&alert.data.opened))
            .collect::<Result<_>>()?;
        let within = |time: &Timestamp, window: &(Timestamp, Timestamp)| (window.0..=window.1).contains(time);
        let hit = windows.iter().filter(|window| opened.iter().any(|time| within(time, window))).count();
        let inner = opened.iter().filter(|time| windows.iter().any(|window| within(time, window))).count();
        let span = (times[times.len() - 1] - times[commissioning]) as f64 / 86_400e9;
        println!(
            "nab {name}: windows {hit}/{}, episodes inside {inner}, outside {}, over {span:.0} days",
            windows.len(),
            opened.len() - inner
        );
        (found, all) = (found + hit, all + windows.len());
        (inside, outside, days) = (inside + inner, outside + opened.len() - inner, days + span);
    }
    println!(
        "nab all: windows {found}/{all}, episodes inside {inside}, outside {outside}, {:.3} outside per series-week",
        f64::from(outside as u32) / days * 7.0
    );
    Ok(())
}

/// A score stands only if it exceeds every standing one of the rows before; -1e9 where it does not.
fn refractory(scores: &[f64]) -> Vec<f64> {
    let mut standing = vec![-1e9; scores.len()];
    for row in 0..scores.len() {
        let before = &standing[row.saturating_sub(REFRACTORY_ROWS)..row];
        if before.iter().all(|other| scores[row] > *other) {
            standing[row] = scores[row];
        }
    }
    standing
}
