//! JSON lines: an object a line, or an array of objects; wide, long, or with its channels in an object of its own.
//!
//! The shapes are those that capture takes from a device by default; beside them, an object may name its device
//! (`device`, `device_id`) or its whole series (`series`, as eddy's exports do). A key that never held a number is no
//! channel; labels are left out.

use std::{
    borrow::Cow,
    collections::{HashSet, VecDeque},
    io::{BufRead, Read as _},
    path::{Path, PathBuf},
};

use eddy_schemas::SeriesName;
use serde_json::value::RawValue;

use super::{
    Names, ReadError, Row, Skipped, Source,
    columns::{self, CHANNELS, DEVICES, SERIES, TIMES, VALUE},
    object::{self, Fields, Value},
    open::error,
    time::{RowClock, TimeFormat},
};

/// Keys that hold no channel although they may hold numbers, as for capture.
const IGNORED: [&str; 6] = ["id", "site", "unit", "units", "seq", "tags"];
/// Objects under these keys hold channels, as for capture.
const VALUES: [&str; 2] = ["values", "fields"];
/// A longer line is no line of JSON: as long as a message to capture may be.
const LINE_BYTES_MAX: u64 = 4 << 20;

type Field<'a> = (Cow<'a, str>, &'a RawValue);

/// A file of JSON lines.
pub struct JsonLinesSource {
    path: PathBuf,
    reader: Box<dyn BufRead + Send>,
    device: String,
    rows: RowClock,
    line: Vec<u8>,
    number: u64,
    time: Option<TimeFormat>,
    /// Keys that held a number.
    numeric: HashSet<String>,
    /// What the last line held.
    waiting: VecDeque<Row>,
    skipped: Skipped,
}

impl JsonLinesSource {
    /// Reads from `reader`; objects that name no device belong to `device`.
    ///
    /// # Errors
    /// If the first line is not one of JSON: then the others hardly are.
    pub fn new(
        path: &Path,
        reader: Box<dyn BufRead + Send>,
        device: String,
        rows: RowClock,
    ) -> Result<Self, ReadError> {
        let mut source = Self {
            path: path.to_owned(),
            reader,
            device,
            rows,
            line: Vec::new(),
            number: 0,
            time: None,
            numeric: HashSet::new(),
            waiting: VecDeque::new(),
            skipped: Skipped::default(),
        };
        while source.next_line()? {
            match elements(&source.line) {
                Ok(elements) if elements.is_empty() => {}
                Ok(_) => break,
                Err(problem) => {
                    let problem = format!(
                        "line {}: {problem}; expected JSON lines, an object or an array of objects on each",
                        source.number
                    );
                    return Err(error(path, problem));
                }
            }
        }
        Ok(source)
    }

