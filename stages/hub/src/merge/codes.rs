//! Vectors as they travel, read back.

use eddy_schemas::sync::wire::{self, Codes, VectorDelta};
use eddy_vectors::{
    index::storable,
    quantizer::{int8, product},
};

/// Components of a vector at most.
const DIMENSIONS_MAX: usize = 4_096;

/// What product-quantized vectors are read by.
#[derive(Clone, Debug, PartialEq)]
pub struct Book(product::Codebook);

impl Book {
    /// Reads a codebook.
    ///
    /// # Errors
    /// What contradicts itself.
    pub fn read(book: &wire::Codebook) -> Result<Self, String> {
        let (dimensions, parts) = (book.dimensions as usize, book.parts as usize);
        if dimensions > DIMENSIONS_MAX {
            return Err(format!("a codebook of {dimensions} dimensions: at most {DIMENSIONS_MAX} are taken"));
        }
        if blake3::hash(&book.centroids).as_bytes() != book.digest.as_ref() {
            return Err("a codebook that is not what its digest says".into());
        }
        let read = product::Codebook::from_bytes(&book.centroids, dimensions, parts);
        read.map(Self).map_err(|error| format!("a codebook: {error}"))
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
    let vector = match delta.codes() {
        Codes::Int8 => int8::decode(delta.scale, &delta.vector),
        Codes::Pq => book().ok_or("a vector whose codebook never came")?.0.decode(delta.scale, &delta.vector),
        Codes::Unspecified => {
            return Err(format!("a vector in codes {}, which this release does not know", delta.codes));
        }
    };
    let vector = vector.map_err(|error| format!("a vector: {error}"))?;
    // A store keeps less than what can be sent.
    if storable(&vector) { Ok(vector) } else { Err("a vector with a component that is too large to be stored".into()) }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn delta(codes: Codes, scale: f32, vector: impl Into<Vec<u8>>) -> VectorDelta {
        VectorDelta { codes: codes.into(), scale, vector: vector.into().into(), ..Default::default() }
    }

    fn trained() -> (product::Codebook, wire::Codebook) {
        let rows: Vec<f32> = (0..400).map(|n| (n * 37 % 101) as f32 - 50.0).collect();
        let book = product::Codebook::train(&rows, 4, 2, 1).unwrap();
        let centroids = Bytes::from(book.to_bytes());
        let digest = blake3::hash(&centroids).as_bytes().to_vec().into();
        (book, wire::Codebook { digest, dimensions: 4, parts: 2, centroids, ..Default::default() })
    }

    #[test]
    fn what_was_encoded_comes_back() {
        let vector_in = [1.0, -0.5, 64.0, 0.25];
        let (scale, codes) = int8::encode(&vector_in).unwrap();
        let told = vector(&delta(Codes::Int8, scale, codes), || None).unwrap();
        assert!(told.iter().zip(vector_in).all(|(told, sent)| (told - sent).abs() < 0.6), "{told:?}");
        let (book, sent) = trained();
        let (scale, codes) = book.encode(&vector_in).unwrap();
        let read = Book::read(&sent).unwrap();
        assert_eq!(
            vector(&delta(Codes::Pq, scale, codes.clone()), || Some(&read)),
            Ok(book.decode(scale, &codes).unwrap())
        );
    }

    #[test]
    fn what_is_no_vector_is_refused() {
        let (_, good) = trained();
        let book = Book::read(&good).unwrap();
        for (wrong, part) in [
            (delta(Codes::Int8, f32::NAN, [1]), "finite number"),
            (delta(Codes::Int8, f32::MAX, [100]), "finite number"),
            (delta(Codes::Int8, 1e3, [100]), "too large to be stored"),
            (delta(Codes::Int8, 1.0, []), "of 0 bytes"),
            (delta(Codes::Unspecified, 1.0, [1]), "codes 0"),
            (delta(Codes::Pq, 1.0, [1, 2, 3]), "of 3, where 2"),
        ] {
            let problem = vector(&wrong, || Some(&book)).unwrap_err();
            assert!(problem.contains(part), "{problem}");
        }
        assert!(vector(&delta(Codes::Pq, 1.0, [1, 2]), || None).unwrap_err().contains("never came"));
        for wrong in [
            wire::Codebook { parts: 3, ..good.clone() },
            wire::Codebook { parts: 0, ..good.clone() },
            wire::Codebook { dimensions: 8, ..good.clone() },
            wire::Codebook { dimensions: 5_000, parts: 5_000, ..good.clone() },
            wire::Codebook { digest: Bytes::new(), ..good.clone() },
        ] {
            assert!(Book::read(&wrong).is_err());
        }
    }
}
