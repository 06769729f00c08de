//! What can be read off the vectors that leave a gateway: an attacker who has vectors and readings of some devices learns to make
//! readings of vectors, and tries it on devices that he has not seen. Raw readings leave under a policy only; how near vectors come
//! to them is measured here, beside the heads that never leave.

#![allow(clippy::unwrap_used)]

use eddy_bench::{
    embedded::Wanted,
    inputs::Stream,
    pipeline::{Pipeline, Settings},
    quantized::fleet,
    table,
};
use eddy_vectors::quantizer::int8;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// Readings that a window of the learned head looks at.
const WINDOW: usize = 64;
/// The last of so many rows are asked about; what lies before is commissioning and the longest head's window.
const SKIPPED: usize = 800;
/// One in so many windows: they overlap.
const EVERY: usize = 5;
/// Cosines of random projections beside the components themselves: a kernel machine, in effect.
const FEATURES: usize = 384;
const RIDGE: f64 = 1e-3;

/// What leaves, and what does not.
const LEARNED: &[(&str, usize)] = &[("learned", 16)];
const RAW: &[(&str, usize)] = &[("value", 1), ("contrast", 1), ("span16", 4), ("span32", 4), ("span64", 4)];

/// Of one series: a row of inputs for each window, and its readings.
#[derive(Default)]
struct Pairs {
    inputs: Vec<Vec<f64>>,
    readings: Vec<Vec<f64>>,
}

/// The series of a device, without holes: what is missing is as it was before.
fn series(path: &std::path::Path) -> Vec<Vec<f64>> {
    let table = table::read(path, b',').unwrap();
    let channel = |at: usize| {
        let mut last = f64::NAN;
        let held = |row: &Vec<String>| {
            last = row[at].parse().unwrap_or(last);
            last
        };
        table.rows.iter().map(held).collect::<Vec<f64>>()
    };
    (1..table.header.len()).map(channel).map(filled).collect()
}

/// A series begins with its first reading.
fn filled(values: Vec<f64>) -> Vec<f64> {
    values.into_iter().skip_while(|value| value.is_nan()).collect()
}

/// The windows of a series, seen through heads, as they are told in a byte a component.
fn pairs(pipeline: &Pipeline, values: &[f64], heads: &[(&str, usize)]) -> Pairs {
    let minute = 60_000_000_000;
    let stream = Stream {
        channels: vec!["x".into()],
        times: (0..values.len() as i64).map(|row| row * 5 * minute).collect(),
        values: values.to_vec(),
        granted_rows: 400,
        ..Stream::default()
    };
    let asked = values.len() - SKIPPED;
    let mut inputs = vec![Vec::new(); asked];
    for (head, dimensions) in heads {
        let mut vectors: Vec<Vec<f64>> = Vec::new();
        let wanted = Wanted { head: (*head).into(), dimensions: *dimensions };
        let told = |vector: &[f32]| {
            let (scale, codes) = int8::encode(vector).unwrap();
            vectors.push(int8::decode(scale, &codes).unwrap().into_iter().map(f64::from).collect());
        };
        pipeline.embedded(&stream, &wanted, told).unwrap();
        // Past commissioning every row has one, so the last ones are the last rows'.
        let last = vectors.len() - asked;
        inputs.iter_mut().zip(vectors.drain(last..)).for_each(|(input, vector)| input.extend(vector));
    }
    let window = |at: usize| values[SKIPPED + at + 1 - WINDOW..=SKIPPED + at].to_vec();
    let mut pairs = Pairs::default();
    for (at, input) in inputs.into_iter().enumerate().step_by(EVERY) {
        pairs.inputs.push(input);
        pairs.readings.push(window(at));
    }
    pairs
}

/// Makes readings of inputs.
struct Decoder {
    center: Vec<f64>,
    spread: Vec<f64>,
    projections: Vec<Vec<f64>>,
    phases: Vec<f64>,
    /// A column for each reading of a window.
    weights: Vec<Vec<f64>>,
}

impl Decoder {
    fn learn(all: &[&Pairs]) -> Self {
        let inputs: Vec<&Vec<f64>> = all.iter().flat_map(|pairs| &pairs.inputs).collect();
        let readings: Vec<&Vec<f64>> = all.iter().flat_map(|pairs| &pairs.readings).collect();
        let dimensions = inputs[0].len();
        let moments = |at: usize| {
            let mean = inputs.iter().map(|input| input[at]).sum::<f64>() / inputs.len() as f64;
            let variance = inputs.iter().map(|input| (input[at] - mean).powi(2)).sum::<f64>() / inputs.len() as f64;
            (mean, variance.sqrt().max(1e-9))
        };
        let (center, spread): (Vec<f64>, Vec<f64>) = (0..dimensions).map(moments).unzip();
        let mut random = ChaCha8Rng::seed_from_u64(1);
        // Sums of twelve even ones are as good as normal ones.
        let mut normal = || (0..12).map(|_| random.random_range(-0.5..0.5)).sum::<f64>();
        let width = (dimensions as f64).sqrt();
        let projections =
            (0..FEATURES).map(|_| (0..dimensions).map(|_| normal() / width).collect()).collect::<Vec<Vec<f64>>>();
        let phases = (0..FEATURES).map(|_| normal() * 3.0).collect();
        let mut decoder = Self { center, spread, projections, phases, weights: Vec::new() };
        let rows: Vec<Vec<f64>> = inputs.par_iter().map(|input| decoder.features(input)).collect();
        decoder.weights = ridge(&rows, &readings);
        decoder
    }

