//! A byte for several components (product quantization: Jégou, Douze & Schmid 2011): a vector's components are dealt out to parts, and
//! each part is told by the nearest of 256 that were learned from other vectors.
//!
//! Windows' vectors differ in length by orders of magnitude, so what is learned is their direction, and each vector has its length
//! beside its codes, chosen so that what is told comes nearest. A part has components that lie far apart (of 16 in 8 parts the first has the
//! 1st and the 9th), as a learned head's first components are the strongest, and a byte should not have to tell two of them.
//!
//! A codebook is learned where the vectors are and sent before what is told by it; it is named by a digest of its bytes.

use super::{QuantizerError, check_finite, check_length};
use crate::kmeans::{self, Centroids, Scratch};

/// Centroids of a part: what a byte can tell apart.
pub const CENTROIDS: usize = 256;
/// Rounds of k-means for a part: later ones move next to nothing.
const ROUNDS: usize = 25;
/// Lengths that are tried, about the vector's own.
const LENGTHS: [f32; 8] = [1.0, 0.85, 0.9, 0.95, 0.975, 1.025, 1.05, 1.1];

/// Parts of a vector unless somebody wants it otherwise: of two components, which is how few are needed for nine in ten of the true
/// nearest (ARCHITECTURE.md, "The index").
pub fn parts_of(dimensions: usize) -> usize {
    if dimensions.is_multiple_of(2) { dimensions / 2 } else { dimensions }
}

/// What vectors are told by.
#[derive(Clone, Debug, PartialEq)]
pub struct Codebook {
    dimensions: usize,
    parts: Vec<Centroids>,
}

fn check_parts(parts: usize, dimensions: usize) -> Result<usize, QuantizerError> {
    if parts == 0 || dimensions == 0 || !dimensions.is_multiple_of(parts) {
        return Err(QuantizerError::Parts { parts, dimensions });
    }
    Ok(dimensions / parts)
}

/// A vector's length, and its direction; of a vector of zeros both are.
fn shape(vector: &[f32]) -> (f32, Vec<f32>) {
    let most = vector.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    if most == 0.0 {
        return (0.0, vector.to_vec());
    }
    // So that no square is beyond f32.
    let length = vector.iter().map(|x| (x / most) * (x / most)).sum::<f32>().sqrt();
    (most * length, vector.iter().map(|x| x / most / length).collect())
}

impl Codebook {
    /// Learns from `rows`, vectors of `dimensions` one behind the other; the same rows and seed make the same bytes. It takes time in
    /// proportion to the rows: ten thousand are enough.
    ///
    /// # Errors
    /// If there is none, one is cut off or has a component that is no finite number, or the parts do not divide a vector.
    pub fn train(rows: &[f32], dimensions: usize, parts: usize, seed: u64) -> Result<Self, QuantizerError> {
        let length = check_parts(parts, dimensions)?;
        if rows.is_empty() {
            return Err(QuantizerError::NoRows);
        }
        check_length("rows of components", rows.len(), rows.len() / dimensions * dimensions)?;
        check_finite("component", rows)?;
        let shapes: Vec<Vec<f32>> = rows.chunks_exact(dimensions).map(|row| shape(row).1).collect();
        let learn = |part: usize| {
            let of_part: Vec<f32> = shapes.iter().flat_map(|shape| dealt(shape, part, parts)).collect();
            let wanted = kmeans::Wanted { clusters: CENTROIDS, rounds: ROUNDS, seed: seed ^ part as u64 };
            let found = kmeans::centroids(&of_part, length, &wanted, || true);
            // Of fewer distinct rows there are fewer: the first stands for the rest, and is the one that is told.
            let all = (0..CENTROIDS).flat_map(|at| found.row(if at < found.len() { at } else { 0 }));
            Centroids::new(length, &all.collect::<Vec<f32>>())
        };
        Ok(Self { dimensions, parts: (0..parts).map(learn).collect() })
    }

