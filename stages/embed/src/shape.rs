//! The shape of a burst's spectrum, and how it is scaled for the bundle's input `spectrum`.
//!
//! A shape is the spectrum's decibels less their mean: twice the amplitude adds six to each band, so the shape knows nothing
//! of amplitude, which is the value's business. It is kept in steps of 1/256 dB, so that what was held during commissioning
//! and what was not are the same bits. At the end of commissioning each band's mean and deviation freeze, as the value's do.

use eddy_schemas::bursts::{BANDS, Spectrum};

/// Levels relative to their mean, in steps of [`STEP_DB`].
pub(crate) type Shape = [i16; BANDS];

/// One step, in dB.
const STEP_DB: f64 = 1.0 / 256.0;
/// With fewer shapes than this there is no deviation to speak of.
const SHAPES_MIN: usize = 32;
/// No band counts as steadier than this, in dB: sensors and their mounting move that much with the weather.
const DEVIATION_MIN_DB: f64 = 0.5;
/// Shapes that make a record of their own.
pub(crate) const CHUNK_SHAPES: usize = 16;
/// Bytes of a held shape: its row and its levels.
const ENTRY_BYTES: usize = 2 + 2 * BANDS;

/// The shape of a spectrum.
pub(crate) fn shape_of(spectrum: &Spectrum) -> Shape {
    let mean = spectrum.iter().map(|level| f64::from(*level)).sum::<f64>() / BANDS as f64;
    // A cast saturates, and takes what is not a number for 0.
    std::array::from_fn(|band| ((f64::from(spectrum[band]) - mean) / STEP_DB).round() as i16)
}

/// Shapes that are held during commissioning, in 66 bytes each; what is written never changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct HeldShapes {
    log: Vec<u8>,
}

impl HeldShapes {
    /// Holds that of a series' `row`-th held sample, which is past all that have one.
    pub(crate) fn push(&mut self, row: usize, shape: &Shape) {
        if self.log.capacity() - self.log.len() < ENTRY_BYTES {
            self.log.reserve_exact(ENTRY_BYTES * CHUNK_SHAPES);
        }
        // Commissioning is 2,000 rows at most.
        self.log.extend((row as u16).to_le_bytes());
        self.log.extend(shape.iter().flat_map(|level| level.to_le_bytes()));
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.log.len() / ENTRY_BYTES
    }

    /// The rows and their shapes, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, Shape)> + '_ {
        let number = |bytes: &[u8]| i16::from_le_bytes([bytes[0], bytes[1]]);
        self.log.chunks_exact(ENTRY_BYTES).map(move |entry| {
            let row = usize::from(number(entry).cast_unsigned());
            (row, std::array::from_fn(|band| number(&entry[2 + 2 * band..])))
        })
    }

    /// The records that are full, in order, and what is left.
    pub(crate) fn chunks(&self) -> std::slice::ChunksExact<'_, u8> {
        self.log.chunks_exact(ENTRY_BYTES * CHUNK_SHAPES)
    }

    /// Rebuilds from a log that was saved in pieces.
    ///
    /// # Errors
    /// If it is not one of shapes of `rows` rows.
    pub(crate) fn from_log(log: Vec<u8>, rows: usize) -> Result<Self, String> {
        let held = Self { log };
        if !held.log.len().is_multiple_of(ENTRY_BYTES) {
            return Err(format!("its shapes take {} bytes, not {ENTRY_BYTES} each", held.log.len()));
        }
        let at: Vec<usize> = held.iter().map(|(row, _)| row).collect();
        if at.windows(2).any(|pair| pair[0] >= pair[1]) || at.last().is_some_and(|row| *row >= rows) {
            return Err(format!("its shapes are not of its {rows} samples in order"));
        }
        Ok(held)
    }
}

/// How shapes are scaled, frozen at the end of commissioning: each band's mean and deviation, in steps.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bands {
    mean: [f32; BANDS],
    deviation: [f32; BANDS],
}

impl Bands {
    /// Bytes in a record.
    pub(crate) const BYTES: usize = 8 * BANDS;

