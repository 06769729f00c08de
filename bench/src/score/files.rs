//! Result files and the labels that they are scored against.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{Labelled, nab, skab, vus};
use crate::{
    inputs::{self, Input, Set},
    table::{self, Table},
};

/// Titles of label columns, the first that is there counts.
const LABELS: [&str; 4] = ["label", "event", "anomaly", "is_anomaly"];
/// Titles of columns that hold no values.
const NO_VALUES: [&str; 8] = ["timestamp", "datetime", "time", "idx", "scored", "anomaly_score", "changepoint", "type"];

/// A file of NAB.
#[derive(Clone, Debug)]
pub(super) struct NabFile {
    pub(super) name: String,
    pub(super) series: nab::Series,
    period: usize,
}

impl NabFile {
    /// Its scored rows, labelled inside windows.
    pub(super) fn labelled(&self) -> Labelled {
        let nab::Series { scores, windows } = &self.series;
        let from = nab::probation(scores.len());
        let inside = |row: usize| windows.iter().any(|(left, right)| (*left..=*right).contains(&row));
        Labelled {
            scores: vus::finite(&scores[from..]),
            labels: (from..scores.len()).map(inside).collect(),
            w_max: self.period,
        }
    }
}

/// Every file that NAB's labels name and that is there, by name.
pub(super) fn nab(data: &Path, out: &Path) -> Result<Vec<NabFile>> {
    let mut files = Vec::new();
    for (name, windows) in &nab_labels(data)? {
        let source = Set::Nab.data(data).join(name);
        if !source.is_file() {
            continue;
        }
        let result = table::read(&out.join(name), b',')?;
        let place = || out.join(name).display().to_string();
        let time = result.column("timestamp").with_context(place)?;
        let stamps: Vec<String> = result.rows.iter().map(|cells| nab::stamp(&cells[time])).collect();
        let windows = nab::windows(&stamps, windows).with_context(place)?;
        let series = nab::Series { scores: numbers(&result, "anomaly_score").with_context(place)?, windows };
        let source = table::read(&source, b',')?;
        files.push(NabFile { name: name.clone(), series, period: vus::period(&first_values(&source)?) });
    }
    Ok(files)
}

/// Every run of SKAB's scored groups, in order.
pub(super) fn skab(data: &Path, out: &Path) -> Result<Vec<(String, skab::Run)>> {
    let inputs = inputs::list(data.parent().unwrap_or(data), &[Set::Skab])?;
    let scored = inputs.iter().filter(|input| !input.name.starts_with("anomaly-free"));
    scored
        .map(|input| {
            let (source, result) = pair(&input.path, b';', &out.join(&input.name))?;
            let labels = numbers(&source, "anomaly")?.iter().map(|label| *label > 0.0).collect();
            Ok((input.name.clone(), skab::Run { scores: numbers(&result, "anomaly_score")?, labels }))
        })
        .collect()
}

/// Which rows of a stream are scored and not labelled.
pub(super) fn normal_rows(data: &Path, input: &Input) -> Result<Vec<bool>> {
    let place = || input.path.display().to_string();
    match input.set {
        Set::Nab => normal_rows_of_nab(&data.join(Set::Nab.folder()), input),
        Set::Skab => normal_rows_of_skab(&table::read(&input.path, b';')?),
        Set::Gecco | Set::Telemetry | Set::Ucr => {
            let (labels, scored) = labels(&table::read(&input.path, b',')?)?;
            Ok(labels.iter().zip(scored).map(|(label, scored)| *label <= 0.0 && scored > 0.0).collect())
        }
    }
    .with_context(place)
}

fn normal_rows_of_nab(data: &Path, input: &Input) -> Result<Vec<bool>> {
    let source = table::read(&input.path, b',')?;
    let stamp = source.column("timestamp")?;
    let stamps: Vec<String> = source.rows.iter().map(|cells| nab::stamp(&cells[stamp])).collect();
    let windows = nab::windows(&stamps, nab_labels(data)?.get(&input.name).map_or(&[], Vec::as_slice))?;
    let outside = |row: usize| !windows.iter().any(|(left, right)| (*left..=*right).contains(&row));
    Ok((0..stamps.len()).map(|row| row >= nab::probation(stamps.len()) && outside(row)).collect())
}