    /// Components of a vector.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Bytes of a vector's codes.
    pub fn parts(&self) -> usize {
        self.parts.len()
    }

    /// The scale and a byte for each part.
    ///
    /// # Errors
    /// If the vector is of another length, has a component that is no finite number, or is too long for one.
    pub fn encode(&self, vector: &[f32]) -> Result<(f32, Vec<u8>), QuantizerError> {
        check_length("a vector", vector.len(), self.dimensions)?;
        check_finite("component", vector)?;
        let (length, shape) = shape(vector);
        let mut scratch = Scratch::default();
        let mut best: Option<(f32, f32, Vec<u8>)> = None;
        for tried in LENGTHS {
            let scaled: Vec<f32> = shape.iter().map(|x| x / tried).collect();
            let (codes, told) = self.nearest(&scaled, &mut scratch);
            let (mut both, mut own) = (0.0f32, 0.0f32);
            for (x, y) in shape.iter().zip(&told) {
                both += x * y;
                own += y * y;
            }
            // The multiple of what the codes stand for that comes nearest.
            let scale = if both > 0.0 { both / own } else { 0.0 };
            let off = shape.iter().zip(&told).map(|(x, y)| (x - y * scale) * (x - y * scale)).sum::<f32>();
            if best.as_ref().is_none_or(|(least, ..)| off < *least) {
                best = Some((off, scale, codes));
            }
        }
        let (_, scale, codes) = best.unwrap_or((0.0, 0.0, vec![0; self.parts.len()]));
        let scale = scale * length;
        self.decode(scale, &codes).map(|_| (scale, codes))
    }

    /// Codes of the nearest centroids, and the direction that they stand for.
    fn nearest(&self, shape: &[f32], scratch: &mut Scratch) -> (Vec<u8>, Vec<f32>) {
        let count = self.parts.len();
        let (mut codes, mut told) = (Vec::with_capacity(count), vec![0.0; self.dimensions]);
        for (part, centroids) in self.parts.iter().enumerate() {
            let own: Vec<f32> = dealt(shape, part, count).collect();
            let (code, _) = centroids.nearest(&own, scratch);
            told.iter_mut().skip(part).step_by(count).zip(centroids.row(code)).for_each(|(to, from)| *to = from);
            // There are 256 of them.
            codes.push(code as u8);
        }
        (codes, told)
    }

    /// The vector that codes stand for.
    ///
    /// # Errors
    /// If they are not as many as the parts, or the scale makes a component that is no finite number.
    pub fn decode(&self, scale: f32, codes: &[u8]) -> Result<Vec<f32>, QuantizerError> {
        let count = self.parts.len();
        check_length("codes", codes.len(), count)?;
        check_finite("scale", &[scale])?;
        let mut told = vec![0.0; self.dimensions];
        for (part, (code, centroids)) in codes.iter().zip(&self.parts).enumerate() {
            let row = centroids.row(usize::from(*code));
            told.iter_mut().skip(part).step_by(count).zip(row).for_each(|(to, from)| *to = from * scale);
        }
        check_finite("component", &told)?;
        Ok(told)
    }

    /// Part by part, centroid by centroid: f32, little-endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        let all = self.parts.iter().flat_map(|part| (0..CENTROIDS).flat_map(|at| part.row(at)));
        all.flat_map(f32::to_le_bytes).collect()
    }

    /// What [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// If they are not as many bytes, one of them is no finite number, or the parts do not divide a vector.
    pub fn from_bytes(bytes: &[u8], dimensions: usize, parts: usize) -> Result<Self, QuantizerError> {
        let length = check_parts(parts, dimensions)?;
        check_length("bytes of centroids", bytes.len(), dimensions.saturating_mul(CENTROIDS * size_of::<f32>()))?;
        let values = bytes.chunks_exact(4).filter_map(|four| four.try_into().ok()).map(f32::from_le_bytes);
        let values: Vec<f32> = values.collect();
        check_finite("centroid", &values)?;
        let parts = values.chunks_exact(CENTROIDS * length).map(|part| Centroids::new(length, part));
        Ok(Self { dimensions, parts: parts.collect() })
    }
}

