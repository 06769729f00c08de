//! From paths to readers: which files, gzipped or not, in which format.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Seek as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use flate2::bufread::MultiGzDecoder;

use super::{
    ReadError, ReadOptions, Source, csv::CsvSource, json_lines::JsonLinesSource, line_protocol::LineProtocolSource,
    parquet::ParquetSource,
};

/// Extensions that are read, but for Parquet with or without `.gz`.
const EXTENSIONS: [&str; 9] = ["csv", "tsv", "txt", "lp", "line", "influx", "jsonl", "ndjson", "parquet"];
/// What a Parquet file begins with.
const PARQUET_MAGIC: &[u8] = b"PAR1";
/// A partition of this name (a folder `device=NAME`) names the device.
const DEVICE_PARTITION: &str = "device=";

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Csv,
    LineProtocol,
    JsonLines,
    Parquet,
}

impl Format {
    /// By its extension, or else by how it begins.
    fn of(extension: &str, start: &[u8]) -> Self {
        let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
        match extension {
            "lp" | "line" | "influx" => Self::LineProtocol,
            "csv" | "tsv" => Self::Csv,
            "jsonl" | "ndjson" => Self::JsonLines,
            "parquet" => Self::Parquet,
            _ if start.starts_with(PARQUET_MAGIC) => Self::Parquet,
            _ if matches!(start.trim_ascii_start().first(), Some(b'{' | b'[')) => Self::JsonLines,
            _ if looks_like_line_protocol(start) => Self::LineProtocol,
            _ => Self::Csv,
        }
    }
}

/// Counts the bytes of files that were read, for the progress bar.
pub type BytesRead = Arc<AtomicU64>;

/// Every file to replay under `paths`: files as they are given, folders with all of their files of a known extension
/// below them, in the order of their names. The second number is their size in bytes.
///
/// # Errors
/// A path that is not there, or a folder without a file to replay.
pub fn files(paths: &[PathBuf]) -> Result<(Vec<PathBuf>, u64), ReadError> {
    let mut all = Vec::new();
    for path in paths {
        let before = all.len();
        if path.is_dir() {
            walk(path, &mut all)?;
            if all.len() == before {
                let taken = EXTENSIONS.join(", ");
                return Err(error(path, format!("no file to replay in this folder; extensions taken: {taken} [.gz]")));
            }
        } else {
            all.push(path.clone());
        }
    }
    let mut bytes = 0;
    for path in &all {
        bytes += path.metadata().map_err(|problem| error(path, problem))?.len();
    }
    Ok((all, bytes))
}

fn walk(folder: &Path, all: &mut Vec<PathBuf>) -> Result<(), ReadError> {
    let entries = folder.read_dir().and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let mut paths: Vec<PathBuf> = entries.map_err(|problem| error(folder, problem))?.iter().map(|e| e.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            walk(&path, all)?;
        } else if EXTENSIONS.contains(&extension(&path).as_str()) {
            all.push(path);
        }
    }
    Ok(())
}

/// Opens one file for reading.
///
/// # Errors
/// That it cannot be opened, or that its first lines are in no known format.
pub fn open(path: &Path, options: &ReadOptions, bytes_read: &BytesRead) -> Result<Box<dyn Source>, ReadError> {
    let mut file = File::open(path).map_err(|problem| error(path, problem))?;
    let device = options.device.clone().unwrap_or_else(|| device_of(path));
    let mut magic = Vec::new();
    let peeked = (&mut file).take(PARQUET_MAGIC.len() as u64).read_to_end(&mut magic).and_then(|_| file.rewind());
    peeked.map_err(|problem| error(path, problem))?;
    if Format::of(&extension(path), &magic) == Format::Parquet {
        if is_gz(path) {
            return Err(error(path, "a gzipped Parquet file: its columns are compressed already; gunzip it"));
        }
        return Ok(Box::new(ParquetSource::open(path, device, options.rows, bytes_read.clone())?));
    }
    let counted = BufReader::with_capacity(1 << 16, Counted { file, bytes: bytes_read.clone() });
    let mut reader: Box<dyn BufRead + Send> = if is_gz(path) {
        Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(counted)))
    } else {
        Box::new(counted)
    };
    let start = reader.fill_buf().map_err(|problem| error(path, problem))?;
    Ok(match Format::of(&extension(path), start) {
        Format::LineProtocol => Box::new(LineProtocolSource::new(path, reader, options.device.clone())),
        Format::JsonLines => Box::new(JsonLinesSource::new(path, reader, device, options.rows)?),
        // Parquet within gzip is none of these either: CSV says what is wrong with its header.
        Format::Csv | Format::Parquet => Box::new(CsvSource::new(path, reader, device, options.rows)?),
    })
}

