//! SKAB: `datetime;` channels `;anomaly;changepoint`. The first 400 rows of a run are its training part.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::{Stream, value};
use crate::{score::skab::TRAINING_ROWS, table};

/// Columns that are no channels.
const OTHERS: [&str; 3] = ["datetime", "anomaly", "changepoint"];

pub(super) fn read(path: &Path) -> Result<Stream> {
    let table = table::read(path, b';')?;
    let time = table.column("datetime")?;
    let columns: Vec<usize> =
        (0..table.header.len()).filter(|at| !OTHERS.contains(&table.header[*at].as_str())).collect();
    let mut stream = Stream {
        channels: columns.iter().map(|at| table.header[*at].clone()).collect(),
        granted_rows: TRAINING_ROWS,
        ..Stream::default()
    };
    for (at, cells) in table.rows.into_iter().enumerate() {
        let line = || format!("line {}", at + 2);
        stream.times.push(table::time(&cells[time]).with_context(line)?);
        for column in &columns {
            stream.values.push(value(&cells[*column]).with_context(line)?);
        }
        stream.stamps.push(cells[time].clone());
    }
    Ok(stream)
}
