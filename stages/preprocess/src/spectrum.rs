//! A burst becomes a spectrum of fixed size: its mean removed, cut into segments that overlap by half, each under a Hann window,
//! their powers averaged (Welch 1967) and folded into 32 bands. Here the raw values end: what goes on is 32 numbers.
//!
//! The bands are fractions of half the sampling rate, the same for a burst of any length: eight of 1/512 each, then each about
//! a fifth wider than the one before. That is logarithmic as far as the finest resolution allows. Where a burst is too short
//! for it, a band narrower than the resolution takes its share of the power there.
//!
//! **Determinism** (INV-3): one plan for each of the five segment lengths, sums in a fixed order, all in f64.

use std::{f64::consts::TAU, fmt, sync::Arc};

use eddy_schemas::bursts::{BANDS, Burst, Spectrum, VALUES_MIN};
use realfft::{RealFftPlanner, RealToComplex, num_complex::Complex};

/// Values of the longest segment.
const SEGMENT_MAX: usize = 1024;
/// Lengths of segments: 64, 128, 256, 512, 1,024.
const LENGTHS: usize = 5;
/// The first bin of each band, and the one past the last, of the longest segment; bin 0 is the mean.
const EDGES: [usize; BANDS + 1] = [
    1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 13, 15, 18, 21, 25, 30, 35, 41, 49, 58, 69, 82, 97, 115, 136, 161, 190, 224, 264,
    312, 368, 434, 513,
];
/// No band counts as holding less than this part of the whole power: what is 60 dB below is noise of the converter, which does
/// not follow the machine.
const SHARE_MIN: f64 = 1e-6;
/// Nor less than this power, whatever the unit: bands of a burst that does not move at all.
const POWER_MIN: f64 = 1e-30;

/// Makes spectra.
#[derive(Default)]
pub struct Spectra {
    plans: [Option<Plan>; LENGTHS],
}

impl fmt::Debug for Spectra {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spectra").finish_non_exhaustive()
    }
}

/// What is made once for a length of segments.
struct Plan {
    fft: Arc<dyn RealToComplex<f64>>,
    window: Vec<f64>,
    segment: Vec<f64>,
    bins: Vec<Complex<f64>>,
    scratch: Vec<Complex<f64>>,
    /// Per bin the mean of its power over the segments.
    power: Vec<f64>,
}

/// How many values a segment of a burst of `count` has: a power of two, so that there are at least seven segments where the
/// burst is long enough for that.
fn segment_length(count: usize) -> usize {
    let quarter = (count / 4).max(1);
    (1 << quarter.ilog2()).clamp(VALUES_MIN, SEGMENT_MAX)
}

impl Spectra {
    /// The spectrum of a burst that has no [`Burst::problem`], in dB of its unit squared.
    pub fn of(&mut self, burst: Burst<'_>) -> Spectrum {
        let length = segment_length(burst.values.len());
        let number = (length.ilog2() - VALUES_MIN.ilog2()) as usize;
        let plan = self.plans[number].get_or_insert_with(|| Plan::new(length));
        plan.average(burst);
        fold(&plan.power)
    }
}

impl Plan {
    fn new(length: usize) -> Self {
        let fft = RealFftPlanner::new().plan_fft_forward(length);
        let window = (0..length).map(|at| 0.5 - 0.5 * (TAU * at as f64 / length as f64).cos()).collect();
        let (segment, bins, scratch) = (fft.make_input_vec(), fft.make_output_vec(), fft.make_scratch_vec());
        Self { window, segment, power: vec![0.0; bins.len()], bins, scratch, fft }
    }

    /// Averages the power of the segments into `power`, whose sum is then about the burst's mean square.
    fn average(&mut self, burst: Burst<'_>) {
        let (length, mean) = (self.window.len(), burst.mean());
        self.power.fill(0.0);
        let mut segments = 0;
        for start in (0..=burst.values.len().saturating_sub(length)).step_by(length / 2) {
            let values = burst.values[start..].iter().zip(&self.window);
            self.segment
                .iter_mut()
                .zip(values)
                .for_each(|(to, (value, window))| *to = (f64::from(*value) - mean) * window);
            let done = self.fft.process_with_scratch(&mut self.segment, &mut self.bins, &mut self.scratch);
            done.expect("the buffers are of the lengths that the plan asks for");
            self.power.iter_mut().zip(&self.bins).for_each(|(sum, bin)| *sum += bin.norm_sqr());
            segments += 1;
        }
        let squares: f64 = self.window.iter().map(|window| window * window).sum();
        let last = self.power.len() - 1;
        for (bin, power) in self.power.iter_mut().enumerate() {
            // A bin stands for its mirror image too, but for the mean and the highest frequency, which have none.
            let sides = if bin == 0 || bin == last { 1.0 } else { 2.0 };
            *power *= sides / (f64::from(segments) * length as f64 * squares);
        }
    }
}