    /// Reads a line, `false` at the end of the file.
    fn next_line(&mut self) -> Result<bool, ReadError> {
        self.line.clear();
        self.number += 1;
        let read = (&mut self.reader).take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut self.line);
        let bytes = read.map_err(|problem| error(&self.path, problem))?;
        if bytes as u64 > LINE_BYTES_MAX {
            let problem = format!(
                "line {} is longer than {LINE_BYTES_MAX} bytes; expected JSON lines, such as `jq -c '.[]'` makes of an array",
                self.number
            );
            return Err(error(&self.path, problem));
        }
        Ok(bytes > 0)
    }

    /// Takes the rows of the line in hand.
    fn take(&mut self, names: &mut Names) {
        let line = std::mem::take(&mut self.line);
        match elements(&line) {
            Err(problem) => self.note(&problem),
            Ok(elements) => {
                for element in elements {
                    match serde_json::from_str(element.get()).map_err(|problem| format!("no object: {problem}")) {
                        Ok(Fields(fields)) => self.object(&fields, names),
                        Err(problem) => self.note(&problem),
                    }
                }
            }
        }
        self.line = line;
    }

    fn note(&mut self, problem: &str) {
        let (path, number) = (&self.path, self.number);
        self.skipped.note(|| format!("{} line {number}: {problem}", path.display()));
    }

    fn object(&mut self, fields: &[Field<'_>], names: &mut Names) {
        let time = match self.time_of(fields) {
            Ok(time) => time,
            Err(problem) => return self.note(&problem),
        };
        let whole = find(fields, &[SERIES]).map(|at| object::value(fields[at].1));
        let series = match &whole {
            Some(Value::String(text)) => SeriesName::parse(text),
            _ => None,
        };
        let device = match &series {
            Some(series) => Ok(series.device.clone()),
            None => self.device_of(fields),
        };
        let device = device.and_then(|name| names.device(&name).map_err(|problem| problem.to_string()));
        let device = match device {
            Ok(device) => device,
            Err(problem) => return self.note(&problem),
        };
        let mut row = Row { time, device, values: Vec::new() };
        let channels = series.map(|series| series.channel);
        for (channel, value) in channels_of(fields, channels) {
            match self.number(&channel, value) {
                Ok(None) => {}
                Ok(Some(value)) => match names.series(device, &channel) {
                    Ok(series) => row.values.push((series, value)),
                    Err(problem) => self.note(&problem.to_string()),
                },
                Err(problem) => self.note(&problem),
            }
        }
        if !row.values.is_empty() {
            self.waiting.push_back(row);
        }
    }

    fn time_of(&mut self, fields: &[Field<'_>]) -> Result<i64, String> {
        let at = time_key(fields).ok_or_else(|| format!("no time: none of the keys {}", TIMES.join(", ")))?;
        let raw = fields[at].1;
        let text = match object::value(raw) {
            Value::Number(text) => Cow::Borrowed(text),
            Value::String(text) => text,
            _ => return Err(format!("{} {} is not a time", fields[at].0, excerpt(raw.get()))),
        };
        // As in a CSV file, the first row's way of counting holds for all.
        let format = self.time.or_else(|| TimeFormat::detect(&text));
        self.time = format;
        format
            .and_then(|format| format.parse(&text, self.rows))
            .ok_or_else(|| format!("{} {} is not a time like this file's others", fields[at].0, excerpt(&text)))
    }

    fn device_of(&self, fields: &[Field<'_>]) -> Result<String, String> {
        let Some(at) = find(fields, &DEVICES) else { return Ok(self.device.clone()) };
        match object::value(fields[at].1) {
            Value::String(name) => Ok(name.into_owned()),
            Value::Number(name) => Ok(name.to_owned()),
            _ => Err(format!("{} {} is not a device's name", fields[at].0, excerpt(fields[at].1.get()))),
        }
    }

    /// A channel's value; `None` where there is none, or the key is no channel's.
    fn number(&mut self, channel: &str, raw: &RawValue) -> Result<Option<f64>, String> {
        let number = match object::value(raw) {
            Value::Null => return Ok(None),
            Value::Bool(set) => Some(f64::from(u8::from(set))),
            Value::Number(text) => text.parse::<f64>().ok().filter(|number| number.is_finite()),
            Value::String(_) | Value::Array | Value::Object if !self.numeric.contains(channel) => return Ok(None),
            Value::String(_) | Value::Array | Value::Object => None,
        };
        if number.is_some() && !self.numeric.contains(channel) {
            self.numeric.insert(channel.to_owned());
        }
        number.map(Some).ok_or_else(|| format!("{} {} is not a number", excerpt(channel), excerpt(raw.get())))
    }
}

/// The line's objects, still as text; none in an empty line.
fn elements(line: &[u8]) -> Result<Vec<&RawValue>, String> {
    let text = std::str::from_utf8(line).map_err(|problem| format!("not UTF-8: {problem}"))?;
    let text = text.trim_start_matches('\u{feff}').trim_ascii();
    match text.as_bytes().first() {
        None => Ok(Vec::new()),
        Some(b'[') => serde_json::from_str(text).map_err(|problem| format!("not JSON: {problem}")),
        Some(b'{') => serde_json::from_str(text).map(|one| vec![one]).map_err(|problem| format!("not JSON: {problem}")),
        Some(_) => Err(format!("{} is neither an object nor an array", excerpt(text))),
    }
}

fn find(fields: &[Field<'_>], known: &[&str]) -> Option<usize> {
    columns::find(known, fields.iter().map(|(key, _)| &**key))
}

/// The key that holds the time: the first of the known ones, not of the object.
fn time_key(fields: &[Field<'_>]) -> Option<usize> {
    TIMES.iter().find_map(|known| find(fields, &[known]))
}

/// Channels and what stands for their values, in order of appearance. `channel`: that of the object's series.
fn channels_of<'a>(fields: &[Field<'a>], channel: Option<String>) -> Vec<Field<'a>> {
    let value = find(fields, &[VALUE]);
    let named = find(fields, &CHANNELS).filter(|_| value.is_some());
    let channel = channel.map(Cow::Owned).or_else(|| {
        named.map(|at| match object::value(fields[at].1) {
            Value::String(name) => Cow::Owned(name.into_owned()),
            // A channel that is no string is called as it is written.
            _ => Cow::Borrowed(fields[at].1.get()),
        })
    });
    if let (Some(channel), Some(value)) = (&channel, value) {
        return vec![(channel.clone(), fields[value].1)];
    }
    let time = time_key(fields);
    let mut channels = Vec::new();
    for (at, (key, raw)) in fields.iter().enumerate() {
        if Some(at) == time
            || columns::is_label(key)
            || columns::is_one_of(key, &DEVICES)
            || columns::is_one_of(key, &IGNORED)
        {
            continue;
        }
        let opened: Option<Fields<'a>> =
            columns::is_one_of(key, &VALUES).then(|| serde_json::from_str(raw.get()).ok()).flatten();
        match opened {
            Some(inner) => channels.extend(inner.0),
            None => channels.push((key.clone(), *raw)),
        }
    }
    channels
}

/// A value as an error shows it, cut where it is long.
fn excerpt(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    match text.char_indices().nth(CHARS_MAX) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", &text[..end]),
    }
}

