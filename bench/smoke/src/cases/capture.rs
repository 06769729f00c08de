//! What devices send, in each format, and what capture makes of it.

use std::{fmt::Write as _, path::Path};

use anyhow::{Result, ensure};
use eddy_capture::{Capture, Input};
use eddy_runtime::stage::Stage as _;
use eddy_schemas::ReadingsBuilder;

use super::staged::{check, decoded, incoming, outbox, process, stage};
use crate::{
    counted::counted,
    made::{SECOND, START, names, series, value},
};

/// Readings of a message.
const READINGS: usize = 1_000;
/// Series of an Arrow batch, as a concentrator sends it.
const SERIES: usize = 99;

fn batch() -> Vec<u8> {
    let mut batch = ReadingsBuilder::default();
    for n in 0..READINGS {
        let (number, row) = (n % SERIES, n / SERIES);
        let time = START + row as i64 * SECOND;
        batch.push(&series(number), time, value(number, row), 0, time);
    }
    batch.encode()
}

/// Counts how one message is decoded.
fn decoding(payload: Vec<u8>, content_type: &str) -> Result<u64> {
    let capture: Capture = stage(&[])?;
    let mut message = incoming::<Capture>(payload);
    message.subject = format!("ingest.smoke.{}", names(0).0);
    message.content_type = Some(content_type.into());
    message.stored_at = START + READINGS as i64 * SECOND;
    match counted(|| decoded(&capture, &message))? {
        Input::Readings(readings, _) => {
            ensure!(readings.bad.is_empty(), "{:?}", readings.bad[0]);
            ensure!(readings.len() == READINGS, "{} readings", readings.len());
        }
        Input::Control(..) => ensure!(false, "no control was sent"),
    }
    Ok(READINGS as u64)
}

pub fn arrow(_: &Path) -> Result<u64> {
    decoding(batch(), "application/vnd.apache.arrow.stream")
}

pub fn json(_: &Path) -> Result<u64> {
    let record = |n: usize| {
        let time = START / SECOND * 1_000 + n as i64 * 1_000;
        format!(r#"{{"ts":{time},"temperature":{:.3},"pressure":{:.3}}}"#, value(0, n), value(2, n))
    };
    let records: Vec<String> = (0..READINGS / 2).map(record).collect();
    decoding(format!("[{}]", records.join(",")).into(), "application/json")
}

pub fn senml(_: &Path) -> Result<u64> {
    let base = format!(r#"{{"bn":"urn:dev:mac:0024befffe804ff1:","bt":{}"#, START / SECOND);
    let rest = |n: usize| format!(r#""n":"temperature","u":"Cel","t":{n},"v":{:.3}}}"#, value(0, n));
    let records = (0..READINGS).map(|n| if n == 0 { format!("{base},{}", rest(n)) } else { format!("{{{}", rest(n)) });
    let records: Vec<String> = records.collect();
    decoding(format!("[{}]", records.join(",")).into(), "application/senml+json")
}

pub fn line(_: &Path) -> Result<u64> {
    let mut lines = String::new();
    for n in 0..READINGS / 2 {
        let time = START + n as i64 * SECOND;
        writeln!(lines, "pump,site=north temperature={:.3},pressure={:.3} {time}", value(0, n), value(2, n))?;
    }
    decoding(lines.into(), "text/plain")
}

/// From what was decoded to the bytes of READINGS.
pub fn emit(_: &Path) -> Result<u64> {
    let mut capture: Capture = stage(&[])?;
    let mut message = incoming::<Capture>(batch());
    message.subject = format!("ingest.smoke.{}", names(0).0);
    message.stored_at = START + READINGS as i64 * SECOND;
    let input = decoded(&capture, &message)?;
    let messages = [(message, input)];
    let mut out = outbox(&capture);
    let bytes = counted(|| -> Result<usize> {
        let rows = process(&mut capture, &messages, &mut out)?;
        check(&out, rows)?;
        Ok(out.main[0].encode().len())
    })?;
    ensure!(bytes > READINGS * 16, "{bytes} bytes");
    Ok(Capture::rows(&messages[0].1) as u64)
}