/// The components of a part.
fn dealt(vector: &[f32], part: usize, parts: usize) -> impl Iterator<Item = f32> + '_ {
    vector.iter().skip(part).step_by(parts).copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::distance::squared;

    /// Rows of 16 components that follow few hidden ones, as those of a learned head do, of very different lengths.
    fn rows(count: usize) -> Vec<f32> {
        let noise = |n: usize| ((n as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f32 / (1 << 24) as f32;
        let row = |n: usize| {
            let hidden = [noise(3 * n), noise(3 * n + 1), noise(3 * n + 2)];
            let length = 10f32.powf(hidden[0] * 4.0 - 2.0);
            (0..16).map(move |at| ((hidden[at % 3] * 6.0 + at as f32).sin() + hidden[(at + 1) % 3]) * length)
        };
        (0..count).flat_map(row).collect()
    }

    /// Mean squared error, as a part of the squared length.
    fn error(book: &Codebook, rows: &[f32]) -> f64 {
        let one = |row: &[f32]| {
            let (scale, codes) = book.encode(row).unwrap();
            f64::from(squared(row, &book.decode(scale, &codes).unwrap()) / squared(row, &[0.0; 16]))
        };
        rows.chunks_exact(16).map(one).sum::<f64>() / (rows.len() / 16) as f64
    }

    #[test]
    fn more_parts_lose_less_also_of_what_was_not_learned_from() {
        let rows = rows(2_500);
        let (learned, other) = rows.split_at(2_000 * 16);
        let errors: Vec<f64> =
            [1, 2, 4, 8, 16].map(|parts| error(&Codebook::train(learned, 16, parts, 5).unwrap(), other)).into();
        assert!(errors.is_sorted_by(|more, less| less < more), "{errors:?}");
        assert!(errors[3] < 2e-3 && errors[4] < 1e-5, "{errors:?}");
        assert_eq!((parts_of(16), parts_of(64), parts_of(5)), (8, 32, 5));
    }

    #[test]
    fn the_same_rows_make_the_same_bytes_and_they_come_back() {
        let rows = rows(600);
        let book = Codebook::train(&rows, 16, 4, 1).unwrap();
        assert_eq!(book, Codebook::train(&rows, 16, 4, 1).unwrap());
        let bytes = book.to_bytes();
        assert_eq!((bytes.len(), book.parts(), book.dimensions()), (256 * 16 * 4, 4, 16));
        assert_eq!(Codebook::from_bytes(&bytes, 16, 4).as_ref(), Ok(&book));
        // Part, centroid, component: the second part's second centroid's second component is the vector's sixth.
        let told = book.decode(1.0, &[0, 1, 0, 0]).unwrap();
        assert_eq!(bytes[(257 * 4 + 1) * 4..][..4], told[5].to_le_bytes());
    }

    #[test]
    fn few_rows_are_told_and_one_without_length_too() {
        let mut rows = rows(40);
        rows[..16].fill(0.0);
        let book = Codebook::train(&rows, 16, 2, 1).unwrap();
        assert!(error(&book, &rows[16..]) < 1e-12);
        assert_eq!(book.to_bytes().len(), 256 * 16 * 4);
        let (scale, codes) = book.encode(&[0.0; 16]).unwrap();
        assert_eq!(book.decode(scale, &codes).unwrap(), [0.0; 16]);
        assert_eq!(Codebook::train(&[0.0; 32], 16, 2, 1).unwrap().encode(&rows[16..32]).unwrap().0, 0.0);
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let rows = rows(10);
        let told = |result: Result<Codebook, QuantizerError>| result.unwrap_err().to_string();
        assert_eq!(told(Codebook::train(&[], 16, 4, 1)), "a codebook cannot be trained without rows");
        assert!(told(Codebook::train(&rows, 16, 5, 1)).starts_with("5 parts of a vector of 16"));
        assert!(told(Codebook::train(&rows, 16, 0, 1)).starts_with("0 parts"));
        assert!(told(Codebook::train(&rows, 0, 0, 1)).starts_with("0 parts"));
        assert!(told(Codebook::train(&rows[1..], 16, 4, 1)).contains("of 159, where 144"));
        let mut wrong = rows.clone();
        wrong[17] = f32::INFINITY;
        assert_eq!(told(Codebook::train(&wrong, 16, 4, 1)), "component inf at 17: a finite number is expected");
        let book = Codebook::train(&rows, 16, 4, 1).unwrap();
        assert!(book.encode(&rows[..15]).is_err() && book.encode(&wrong[16..32]).is_err());
        assert!(book.encode(&[f32::MAX; 16]).is_err(), "longer than any number");
        assert!(book.decode(1.0, &[0; 3]).is_err() && book.decode(1.0, &[0; 5]).is_err());
        assert!(book.decode(f32::NAN, &[0; 4]).is_err());
        let mut bytes = book.to_bytes();
        assert!(Codebook::from_bytes(&bytes[1..], 16, 4).is_err() && Codebook::from_bytes(&bytes, 32, 4).is_err());
        assert!(Codebook::from_bytes(&bytes, usize::MAX, 1).is_err());
        bytes[4..8].copy_from_slice(&f32::NAN.to_le_bytes());
        assert_eq!(told(Codebook::from_bytes(&bytes, 16, 4)), "centroid NaN at 1: a finite number is expected");
        bytes[4..8].copy_from_slice(&f32::MAX.to_le_bytes());
        let huge = Codebook::from_bytes(&bytes, 16, 4).unwrap();
        assert!(huge.decode(1e3, &[0; 4]).is_err() && huge.encode(&rows[..16]).is_ok());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

        #[test]
        fn whatever_is_encoded_is_decoded_no_farther_off_than_its_own_length(
            values in prop::collection::vec(-1e3f32..1e3, 12..400),
            vector in prop::collection::vec(-2e3f32..2e3, 4),
            shift in -30i32..30,
            parts in prop::sample::select(vec![1usize, 2, 4]),
        ) {
            let book = Codebook::train(&values[..values.len() / 4 * 4], 4, parts, 3).unwrap();
            let vector: Vec<f32> = vector.iter().map(|x| x * 2f32.powi(shift)).collect();
            let (scale, codes) = book.encode(&vector).unwrap();
            let told = book.decode(scale, &codes).unwrap();
            let length = squared(&vector, &[0.0; 4]);
            prop_assert!(squared(&vector, &told) <= length * 1.0001, "{:?} {:?}", vector, told);
            prop_assert_eq!(Codebook::from_bytes(&book.to_bytes(), 4, parts), Ok(book));
        }

        #[test]
        fn any_codebook_and_any_codes_are_told_or_refused(
            centroids in prop::collection::vec(-1e38f32..1e38, 2 * 256),
            wrong in prop::option::weighted(0.1, prop::sample::select(vec![f32::NAN, f32::INFINITY])),
            scale in any::<f32>(),
            codes in prop::collection::vec(any::<u8>(), 0..4),
            vector in prop::collection::vec(any::<f32>(), 2),
        ) {
            let bytes: Vec<u8> = centroids.iter().copied().chain(wrong).flat_map(f32::to_le_bytes).collect();
            let book = Codebook::from_bytes(&bytes[bytes.len() - 2 * 256 * 4..], 2, 2);
            prop_assert_eq!(book.is_err(), wrong.is_some());
            let Ok(book) = book else { return Ok(()) };
            if let Ok(told) = book.decode(scale, &codes) {
                prop_assert!(told.iter().all(|x| x.is_finite()));
            }
            if let Ok((scale, codes)) = book.encode(&vector) {
                prop_assert!(book.decode(scale, &codes).is_ok());
            }
        }
    }
}
