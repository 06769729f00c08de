//! The vectors: windows of recorded streams, drawn from all of them, each once; the first ones are asked for, the rest stored.
//!
//! Those with the smallest hashes are drawn, in the order of these: a fair draw that does not depend on threads, and of which a
//! smaller one is the beginning. So windows of all devices come mixed, as at a gateway that serves them all at once.

use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use eddy_bench::{embedded::Wanted, pipeline::Pipeline};
use half::f16;
use rand::RngExt as _;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng as _};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{floats, recorded::Recorded};

/// Deviation of the noise on a copy, as a part of its component's deviation over all windows.
const NOISE: f32 = 0.05;

/// Where vectors came from.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Provenance {
    /// The folder of the streams, and how many there are.
    pub(super) folder: PathBuf,
    pub(super) streams: usize,
    /// Their windows, and how many of these have a vector of their own.
    pub(super) windows: u64,
    pub(super) distinct: u64,
}

/// Distinct vectors of recorded windows.
#[derive(Clone, Debug)]
pub(super) struct Windows {
    pub(super) dimensions: usize,
    pub(super) vectors: Vec<f32>,
    pub(super) from: Provenance,
}

/// The largest finite f16: what embed cuts components off at.
const SATURATED: f32 = 65_504.0;

/// What is stored and what is asked for.
#[derive(Clone, Debug)]
pub(super) struct Split {
    pub(super) queries: Vec<f32>,
    pub(super) base: Vec<f32>,
    /// How many of the base are noisy copies of others.
    pub(super) copies: usize,
}

impl Split {
    /// How many of the base have a component that is cut off: windows of series that stood still while they were commissioned.
    pub(super) fn saturated(&self, dimensions: usize) -> usize {
        let is_saturated = |vector: &&[f32]| vector.iter().any(|x| x.abs() >= SATURATED);
        self.base.chunks_exact(dimensions).filter(is_saturated).count()
    }
}

/// The draw so far.
#[derive(Default)]
struct Drawn {
    vectors: BTreeMap<u64, Vec<f32>>,
    seen: HashSet<u64>,
    windows: u64,
}

impl Windows {
    /// At least `rows` of them if there are so many, from `cache` if they were drawn before.
    pub(super) fn get(
        pipeline: &Pipeline,
        wanted: &Wanted,
        recorded: &Recorded,
        rows: usize,
        cache: &Path,
    ) -> Result<Self> {
        pipeline.check_wanted(wanted)?;
        let folder = recorded.folder().file_name().unwrap_or_default().to_string_lossy();
        let digest: String = pipeline.digest().chars().take(12).collect();
        let stem = format!("{folder}-{}-{digest}-{}-{}", recorded.len(), wanted.head, wanted.dimensions);
        let (told, raw) = (cache.join(format!("{stem}.json")), cache.join(format!("{stem}.f32")));
        if let (Ok(told), Ok(vectors)) = (std::fs::read(&told), floats::read(&raw))
            && let Ok(from) = serde_json::from_slice::<Provenance>(&told)
        {
            let found = vectors.len() / wanted.dimensions;
            if found >= rows || found as u64 == from.distinct {
                return Ok(Self { dimensions: wanted.dimensions, vectors, from });
            }
        }
        super::say(&format!("embedding {} streams of {} (once)", recorded.len(), recorded.folder().display()));
        let windows = Self::draw(pipeline, wanted, recorded, rows)?;
        std::fs::create_dir_all(cache).with_context(|| cache.display().to_string())?;
        // What is told of them is written last: without it they do not count.
        let _ = std::fs::remove_file(&told);
        floats::write(&raw, &windows.vectors)?;
        std::fs::write(&told, serde_json::to_vec(&windows.from)?).with_context(|| told.display().to_string())?;
        Ok(windows)
    }

