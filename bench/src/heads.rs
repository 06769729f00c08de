//! `eddy-eval heads`: what tract makes of given windows, by the code that embed runs.
//!
//! Whoever trains a bundle compares the vectors with those of the framework that the weights come from, and those of windows
//! that came alone with those of the same windows in a full batch.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use eddy_embed::Model;
use eddy_runtime::bundle::{Bundle, HeadInput};
use serde::Serialize;

/// Largest file of windows, in bytes.
const WINDOWS_BYTES_MAX: u64 = 1 << 30;

/// Which bundle and which windows.
#[derive(Clone, Debug, clap::Args)]
pub struct HeadsArgs {
    /// Folder of a model bundle
    pub bundle: PathBuf,
    /// Windows, scaled as embed scales them: little-endian f32, the bundle's `input_window` a row
    pub windows: PathBuf,
    /// Where the vectors go: little-endian f32, a row a window, all heads of input `window` after one another
    #[arg(long)]
    pub out: PathBuf,
    /// Windows that embed is handed at once
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub batch: u32,
    /// Minisign public key, or a path ending in .pub, that must have signed the bundle; without it a signature is not asked for
    #[arg(long)]
    pub key: Option<String>,
}

/// A head of the bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HeadColumns {
    /// Its name.
    pub name: String,
    /// How many columns of the output are its.
    pub dimensions: usize,
}

/// What stands in the output.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Told {
    /// Digest of the bundle.
    pub bundle: String,
    /// Windows.
    pub rows: usize,
    /// The heads, in the order of their columns.
    pub heads: Vec<HeadColumns>,
    /// Wall time a window, in microseconds.
    pub microseconds_per_window: f64,
}

/// Runs the windows and writes the vectors.
///
/// # Errors
/// A bundle that the stages would not take either; files that cannot be read or written, or hold no whole windows.
pub fn run(args: &HeadsArgs) -> Result<Told> {
    let keys: Vec<String> = args.key.iter().cloned().collect();
    let bundle = Bundle::open(&args.bundle, &keys, args.key.is_none())?;
    let mut model = Model::new(&bundle.onnx, &bundle.manifest).map_err(|problems| anyhow!(problems.join("; ")))?;
    let width = bundle.manifest.input_window;
    let windows = floats(&args.windows, width)?;
    let heads: Vec<(usize, HeadColumns)> = bundle
        .manifest
        .heads
        .iter()
        .enumerate()
        .filter(|(_, head)| head.input == HeadInput::Window)
        .map(|(at, head)| (at, HeadColumns { name: head.name.clone(), dimensions: head.dimensions }))
        .collect();
    let mut vectors = vec![Vec::new(); bundle.manifest.heads.len()];
    let started = Instant::now();
    for batch in windows.chunks(args.batch as usize * width) {
        model.infer(HeadInput::Window, batch, |head, values| vectors[head].extend_from_slice(values))?;
    }
    let seconds = started.elapsed().as_secs_f64();
    let rows = windows.len() / width;
    let mut bytes = Vec::new();
    for row in 0..rows {
        for (at, HeadColumns { dimensions, .. }) in &heads {
            let vector = &vectors[*at][row * dimensions..(row + 1) * dimensions];
            bytes.extend(vector.iter().flat_map(|x| x.to_le_bytes()));
        }
    }
    fs::write(&args.out, bytes).with_context(|| args.out.display().to_string())?;
    let heads = heads.into_iter().map(|(_, columns)| columns).collect();
    Ok(Told { bundle: bundle.digest, rows, heads, microseconds_per_window: seconds * 1e6 / rows as f64 })
}

/// A file's floats, whole rows of `width` of them, at least one.
fn floats(path: &Path, width: usize) -> Result<Vec<f32>> {
    let name = || path.display().to_string();
    let length = fs::metadata(path).with_context(name)?.len();
    ensure!(length <= WINDOWS_BYTES_MAX, "{}: {length} bytes, at most {WINDOWS_BYTES_MAX} are taken", name());
    let bytes = fs::read(path).with_context(name)?;
    let (whole, rest) = bytes.as_chunks::<4>();
    ensure!(
        rest.is_empty() && !whole.is_empty() && whole.len().is_multiple_of(width),
        "{}: expected windows of {width} little-endian f32, found {} bytes",
        name(),
        bytes.len()
    );
    Ok(whole.iter().map(|float| f32::from_le_bytes(*float)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(folder: &Path, batch: u32) -> HeadsArgs {
        let bundles = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/bundles");
        HeadsArgs {
            bundle: bundles.join("default"),
            windows: folder.join("windows.f32"),
            out: folder.join(format!("vectors-{batch}.f32")),
            batch,
            key: Some(bundles.join("default.pub").display().to_string()),
        }
    }

    #[test]
    fn vectors_are_the_heads_in_order_and_the_same_bits_in_every_batch() {
        let folder = tempfile::tempdir().unwrap();
        let rows: Vec<Vec<f32>> =
            (0..70).map(|row| (0..256).map(|at| ((row * 7 + at) as f32 * 0.37).sin()).collect()).collect();
        let bytes: Vec<u8> = rows.iter().flatten().flat_map(|x| x.to_le_bytes()).collect();
        fs::write(folder.path().join("windows.f32"), bytes).unwrap();
        let (alone, together) = (args(folder.path(), 1), args(folder.path(), 256));
        let told = run(&alone).unwrap();
        assert_eq!((told.rows, run(&together).unwrap().heads), (70, told.heads.clone()));
        let bytes = fs::read(&alone.out).unwrap();
        assert_eq!(bytes, fs::read(&together.out).unwrap());
        assert_eq!((told.heads[0].name.as_str(), told.heads[0].dimensions), ("value", 1));
        let width: usize = told.heads.iter().map(|head| head.dimensions).sum();
        let vectors = floats(&alone.out, width).unwrap();
        let values: Vec<f32> = vectors.chunks(width).map(|vector| vector[0]).collect();
        assert_eq!(values, rows.iter().map(|row| row[255]).collect::<Vec<_>>());
    }

    #[test]
    fn what_are_no_windows_is_told() {
        let folder = tempfile::tempdir().unwrap();
        for bytes in [0, 3, 4 * 255] {
            fs::write(folder.path().join("windows.f32"), vec![0u8; bytes]).unwrap();
            let error = run(&args(folder.path(), 1)).unwrap_err().to_string();
            assert!(error.contains("expected windows of 256") && error.contains(&format!("{bytes} bytes")), "{error}");
        }
    }
}
