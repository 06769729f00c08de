//! The memory of one head of one series: a coreset, of values or of vectors.

use crate::{
    codec::{CodecError, Get},
    coreset::VectorCoreset,
    scalar::ScalarCoreset,
};

/// What was seen and counts as ordinary.
#[derive(Clone, Debug, PartialEq)]
pub enum History {
    /// Of one dimension.
    Scalar(ScalarCoreset),
    /// Of more.
    Vector(VectorCoreset),
}

impl History {
    /// An empty history of vectors of `dimensions` (at least 1) that takes at most `bytes` in a record.
    pub fn new(dimensions: usize, bytes: usize) -> Self {
        if dimensions == 1 {
            Self::Scalar(ScalarCoreset::new(bytes))
        } else {
            Self::Vector(VectorCoreset::new(dimensions, bytes))
        }
    }

    /// How many rows are kept.
    pub fn len(&self) -> usize {
        match self {
            Self::Scalar(coreset) => coreset.len(),
            Self::Vector(coreset) => coreset.len(),
        }
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The Euclidean distance to the nearest kept row.
    pub fn nearest(&self, vector: &[f32]) -> Option<f32> {
        match self {
            Self::Scalar(coreset) => coreset.nearest(vector[0]),
            Self::Vector(coreset) => coreset.nearest(vector).map(|(_, distance)| distance),
        }
    }

    /// The same, with the difference from that row to `vector` in `difference`.
    pub fn nearest_difference(&self, vector: &[f32], difference: &mut [f32]) -> Option<f32> {
        match self {
            Self::Scalar(coreset) => {
                let distance = coreset.nearest(vector[0])?;
                difference[0] = distance;
                Some(distance)
            }
            Self::Vector(coreset) => {
                let (index, distance) = coreset.nearest(vector)?;
                for (i, (to, x)) in difference.iter_mut().zip(vector).enumerate() {
                    *to = x - coreset.component(index, i);
                }
                Some(distance)
            }
        }
    }

    /// Whether a kept row covers the vector already, so that it would only be refreshed.
    pub fn covers(&self, vector: &[f32]) -> bool {
        match self {
            Self::Scalar(coreset) => coreset.covers(vector[0]),
            Self::Vector(coreset) => coreset.covering(vector).is_some(),
        }
    }

    /// Takes in a vector; returns whether it is kept, being new, or covered by a kept one that it refreshes.
    pub fn admit(&mut self, vector: &[f32], epoch: u16) -> bool {
        match self {
            Self::Scalar(coreset) => coreset.admit(vector[0]),
            Self::Vector(coreset) => coreset.admit(vector, epoch),
        }
    }

    /// Whether it changed since it was last asked.
    pub fn take_dirty(&mut self) -> bool {
        match self {
            Self::Scalar(coreset) => coreset.take_dirty(),
            Self::Vector(coreset) => coreset.take_dirty(),
        }
    }

    /// Counts as changed.
    pub fn touch(&mut self) {
        match self {
            Self::Scalar(coreset) => coreset.touch(),
            Self::Vector(coreset) => coreset.touch(),
        }
    }

    /// Appends it to a record.
    pub fn save(&self, record: &mut Vec<u8>) {
        match self {
            Self::Scalar(coreset) => coreset.save(record),
            Self::Vector(coreset) => coreset.save(record),
        }
    }

    /// Reads what [`Self::save`] wrote into an empty history of the same shape.
    ///
    /// # Errors
    /// If the record is not one of this shape.
    pub fn load(&mut self, record: &mut Get<'_>) -> Result<(), CodecError> {
        match self {
            Self::Scalar(coreset) => coreset.load(record),
            Self::Vector(coreset) => coreset.load(record),
        }
    }
}