    /// Of the shapes of commissioning; none if they are too few.
    pub(crate) fn of(held: &HeldShapes) -> Option<Self> {
        if held.len() < SHAPES_MIN {
            return None;
        }
        let n = held.len() as f64;
        let mut sums = [(0i64, 0i64); BANDS];
        for (_, shape) in held.iter() {
            for ((sum, squares), level) in sums.iter_mut().zip(shape) {
                // 2,000 squares of 15 bits are far from overflowing.
                *sum += i64::from(level);
                *squares += i64::from(level).pow(2);
            }
        }
        let mean = sums.map(|(sum, _)| sum as f64 / n);
        let deviation = |band: usize| {
            let variance = sums[band].1 as f64 / n - mean[band].powi(2);
            variance.max(0.0).sqrt().max(DEVIATION_MIN_DB / STEP_DB)
        };
        Some(Self { mean: mean.map(|mean| mean as f32), deviation: std::array::from_fn(|band| deviation(band) as f32) })
    }

    /// A shape in units of the bands' deviations.
    pub(crate) fn scale(&self, shape: &Shape) -> [f32; BANDS] {
        std::array::from_fn(|band| (f32::from(shape[band]) - self.mean[band]) / self.deviation[band])
    }

    /// Appends it to a record.
    pub(crate) fn write(&self, record: &mut Vec<u8>) {
        record.extend(self.mean.iter().chain(&self.deviation).flat_map(|x| x.to_le_bytes()));
    }

    /// Reads what [`Self::write`] wrote.
    pub(crate) fn read(bytes: &[u8; Self::BYTES]) -> Self {
        let number = |at: usize| f32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Self {
            mean: std::array::from_fn(|band| number(4 * band)),
            deviation: std::array::from_fn(|band| number(4 * (BANDS + band))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spectrum(row: usize) -> Spectrum {
        std::array::from_fn(|band| band as f32 * -0.7 + ((row * 31 + band * 17) % 23) as f32 * 0.1)
    }

    #[test]
    fn a_shape_knows_nothing_of_amplitude() {
        let louder = spectrum(1).map(|level| level + 20.0);
        assert_eq!(shape_of(&louder), shape_of(&spectrum(1)));
        let mut another = spectrum(1);
        another[9] += 6.0;
        assert!(shape_of(&another)[9] - shape_of(&spectrum(1))[9] > 1400);
    }

    #[test]
    fn what_is_no_number_stops_nothing() {
        for level in [f32::NAN, f32::INFINITY, f32::MAX] {
            let mut bad = spectrum(1);
            bad[3] = level;
            let mut held = HeldShapes::default();
            (0..40).for_each(|row| held.push(row, &shape_of(&bad)));
            let scaled = Bands::of(&held).unwrap().scale(&shape_of(&spectrum(1)));
            assert!(scaled.iter().all(|x| x.is_finite()), "{scaled:?}");
        }
    }

    #[test]
    fn scaled_shapes_of_commissioning_have_mean_zero_and_at_most_unit_deviation() {
        let mut held = HeldShapes::default();
        (0..400).for_each(|row| held.push(row, &shape_of(&spectrum(row))));
        let bands = Bands::of(&held).unwrap();
        let scaled: Vec<_> = held.iter().map(|(_, shape)| bands.scale(&shape)).collect();
        for band in 0..BANDS {
            let mean = scaled.iter().map(|x| f64::from(x[band])).sum::<f64>() / 400.0;
            let square = scaled.iter().map(|x| f64::from(x[band]).powi(2)).sum::<f64>() / 400.0;
            assert!(mean.abs() < 1e-3 && (0.5..1.01).contains(&square), "{band}: {mean} {square}");
        }
        let mut record = Vec::new();
        bands.write(&mut record);
        assert_eq!(Bands::read(record[..].try_into().unwrap()), bands);
    }

    #[test]
    fn held_shapes_come_back_from_their_log_and_a_damaged_one_is_refused() {
        let mut held = HeldShapes::default();
        (0..33).for_each(|row| held.push(3 * row, &shape_of(&spectrum(row))));
        assert_eq!((held.chunks().len(), held.chunks().remainder().len()), (2, ENTRY_BYTES));
        assert_eq!(HeldShapes::from_log(held.log.clone(), 97).unwrap(), held);
        assert!(HeldShapes::from_log(held.log.clone(), 96).is_err());
        assert!(HeldShapes::from_log(held.log[1..].to_vec(), 97).is_err());
        assert!(HeldShapes::from_log(held.log.repeat(2), 97).is_err());
        assert!(Bands::of(&HeldShapes::from_log(held.log[..31 * ENTRY_BYTES].to_vec(), 97).unwrap()).is_none());
    }
}
