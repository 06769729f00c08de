//! How a window's vector is written for the region.

use bytes::Bytes;
use eddy_schemas::sync::wire;
use eddy_vectors::quantizer::{QuantizerError, int8};

use crate::queue::{Queue, QueueError, Write};

/// A vector as it travels.
#[derive(Clone, Debug, PartialEq)]
pub struct Coded {
    /// What it was written by, if the region needs it to read the vector: it goes there once, before the first one.
    pub codebook: Option<wire::Codebook>,
    /// How it is written.
    pub codes: wire::Codes,
    /// See there.
    pub scale: f32,
    /// The codes.
    pub vector: Bytes,
}

/// Writes vectors. What it says of one follows from those before it alone, which come in their order; what it learned
/// is saved with them, so that a restart changes nothing.
pub trait VectorCoder: Send {
    /// Writes a vector of the bundle with this digest.
    ///
    /// # Errors
    /// That it cannot be told, as one with a component that is no finite number.
    fn code(&mut self, bundle: &[u8], vector: &[f32]) -> Result<Coded, QuantizerError>;

    /// Before the first vector: what was saved.
    ///
    /// # Errors
    /// The queue's, or that it is none.
    fn load(&mut self, queue: &Queue) -> Result<(), QueueError> {
        let _ = queue;
        Ok(())
    }

    /// Into the transaction that the vectors go with. It may fail and be tried again.
    ///
    /// # Errors
    /// The queue's.
    fn save(&self, write: &mut Write<'_>) -> Result<(), QueueError> {
        let _ = write;
        Ok(())
    }

    /// The transaction is committed.
    fn committed(&mut self) {}

    /// The vectors since the last commit come again.
    fn rolled_back(&mut self) {}
}

/// A byte a component, under one scale a vector.
#[derive(Clone, Copy, Debug, Default)]
pub struct Int8;

impl VectorCoder for Int8 {
    fn code(&mut self, _bundle: &[u8], vector: &[f32]) -> Result<Coded, QuantizerError> {
        let (scale, codes) = int8::encode(vector)?;
        Ok(Coded { codebook: None, codes: wire::Codes::Int8, scale, vector: codes.into() })
    }
}
