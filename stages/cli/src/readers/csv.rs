//! CSV with a header, separated by commas, semicolons or tabs: wide (a channel per column) or long (a value per line).
//!
//! NAB (`timestamp,value`) and SKAB (`datetime;…`) are wide files; so are the `.csv.gz` benchmarks whose timestamp is a
//! row number. Label columns are never read: labels are for scoring, not for the detector.

use std::{
    io::BufRead,
    path::{Path, PathBuf},
};

use csv::{ByteRecord, Reader, ReaderBuilder};

use super::{
    Names, ReadError, Row, Skipped, Source,
    columns::{self, CHANNELS, DEVICES, TIMES, VALUE},
    open::error,
    time::{RowClock, TimeFormat},
};

/// What stands for a missing value, beside an empty cell.
const MISSING: [&str; 6] = ["nan", "na", "n/a", "null", "none", "-"];

/// Where a line's values are.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Shape {
    /// A channel per column.
    Wide(Vec<Channel>),
    /// The channel's name and the value each in a column.
    Long { channel: usize, value: usize },
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Channel {
    column: usize,
    name: String,
    /// Whether the first cell that is not empty was a number; a column of text is no channel.
    numeric: Option<bool>,
    /// The series of this column for the device of the last line.
    series: Option<u32>,
}

/// What the header says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Columns {
    time: usize,
    device: Option<usize>,
    shape: Shape,
}

impl Columns {
    fn of(header: &[String]) -> Result<Self, String> {
        let find = |known: &[&str]| columns::find(known, header.iter().map(String::as_str));
        if header.iter().all(String::is_empty) {
            return Err("the file is empty; expected a header line".into());
        }
        if TimeFormat::detect(&header[0]).is_some() {
            return Err(format!("the first line starts with {:?}; expected a header line, like time,value", header[0]));
        }
        let (time, device) = (find(&TIMES).unwrap_or(0), find(&DEVICES));
        let shape = match (find(&CHANNELS), find(&[VALUE])) {
            (Some(channel), Some(value)) => Shape::Long { channel, value },
            _ => {
                let is_channel = |column: &usize| *column != time && Some(*column) != device;
                let named = |column: usize| (column, header[column].trim().to_owned());
                let channels = (0..header.len()).filter(is_channel).map(named);
                let channels = channels.filter(|(_, name)| !columns::is_label(name));
                Shape::Wide(
                    channels.map(|(column, name)| Channel { column, name, numeric: None, series: None }).collect(),
                )
            }
        };
        if matches!(&shape, Shape::Wide(channels) if channels.is_empty()) {
            return Err(format!("the header {:?} names no channel beside the time", header.join(",")));
        }
        Ok(Self { time, device, shape })
    }
}

/// A CSV file.
pub struct CsvSource {
    path: PathBuf,
    reader: Reader<Box<dyn BufRead + Send>>,
    record: ByteRecord,
    columns: Columns,
    format: Option<TimeFormat>,
    rows: RowClock,
    device: String,
    last_device: Option<u32>,
    skipped: Skipped,
}

impl CsvSource {
    /// Reads the header; lines that name no device belong to `device`.
    ///
    /// # Errors
    /// If there is no header, or one without a channel.
    pub fn new(
        path: &Path,
        mut reader: Box<dyn BufRead + Send>,
        device: String,
        rows: RowClock,
    ) -> Result<Self, ReadError> {
        let start = reader.fill_buf().map_err(|problem| error(path, problem))?;
        let first = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let count = |delimiter: u8| first.iter().filter(|byte| **byte == delimiter).count();
        let delimiter = *[b',', b';', b'\t'].iter().max_by_key(|d| (count(**d), **d == b',')).unwrap_or(&b',');
        let mut reader = ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(reader);
        let header = reader.byte_headers().map_err(|problem| error(path, problem))?;
        let text = |cell: &[u8]| String::from_utf8_lossy(cell).trim_start_matches('\u{feff}').trim().to_owned();
        let header: Vec<String> = header.iter().map(text).collect();
        let header = if header.is_empty() { vec![String::new()] } else { header };
        let columns = Columns::of(&header).map_err(|problem| error(path, problem))?;
        Ok(Self {
            path: path.to_owned(),
            reader,
            record: ByteRecord::new(),
            columns,
            format: None,
            rows,
            device,
            last_device: None,
            skipped: Skipped::default(),
        })
    }

