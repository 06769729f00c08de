//! The Skoltech anomaly benchmark: a run is one device of eight channels.

use std::path::{Path, PathBuf};

use anyhow::Result;
use eddy_schemas::{SeriesName, Timestamp, alert::Phase};

use crate::{
    chain::{Chain, Settings},
    table,
};

/// Rows of a file that are its training part.
const TRAINING_ROWS: usize = 400;
/// Anomalies of a run lie apart; an alert may come this much after one, for windows lag.
const GRACE_ROWS: usize = 40;

/// Runs every file of `data` and writes `skab` (the joint score, whose unit is the 0.99 quantile of commissioning; the
/// training part holds 1, so the scorer's `--mode calib --mult M` is the threshold M) and `skab-tail` under `out`.
///
/// # Errors
/// If a file cannot be read or written.
pub fn run(settings: &Settings, data: &Path, out: &Path) -> Result<()> {
    let (mut found, mut all, mut outside) = (0, 0, 0);
    for file in files(data)? {
        let name = file.strip_prefix(data)?.to_string_lossy().into_owned();
        let table = table::read(&file, b';')?;
        let is_channel = |title: &str| !["datetime", "anomaly", "changepoint"].contains(&title);
        let mut chain = Chain::new(settings, TRAINING_ROWS)?;
        let channels: Vec<(usize, String)> = (0..table.header.len())
            .filter(|at| is_channel(&table.header[*at]))
            .map(|at| (at, SeriesName::encode(&name, &table.header[at])))
            .collect();
        let times: Vec<Timestamp> = table.rows.iter().map(|row| table::time(&row[0])).collect::<Result<_>>()?;
        for (row, time) in table.rows.iter().zip(&times) {
            for (at, series) in &channels {
                chain.push(series, *time, row[*at].parse()?, 0, 0)?;
            }
        }
        let outcome = chain.finish()?;
        let (mut score, mut tail) = (vec![1.0; times.len()], vec![0.0; times.len()]);
        for row in outcome.rows.iter().filter(|row| row.is_joint()) {
            if let Ok(at) = times.binary_search(&row.time) {
                (score[at], tail[at]) = (row.score, -row.tail.log10());
            }
        }
        if !name.starts_with("anomaly-free") {
            let stamps = || table.rows.iter().map(|row| row[0].as_str());
            table::write(&out.join("skab").join(&name), stamps().zip(score))?;
            table::write(&out.join("skab-tail").join(&name), stamps().zip(tail))?;
        }
        let anomalies = labelled(&table);
        let opened: Vec<usize> = outcome
            .alerts
            .iter()
            .filter(|alert| alert.data.phase == Phase::Opened)
            .map(|alert| Ok(times.partition_point(|time| *time < table::time(&alert.data.opened).unwrap_or(0))))
            .collect::<Result<_>>()?;
        let within = |row: usize, (from, to): (usize, usize)| row >= from && row <= to + GRACE_ROWS;
        let hit = anomalies.iter().filter(|window| opened.iter().any(|row| within(*row, **window))).count();
        let outer: Vec<&usize> =
            opened.iter().filter(|row| !anomalies.iter().any(|window| within(**row, *window))).collect();
        println!(
            "skab {name}: anomalies {hit}/{} at {anomalies:?}, opened {opened:?}, outside {outer:?}",
            anomalies.len()
        );
        (found, all, outside) = (found + hit, all + anomalies.len(), outside + outer.len());
    }
    println!("skab all: anomalies {found}/{all}, episodes outside {outside}");
    Ok(())
}

fn files(data: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for folder in std::fs::read_dir(data)? {
        let folder = folder?.path();
        if folder.is_dir() {
            for file in std::fs::read_dir(folder)? {
                files.push(file?.path());
            }
        }
    }
    files.retain(|file| file.extension().is_some_and(|extension| extension == "csv"));
    files.sort();
    Ok(files)
}

/// The labelled stretches: first and last row.
fn labelled(table: &table::Table) -> Vec<(usize, usize)> {
    let Some(column) = table.header.iter().position(|title| title == "anomaly") else { return Vec::new() };
    let mut stretches: Vec<(usize, usize)> = Vec::new();
    for (row, cells) in table.rows.iter().enumerate().skip(TRAINING_ROWS) {
        if cells[column].starts_with('1') {
            match stretches.last_mut() {
                Some((_, to)) if *to + 1 == row => *to = row,
                _ => stretches.push((row, row)),
            }
        }
    }
    stretches
}