/// The bands' decibels from the power of bins 0 (the mean, left out) to half the sampling rate.
fn fold(power: &[f64]) -> Spectrum {
    let last = power.len() - 1;
    // Bins of the longest segment in one of these.
    let width = (SEGMENT_MAX / 2 / last) as f64;
    let whole: f64 = power[1..].iter().sum();
    let least = (SHARE_MIN * whole).max(POWER_MIN);
    std::array::from_fn(|band| {
        // In bins of the longest segment, whose bin k reaches from k - 1/2 to k + 1/2.
        let (low, high) = (EDGES[band] as f64 - 0.5, EDGES[band + 1] as f64 - 0.5);
        let mut sum = 0.0;
        for (bin, power) in power.iter().enumerate().skip(1) {
            // Below the lowest bin there is no other that could tell.
            let from = if bin == 1 { 0.0 } else { (bin as f64 - 0.5) * width };
            let shared = high.min((bin as f64 + 0.5) * width) - low.max(from);
            if shared > 0.0 {
                sum += power * shared / width;
            }
        }
        (10.0 * sum.max(least).log10()) as f32
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spectrum(values: &[f32]) -> Spectrum {
        Spectra::default().of(Burst { rate_hz: 25_600.0, values })
    }

    /// A tone of so many turns a value.
    fn tone(count: usize, turns: f64, amplitude: f64) -> Vec<f32> {
        (0..count).map(|at| (5.0 + amplitude * (TAU * turns * at as f64 + 0.3).sin()) as f32).collect()
    }

    fn noise(count: usize, seed: u64) -> Vec<f32> {
        let mut dice = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            (dice >> 11) as f64 / (1u64 << 53) as f64 - 0.5
        };
        (0..count).map(|_| (next() + next() + next()) as f32).collect()
    }

    fn whole(spectrum: &Spectrum) -> f64 {
        spectrum.iter().map(|level| 10f64.powf(f64::from(*level) / 10.0)).sum()
    }

    #[test]
    fn bands_are_logarithmic_where_the_resolution_allows_it() {
        let mut edges = vec![1usize];
        for left in (1..=BANDS).rev() {
            let last = edges[BANDS - left];
            let wanted = last as f64 * (513.0 / last as f64).powf(1.0 / left as f64);
            edges.push((wanted.round() as usize).max(last + 1));
        }
        assert_eq!(edges, EDGES);
    }

    #[test]
    fn segments_are_powers_of_two_and_many_where_they_can_be() {
        let of = |count| (count, segment_length(count));
        let expected = [(64, 64), (255, 64), (512, 128), (1023, 128), (4096, 1024), (65_536, 1024)];
        assert_eq!(expected.map(|(count, _)| of(count)), expected);
    }

    #[test]
    fn a_tone_stands_in_its_band_with_its_power_whatever_the_length() {
        for count in [256, 1000, 4096, 20_000] {
            for (band, bin) in [(16, 38.0), (24, 148.0), (31, 470.0)] {
                let found = spectrum(&tone(count, bin / 1024.0, 2.0));
                let loudest = (0..BANDS).max_by(|a, b| found[*a].total_cmp(&found[*b])).unwrap();
                assert!(loudest.abs_diff(band) <= usize::from(count < 4096), "{count} values, {band}: {found:?}");
                assert!((whole(&found) / 2.0 - 1.0).abs() < 0.15, "{count} values, {band}: {}", whole(&found));
                // And hardly anywhere else.
                let quiet = found.iter().filter(|level| **level < found[loudest] - 40.0).count();
                assert!(count < 4096 || quiet >= 28, "{found:?}");
            }
        }
    }

    #[test]
    fn white_noise_has_a_power_by_the_width_of_the_band_and_all_of_it() {
        for count in [512, 8192, 65_536] {
            let values = noise(count, 3);
            let (found, rms) = (spectrum(&values), Burst { rate_hz: 1.0, values: &values }.rms());
            assert!((whole(&found) / (rms * rms) - 1.0).abs() < 0.15, "{count}: {}", whole(&found));
            for band in 16..BANDS {
                let width = (EDGES[band + 1] - EDGES[band]) as f64 / 512.0;
                let expected = 10.0 * (width * rms * rms).log10();
                assert!((f64::from(found[band]) - expected).abs() < 4.0, "{count}, band {band}: {found:?}");
            }
        }
    }

    #[test]
    fn twice_the_amplitude_is_six_decibels_in_every_band() {
        let values = noise(4096, 5);
        let twice: Vec<f32> = values.iter().map(|value| 2.0 * value).collect();
        for (once, twice) in spectrum(&values).iter().zip(spectrum(&twice)) {
            assert!((twice - once - 6.0206).abs() < 1e-3);
        }
    }

    #[test]
    fn the_same_burst_has_the_same_spectrum_whatever_came_before() {
        let mut used = Spectra::default();
        for (seed, count) in [64, 65_536, 700, 64, 1024, 4097, 300].into_iter().enumerate() {
            let values = noise(count, seed as u64);
            assert_eq!(used.of(Burst { rate_hz: 1.0, values: &values }), spectrum(&values), "{count} values");
        }
    }

    #[test]
    fn every_burst_that_is_taken_has_a_finite_spectrum() {
        let largest: Vec<f32> = (0..300).map(|at| if at % 3 == 0 { f32::MAX } else { -f32::MAX }).collect();
        let smallest: Vec<f32> = (0..300).map(|at| if at % 3 == 0 { f32::from_bits(1) } else { 0.0 }).collect();
        for values in [vec![0.0; 64], vec![1e30; 5000], largest, smallest] {
            let found = spectrum(&values);
            assert!(found.iter().all(|level| level.is_finite()), "{found:?}");
        }
    }
}
