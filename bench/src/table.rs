//! Files of recorded streams.

use std::{
    fs::{self, File},
    io::{BufWriter, Read, Write},
    path::Path,
};

use anyhow::{Context, Result};
use eddy_schemas::Timestamp;

/// A file in memory.
#[derive(Debug)]
pub struct Table {
    /// Titles.
    pub header: Vec<String>,
    /// Cells.
    pub rows: Vec<Vec<String>>,
}

/// Reads a file, gzipped or not.
///
/// # Errors
/// If it is not such a file.
pub fn read(path: &Path, delimiter: u8) -> Result<Table> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let is_gzip = path.extension().is_some_and(|extension| extension == "gz");
    let source: Box<dyn Read> = if is_gzip { Box::new(flate2::read::GzDecoder::new(file)) } else { Box::new(file) };
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(source);
    let header = reader.headers()?.iter().map(str::to_owned).collect();
    let cells = |record: csv::StringRecord| record.iter().map(str::to_owned).collect();
    let rows = reader.records().map(|record| record.map(cells)).collect::<Result<_, _>>()?;
    Ok(Table { header, rows })
}

/// Writes the result file of a scorer.
///
/// # Errors
/// If it cannot.
pub fn write<'a>(path: &Path, rows: impl Iterator<Item = (&'a str, f64)>) -> Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(path))?;
    let mut file = BufWriter::new(File::create(path)?);
    writeln!(file, "timestamp,anomaly_score")?;
    for (stamp, score) in rows {
        writeln!(file, "{stamp},{score:?}")?;
    }
    Ok(file.flush()?)
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
