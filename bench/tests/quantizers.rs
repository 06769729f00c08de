//! How many of the true nearest windows are still found when the windows were told in fewer bytes: the windows of `fixtures/fleet`
//! that detect keeps or alerts on, which are those that leave a gateway, through the stages with their default settings and bundle.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use eddy_bench::{
    pipeline::{Pipeline, Settings},
    table,
};
use eddy_schemas::SeriesName;
use eddy_vectors::{
    distance::squared,
    quantizer::{
        int8,
        product::{Codebook, parts_of},
    },
};
use rayon::prelude::*;

const DIMENSIONS: usize = 16;
const NEIGHBOURS: usize = 10;
/// One in so many windows is asked for, and not stored.
const ASKED: usize = 5;

type Vectors = Vec<Vec<f32>>;

/// The windows of each device, in order, that tell something: a vector that is equal to another one does not.
fn told() -> Vec<Vectors> {
    let pipeline = Pipeline::new(&Settings::default()).unwrap();
    let fleet = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/fleet");
    let files = std::fs::read_dir(&fleet).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.to_string_lossy().ends_with(".csv.gz")).collect();
    files.sort();
    let of_device = |file: &Path| {
        let table = table::read(file, b',').unwrap();
        let names: Vec<String> = table.header[1..].iter().map(|name| SeriesName::encode("device", name)).collect();
        let mut chain = pipeline.chain(0).unwrap();
        for row in &table.rows {
            let time = table::time(&row[0]).unwrap();
            for (name, cell) in names.iter().zip(&row[1..]).filter(|(_, cell)| !cell.is_empty()) {
                chain.push(name, time, cell.parse().unwrap()).unwrap();
            }
        }
        let told = chain.finish().unwrap().told;
        let mut vectors: Vectors = told.chunks_exact(DIMENSIONS).map(<[f32]>::to_vec).collect();
        vectors.dedup();
        vectors
    };
    files.par_iter().map(|file| of_device(file)).collect()
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

#[test]
fn quantized_windows_are_found_as_the_true_ones_are() {
    let devices = told();
    // A codebook is learned from what a gateway has first: the first third of each device's windows.
    let learned: Vec<f32> =
        devices.iter().flat_map(|vectors| &vectors[..vectors.len() / 3]).flatten().copied().collect();
    let (asked, stored): (Vec<_>, Vec<_>) =
        devices.into_iter().flatten().enumerate().partition(|(at, _)| at % ASKED == 0);
    let strip = |vectors: Vec<(usize, Vec<f32>)>| vectors.into_iter().map(|(_, vector)| vector).collect::<Vectors>();
    let (asked, stored) = (strip(asked), strip(stored));
    assert!(stored.len() > 2_000, "{}", stored.len());
    let through = |tell: &(dyn Fn(&[f32]) -> Vec<f32> + Sync)| {
        recall(&stored, &stored.iter().map(|vector| tell(vector)).collect(), &asked)
    };
    assert_eq!(through(&|vector| vector.to_vec()), 1.0);
    let by_int8 = through(&|vector| {
        let (scale, codes) = int8::encode(vector).unwrap();
        int8::decode(scale, &codes).unwrap()
    });
    let by_parts = |parts| {
        let book = Codebook::train(&learned, DIMENSIONS, parts, 1).unwrap();
        through(&|vector| {
            let (scale, codes) = book.encode(vector).unwrap();
            book.decode(scale, &codes).unwrap()
        })
    };
    let [four, default, sixteen] = [4, parts_of(DIMENSIONS), 16].map(by_parts);
    println!(
        "{} windows, {} asked for: recall@10 by int8 {by_int8:.4}, by product quantization in 4, {} and 16 parts {four:.4}, \
         {default:.4}, {sixteen:.4}",
        stored.len(),
        asked.len(),
        parts_of(DIMENSIONS)
    );
    assert!(by_int8 >= 0.98, "{by_int8}");
    assert!(default >= 0.90, "{default}");
    assert!(four < default && default < sixteen, "{four} {default} {sixteen}");
}
