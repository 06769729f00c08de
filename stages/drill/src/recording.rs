//! What is fed: a recording in memory, in the order in which it is sent.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use eddy_cli::{
    demo,
    readers::{
        Merged, ReadOptions, Row,
        open::{self, BytesRead},
        time::RowClock,
    },
};
use eddy_fixtures::{Fleet, FleetConfig, Format};
use eddy_schemas::Timestamp;

/// A small part of a recording: so many devices, and so much of their time.
const SMALL_DEVICES: u32 = 3;
const SMALL_NS: i64 = 10 * 86_400 * 1_000_000_000;
/// Readings at most: they are held in memory.
const READINGS_MAX: usize = 20_000_000;

/// One reading.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// Index into [`Recording::series`].
    pub series: u32,
    /// Event time.
    pub time: Timestamp,
    /// What was measured.
    pub value: f64,
}

/// A recording.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recording {
    /// Devices, by name.
    pub devices: Vec<String>,
    /// Canonical texts of series, each with its device's index.
    pub series: Vec<(String, u32)>,
    /// All readings, merged by time; those of a device in its own order, late and repeated ones too.
    pub readings: Vec<Reading>,
}

impl Recording {
    /// Reads whatever `eddy replay` reads.
    ///
    /// # Errors
    /// If it cannot be read, or holds no reading.
    pub fn read(path: &Path) -> Result<Self> {
        let (files, _) = open::files(&[path.to_owned()])?;
        let minute = RowClock { start: 1_577_836_800_000_000_000, period: 60_000_000_000 };
        let options = ReadOptions { device: None, rows: minute };
        let mut merged = Merged::open(&files, &options, &BytesRead::default())?;
        let (mut row, mut readings, mut device_of) = (Row::default(), Vec::new(), Vec::new());
        while merged.next_row(&mut row)? {
            for (series, value) in &row.values {
                if device_of.len() <= *series as usize {
                    device_of.resize(*series as usize + 1, 0);
                }
                device_of[*series as usize] = row.device;
                readings.push(Reading { series: *series, time: row.time, value: *value });
            }
            ensure!(readings.len() <= READINGS_MAX, "{}: more than {READINGS_MAX} readings", path.display());
        }
        ensure!(!readings.is_empty(), "{}: no readings", path.display());
        let names = merged.names();
        let series =
            device_of.iter().zip(0..).map(|(device, id)| (names.series_name(id).to_owned(), *device)).collect();
        let devices = (0..names.devices() as u32).map(|id| names.device_name(id).to_owned()).collect();
        Ok(Self { devices, series, readings })
    }

    /// The first days of a few devices.
    #[must_use]
    pub fn small(mut self) -> Self {
        let until = self.readings.iter().map(|reading| reading.time).min().unwrap_or_default().saturating_add(SMALL_NS);
        let series = &self.series;
        self.readings.retain(|reading| reading.time < until && series[reading.series as usize].1 < SMALL_DEVICES);
        self.devices.truncate(SMALL_DEVICES as usize);
        self
    }

    /// From the first to the last event time, in nanoseconds.
    pub fn span(&self) -> (Timestamp, Timestamp) {
        let times = || self.readings.iter().map(|reading| reading.time);
        (times().min().unwrap_or_default(), times().max().unwrap_or_default())
    }
}

/// Where the recording lies: as given, or the demo's; where that is not installed it is made anew in `scratch`, from the same seed.
///
/// # Errors
/// If it can be neither found nor made.
pub fn find(given: Option<&Path>, scratch: &Path) -> Result<PathBuf> {
    if let Some(found) = given.map(Path::to_owned).or_else(demo::recorded) {
        return Ok(found);
    }
    let folder = scratch.join("recording");
    let fleet = Fleet::new(FleetConfig::default()).context("the recording cannot be made")?;
    eddy_fixtures::record(fleet, Format::Wide, &folder)?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_that_is_not_installed_is_made_and_is_the_demos() {
        let scratch = tempfile::tempdir().unwrap();
        let fleet = Fleet::new(FleetConfig::default()).unwrap();
        eddy_fixtures::record(fleet, Format::Wide, scratch.path()).unwrap();
        let made = Recording::read(scratch.path()).unwrap();
        let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/fleet");
        assert!(made == Recording::read(&installed).unwrap());
        assert_eq!((made.devices.len(), made.series.len()), (12, 36));
    }

    #[test]
    fn a_small_one_is_the_beginning_of_a_few_devices() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c", "d"] {
            let text = "time,x,y\n2026-01-01T00:00:00Z,1,2\n2026-01-05T00:00:00Z,3,\n2026-01-11T00:00:00Z,5,6\n";
            std::fs::write(folder.path().join(format!("{name}.csv")), text).unwrap();
        }
        let all = Recording::read(folder.path()).unwrap();
        assert_eq!((all.devices.len(), all.readings.len()), (4, 20));
        let small = all.small();
        assert_eq!((small.devices.len(), small.readings.len()), (3, 9));
        assert_eq!(small.span().1 - small.span().0, 4 * 86_400 * 1_000_000_000);
    }
}
