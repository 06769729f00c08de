//! Made-up input, the same on every run.

use std::f64::consts::TAU;

/// Nanoseconds of a second.
pub const SECOND: i64 = 1_000_000_000;
/// When all input begins: 2026-01-01T00:00:00Z.
pub const START: i64 = 1_767_225_600 * SECOND;

/// Splitmix64 (Steele et al. 2014).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Between 0 and 1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// About 0, most of it within 1: a sum of four.
    pub fn noise(&mut self) -> f64 {
        (0..4).map(|_| self.unit() - 0.5).sum()
    }

    /// Vectors of `dimensions` one behind the other, in `groups` clusters, as windows of sensors lie.
    pub fn vectors(&mut self, count: usize, dimensions: usize, groups: usize) -> Vec<f32> {
        let centres: Vec<f64> = (0..groups * dimensions).map(|_| 4.0 * self.noise()).collect();
        let mut vectors = Vec::with_capacity(count * dimensions);
        for _ in 0..count {
            let group = self.next() as usize % groups;
            let centre = &centres[group * dimensions..][..dimensions];
            vectors.extend(centre.iter().map(|x| (x + 0.5 * self.noise()) as f32));
        }
        vectors
    }
}

/// Name of the device and of the channel of series `number`; three channels a device.
pub fn names(number: usize) -> (String, String) {
    (format!("pump-{:04}", number / 3), ["temperature", "vibration", "pressure"][number % 3].to_owned())
}

/// The same as it is written in batches.
pub fn series(number: usize) -> String {
    let (device, channel) = names(number);
    eddy_schemas::SeriesName::encode(&device, &channel)
}

/// Row `row` of series `number`: a slow wave, a daily one and noise.
pub fn value(number: usize, row: usize) -> f64 {
    let mut dice = Dice::new((number as u64) << 32 | row as u64);
    let row = row as f64;
    20.0 + number as f64 % 7.0 + 3.0 * (row * TAU / 288.0).sin() + 0.5 * (row * TAU / 31.0).sin() + 0.2 * dice.noise()
}
