//! What `eddy export --class readings` wrote: the rows of READINGS, controls among them, in the order of their stream.
//!
//! A file holds a date's rows of a range of the stream, sorted for queries. So the files of a range are read together and put back into
//! the stream's order (sequence, row); ranges follow one another. Memory: one range, whose rows the export has bounded.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use arrow_array::{
    Array, RecordBatch,
    cast::AsArray as _,
    types::{Float32Type, Float64Type, TimestampNanosecondType, UInt16Type, UInt32Type, UInt64Type},
};
use eddy_schemas::{Control, Timestamp};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::{Names, ReadError, Skipped, open::error};

/// The folder of the class.
const CLASS: &str = "class=readings";
/// Rows that are decoded at once.
const BATCH_ROWS: usize = 8192;

/// A row of the stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Exported {
    /// Its message's sequence and its place there.
    pub place: (u64, u32),
    /// Event time; a control's is when it was said.
    pub time: Timestamp,
    /// What it is.
    pub kind: Kind,
}

/// What a row of the stream is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A measurement.
    Reading {
        /// Index into [`Names`]' devices.
        device: u32,
        /// Index into its series.
        series: u32,
        /// What was measured.
        value: f64,
        /// [`eddy_schemas::quality`] flags.
        quality: u16,
        /// The burst that it came with, and its rate in Hz.
        burst: Option<(f64, Vec<f32>)>,
    },
    /// An operator's word.
    Control(Box<Control>),
}

/// The files of one range.
#[derive(Debug)]
struct Range {
    /// Of the stream, and its first and last sequence.
    incarnation: u64,
    first: u64,
    last: u64,
    files: Vec<PathBuf>,
}

/// An export, range by range.
#[derive(Debug)]
pub struct Export {
    ranges: std::vec::IntoIter<Range>,
    /// The names met so far.
    pub names: Names,
    skipped: Skipped,
    /// How many files there are, and their bytes.
    pub files: (usize, u64),
    before: Option<(u64, u64)>,
}

/// The folder of the class, where `path` is an export's root or one that holds it.
fn folder_of(path: &Path) -> Option<PathBuf> {
    let below = path.join(CLASS);
    if below.is_dir() {
        return Some(below);
    }
    path.components().any(|part| part.as_os_str() == CLASS).then(|| path.to_owned())
}

/// The incarnation, first and last sequence in a file's name.
fn range_of(path: &Path) -> Option<(u64, u64, u64)> {
    let mut parts = path.file_name()?.to_str()?.strip_suffix(".parquet")?.split('-');
    let incarnation = parts.next().filter(|hex| hex.len() == 16)?;
    let mut sequence = || parts.next()?.parse().ok();
    Some((u64::from_str_radix(incarnation, 16).ok()?, sequence()?, sequence()?))
}

impl Export {
    /// If every one of `paths` is (part of) an export of readings: that export. `None` if none is.
    ///
    /// # Errors
    /// Exports and other files together; files of two sites, or of ranges that overlap; a folder that cannot be read.
    pub fn of(paths: &[PathBuf]) -> Result<Option<Self>, ReadError> {
        let mut files = Vec::new();
        for path in paths {
            let Some(folder) = folder_of(path) else { continue };
            let (below, _) = super::open::files(&[folder])?;
            // An earlier layout of the folder, or somebody's own, is read as any other Parquet.
            if below.iter().all(|file| range_of(file).is_some()) {
                files.push(below);
            }
        }
        if files.is_empty() {
            return Ok(None);
        }
        if files.len() < paths.len() {
            return Err(error(&paths[0], "an export of readings is replayed by itself, without other files"));
        }
        let files: Vec<PathBuf> = files.into_iter().flatten().collect();
        let bytes = files.iter().filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum();
        let counted = (files.len(), bytes);
        let ranges = ranges(files)?.into_iter();
        Ok(Some(Self { ranges, names: Names::default(), skipped: Skipped::default(), files: counted, before: None }))
    }