    fn draw(pipeline: &Pipeline, wanted: &Wanted, recorded: &Recorded, rows: usize) -> Result<Self> {
        let one = |at: usize| -> Result<Drawn> {
            let mut drawn = Drawn::default();
            pipeline.embedded(&recorded.read(at)?, wanted, |vector| drawn.offer(vector, rows))?;
            Ok(drawn)
        };
        let both = |a: Drawn, b: Drawn| Ok(a.with(b, rows));
        let drawn = (0..recorded.len()).into_par_iter().with_max_len(1).map(one).try_reduce(Drawn::default, both)?;
        ensure!(drawn.vectors.len() >= 20, "{}: too few windows", recorded.folder().display());
        let from = Provenance {
            folder: recorded.folder().to_owned(),
            streams: recorded.len(),
            windows: drawn.windows,
            distinct: drawn.seen.len() as u64,
        };
        Ok(Self { dimensions: wanted.dimensions, vectors: drawn.vectors.into_values().flatten().collect(), from })
    }

    /// `queries` of them to ask for (half of all at most), and `n` others, with noisy copies where there are too few.
    pub(super) fn split(&self, n: usize, queries: usize) -> Split {
        let rows = self.vectors.len() / self.dimensions;
        let queries = queries.min(rows / 2);
        let (asked, others) = self.vectors.split_at(queries * self.dimensions);
        let real = (rows - queries).min(n);
        let mut base = others[..real * self.dimensions].to_vec();
        let deviations = self.deviations();
        let mut random = ChaCha8Rng::seed_from_u64(1);
        for copy in 0..n - real {
            let of = copy % real * self.dimensions;
            for (component, deviation) in deviations.iter().enumerate() {
                let noisy = base[of + component] + NOISE * deviation * normal(&mut random);
                base.push(rounded(noisy));
            }
        }
        Split { queries: asked.to_vec(), base, copies: n - real }
    }

    fn deviations(&self) -> Vec<f32> {
        let rows = (self.vectors.len() / self.dimensions).max(1) as f64;
        let deviation = |component: usize| {
            let values = || self.vectors[component..].iter().step_by(self.dimensions).map(|x| f64::from(*x));
            let mean = values().sum::<f64>() / rows;
            (values().map(|x| (x - mean) * (x - mean)).sum::<f64>() / rows).sqrt() as f32
        };
        (0..self.dimensions).map(deviation).collect()
    }
}

impl Drawn {
    fn offer(&mut self, vector: &[f32], rows: usize) {
        let hash = hash(vector);
        self.windows += 1;
        if self.seen.insert(hash) {
            self.keep(hash, || vector.to_vec(), rows);
        }
    }

    fn keep(&mut self, hash: u64, vector: impl FnOnce() -> Vec<f32>, rows: usize) {
        if self.vectors.len() >= rows && self.vectors.last_key_value().is_some_and(|(last, _)| *last < hash) {
            return;
        }
        self.vectors.insert(hash, vector());
        if self.vectors.len() > rows {
            self.vectors.pop_last();
        }
    }

    fn with(mut self, other: Self, rows: usize) -> Self {
        self.windows += other.windows;
        self.seen.extend(other.seen);
        for (hash, vector) in other.vectors {
            self.keep(hash, || vector, rows);
        }
        self
    }
}

/// The same for equal vectors on every machine.
fn hash(vector: &[f32]) -> u64 {
    let mix = |mut x: u64| {
        x ^= x >> 30;
        x = x.wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x ^= x >> 27;
        x = x.wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    };
    // Zero and its negative are equal.
    let bits = |x: &f32| u64::from((x + 0.0).to_bits());
    vector.iter().fold(0x9E37_79B9_7F4A_7C15, |hash, x| mix(hash.rotate_left(5) ^ bits(x)))
}

/// To what a store keeps of it, so that all engines are given the same.
fn rounded(x: f32) -> f32 {
    f16::from_f32(x).to_f32()
}

/// A standard normal draw, by Box and Muller.
fn normal(random: &mut ChaCha8Rng) -> f32 {
    let radius = (-2.0 * (1.0 - random.random::<f64>()).ln()).sqrt();
    (radius * (std::f64::consts::TAU * random.random::<f64>()).cos()) as f32
}
