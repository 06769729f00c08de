//! Vectors by a codebook that is learned on the gateway, one for each bundle: from the first windows that leave, which go out in
//! a byte a component until it is there. It is never learned anew: whoever has it can read everything that follows.

use std::collections::HashMap;

use bytes::Bytes;
use eddy_schemas::sync::wire;
use eddy_vectors::{
    codec::{CodecError, Get, Put as _},
    quantizer::{
        QuantizerError,
        product::{Codebook, parts_of},
    },
};

use super::coder::{Coded, Int8, VectorCoder};
use crate::queue::{Queue, QueueError, Write};

/// A codebook is kept under its bundle's digest after this.
const BOOKS: &[u8] = b"product/book/";
/// A vector that one is to be learned from under the bundle's digest and a number after this.
const ROWS: &[u8] = b"product/rows/";
/// Bundles that have, or learn, a codebook; vectors of others are written in a byte a component.
const BUNDLES_MAX: usize = 16;
/// Components of a vector at most: with more a codebook would be a large entry.
const DIMENSIONS_MAX: usize = 256;

/// A codebook, as it is used and as it is told.
#[derive(Debug)]
struct Learned {
    book: Codebook,
    wire: wire::Codebook,
}

/// What is known of a bundle.
#[derive(Debug, Default)]
struct Known {
    dimensions: usize,
    /// Vectors to learn from, one behind the other.
    rows: Vec<f32>,
    /// How many of them are committed.
    committed: usize,
    learned: Option<Learned>,
    is_committed: bool,
    /// It cannot have one.
    never: bool,
}

/// Product quantization.
#[derive(Debug)]
pub struct Product {
    rows: usize,
    parts: Option<usize>,
    bundles: HashMap<Bytes, Known>,
}

impl Product {
    /// A codebook is learned from so many vectors, and tells one in so many parts: half as many as components unless told
    /// otherwise. A few thousand vectors are enough.
    pub fn new(rows: usize, parts: Option<usize>) -> Self {
        Self { rows: rows.max(1), parts, bundles: HashMap::new() }
    }
}

impl Learned {
    fn new(book: Codebook) -> Self {
        let centroids = Bytes::from(book.to_bytes());
        let wire = wire::Codebook {
            digest: Bytes::copy_from_slice(blake3::hash(&centroids).as_bytes()),
            // Whoever tells it says which.
            bundle: 0,
            dimensions: book.dimensions() as u32,
            parts: book.parts() as u32,
            centroids,
        };
        Self { book, wire }
    }

    fn code(&self, vector: &[f32]) -> Result<Coded, QuantizerError> {
        let (scale, codes) = self.book.encode(vector)?;
        Ok(Coded { codebook: Some(self.wire.clone()), codes: wire::Codes::Pq, scale, vector: codes.into() })
    }

    fn record(&self) -> Vec<u8> {
        let mut record = Vec::with_capacity(8 + self.wire.centroids.len());
        record.put_u32(self.wire.dimensions);
        record.put_u32(self.wire.parts);
        record.put(&self.wire.centroids);
        record
    }

    fn read(record: &[u8]) -> Result<Self, CodecError> {
        let mut get = Get::new(record);
        let (dimensions, parts) = (get.u32()? as usize, get.u32()? as usize);
        let centroids = get.bytes(get.left())?;
        let book = Codebook::from_bytes(centroids, dimensions, parts);
        book.map(Self::new).map_err(|_| get.error("it is no codebook"))
    }
}

impl Known {
    fn count(&self) -> usize {
        self.rows.len() / self.dimensions.max(1)
    }

