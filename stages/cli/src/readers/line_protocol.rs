//! InfluxDB line protocol: `measurement,device=x field=1.5 1700000000000000000`.
//!
//! The device is the tag `device` (or `device_id`, `sensor`, `host`), else the measurement. Channels are called as capture
//! calls them by default: the measurement where the field is called `value`, the field where the measurement is the
//! device, else `measurement.field`. Lines without a time are skipped: a replay has no arrival time.

use std::{
    io::{BufRead, Read as _},
    path::{Path, PathBuf},
};

use influxdb_line_protocol::{FieldValue, ParsedLine, parse_lines};

use super::{Names, ReadError, Row, Skipped, Source, open::error, time::TimeFormat};

/// Tags that name the device, the first that is there.
const DEVICE_TAGS: [&str; 4] = ["device", "device_id", "sensor", "host"];
/// A longer line is not line protocol.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// A file of line protocol.
pub struct LineProtocolSource {
    path: PathBuf,
    reader: Box<dyn BufRead + Send>,
    device: Option<String>,
    line: Vec<u8>,
    number: u64,
    time: Option<TimeFormat>,
    skipped: Skipped,
}

impl LineProtocolSource {
    /// Reads from `reader`; all lines belong to `device` if there is one.
    pub fn new(path: &Path, reader: Box<dyn BufRead + Send>, device: Option<String>) -> Self {
        let path = path.to_owned();
        Self { path, reader, device, line: Vec::new(), number: 0, time: None, skipped: Skipped::default() }
    }

    fn take(&mut self, names: &mut Names, row: &mut Row) -> Result<bool, String> {
        let text = std::str::from_utf8(&self.line).map_err(|_| "not utf-8".to_owned())?;
        let Some(line) = parse_lines(text).next() else { return Ok(false) };
        let line = line.map_err(|problem| problem.to_string())?;
        let stamp = line.timestamp.ok_or("no time")?.to_string();
        // The unit is found once a file: it is nanoseconds unless the writer asked for another precision.
        let format = match self.time {
            Some(format) => format,
            None => match TimeFormat::detect(&stamp) {
                Some(format @ TimeFormat::Unix(_)) => *self.time.insert(format),
                _ => return Err(format!("time {stamp:?}")),
            },
        };
        let no_rows = super::time::RowClock { start: 0, period: 0 };
        row.time = format.parse(&stamp, no_rows).ok_or_else(|| format!("time {stamp:?}"))?;
        let measurement = line.series.measurement.as_str();
        let device = self.device.as_deref().or_else(|| device_tag(&line)).unwrap_or(measurement);
        row.device = names.device(device).map_err(|problem| problem.to_string())?;
        row.values.clear();
        for (field, value) in &line.field_set {
            let channel = match field.as_str() {
                "value" => measurement.to_owned(),
                field if measurement == device => field.to_owned(),
                field => format!("{measurement}.{field}"),
            };
            let value = match value {
                FieldValue::F64(value) => *value,
                FieldValue::I64(value) => *value as f64,
                FieldValue::U64(value) => *value as f64,
                FieldValue::Boolean(value) => f64::from(u8::from(*value)),
                FieldValue::String(_) => continue,
            };
            row.values.push((names.series(row.device, &channel).map_err(|problem| problem.to_string())?, value));
        }
        if row.values.is_empty() { Err("no field is a number".to_owned()) } else { Ok(true) }
    }
}

fn device_tag<'a>(line: &'a ParsedLine<'_>) -> Option<&'a str> {
    DEVICE_TAGS.iter().find_map(|tag| line.tag_value(tag)).map(|value| value.as_str())
}

impl Source for LineProtocolSource {
    fn read(&mut self, names: &mut Names, row: &mut Row) -> Result<bool, ReadError> {
        loop {
            self.line.clear();
            self.number += 1;
            let read = (&mut self.reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut self.line);
            if read.map_err(|problem| error(&self.path, problem))? == 0 {
                return Ok(false);
            }
            match self.take(names, row) {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(problem) => {
                    let place = format!("{} line {}: {problem}", self.path.display(), self.number);
                    self.skipped.note(|| place);
                }
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

    #[test]
    fn tags_fields_and_what_is_left_out() {
        let text = "# comment\n\
                    air,device=a.b\\ c,room=1 temperature=21.5,rh=40i,note=\"x\" 1700000000000000000\n\
                    temperature,host=h value=1 1700000001000000000\n\
                    speed value=2,x=3 1700000002000000000\n\
                    nonsense\n\
                    air,device=a x=1\n\
                    air,device=a x=t 1700000003000000000\n";
        let mut source = LineProtocolSource::new(Path::new("f.lp"), Box::new(Cursor::new(text)), None);
        let (mut names, mut row, mut read) = (Names::default(), Row::default(), Vec::new());
        while source.read(&mut names, &mut row).unwrap() {
            for (series, value) in &row.values {
                read.push((row.time / 1_000_000_000, names.series_name(*series).to_owned(), *value));
            }
        }
        let of = |time, series: &str, value| (time, series.to_owned(), value);
        assert_eq!(
            read,
            [
                of(1_700_000_000, "a%2Eb%20c/air%2Etemperature", 21.5),
                of(1_700_000_000, "a%2Eb%20c/air%2Erh", 40.0),
                of(1_700_000_001, "h/temperature", 1.0),
                of(1_700_000_002, "speed/speed", 2.0),
                of(1_700_000_002, "speed/x", 3.0),
                of(1_700_000_003, "a/air%2Ex", 1.0),
            ]
        );
        assert_eq!(source.skipped().count, 2);
        assert!(source.skipped().first.as_ref().unwrap().contains("line 5"), "{:?}", source.skipped());
    }
}