/// The anomaly-free run has no labels.
fn normal_rows_of_skab(source: &Table) -> Result<Vec<bool>> {
    let labels = match source.column("anomaly") {
        Ok(_) => numbers(source, "anomaly")?,
        Err(_) => vec![0.0; source.rows.len()],
    };
    Ok(labels.iter().enumerate().map(|(row, label)| row >= skab::TRAINING_ROWS && *label <= 0.0).collect())
}

/// NAB's labelled windows, by file.
fn nab_labels(data: &Path) -> Result<BTreeMap<String, Vec<[String; 2]>>> {
    let path = data.join("combined_windows.json");
    let text = std::fs::read(&path).with_context(|| path.display().to_string())?;
    serde_json::from_slice(&text).with_context(|| path.display().to_string())
}

/// Per row its label, and whether it is scored; both above 0 where it is so.
fn labels(source: &Table) -> Result<(Vec<f64>, Vec<f64>)> {
    let Some(title) = LABELS.iter().find(|title| source.column(title).is_ok()) else {
        bail!("no label column, one of {}", LABELS.join(", "));
    };
    let labels = numbers(source, title)?;
    let scored = match source.column("scored") {
        Ok(_) => numbers(source, "scored")?,
        Err(_) => vec![1.0; labels.len()],
    };
    Ok((labels, scored))
}

/// Per row of a result the alerts that were opened at it.
pub(super) fn alerts(result: &Path) -> Result<Vec<f64>> {
    numbers(&table::read(result, b',')?, table::ALERTS).with_context(|| result.display().to_string())
}

/// Every result below `out` with the labels of the file of the same path below `data`.
pub(super) fn labelled(data: &Path, out: &Path) -> Result<Vec<(String, Labelled)>> {
    let mut files = Vec::new();
    for path in inputs::files(out)? {
        let source = source_of(&data.join(path.strip_prefix(out)?))?;
        let (source, result) = pair(&source, b',', &path)?;
        let place = || path.display().to_string();
        let (labels, scored) = labels(&source).with_context(place)?;
        let scores = numbers(&result, "anomaly_score").with_context(place)?;
        let kept = |row: &usize| scored[*row] > 0.0;
        let rows: Vec<usize> = (0..labels.len()).filter(kept).collect();
        let labelled = Labelled {
            scores: vus::finite(&rows.iter().map(|row| scores[*row]).collect::<Vec<_>>()),
            labels: rows.iter().map(|row| labels[*row] > 0.0).collect(),
            w_max: vus::period(&first_values(&source).with_context(place)?),
        };
        files.push((path.strip_prefix(out)?.to_string_lossy().into_owned(), labelled));
    }
    Ok(files)
}

/// The file of a path, or the one that is, or is not, gzipped in its place.
fn source_of(path: &Path) -> Result<PathBuf> {
    let name = path.to_string_lossy();
    let other = name.strip_suffix(".gz").map_or_else(|| format!("{name}.gz"), str::to_owned);
    let found = [path.to_owned(), PathBuf::from(other)].into_iter().find(|path| path.is_file());
    found.with_context(|| format!("{}: no data of that result", path.display()))
}

fn pair(source: &Path, delimiter: u8, result: &Path) -> Result<(Table, Table)> {
    let (source, table) = (table::read(source, delimiter)?, table::read(result, b',')?);
    let (rows, expected) = (table.rows.len(), source.rows.len());
    ensure!(rows == expected, "{}: {rows} rows, the data has {expected}", result.display());
    Ok((source, table))
}

/// A column as numbers; not a number where a cell is empty.
fn numbers(table: &Table, title: &str) -> Result<Vec<f64>> {
    let column = table.column(title)?;
    let number = |(at, cells): (usize, &Vec<String>)| match cells[column].trim() {
        "" | "NA" => Ok(f64::NAN),
        "true" | "True" | "TRUE" => Ok(1.0),
        "false" | "False" | "FALSE" => Ok(0.0),
        cell => cell.parse().with_context(|| format!("line {}: {title} {cell:?}", at + 2)),
    };
    table.rows.iter().enumerate().map(number).collect()
}

/// The first column of values.
fn first_values(table: &Table) -> Result<Vec<f64>> {
    let is_value = |title: &&String| !NO_VALUES.contains(&title.as_str()) && !LABELS.contains(&title.as_str());
    let title = table.header.iter().find(is_value).context("no column of values")?;
    numbers(table, title)
}
