//! Kernels of `eddy-vectors`, at the sizes that the default bundle gives them.

use std::{hint::black_box, path::Path};

use anyhow::{Result, ensure};
use eddy_vectors::{
    calibration::{Calibration, bin_of},
    coreset::VectorCoreset,
    delay::Delay,
    distance::{ScaledTiles, Tiles},
    half_rows::{self, HalfRows},
    quantizer,
    scalar::ScalarCoreset,
};

use crate::{counted::counted, made::Dice};

/// Dimensions of the learned head.
const DIMENSIONS: usize = 16;
const QUERIES: usize = 1_000;
/// Groups in which vectors lie.
const GROUPS: usize = 50;

/// Own history: the nearest of 256 rows of int8.
pub fn nearest(_: &Path) -> Result<u64> {
    let mut dice = Dice::new(2);
    let mut tiles = Tiles::new(DIMENSIONS);
    for row in dice.vectors(256, DIMENSIONS, GROUPS).chunks_exact(DIMENSIONS) {
        tiles.push(row.iter().map(|x| (x * 12.0) as i8));
    }
    let queries: Vec<f32> = dice.vectors(QUERIES, DIMENSIONS, GROUPS).iter().map(|x| x * 12.0).collect();
    let found = counted(|| queries.chunks_exact(DIMENSIONS).filter_map(|query| tiles.nearest(query)).count());
    ensure!(found == QUERIES, "{found} found");
    Ok(QUERIES as u64)
}

/// The coreset of a head of several dimensions, once it is full: most are covered, some are kept and others thinned.
pub fn admit(_: &Path) -> Result<u64> {
    let mut coreset = VectorCoreset::new(4, 608);
    let mut dice = Dice::new(3);
    for vector in dice.vectors(2_000, 4, GROUPS).chunks_exact(4) {
        coreset.admit(vector, 1);
    }
    let vectors = dice.vectors(QUERIES, 4, GROUPS);
    let kept = counted(|| vectors.chunks_exact(4).filter(|vector| coreset.admit(vector, 2)).count());
    ensure!(kept < QUERIES / 4 && coreset.len() > 10, "{kept} kept, {} in all", coreset.len());
    Ok(QUERIES as u64)
}

/// The same of a head of one.
pub fn scalar(_: &Path) -> Result<u64> {
    let mut coreset = ScalarCoreset::new(528);
    let mut dice = Dice::new(4);
    (0..2_000).for_each(|_| _ = coreset.admit(dice.noise() as f32));
    let values: Vec<f32> = (0..QUERIES).map(|_| dice.noise() as f32).collect();
    let sum = counted(|| {
        let mut sum = 0.0;
        for value in &values {
            sum += coreset.nearest(*value).unwrap_or_default();
            coreset.admit(*value);
        }
        sum
    });
    ensure!(sum > 0.0 && coreset.len() > 10, "{sum}, {} in all", coreset.len());
    Ok(QUERIES as u64)
}

/// A row goes in and, where one waited long enough, one comes out.
pub fn delay(_: &Path) -> Result<u64> {
    let mut delay = Delay::new(DIMENSIONS, 32);
    let rows = Dice::new(5).vectors(QUERIES, DIMENSIONS, GROUPS);
    let mut vector = [0.0; DIMENSIONS];
    let came = counted(|| {
        let mut came = 0;
        for (row, new) in rows.chunks_exact(DIMENSIONS).enumerate() {
            delay.push(row as u32, new);
            came += usize::from(black_box(delay.pop(row as u32, &mut vector)));
        }
        came
    });
    ensure!(came * 5 > QUERIES, "{came} came out");
    Ok(QUERIES as u64)
}

/// A distance's tail probability; ten at a time are learned from.
pub fn calibration(_: &Path) -> Result<u64> {
    let mut dice = Dice::new(6);
    let mut distance = || 0.1 * dice.unit().max(1e-9).powf(-1.0 / 3.0) as f32;
    let mut calibration = Calibration::default();
    let bins: Vec<u8> = (0..2_000).map(|_| bin_of(distance())).collect();
    calibration.extend(&bins);
    let distances: Vec<f32> = (0..QUERIES).map(|_| distance()).collect();
    let sum = counted(|| {
        let mut sum = 0.0;
        for ten in distances.chunks(10) {
            sum += ten.iter().map(|distance| calibration.tail(*distance)).sum::<f64>();
            let bins: Vec<u8> = ten.iter().map(|distance| bin_of(*distance)).collect();
            calibration.extend(&bins);
        }
        sum
    });
    let mean = sum / QUERIES as f64;
    ensure!((0.4..0.6).contains(&mean), "tail probabilities of ordinary distances are {mean} on average");
    Ok(QUERIES as u64)
}

/// The index's tail: 2,048 rows of int8 with their bounds.
pub fn bounds(_: &Path) -> Result<u64> {
    const ROWS: usize = 2_048;
    let mut dice = Dice::new(7);
    let mut tiles = ScaledTiles::new(DIMENSIONS);
    dice.vectors(ROWS, DIMENSIONS, GROUPS).chunks_exact(DIMENSIONS).for_each(|vector| tiles.push(vector));
    let queries = dice.vectors(100, DIMENSIONS, GROUPS);
    let told = counted(|| {
        let mut told = 0;
        for query in queries.chunks_exact(DIMENSIONS) {
            let mut nearest = f32::INFINITY;
            tiles.rows().within(query, |_, _, greatest| {
                told += 1;
                nearest = nearest.min(greatest);
                nearest
            });
        }
        told
    });
    ensure!((100..100 * ROWS).contains(&told), "{told} rows were told");
    Ok(100)
}

/// A step of a walk through a graph: 32 rows of f16 that lie anywhere.
pub fn half_rows(_: &Path) -> Result<u64> {
    let mut dice = Dice::new(8);
    let mut bytes = Vec::new();
    let rows = dice.vectors(2_000, DIMENSIONS, GROUPS);
    rows.chunks_exact(DIMENSIONS).for_each(|vector| half_rows::put(vector, &mut bytes));
    let Some(stored) = HalfRows::read(DIMENSIONS, 2_000, vec![&bytes]) else { anyhow::bail!("the rows do not fit") };
    let asked: Vec<u32> = (0..QUERIES * 32).map(|_| (dice.next() % 2_000) as u32).collect();
    let queries = dice.vectors(QUERIES, DIMENSIONS, GROUPS);
    let mut squared = Vec::new();
    let measured = counted(|| {
        let steps = queries.chunks_exact(DIMENSIONS).zip(asked.chunks_exact(32));
        steps.filter(|(query, asked)| stored.squared(query, asked, black_box(&mut squared))).count()
    });
    ensure!(measured == QUERIES && squared.len() == 32, "{measured} measured");
    Ok(QUERIES as u64)
}

/// A window's vector as sync writes it.
pub fn int8(_: &Path) -> Result<u64> {
    let vectors = Dice::new(9).vectors(QUERIES, DIMENSIONS, GROUPS);
    let bytes = counted(|| -> Result<usize, quantizer::QuantizerError> {
        let mut bytes = 0;
        for vector in vectors.chunks_exact(DIMENSIONS) {
            bytes += black_box(quantizer::int8::encode(vector)?).1.len();
        }
        Ok(bytes)
    })?;
    ensure!(bytes == vectors.len(), "{bytes} bytes");
    Ok(QUERIES as u64)
}
