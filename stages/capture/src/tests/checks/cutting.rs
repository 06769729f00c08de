//! Where a message is cut makes no difference: a line or a JSON element by itself says what it said among others, and the
//! first records of a SenML pack do not depend on those that follow.
//!
//! The bounds of a message (readings, channels, parts that are told) are not those of its pieces, so a message at one of
//! them is left out.

use eddy_schemas::side::Reason;
use serde_json::value::RawValue;

use super::{Format, Row, Setting, rows};
use crate::decode::{Decoded, Refused, decode};

pub(super) fn check(payload: &[u8], decoded: &Decoded, setting: Setting) {
    // A part's reason is that of its first problem; a bound may be a later one, or one of those that are only counted.
    let met_a_bound = |detail: &str| detail.contains("(device_channels_max)") || detail.contains("; and ");
    if decoded.bad.iter().any(|bad| bad.reason == Reason::TooLarge || met_a_bound(&bad.detail)) {
        return;
    }
    match setting.format {
        Format::Line => lines(payload, decoded, setting),
        Format::Json => elements(payload, decoded, setting),
        Format::Senml => records(payload, decoded, setting),
        Format::Sniffed | Format::Arrow | Format::Plain => {}
    }
}

fn alone(payload: &[u8], setting: Setting) -> Result<Decoded, Refused> {
    decode(payload, &setting.source(), &setting.rules())
}

/// Readings of pieces, one after the other, and how many were told.
#[derive(Default)]
struct Joined {
    rows: Vec<Row>,
    readings: u64,
    missing: u64,
}

impl Joined {
    fn add(&mut self, piece: &Decoded) {
        self.rows.extend(rows(piece));
        self.readings += piece.readings();
        self.missing += piece.missing;
    }

    fn is(&self, whole: &Decoded) {
        assert_eq!(self.rows, rows(whole), "cut, another result");
        assert_eq!((self.readings, self.missing), (whole.readings(), whole.missing));
    }
}

fn lines(payload: &[u8], whole: &Decoded, setting: Setting) {
    // A quoted text may go on over several lines, and a backslash may stand before a quote.
    if payload.iter().any(|byte| matches!(byte, b'"' | b'\\')) {
        return;
    }
    let mut joined = Joined::default();
    for line in payload.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        joined.add(&alone(line, setting).expect("lines are refused one by one"));
    }
    joined.is(whole);
}

fn elements_of(payload: &[u8]) -> Option<Vec<&RawValue>> {
    let text = std::str::from_utf8(payload).ok()?;
    serde_json::from_str(text).ok()
}

fn elements(payload: &[u8], whole: &Decoded, setting: Setting) {
    let Some(elements) = elements_of(payload) else { return };
    let mut joined = Joined::default();
    for element in elements {
        if element.get().starts_with('{') {
            joined.add(&alone(element.get().as_bytes(), setting).expect("elements are refused one by one"));
        } else {
            joined.readings += 1;
        }
    }
    joined.is(whole);
}

fn records(payload: &[u8], whole: &Decoded, setting: Setting) {
    let Some(elements) = elements_of(payload) else { return };
    let first: Vec<_> = elements[..elements.len() / 2].iter().map(|element| element.get()).collect();
    let pack = format!("[{}]", first.join(","));
    let part = alone(pack.as_bytes(), setting).expect("a pack is refused at its first wrong record");
    let (part, whole) = (rows(&part), rows(whole));
    assert_eq!(part, whole[..part.len()], "cut, another result");
}
