//! How many of the true nearest windows are still found when the windows were told in fewer bytes, as sync tells them: the windows of
//! a recorded fleet that detect keeps or alerts on, which are those that leave a gateway, through the stages with their default
//! settings and bundle.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use eddy_schemas::SeriesName;
use eddy_vectors::{
    distance::squared,
    quantizer::{
        QuantizerError, int8,
        product::{Codebook, parts_of},
    },
};
use rayon::prelude::*;

use crate::{
    pipeline::{Pipeline, Settings},
    table,
};

/// Components of the learned head's vectors.
pub const DIMENSIONS: usize = 16;
const NEIGHBOURS: usize = 10;
/// One in so many windows is asked for, and not stored.
const ASKED: usize = 5;

type Vectors = Vec<Vec<f32>>;
/// What becomes of a vector on its way.
type Way<'a> = &'a dyn Fn(&[f32]) -> Result<Vec<f32>, QuantizerError>;

/// Recall@10 against the same search over true vectors.
#[derive(Clone, Copy, Debug)]
pub struct Recalls {
    /// Of a byte a component.
    pub int8: f64,
    /// Of product quantization by a codebook of as many parts as is the default.
    pub product: f64,
    /// The same of a quarter of these parts, and of one for each component.
    pub fewest_parts: f64,
    /// See [`Self::fewest_parts`].
    pub most_parts: f64,
    /// Of the true vectors: 1, or the measure is wrong.
    pub exact: f64,
    /// How many windows are stored.
    pub stored: usize,
    /// How many are asked for.
    pub asked: usize,
}

/// `fixtures/fleet`.
pub fn fleet() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/fleet")
}

/// Of the windows of a recorded fleet.
///
/// # Errors
/// If the recording cannot be read, or says too little.
pub fn recalls(recording: &Path) -> Result<Recalls> {
    let devices = told(recording)?;
    // A codebook is learned from what a gateway has first: the first third of each device's windows.
    let learned: Vec<f32> =
        devices.iter().flat_map(|vectors| &vectors[..vectors.len() / 3]).flatten().copied().collect();
    let (asked, stored): (Vec<_>, Vec<_>) =
        devices.into_iter().flatten().enumerate().partition(|(at, _)| at % ASKED == 0);
    let strip = |vectors: Vec<(usize, Vec<f32>)>| vectors.into_iter().map(|(_, vector)| vector).collect::<Vectors>();
    let (asked, stored) = (strip(asked), strip(stored));
    ensure!(stored.len() > NEIGHBOURS, "{}: {} windows are told", recording.display(), stored.len());
    let through = |tell: Way<'_>| {
        let told: Result<Vectors, QuantizerError> = stored.iter().map(|vector| tell(vector)).collect();
        anyhow::Ok(recall(&stored, &told?, &asked))
    };
    let by_parts = |parts| {
        let book = Codebook::train(&learned, DIMENSIONS, parts, 1)?;
        through(&|vector| {
            let (scale, codes) = book.encode(vector)?;
            book.decode(scale, &codes)
        })
    };
    let default = parts_of(DIMENSIONS);
    Ok(Recalls {
        int8: through(&|vector| {
            let (scale, codes) = int8::encode(vector)?;
            int8::decode(scale, &codes)
        })?,
        product: by_parts(default)?,
        fewest_parts: by_parts(4)?,
        most_parts: by_parts(DIMENSIONS)?,
        exact: through(&|vector| Ok(vector.to_vec()))?,
        stored: stored.len(),
        asked: asked.len(),
    })
}

/// The windows of each device, in order, that tell something: a vector that is equal to another one does not.
fn told(recording: &Path) -> Result<Vec<Vectors>> {
    let pipeline = Pipeline::new(&Settings::default())?;
    let entries = recording.read_dir().with_context(|| recording.display().to_string())?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    files.retain(|path| path.to_string_lossy().ends_with(".csv.gz"));
    files.sort();
    let of_device = |file: &PathBuf| {
        let table = table::read(file, b',')?;
        let names: Vec<String> = table.header[1..].iter().map(|name| SeriesName::encode("device", name)).collect();
        let mut chain = pipeline.chain(0)?;
        for row in &table.rows {
            let time = table::time(&row[0])?;
            for (name, cell) in names.iter().zip(&row[1..]).filter(|(_, cell)| !cell.is_empty()) {
                chain.push(name, time, cell.parse()?)?;
            }
        }
        let told = chain.finish()?.told;
        let mut vectors: Vectors = told.chunks_exact(DIMENSIONS).map(<[f32]>::to_vec).collect();
        vectors.dedup();
        anyhow::Ok(vectors)
    };
    files.par_iter().map(of_device).collect()
}

/// The share of the ten nearest of `stored` to each query that are among the ten nearest of what was told of these; by distance: of
/// equally near ones any will do.
fn recall(stored: &Vectors, told: &Vectors, queries: &Vectors) -> f64 {
    let found = |query: &Vec<f32>| {
        let far = |vectors: &Vectors| vectors.iter().map(|vector| squared(query, vector)).collect::<Vec<f32>>();
        let (truth, told) = (far(stored), far(told));
        let mut nearest: Vec<usize> = (0..told.len()).collect();
        nearest.sort_by(|a, b| told[*a].total_cmp(&told[*b]));
        let mut true_nearest = truth.clone();
        true_nearest.sort_by(f32::total_cmp);
        nearest[..NEIGHBOURS].iter().filter(|at| truth[**at] <= true_nearest[NEIGHBOURS - 1]).count()
    };
    queries.par_iter().map(found).sum::<usize>() as f64 / (queries.len() * NEIGHBOURS) as f64
}