    fn features(&self, input: &[f64]) -> Vec<f64> {
        let scaled: Vec<f64> = input
            .iter()
            .zip(&self.center)
            .zip(&self.spread)
            .map(|((x, center), spread)| (x - center) / spread)
            .collect();
        let cosine = |(projection, phase): (&Vec<f64>, &f64)| {
            (projection.iter().zip(&scaled).map(|(a, b)| a * b).sum::<f64>() + phase).cos()
        };
        let cosines: Vec<f64> = self.projections.iter().zip(&self.phases).map(cosine).collect();
        [vec![1.0], scaled, cosines].concat()
    }

    /// The share of the variance of readings that it gives back: of each series about its own mean, which is much more than of all
    /// about theirs would flatter; 0 if it knows nothing but the mean.
    fn r2(&self, pairs: &Pairs) -> f64 {
        let all = pairs.readings.iter().flatten();
        let mean = all.clone().sum::<f64>() / all.clone().count() as f64;
        let whole: f64 = all.map(|value| (value - mean).powi(2)).sum();
        let left = |(input, readings): (&Vec<f64>, &Vec<f64>)| {
            let features = self.features(input);
            let told = |weights: &Vec<f64>| weights.iter().zip(&features).map(|(a, b)| a * b).sum::<f64>();
            self.weights.iter().zip(readings).map(|(weights, value)| (told(weights) - value).powi(2)).sum::<f64>()
        };
        1.0 - pairs.inputs.iter().zip(&pairs.readings).map(left).sum::<f64>() / whole
    }
}

/// Weights of least squares with a penalty, by Cholesky.
fn ridge(rows: &[Vec<f64>], targets: &[&Vec<f64>]) -> Vec<Vec<f64>> {
    let n = rows[0].len();
    let gram: Vec<Vec<f64>> = (0..n)
        .into_par_iter()
        .map(|i| {
            let mut sums = vec![0.0; i + 1];
            for row in rows {
                sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x * row[i]);
            }
            sums[i] += RIDGE * rows.len() as f64;
            sums
        })
        .collect();
    let mut lower = gram;
    for i in 0..n {
        for j in 0..=i {
            let (head, tail) = lower.split_at_mut(i);
            let row_j: &[f64] = if i == j { &tail[0] } else { &head[j] };
            let sum: f64 = (0..j).map(|k| tail[0][k] * row_j[k]).sum();
            let rest = tail[0][j] - sum;
            tail[0][j] = if i == j { rest.sqrt() } else { rest / head[j][j] };
        }
    }
    let solve = |target: usize| {
        let mut x = vec![0.0; n];
        for (row, readings) in rows.iter().zip(targets) {
            x.iter_mut().zip(row).for_each(|(x, value)| *x += value * readings[target]);
        }
        for i in 0..n {
            let sum: f64 = (0..i).map(|k| lower[i][k] * x[k]).sum();
            x[i] = (x[i] - sum) / lower[i][i];
        }
        for i in (0..n).rev() {
            let sum: f64 = (i + 1..n).map(|k| lower[k][i] * x[k]).sum();
            x[i] = (x[i] - sum) / lower[i][i];
        }
        x
    };
    (0..WINDOW).into_par_iter().map(solve).collect()
}

#[test]
fn readings_cannot_be_read_off_what_leaves_as_they_can_off_what_stays() {
    let pipeline = Pipeline::new(&Settings::default()).unwrap();
    let mut files: Vec<_> = std::fs::read_dir(fleet()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.to_string_lossy().ends_with(".csv.gz"));
    files.sort();
    let devices: Vec<Vec<Vec<f64>>> = files.iter().map(|file| series(file)).collect();
    // The heads that stay are of the readings as they are: what is left of them in the units of each series.
    let of = |heads: &[(&str, usize)]| -> Vec<Vec<Pairs>> {
        let device =
            |series: &Vec<Vec<f64>>| series.iter().map(|values| pairs(&pipeline, &standard(values), heads)).collect();
        devices.par_iter().map(device).collect()
    };
    let measured = [LEARNED, RAW].map(|heads| {
        let of_devices = of(heads);
        let (seen, unseen) = of_devices.split_at(of_devices.len() / 2);
        let decoder = Decoder::learn(&seen.iter().flatten().collect::<Vec<_>>());
        let mut all: Vec<f64> = unseen.iter().flatten().map(|pairs| decoder.r2(pairs)).collect();
        all.sort_by(f64::total_cmp);
        (all[all.len() / 2], all[all.len() - 1])
    });
    let [(learned, learned_best), (raw, raw_best)] = measured;
    println!(
        "R2 of the {WINDOW} readings of a window, of series that the decoder has not seen, median and best: {learned:.3} and \
         {learned_best:.3} of what leaves, {raw:.3} and {raw_best:.3} of the raw heads"
    );
    assert!(raw > 0.5, "the decoder is none: {raw}");
    assert!(learned < raw, "{learned} {raw}");
}

/// In the units of a series, which an attacker may know.
fn standard(values: &[f64]) -> Vec<f64> {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let spread = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt();
    values.iter().map(|value| (value - mean) / spread.max(1e-9)).collect()
}