    fn note(&mut self, column: usize, what: &str) {
        let line = self.record.position().map_or(0, csv::Position::line);
        let cell = String::from_utf8_lossy(self.record.get(column).unwrap_or_default()).into_owned();
        let path = &self.path;
        self.skipped.note(|| format!("{} line {line} column {}: {what} {cell:?}", path.display(), column + 1));
    }

    /// Takes the line in `record`; `false` if there is nothing in it.
    fn take(&mut self, names: &mut Names, row: &mut Row) -> bool {
        let time_column = self.columns.time;
        let text = cell(&self.record, time_column);
        if self.format.is_none() {
            self.format = text.and_then(TimeFormat::detect);
        }
        let Some(time) = text.zip(self.format).and_then(|(text, format)| format.parse(text, self.rows)) else {
            self.note(time_column, "not a time like this file's others:");
            return false;
        };
        row.time = time;
        let device = self.columns.device.map_or(Some(self.device.as_str()), |column| cell(&self.record, column));
        let Some(Ok(device)) = device.map(|name| names.device(name)) else {
            self.note(self.columns.device.unwrap_or(0), "not a device's name:");
            return false;
        };
        row.device = device;
        row.values.clear();
        if matches!(self.columns.shape, Shape::Wide(_)) {
            self.wide(names, row)
        } else {
            self.long(names, row)
        }
        !row.values.is_empty()
    }

    fn wide(&mut self, names: &mut Names, row: &mut Row) {
        let same_device = self.last_device.replace(row.device) == Some(row.device);
        let Shape::Wide(channels) = &mut self.columns.shape else { return };
        let mut wrong = Vec::new();
        for channel in channels {
            if !same_device {
                channel.series = None;
            }
            let Some(text) = cell(&self.record, channel.column) else { continue };
            if channel.numeric == Some(false) || is_missing(text) {
                continue;
            }
            let value = text.parse::<f64>().ok().filter(|value| value.is_finite());
            let Some(value) = value else {
                match channel.numeric {
                    None => channel.numeric = Some(false),
                    Some(_) => wrong.push(channel.column),
                }
                continue;
            };
            channel.numeric = Some(true);
            if channel.series.is_none() {
                channel.series = names.series(row.device, &channel.name).ok();
            }
            match channel.series {
                Some(series) => row.values.push((series, value)),
                None => wrong.push(channel.column),
            }
        }
        for column in wrong {
            self.note(column, "not a number, or not under a channel's name:");
        }
    }

    fn long(&mut self, names: &mut Names, row: &mut Row) {
        let Shape::Long { channel, value } = self.columns.shape else { return };
        let Some(text) = cell(&self.record, value).filter(|text| !is_missing(text)) else { return };
        let number = text.parse::<f64>().ok().filter(|value| value.is_finite());
        let series = cell(&self.record, channel).and_then(|name| names.series(row.device, name).ok());
        match (series, number) {
            (Some(series), Some(number)) => row.values.push((series, number)),
            (None, _) => self.note(channel, "not a channel's name:"),
            (_, None) => self.note(value, "not a number:"),
        }
    }
}

fn cell(record: &ByteRecord, column: usize) -> Option<&str> {
    let text = std::str::from_utf8(record.get(column)?).ok()?.trim();
    (!text.is_empty()).then_some(text)
}

fn is_missing(text: &str) -> bool {
    text.len() <= 4 && MISSING.iter().any(|missing| text.eq_ignore_ascii_case(missing))
}

impl Source for CsvSource {
    fn read(&mut self, names: &mut Names, row: &mut Row) -> Result<bool, ReadError> {
        loop {
            let more = self.reader.read_byte_record(&mut self.record);
            if !more.map_err(|problem| error(&self.path, problem))? {
                return Ok(false);
            }
            if self.take(names, row) {
                return Ok(true);
            }
        }
    }

