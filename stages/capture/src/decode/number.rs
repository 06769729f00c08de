//! A bare number, as small MQTT sensors send it: one reading, stamped on arrival. `true` and `false` are 1 and 0.

use super::{
    Refused,
    collect::{Collector, Original},
};

/// Longer texts are no number that a sensor sends.
const BYTES_MAX: usize = 64;

/// Whether the bytes are one finite number, `true` or `false`.
pub(super) fn looks_like(payload: &[u8]) -> bool {
    payload.len() <= BYTES_MAX && std::str::from_utf8(payload).is_ok_and(|text| number(text).is_some())
}

pub(super) fn decode(text: &str, out: &mut Collector<'_>) -> Result<(), Refused> {
    out.begin("number", 0);
    let key = out.rules.value_key.clone();
    match (number(text), out.stamp(None)) {
        (Some(value), Ok(stamp)) => out.reading(&key, stamp, value),
        (None, _) => return Err((eddy_schemas::side::Reason::Malformed, "not a number".into())),
        (_, Err((reason, detail))) => out.problem(reason, 1, || detail),
    }
    out.end(|| Original::Bytes(0..text.len()))
}

fn number(text: &str) -> Option<f64> {
    match text.trim() {
        "true" => Some(1.0),
        "false" => Some(0.0),
        // Rust also reads "inf", "nan" and "infinity", which no sensor means as a number.
        text if text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) => {
            text.parse::<f64>().ok().filter(|value| value.is_finite())
        }
        _ => None,
    }
}
