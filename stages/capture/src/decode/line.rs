//! InfluxDB line protocol, parsed by InfluxDB's own crate. Its last release is of 2023, which the format is older than; what it
//! leaves to the caller is done here: carriage returns, bytes that are not UTF-8, and a stray quote that swallows the
//! lines behind it (they are then read one by one, so that only the line with the quote is refused).

use std::ops::Range;

use eddy_schemas::side::Reason;
use influxdb_line_protocol::{FieldValue, ParsedLine, parse_lines, split_lines};

use super::{
    LineChannel, Refused,
    collect::{Collector, Original, excerpt},
};

pub(super) fn decode(payload: &[u8], out: &mut Collector<'_>) -> Result<(), Refused> {
    let mut number = 1;
    // Only a quote or a backslash makes a line of more than one.
    let plain = !payload.iter().any(|byte| matches!(byte, b'"' | b'\\'));
    if let (false, Ok(text)) = (plain, std::str::from_utf8(payload)) {
        for piece in split_lines(text) {
            let start = piece.as_ptr() as usize - text.as_ptr() as usize;
            let several = piece.contains('\n');
            if !several || parses(piece) {
                line(piece.as_bytes(), start, number, out)?;
            } else {
                lines(payload, start..start + piece.len(), number, out)?;
            }
            number += 1 + if several { piece.bytes().filter(|byte| *byte == b'\n').count() } else { 0 };
        }
        return Ok(());
    }
    lines(payload, 0..payload.len(), number, out)
}

/// Whether all of `piece` is one valid line.
fn parses(piece: &str) -> bool {
    let mut parsed = parse_lines(piece);
    matches!((parsed.next(), parsed.next()), (Some(Ok(_)), None))
}

/// Every line of a range by itself, whatever its quotes say.
fn lines(payload: &[u8], range: Range<usize>, first: usize, out: &mut Collector<'_>) -> Result<(), Refused> {
    let mut start = range.start;
    for (index, raw) in payload[range].split(|byte| *byte == b'\n').enumerate() {
        line(raw, start, first + index, out)?;
        start += raw.len() + 1;
    }
    Ok(())
}

fn line(raw: &[u8], start: usize, number: usize, out: &mut Collector<'_>) -> Result<(), Refused> {
    let raw = raw.trim_ascii_end();
    out.begin("line", number);
    match std::str::from_utf8(raw) {
        Ok(text) => {
            let text = text.trim_ascii_start();
            if text.is_empty() || (text.starts_with('#') && !text.contains('\n')) {
                return Ok(());
            }
            let mut parsed = parse_lines(text);
            match (parsed.next(), parsed.next()) {
                (None, _) => {}
                (Some(Ok(parsed)), None) => fields(&parsed, out),
                (Some(Err(error)), None) => {
                    out.problem(Reason::Malformed, 1, || not_a_line(&error, text));
                }
                (Some(_), Some(_)) => out.problem(Reason::Malformed, 1, || format!("not one line: {}", excerpt(text))),
            }
        }
        Err(error) => {
            let (at, byte) = (error.valid_up_to(), raw[error.valid_up_to()]);
            out.problem(Reason::Malformed, 1, || format!("byte {at} (0x{byte:02x}) is not UTF-8"));
        }
    }
    out.end(|| Original::Bytes(start..start + raw.len()))
}

/// The parser names what it was after, or (for most of what is no line at all) only the rule of its own that failed.
fn not_a_line(error: &influxdb_line_protocol::Error, text: &str) -> String {
    let found = excerpt(text);
    match error {
        influxdb_line_protocol::Error::GenericParsingError { .. } => format!(
            "{found} is no line protocol (name,tag=a field=1.5 time); JSON is read as such with Content-Type: application/json"
        ),
        error => format!("{error}, in {found}"),
    }
}

fn fields(line: &ParsedLine<'_>, out: &mut Collector<'_>) {
    let wanted = |field: &str| !out.rules.ignored_keys.iter().any(|ignored| ignored == field);
    let fields: Vec<_> = line.field_set.iter().filter(|(field, _)| wanted(field)).collect();
    if out.names_devices() {
        let device = out.rules.line_device_tags.iter().find_map(|tag| line.tag_value(tag)).map(ToString::to_string);
        let tags = &out.rules.line_device_tags;
        let entered =
            out.enter(device.as_deref(), || format!("one of the tags {tags:?} names it (line_protocol_device_tags)"));
        if let Err((reason, detail)) = entered {
            return out.problem(reason, fields.len().max(1) as u64, || detail);
        }
    }
    let unit = out.source.line_time_unit.unwrap_or(out.rules.line_time_unit);
    let time =
        line.timestamp.map(|time| unit.integer(time)).transpose().map_err(|problem| (Reason::InvalidField, problem));
    let stamp = match time.and_then(|time| out.stamp(time)) {
        Ok(stamp) => stamp,
        Err((reason, detail)) => return out.problem(reason, fields.len().max(1) as u64, || detail),
    };
    let (tags, mut channel) = (tags(line, out), String::new());
    for (field, value) in fields {
        let value = match value {
            FieldValue::F64(value) => *value,
            // Beyond 2^53 an integer is rounded to the nearest float.
            FieldValue::I64(value) => *value as f64,
            FieldValue::U64(value) => *value as f64,
            FieldValue::Boolean(set) => f64::from(u8::from(*set)),
            FieldValue::String(text) => {
                let problem =
                    || format!("{} is the string {}, not a number (see ignored_keys)", excerpt(field), excerpt(text));
                out.problem(Reason::InvalidField, 1, problem);
                continue;
            }
        };
        channel.clear();
        channel.push_str(&tags);
        name(&line.series.measurement, field, out, &mut channel);
        out.reading(&channel, stamp, value);
    }
}

/// The values of the tags that are part of the channel, each with a dot behind it.
fn tags(line: &ParsedLine<'_>, out: &Collector<'_>) -> String {
    let values = out.rules.line_channel_tags.iter().filter_map(|tag| line.tag_value(tag));
    values.fold(String::new(), |tags, value| tags + value + ".")
}

fn name(measurement: &str, field: &str, out: &Collector<'_>, channel: &mut String) {
    match out.rules.line_channel {
        LineChannel::Auto if field == "value" => channel.push_str(measurement),
        LineChannel::Auto if out.is_current(measurement) => channel.push_str(field),
        LineChannel::Field => channel.push_str(field),
        LineChannel::Auto | LineChannel::MeasurementField => {
            channel.push_str(measurement);
            channel.push('.');
            channel.push_str(field);
        }
    }
}