    fn skipped(&self) -> &Skipped {
        &self.skipped
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    const ROWS: RowClock = RowClock { start: 0, period: 60_000_000_000 };

    fn read(text: &str) -> (Vec<(i64, String, f64)>, Skipped) {
        let reader: Box<dyn BufRead + Send> = Box::new(Cursor::new(text.to_owned()));
        let mut source = CsvSource::new(Path::new("f.csv"), reader, "d".into(), ROWS).unwrap();
        let (mut names, mut row, mut all) = (Names::default(), Row::default(), Vec::new());
        while source.read(&mut names, &mut row).unwrap() {
            for (series, value) in &row.values {
                all.push((row.time / 1_000_000_000, names.series_name(*series).to_owned(), *value));
            }
        }
        (all, source.skipped.clone())
    }

    fn check(text: &str, expected: &[(i64, &str, f64)]) {
        let (read, skipped) = read(text);
        let expected: Vec<_> = expected.iter().map(|(time, series, v)| (*time, (*series).to_owned(), *v)).collect();
        assert_eq!(read, expected, "{text}");
        assert_eq!(skipped.count, 0, "{skipped:?}");
    }

    #[test]
    fn every_layout_that_help_names() {
        // NAB
        check("timestamp,value\n1970-01-01 00:00:05,1.5\n", &[(5, "d/value", 1.5)]);
        // SKAB: labels are left out
        check(
            "datetime;Volume Flow;T;anomaly;changepoint\n1970-01-01 00:00:05;1;2;1.0;0.0\n",
            &[(5, "d/Volume%20Flow", 1.0), (5, "d/T", 2.0)],
        );
        // benchmarks whose timestamp is a row number; empty cells are missing
        check(
            "timestamp,tp,cl,label,scored\n0,6.5,,0,0\n1,6.5,0.17,1,1\n",
            &[(0, "d/tp", 6.5), (60, "d/tp", 6.5), (60, "d/cl", 0.17)],
        );
        // long
        check(
            "time,device,channel,value\n1700000000,a,t,1\n1700000000,b.c,t,2\n1700000001,a,u,3\n",
            &[(1_700_000_000, "a/t", 1.0), (1_700_000_000, "b%2Ec/t", 2.0), (1_700_000_001, "a/u", 3.0)],
        );
        // wide with a device column, a text column and values that are missing
        check(
            "device,ts,status,t\na,1700000000,ok,1\nb,1700000000,ok,NaN\nb,1700000001,ok,2\n",
            &[(1_700_000_000, "a/t", 1.0), (1_700_000_001, "b/t", 2.0)],
        );
        // a byte order mark and tabs
        check("\u{feff}time\tx\n1970-01-01T00:00:01Z\t4\n", &[(1, "d/x", 4.0)]);
    }

    #[test]
    fn repeated_and_late_lines_come_as_they_stand() {
        check(
            "time,x\n1970-01-01 00:00:02,1\n1970-01-01 00:00:02,1\n1970-01-01 00:00:01,3\n",
            &[(2, "d/x", 1.0), (2, "d/x", 1.0), (1, "d/x", 3.0)],
        );
    }

    #[test]
    fn a_bad_cell_or_line_is_counted_and_the_rest_goes_on() {
        let (rows, skipped) = read("time,x,y\n1700000000,1,2\nrubbish,1,2\n1700000001,oops,3\n1700000002,inf,4\n");
        assert_eq!(rows.len(), 4);
        assert_eq!(skipped.count, 3);
        assert!(skipped.first.as_ref().unwrap().contains("f.csv line 3 column 1"), "{skipped:?}");
    }

    #[test]
    fn a_file_without_header_or_channel_is_refused_with_a_reason() {
        for (text, part) in [("", "empty"), ("2013-12-02 21:15:00,1\n", "header line"), ("time,label\n", "no channel")]
        {
            let reader: Box<dyn BufRead + Send> = Box::new(Cursor::new(text));
            let problem = CsvSource::new(Path::new("f.csv"), reader, "d".into(), ROWS).err().unwrap().to_string();
            assert!(problem.contains(part) && problem.contains("f.csv"), "{problem}");
        }
    }
}
