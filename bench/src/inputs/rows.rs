//! GECCO, SMAP, MSL and UCR: `timestamp`, channels, `label,scored`, where the timestamp is a row's number.
//!
//! A row is taken for a minute. The first rows, up to the first that is `scored`, are granted for learning.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::{Stream, value};
use crate::table;

/// Columns that are no channels; the labels among them are not read here.
const OTHERS: [&str; 6] = ["timestamp", "label", "scored", "event", "anomaly", "is_anomaly"];
const ROW_NS: i64 = 60_000_000_000;

pub(super) fn read(path: &Path) -> Result<Stream> {
    let table = table::read(path, b',')?;
    let (time, scored) = (table.column("timestamp")?, table.column("scored").ok());
    let columns: Vec<usize> =
        (0..table.header.len()).filter(|at| !OTHERS.contains(&table.header[*at].as_str())).collect();
    let is_scored = |cells: &Vec<String>| scored.is_none_or(|at| cells[at].trim() != "0");
    let mut stream = Stream {
        channels: columns.iter().map(|at| table.header[*at].clone()).collect(),
        granted_rows: table.rows.iter().position(is_scored).unwrap_or(0),
        ..Stream::default()
    };
    for (at, cells) in table.rows.into_iter().enumerate() {
        let line = || format!("line {}", at + 2);
        let number: i64 = cells[time].trim().parse().with_context(line)?;
        stream.times.push(number.saturating_mul(ROW_NS));
        for column in &columns {
            stream.values.push(value(&cells[*column]).with_context(line)?);
        }
        stream.stamps.push(cells[time].clone());
    }
    Ok(stream)
}