    /// Takes a vector in to learn from; with the last one that is wanted it learns.
    fn learn(&mut self, vector: &[f32], wanted: usize, parts: Option<usize>, seed: u64) {
        if self.rows.is_empty() {
            self.dimensions = vector.len();
            self.never = !(1..=DIMENSIONS_MAX).contains(&self.dimensions);
        }
        if self.never || vector.len() != self.dimensions {
            return;
        }
        self.rows.extend_from_slice(vector);
        if self.count() >= wanted {
            let parts = parts.unwrap_or_else(|| parts_of(self.dimensions));
            match Codebook::train(&self.rows, self.dimensions, parts, seed) {
                Ok(book) => self.learned = Some(Learned::new(book)),
                Err(error) => {
                    tracing::error!(%error, "no codebook: vectors go out in a byte a component");
                    self.never = true;
                }
            }
        }
    }
}

fn row_key(bundle: &[u8], row: usize) -> Vec<u8> {
    // Rows are bounded far below 2^32.
    [ROWS, bundle, &(row as u32).to_be_bytes()].concat()
}

impl VectorCoder for Product {
    fn code(&mut self, bundle: &[u8], vector: &[f32]) -> Result<Coded, QuantizerError> {
        if !self.bundles.contains_key(bundle) && self.bundles.len() < BUNDLES_MAX {
            self.bundles.insert(Bytes::copy_from_slice(bundle), Known::default());
        }
        let coded = Int8.code(bundle, vector)?;
        let Some(known) = self.bundles.get_mut(bundle) else { return Ok(coded) };
        match &known.learned {
            Some(learned) if vector.len() == known.dimensions => return learned.code(vector),
            Some(_) => {}
            None => {
                let seed = blake3::hash(bundle);
                let seed = seed.as_bytes().first_chunk().map_or(0, |first| u64::from_le_bytes(*first));
                known.learn(vector, self.rows, self.parts, seed);
            }
        }
        Ok(coded)
    }

    fn load(&mut self, queue: &Queue) -> Result<(), QueueError> {
        self.bundles.clear();
        queue.kept(BOOKS, |bundle, record| {
            let wrong = |error| queue.damaged(format!("a codebook: {error}"));
            let learned = Learned::read(record).map_err(wrong)?;
            let (dimensions, bundle) = (learned.book.dimensions(), Bytes::copy_from_slice(bundle));
            let known = Known { dimensions, learned: Some(learned), is_committed: true, ..Known::default() };
            self.bundles.insert(bundle, known);
            Ok::<_, QueueError>(())
        })?;
        queue.kept(ROWS, |key, record| {
            let (bundle, _) = key.split_at(key.len().saturating_sub(4));
            let known = self.bundles.entry(Bytes::copy_from_slice(bundle)).or_default();
            known.rows.extend(record.chunks_exact(4).filter_map(|x| x.try_into().ok()).map(f32::from_le_bytes));
            known.dimensions = record.len() / 4;
            known.committed += 1;
            Ok::<_, QueueError>(())
        })
    }

    fn save(&self, write: &mut Write<'_>) -> Result<(), QueueError> {
        for (bundle, known) in &self.bundles {
            match &known.learned {
                Some(learned) if !known.is_committed => {
                    write.keep(&[BOOKS, bundle].concat(), Some(&learned.record()))?;
                    (0..known.committed).try_for_each(|row| write.keep(&row_key(bundle, row), None))?;
                }
                Some(_) => {}
                None => {
                    let rows = known.rows.chunks_exact(known.dimensions.max(1)).enumerate().skip(known.committed);
                    for (row, vector) in rows {
                        let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
                        write.keep(&row_key(bundle, row), Some(&bytes))?;
                    }
                }
            }
        }
        Ok(())
    }

    fn committed(&mut self) {
        for known in self.bundles.values_mut() {
            if known.learned.is_some() {
                known.is_committed = true;
                known.rows = Vec::new();
            } else {
                known.committed = known.count();
            }
        }
    }

    fn rolled_back(&mut self) {
        for known in self.bundles.values_mut().filter(|known| !known.is_committed) {
            known.learned = None;
            known.rows.truncate(known.committed * known.dimensions);
        }
    }
}
