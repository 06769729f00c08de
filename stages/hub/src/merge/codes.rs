//! Vectors as they travel, read back.

use eddy_schemas::sync::wire::{Codebook, Codes, VectorDelta};

/// Components of a vector at most.
const DIMENSIONS_MAX: usize = 4_096;
/// Centroids of a part: a code is a byte.
const CENTROIDS: usize = 256;

/// What product-quantized vectors are read by.
#[derive(Clone, Debug, PartialEq)]
pub struct Book {
    parts: usize,
    /// Components of a part.
    width: usize,
    centroids: Vec<f32>,
}

impl Book {
    /// Reads a codebook.
    ///
    /// # Errors
    /// What contradicts itself.
    pub fn read(book: &Codebook) -> Result<Self, String> {
        let (dimensions, parts) = (book.dimensions as usize, book.parts as usize);
        if parts == 0 || dimensions == 0 || dimensions > DIMENSIONS_MAX || !dimensions.is_multiple_of(parts) {
            return Err(format!("a codebook of {dimensions} dimensions in {parts} parts"));
        }
        if book.centroids.len() != 4 * CENTROIDS * dimensions {
            return Err(format!("a codebook of {} bytes for {dimensions} dimensions", book.centroids.len()));
        }
        if blake3::hash(&book.centroids).as_bytes() != book.digest.as_ref() {
            return Err("a codebook that is not what its digest says".into());
        }
        let (floats, _) = book.centroids.as_chunks::<4>();
        let centroids: Vec<f32> = floats.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        if !centroids.iter().all(|x| x.is_finite()) {
            return Err("a codebook with components that are no numbers".into());
        }
        Ok(Self { parts, width: dimensions / parts, centroids })
    }

    fn vector(&self, codes: &[u8]) -> Option<Vec<f32>> {
        (codes.len() == self.parts).then(|| {
            let rows =
                codes.iter().enumerate().map(|(part, code)| (part * CENTROIDS + usize::from(*code)) * self.width);
            rows.flat_map(|at| &self.centroids[at..at + self.width]).copied().collect()
        })
    }
}

/// The vector of a delta.
///
/// # Errors
/// Why there is none.
pub fn vector<'b>(delta: &VectorDelta, book: impl FnOnce() -> Option<&'b Book>) -> Result<Vec<f32>, String> {
    let bytes = delta.vector.len();
    if bytes == 0 || bytes > DIMENSIONS_MAX {
        return Err(format!("a vector of {bytes} bytes: 1 to {DIMENSIONS_MAX} are taken"));
    }
    let vector: Vec<f32> = match delta.codes() {
        Codes::Int8 => delta.vector.iter().map(|byte| f32::from(byte.cast_signed()) * delta.scale).collect(),
        Codes::Pq => {
            let book = book().ok_or("a vector whose codebook never came")?;
            book.vector(&delta.vector).ok_or_else(|| format!("a vector of {bytes} codes for {} parts", book.parts))?
        }
        Codes::Unspecified => {
            return Err(format!("a vector in codes {}, which this release does not know", delta.codes));
        }
    };
    if vector.iter().all(|x| x.is_finite()) {
        Ok(vector)
    } else {
        Err("a vector with components that are no numbers".into())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn delta(codes: Codes, scale: f32, vector: &'static [u8]) -> VectorDelta {
        VectorDelta { codes: codes.into(), scale, vector: Bytes::from_static(vector), ..Default::default() }
    }

    fn codebook(dimensions: u32, parts: u32) -> Codebook {
        let width = dimensions / parts;
        let component =
            |n: u32| (n / width % 256) as f32 + 1_000.0 * (n / width / 256) as f32 + 0.1 * (n % width) as f32;
        let centroids: Vec<u8> = (0..256 * dimensions).flat_map(|n| component(n).to_le_bytes()).collect();
        let digest = blake3::hash(&centroids).as_bytes().to_vec().into();
        Codebook { digest, dimensions, parts, centroids: centroids.into(), ..Default::default() }
    }

    #[test]
    fn bytes_times_the_scale_and_rows_of_the_codebook() {
        assert_eq!(vector(&delta(Codes::Int8, 0.5, &[2, 0xff, 0x80]), || None), Ok(vec![1.0, -0.5, -64.0]));
        let book = Book::read(&codebook(4, 2)).unwrap();
        assert_eq!(vector(&delta(Codes::Pq, 0.0, &[3, 255]), || Some(&book)), Ok(vec![3.0, 3.1, 1_255.0, 1_255.1]));
    }

    #[test]
    fn what_is_no_vector_is_refused() {
        let book = Book::read(&codebook(4, 2)).unwrap();
        for (wrong, part) in [
            (delta(Codes::Int8, f32::NAN, &[1]), "no numbers"),
            (delta(Codes::Int8, f32::MAX, &[100]), "no numbers"),
            (delta(Codes::Int8, 1.0, &[]), "of 0 bytes"),
            (delta(Codes::Unspecified, 1.0, &[1]), "codes 0"),
            (delta(Codes::Pq, 1.0, &[1, 2, 3]), "3 codes for 2 parts"),
        ] {
            let problem = vector(&wrong, || Some(&book)).unwrap_err();
            assert!(problem.contains(part), "{problem}");
        }
        assert!(vector(&delta(Codes::Pq, 1.0, &[1, 2]), || None).unwrap_err().contains("never came"));
        let good = codebook(4, 2);
        for wrong in [
            Codebook { parts: 3, ..good.clone() },
            Codebook { parts: 0, ..good.clone() },
            Codebook { dimensions: 8, ..good.clone() },
            Codebook { digest: Bytes::new(), ..good.clone() },
        ] {
            assert!(Book::read(&wrong).is_err());
        }
    }
}