impl Source for JsonLinesSource {
    fn read(&mut self, names: &mut Names, row: &mut Row) -> Result<bool, ReadError> {
        loop {
            // The first line was read when the file was opened.
            if !self.line.is_empty() {
                self.take(names);
                self.line.clear();
            }
            if let Some(next) = self.waiting.pop_front() {
                *row = next;
                return Ok(true);
            }
            if !self.next_line()? {
                return Ok(false);
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

    fn open(text: &[u8]) -> Result<JsonLinesSource, ReadError> {
        JsonLinesSource::new(Path::new("f.jsonl"), Box::new(Cursor::new(text.to_vec())), "d".into(), ROWS)
    }

    fn read(text: &[u8]) -> (Vec<(i64, String, f64)>, Skipped) {
        let mut source = open(text).unwrap();
        let (mut names, mut row, mut all) = (Names::default(), Row::default(), Vec::new());
        while source.read(&mut names, &mut row).unwrap() {
            for (series, value) in &row.values {
                all.push((row.time / 1_000_000, names.series_name(*series).to_owned(), *value));
            }
        }
        (all, source.skipped.clone())
    }

    fn check(text: &str, expected: &[(i64, &str, f64)]) {
        let (read, skipped) = read(text.as_bytes());
        let expected: Vec<_> = expected.iter().map(|(time, series, v)| (*time, (*series).to_owned(), *v)).collect();
        assert_eq!(read, expected, "{text}");
        assert_eq!(skipped.count, 0, "{skipped:?}");
    }

    #[test]
    fn every_shape_that_capture_takes() {
        // wide, with what is no channel
        check(
            "{\"time\":\"1970-01-01T00:00:05Z\",\"t\":1.5,\"on\":true,\"off\":null,\"unit\":\"C\",\"seq\":7,\"label\":1,\"note\":\"x\"}\n",
            &[(5_000, "d/t", 1.5), (5_000, "d/on", 1.0)],
        );
        // nested
        check(
            "{\"ts\":1700000000123,\"values\":{\"t\":1,\"u v\":2},\"fields\":{\"w\":3}}\n",
            &[(1_700_000_000_123, "d/t", 1.0), (1_700_000_000_123, "d/u%20v", 2.0), (1_700_000_000_123, "d/w", 3.0)],
        );
    }

    #[test]
    fn long_objects_arrays_and_devices() {
        check(
            "[{\"time\":1700000000,\"device\":\"a.b\",\"channel\":\"t\",\"value\":1},{\"time\":1700000000,\"device_id\":7,\"metric\":\"u\",\"value\":2}]\n\
             \n[]\n{\"time\":1700000001.5,\"channel\":3,\"value\":4}",
            &[(1_700_000_000_000, "a%2Eb/t", 1.0), (1_700_000_000_000, "7/u", 2.0), (1_700_000_001_500, "d/3", 4.0)],
        );
        // eddy's own export
        check(
            "{\"series\":\"a%2Eb/c%20d\",\"time\":1700000000000000000,\"value\":0.1,\"quality\":0,\"arrival\":1700000000000000005}\n",
            &[(1_700_000_000_000, "a%2Eb/c%20d", 0.1)],
        );
    }

    #[test]
    fn numbers_are_read_exactly() {
        let (rows, _) = read(b"{\"time\":1700000000,\"a\":0.1,\"b\":9007199254740993,\"c\":1e-320,\"d\":5.7,\"e\":2.2250738585072014e-308}\n");
        let values: Vec<f64> = rows.iter().map(|row| row.2).collect();
        assert_eq!(values, [0.1, 9_007_199_254_740_992.0, 1e-320, 5.7, 2.225_073_858_507_201_4e-308]);
    }

    #[test]
    fn a_bad_line_or_value_is_counted_and_the_rest_goes_on() {
        let text = b"{\"time\":1700000000,\"x\":1}\n{\"time\":17000000\n{\"x\":2}\n{\"time\":\"noon\",\"x\":3}\n\
                     {\"time\":1700000001,\"x\":\"four\",\"y\":1e999,\"z\":5}\n\xff\n7\n[1,{\"time\":1700000002,\"x\":6}]\n\
                     {\"time\":1700000003,\"device\":null,\"x\":7}\n{\"time\":1700000004,\"device\":\"\",\"x\":8}\n";
        let (rows, skipped) = read(text);
        assert_eq!(rows.iter().map(|row| row.2).collect::<Vec<_>>(), [1.0, 5.0, 6.0]);
        assert_eq!(skipped.count, 10, "{skipped:?}");
        assert!(skipped.first.as_ref().unwrap().starts_with("f.jsonl line 2: not JSON"), "{skipped:?}");
    }

    #[test]
    fn a_file_that_is_no_json_lines_is_refused_with_the_line() {
        let long = format!("[{}", " ".repeat(5 << 20));
        for (text, parts) in [
            ("time,value\n1,2\n", vec!["line 1", "neither an object"]),
            ("\n[\n  {\"time\": 1}\n]\n", vec!["line 2", "not JSON", "JSON lines"]),
            (&long, vec!["line 1", "4194304 bytes", "jq -c"]),
        ] {
            let problem = open(text.as_bytes()).err().unwrap().to_string();
            assert!(parts.iter().all(|part| problem.contains(part)) && problem.contains("f.jsonl"), "{problem}");
        }
        assert_eq!(read(b"").0.len() + read(b"\n\n").0.len(), 0);
    }
}