    /// The rows of the next range, in the stream's order; `None` behind the last.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn next_range(&mut self) -> Result<Option<Vec<Exported>>, ReadError> {
        let Some(range) = self.ranges.next() else { return Ok(None) };
        let expected = self.before.filter(|(incarnation, _)| *incarnation == range.incarnation);
        if let Some((_, last)) = expected.filter(|(_, last)| last + 1 < range.first) {
            let path = range.files[0].display().to_string();
            self.skipped
                .note(|| format!("{path}: messages {} to {} are not in this export", last + 1, range.first - 1));
        }
        self.before = Some((range.incarnation, range.last));
        let mut rows = Vec::new();
        for path in &range.files {
            self.read(path, &mut rows).map_err(|problem| error(path, problem))?;
        }
        rows.sort_by_key(|row| row.place);
        Ok(Some(rows))
    }

    /// What was left out so far.
    pub fn skipped(&self) -> &Skipped {
        &self.skipped
    }

    fn read(&mut self, path: &Path, rows: &mut Vec<Exported>) -> Result<(), String> {
        let file = File::open(path).map_err(|problem| problem.to_string())?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|problem| problem.to_string())?;
        let reader = builder.with_batch_size(BATCH_ROWS).build().map_err(|problem| problem.to_string())?;
        for batch in reader {
            self.take(&batch.map_err(|problem| problem.to_string())?, rows)?;
        }
        Ok(())
    }

    fn take(&mut self, batch: &RecordBatch, rows: &mut Vec<Exported>) -> Result<(), String> {
        let column = |name: &str| batch.column_by_name(name).ok_or_else(|| format!("no column {name:?}"));
        let wrong = |name: &str| format!("column {name:?} is of another type than an export's");
        macro_rules! numbers {
            ($name:literal, $kind:ty) => {
                column($name)?.as_primitive_opt::<$kind>().ok_or_else(|| wrong($name))?
            };
        }
        let text = |name| column(name)?.as_string_opt::<i32>().ok_or_else(|| wrong(name));
        let (device, channel, control) = (text("device")?, text("channel")?, text("control")?);
        let time = numbers!("time", TimestampNanosecondType);
        let (sequence, row) = (numbers!("sequence", UInt64Type), numbers!("row", UInt32Type));
        let (value, quality) = (numbers!("value", Float64Type), numbers!("quality", UInt16Type));
        let rate = numbers!("burst_rate_hz", Float64Type);
        let burst = column("burst")?.as_list_opt::<i32>().ok_or_else(|| wrong("burst"))?;
        for at in 0..batch.num_rows() {
            let kind = if control.is_valid(at) {
                Kind::Control(Box::new(Control::parse(control.value(at).as_bytes())?))
            } else {
                let number = self.names.device(device.value(at)).map_err(|problem| problem.to_string())?;
                let series = self.names.series(number, channel.value(at)).map_err(|problem| problem.to_string())?;
                let list = burst.is_valid(at).then(|| burst.value(at));
                let values = list.map(|list| {
                    list.as_primitive_opt::<Float32Type>()
                        .map(|list| list.values().to_vec())
                        .ok_or_else(|| wrong("burst"))
                });
                let burst = values.transpose()?.map(|values| (rate.value(at), values));
                Kind::Reading { device: number, series, value: value.value(at), quality: quality.value(at), burst }
            };
            rows.push(Exported { place: (sequence.value(at), row.value(at)), time: time.value(at), kind });
        }
        Ok(())
    }
}

/// Files by their ranges, in order.
fn ranges(mut files: Vec<PathBuf>) -> Result<Vec<Range>, ReadError> {
    let site_of = |path: &Path| {
        let mut parts = path.components().filter_map(|part| part.as_os_str().to_str());
        parts.find_map(|part| part.strip_prefix("site=")).map(str::to_owned)
    };
    files.sort_by_key(|path| range_of(path));
    let mut ranges: Vec<Range> = Vec::new();
    for path in files {
        let Some((incarnation, first, last)) = range_of(&path) else { continue };
        match ranges.last_mut() {
            Some(range) if (range.incarnation, range.first, range.last) == (incarnation, first, last) => {
                range.files.push(path);
            }
            Some(range) if range.incarnation == incarnation && range.last >= first => {
                let problem = format!("its messages from {first} on are in {} too", range.files[0].display());
                return Err(error(&path, problem));
            }
            _ => ranges.push(Range { incarnation, first, last, files: vec![path] }),
        }
    }
    let mut files = ranges.iter().flat_map(|range| &range.files);
    let site = files.next().and_then(|path| site_of(path));
    match files.find(|path| site_of(path) != site) {
        Some(path) => Err(error(path, "the export is of more than one site: name the folder of one (…/site=NAME)")),
        None => Ok(ranges),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "00000000000000ff-000000000001-000000000020.parquet";

    #[test]
    fn a_files_name_says_its_range() {
        assert_eq!(range_of(Path::new(NAME)), Some((255, 1, 20)));
        assert_eq!(
            range_of(Path::new("00000000000000ff-000000000001-000000000020-0a0b0c0d.parquet")),
            Some((255, 1, 20))
        );
        for other in ["part-0.parquet", "00000000000000ff-1.parquet", "ff-1-2.parquet", "a.csv"] {
            assert_eq!(range_of(Path::new(other)), None, "{other}");
        }
    }

    #[test]
    fn ranges_that_overlap_and_two_sites_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let put = |site: &str, date: &str, name: &str| {
            let folder = root.path().join(CLASS).join(format!("site={site}")).join(format!("date={date}"));
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join(name), "x").unwrap();
        };
        put("a", "2026-01-05", NAME);
        put("a", "2026-01-06", NAME);
        put("a", "2026-01-06", "00000000000000ff-000000000021-000000000030.parquet");
        let paths = [root.path().to_owned()];
        let export = Export::of(&paths).unwrap().unwrap();
        let ranges: Vec<_> = export.ranges.map(|range| (range.first, range.files.len())).collect();
        assert_eq!(ranges, [(1, 2), (21, 1)]);
        put("b", "2026-01-06", "00000000000000ff-000000000031-000000000040.parquet");
        assert!(Export::of(&paths).unwrap_err().problem.contains("more than one site"));
        put("a", "2026-01-07", "00000000000000ff-000000000025-000000000030.parquet");
        assert!(Export::of(&paths).unwrap_err().problem.contains("from 25 on"));
    }

    #[test]
    fn other_folders_are_none() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("x.csv"), "time,x\n").unwrap();
        assert!(Export::of(&[root.path().to_owned()]).unwrap().is_none());
        let folder = root.path().join(CLASS).join("device=pump");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("part-0.parquet"), "x").unwrap();
        assert!(Export::of(&[root.path().to_owned()]).unwrap().is_none());
    }
}
