//! The public benchmarks as folders lay them out: which files there are, and the stream in each. Labels are not looked at.

mod nab;
mod rows;
mod skab;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use eddy_schemas::Timestamp;

/// A benchmark, called as its folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Set {
    /// The Numenta Anomaly Benchmark: `nab/data/<category>/<name>.csv`, one channel.
    Nab,
    /// The Skoltech pump: `skab/<group>/<run>.csv`, a device of eight channels.
    Skab,
    /// Water quality: rows by number, nine channels, gaps.
    Gecco,
    /// SMAP and MSL telemetry: rows by number, one channel.
    Telemetry,
    /// The UCR archive in telemetry's format.
    Ucr,
}

impl Set {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Nab, Self::Skab, Self::Gecco, Self::Telemetry, Self::Ucr];

    /// Its folder, below the data and below the results.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Nab => "nab",
            Self::Skab => "skab",
            Self::Gecco => "gecco",
            Self::Telemetry => "telemetry",
            Self::Ucr => "ucr",
        }
    }

    /// Where the streams' files lie, below [`Self::folder`].
    pub fn data(self, folder: &Path) -> PathBuf {
        if self == Self::Nab { folder.join("data") } else { folder.to_owned() }
    }
}

/// One file of a benchmark.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Input {
    /// Of which benchmark.
    pub set: Set,
    /// Its path below the benchmark's streams, and of its result below the benchmark's results.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
}

/// A recorded device.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    /// Names of its channels.
    pub channels: Vec<String>,
    /// Per row its time as the file writes it.
    pub stamps: Vec<String>,
    /// Per row its event time; not always ascending.
    pub times: Vec<Timestamp>,
    /// Per row a value of each channel; not a number where the cell is empty.
    pub values: Vec<f64>,
    /// First rows that the benchmark's protocol grants for learning.
    pub granted_rows: usize,
}

impl Stream {
    /// The values of a row, one a channel.
    pub fn row(&self, row: usize) -> &[f64] {
        &self.values[row * self.channels.len()..(row + 1) * self.channels.len()]
    }
}

/// The files of the benchmarks in `sets` below `data`, by benchmark and name. A benchmark whose folder is missing has none.
///
/// # Errors
/// If a folder cannot be read.
pub fn list(data: &Path, sets: &[Set]) -> Result<Vec<Input>> {
    let mut inputs = Vec::new();
    for set in Set::ALL.into_iter().filter(|set| sets.contains(set)) {
        let folder = set.data(&data.join(set.folder()));
        if folder.is_dir() {
            for path in files(&folder)? {
                let name = path.strip_prefix(&folder)?.to_string_lossy().into_owned();
                inputs.push(Input { set, name, path });
            }
        }
    }
    inputs.sort();
    Ok(inputs)
}

/// Reads an input's stream.
///
/// # Errors
/// If the file is not laid out as its benchmark's are.
pub fn read(input: &Input) -> Result<Stream> {
    let stream = match input.set {
        Set::Nab => nab::read(&input.path),
        Set::Skab => skab::read(&input.path),
        Set::Gecco | Set::Telemetry | Set::Ucr => rows::read(&input.path),
    }
    .with_context(|| input.path.display().to_string())?;
    ensure!(!stream.times.is_empty() && !stream.channels.is_empty(), "{}: no rows", input.path.display());
    Ok(stream)
}

/// Every `.csv` and `.csv.gz` below a folder, in order.
pub(crate) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            let name = path.to_string_lossy();
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(".csv") || name.ends_with(".csv.gz") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// A cell's value; not a number where it is empty.
fn value(cell: &str) -> Result<f64> {
    let cell = cell.trim();
    if cell.is_empty() || cell == "NA" { Ok(f64::NAN) } else { cell.parse().with_context(|| format!("value {cell:?}")) }
}

#[cfg(test)]
mod tests;
