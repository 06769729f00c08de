//! Which recorded streams there are: the public benchmarks' where they lie, else the made-up fleet's.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use eddy_bench::{
    inputs::{self, Input, Set, Stream},
    table,
};

/// Where streams are read from.
#[derive(Clone, Debug)]
pub(super) enum Recorded {
    /// The public benchmarks.
    Benchmarks(PathBuf, Vec<Input>),
    /// `fixtures/fleet`.
    Fleet(PathBuf, Vec<PathBuf>),
}

impl Recorded {
    /// What lies in `data`, or the fleet where nothing does.
    pub(super) fn find(data: &Path) -> Result<Self> {
        let inputs = inputs::list(data, &Set::ALL)?;
        if !inputs.is_empty() {
            return Ok(Self::Benchmarks(data.to_owned(), inputs));
        }
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/fleet");
        Self::fleet(&folder)
    }

    /// The fleet's recordings in a folder.
    pub(super) fn fleet(folder: &Path) -> Result<Self> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.to_string_lossy().ends_with(".csv.gz") {
                files.push(path);
            }
        }
        files.sort();
        ensure!(!files.is_empty(), "{}: no recordings", folder.display());
        Ok(Self::Fleet(folder.to_owned(), files))
    }

    /// The folder.
    pub(super) fn folder(&self) -> &Path {
        match self {
            Self::Benchmarks(folder, _) | Self::Fleet(folder, _) => folder,
        }
    }

    /// How many streams.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Benchmarks(_, inputs) => inputs.len(),
            Self::Fleet(_, files) => files.len(),
        }
    }

    /// One of them.
    pub(super) fn read(&self, at: usize) -> Result<Stream> {
        match self {
            Self::Benchmarks(_, inputs) => inputs::read(&inputs[at]),
            Self::Fleet(_, files) => read_fleet(&files[at]),
        }
    }
}

/// `time`, then a column a channel; an empty cell where there is no reading.
fn read_fleet(path: &Path) -> Result<Stream> {
    let table = table::read(path, b',')?;
    let mut stream = Stream { channels: table.header[1..].to_vec(), ..Stream::default() };
    for row in &table.rows {
        stream.times.push(table::time(&row[0])?);
        for cell in &row[1..] {
            stream.values.push(if cell.is_empty() { f64::NAN } else { cell.parse()? });
        }
    }
    Ok(stream)
}
