//! NAB: `timestamp,value`. The first 15% of a file, at most 750 rows, are granted for learning.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::{Stream, value};
use crate::{score::nab::probation, table};

pub(super) fn read(path: &Path) -> Result<Stream> {
    let table = table::read(path, b',')?;
    let mut stream = Stream { channels: vec!["value".into()], ..Stream::default() };
    stream.granted_rows = probation(table.rows.len());
    for (at, cells) in table.rows.into_iter().enumerate() {
        let mut cells = cells.into_iter();
        let line = || format!("line {}", at + 2);
        let (stamp, cell) = cells.next().zip(cells.next()).with_context(line)?;
        stream.times.push(table::time(&stamp).with_context(line)?);
        stream.values.push(value(&cell).with_context(line)?);
        stream.stamps.push(stamp);
    }
    Ok(stream)
}
