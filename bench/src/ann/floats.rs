//! Raw f32 and u32 in the machine's order: what numpy's `fromfile` reads.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
};

use anyhow::{Context as _, Result};

/// Writes vectors.
pub(super) fn write(path: &Path, values: &[f32]) -> Result<()> {
    let mut file = BufWriter::new(File::create(path).with_context(|| path.display().to_string())?);
    values.iter().try_for_each(|x| file.write_all(&x.to_ne_bytes()))?;
    file.flush().with_context(|| path.display().to_string())
}

/// Reads vectors.
pub(super) fn read(path: &Path) -> Result<Vec<f32>> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    Ok(bytes.as_chunks().0.iter().map(|bytes| f32::from_ne_bytes(*bytes)).collect())
}

/// Writes ids.
pub(super) fn write_ids(path: &Path, ids: &[u32]) -> Result<()> {
    let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_ne_bytes()).collect();
    std::fs::write(path, bytes).with_context(|| path.display().to_string())
}

/// Reads ids.
pub(super) fn read_ids(path: &Path) -> Result<Vec<u32>> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    Ok(bytes.as_chunks().0.iter().map(|bytes| u32::from_ne_bytes(*bytes)).collect())
}
