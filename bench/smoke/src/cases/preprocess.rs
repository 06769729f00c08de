//! READINGS to SAMPLES: with periods that are learned, as shipped, and on a grid with gaps to fill.

use std::{hint::black_box, path::Path};

use anyhow::{Result, ensure};
use eddy_preprocess::Preprocess;
use eddy_runtime::stage::{Batch as _, Stage as _};
use eddy_schemas::{Readings, ReadingsBuilder};

use super::staged::{all_decoded, check, outbox, process, stage};
use crate::{
    counted::counted,
    made::{SECOND, START, series, value},
};

/// Series of a message, a reading each.
pub const SERIES: usize = 300;
/// Messages after which periods are learned and buffers full.
const WARM: usize = 80;
/// Messages that are counted.
const COUNTED: usize = 20;

/// A message each of the rows, for which `has` says so.
pub fn messages(rows: std::ops::Range<usize>, has: impl Fn(usize, usize) -> bool) -> Vec<Vec<u8>> {
    let message = |row: usize| {
        let mut batch = ReadingsBuilder::default();
        for number in (0..SERIES).filter(|number| has(*number, row)) {
            // Clocks are never quite even.
            let time = START + row as i64 * SECOND + (number * 7 + row * 13) as i64 % 50 * 1_000_000;
            batch.push(&series(number), time, value(number, row), 0, time + SECOND / 50);
        }
        batch.encode()
    };
    rows.map(message).collect()
}

/// Counts the rows that come out.
fn rows(changes: &[(&str, &str)], has: impl Fn(usize, usize) -> bool + Copy) -> Result<u64> {
    let mut preprocess: Preprocess = stage(changes)?;
    let warm = all_decoded(&preprocess, messages(0..WARM, has))?;
    let messages = all_decoded(&preprocess, messages(WARM..WARM + COUNTED, has))?;
    let mut out = outbox(&preprocess);
    process(&mut preprocess, &warm, &mut out)?;
    out.clear();
    let rows = counted(|| process(&mut preprocess, &messages, &mut out))?;
    check(&out, rows)?;
    Ok(out.main[0].rows() as u64)
}

pub fn learned(_: &Path) -> Result<u64> {
    rows(&[], |_, _| true)
}

/// Every fifth reading is missing.
pub fn grid(_: &Path) -> Result<u64> {
    rows(&[("EDDY_PREPROCESS_PERIOD_S", "1.0")], |number, row| (number + row) % 5 > 0)
}

pub fn decode(_: &Path) -> Result<u64> {
    let payloads = messages(0..COUNTED, |_, _| true);
    let rows = counted(|| -> Result<usize> {
        let mut rows = 0;
        for payload in &payloads {
            rows += black_box(Readings::decode(payload)?).rows.len();
        }
        Ok(rows)
    })?;
    ensure!(rows == COUNTED * SERIES, "{rows} rows");
    Ok(rows as u64)
}

/// The bytes of SAMPLES.
pub fn encode(_: &Path) -> Result<u64> {
    let mut preprocess: Preprocess = stage(&[])?;
    let messages = all_decoded(&preprocess, messages(0..COUNTED, |_, _| true))?;
    let mut out = outbox(&preprocess);
    process(&mut preprocess, &messages, &mut out)?;
    let rows = out.main[0].rows() as u64;
    check(&out, (COUNTED * SERIES) as u64)?;
    let bytes = counted(|| out.main[0].encode()).len();
    ensure!(bytes > COUNTED * SERIES * 16, "{bytes} bytes for {} rows", Preprocess::rows(&messages[0].1));
    Ok(rows)
}