fn is_gz(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gz"))
}

/// The innermost folder `device=NAME`, or else the file's name without extensions, both percent-decoded; with its folder in
/// front if it is only a number, so that `valve1/0.csv` and `valve2/0.csv` are two devices.
pub fn device_of(path: &Path) -> String {
    let folders = path.parent().into_iter().flat_map(Path::components).rev();
    let mut folders = folders.filter_map(|folder| folder.as_os_str().to_str());
    if let Some(device) = folders.find_map(|folder| folder.strip_prefix(DEVICE_PARTITION)) {
        return eddy_schemas::names::decode(device);
    }
    let stem = eddy_schemas::names::decode(&stem(path));
    let folder = path.parent().and_then(Path::file_name);
    match folder {
        Some(folder) if stem.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("{}-{stem}", folder.to_string_lossy())
        }
        _ => stem,
    }
}

fn without_gz(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let cut = name.len().saturating_sub(3);
    match name.get(cut..) {
        Some(end) if end.eq_ignore_ascii_case(".gz") => name[..cut].to_owned(),
        _ => name,
    }
}

fn stem(path: &Path) -> String {
    let name = without_gz(path);
    match name.rsplit_once('.') {
        Some((stem, _)) if !stem.is_empty() => stem.to_owned(),
        _ => name,
    }
}

fn extension(path: &Path) -> String {
    without_gz(path).rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase()).unwrap_or_default()
}

/// `measurement[,tag=x] field=y…`: a space, and a `=` before any CSV delimiter would make a header of it.
fn looks_like_line_protocol(start: &[u8]) -> bool {
    let text = String::from_utf8_lossy(start);
    let line = text.lines().find(|line| !line.trim().is_empty() && !line.starts_with('#')).unwrap_or_default();
    line.split_once(' ').is_some_and(|(_, fields)| fields.contains('=')) && !line.contains(';')
}

/// An error about `path`.
pub(super) fn error(path: &Path, problem: impl std::fmt::Display) -> ReadError {
    ReadError { path: path.display().to_string(), problem: problem.to_string() }
}

struct Counted {
    file: File,
    bytes: BytesRead,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.file.read(buffer)?;
        self.bytes.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_called_after_its_file() {
        for (path, device) in [
            ("nab/machine_temperature.csv", "machine_temperature"),
            ("fleet/plaza%2Enorth%207.csv.gz", "plaza.north 7"),
            ("skab/valve1/0.csv", "valve1-0"),
            ("a.b.csv", "a.b"),
            ("x.CSV.GZ", "x"),
            ("export/class=readings/device=pump%201/date=2026-01-01/part-0.parquet", "pump 1"),
        ] {
            assert_eq!(device_of(Path::new(path)), device, "{path}");
        }
    }

    #[test]
    fn a_file_without_a_known_extension_is_told_by_how_it_begins() {
        for (extension, start, format) in [
            ("parquet", "", Format::Parquet),
            ("", "PAR1\u{15}", Format::Parquet),
            ("json", "\u{feff} {\"time\":1}", Format::JsonLines),
            ("log", "[{\"time\":1}]", Format::JsonLines),
            ("txt", "cpu,host=a usage=1 1", Format::LineProtocol),
            ("txt", "time;a\n", Format::Csv),
            ("csv", "{}", Format::Csv),
        ] {
            assert_eq!(Format::of(extension, start.as_bytes()), format, "{extension:?} {start:?}");
        }
    }

    #[test]
    fn line_protocol_is_told_from_csv() {
        assert!(looks_like_line_protocol(b"# comment\ncpu,host=a usage=1 1\n"));
        assert!(!looks_like_line_protocol(b"timestamp,value\n2013-12-02 21:15:00,1\n"));
        assert!(!looks_like_line_protocol(b"datetime;Volume Flow;x\n"));
    }
}
