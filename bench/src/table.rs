//! Files of recorded streams.

use std::{
    fs::{self, File},
    io::{BufWriter, Read, Write},
    path::Path,
};

use anyhow::{Context, Result};
use eddy_schemas::Timestamp;

/// Title of a result's column of opened alerts.
pub const ALERTS: &str = "alerts";

/// A file in memory.
#[derive(Debug)]
pub struct Table {
    /// Titles.
    pub header: Vec<String>,
    /// Cells.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// The number of the column with a title.
    ///
    /// # Errors
    /// If there is none.
    pub fn column(&self, title: &str) -> Result<usize> {
        let found = self.header.iter().position(|other| other == title);
        found.with_context(|| format!("no column {title:?}, found {}", self.header.join(", ")))
    }
}

/// Reads a file, gzipped or not. Every row has as many cells as the header.
///
/// # Errors
/// If it is not such a file.
pub fn read(path: &Path, delimiter: u8) -> Result<Table> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let is_gzip = path.extension().is_some_and(|extension| extension == "gz");
    let source: Box<dyn Read> = if is_gzip { Box::new(flate2::read::GzDecoder::new(file)) } else { Box::new(file) };
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(source);
    let header = reader.headers()?.iter().map(|title| title.trim().to_owned()).collect();
    let cells = |record: csv::StringRecord| record.iter().map(str::to_owned).collect();
    let rows = reader.records().map(|record| record.map(cells)).collect::<Result<_, _>>()?;
    Ok(Table { header, rows })
}

/// A row of a result file: its stamp, its anomaly score, and how many alerts were opened at it.
pub type ResultRow<'a> = (&'a str, f64, u32);

/// Writes a result file, gzipped if its name ends so. Scorers look at its first two columns.
///
/// # Errors
/// If it cannot.
pub fn write<'a>(path: &Path, rows: impl Iterator<Item = ResultRow<'a>>) -> Result<()> {
    let place = || path.display().to_string();
    fs::create_dir_all(path.parent().unwrap_or(path)).with_context(place)?;
    let file = BufWriter::new(File::create(path).with_context(place)?);
    if path.extension().is_some_and(|extension| extension == "gz") {
        let gzip = write_rows(flate2::write::GzEncoder::new(file, flate2::Compression::fast()), rows)?;
        Ok(gzip.finish()?.flush()?)
    } else {
        Ok(write_rows(file, rows)?.flush()?)
    }
}

fn write_rows<'a, W: Write>(mut file: W, rows: impl Iterator<Item = ResultRow<'a>>) -> Result<W> {
    writeln!(file, "timestamp,anomaly_score,{ALERTS}")?;
    for (stamp, score, alerts) in rows {
        writeln!(file, "{stamp},{score:?},{alerts}")?;
    }
    Ok(file)
}

/// A time with a zone, or without one, which is taken for UTC.
///
/// # Errors
/// If it is neither.
pub fn time(text: &str) -> Result<Timestamp> {
    let stamp = match text.parse::<jiff::Timestamp>() {
        Ok(stamp) => stamp,
        Err(_) => text.parse::<jiff::civil::DateTime>()?.to_zoned(jiff::tz::TimeZone::UTC)?.timestamp(),
    };
    Ok(i64::try_from(stamp.as_nanosecond())?)
}
