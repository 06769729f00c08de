//! Vectors in fewer bytes, for a link that is slow: a byte a component ([`int8`]), or a byte for several ([`product`]).
//!
//! What is decoded is near to what was encoded, not equal to it: how near, in neighbours that are still found, is in
//! ARCHITECTURE.md.

pub mod int8;
pub mod product;

/// Why a vector cannot be encoded, or codes cannot be read.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum QuantizerError {
    /// Of another length than what it is to be coded by.
    #[error("{what} of {found}, where {expected} are expected")]
    Length {
        /// What it is.
        what: &'static str,
        /// How long it is.
        found: usize,
        /// How long it should be.
        expected: usize,
    },
    /// No number, or beyond what can be told.
    #[error("{what} {value} at {at}: a finite number is expected")]
    NotFinite {
        /// What it is.
        what: &'static str,
        /// Which one.
        at: usize,
        /// What was found there.
        value: f32,
    },
    /// Parts that do not divide a vector.
    #[error("{parts} parts of a vector of {dimensions}: at least 1, and a divisor of its components, is taken")]
    Parts {
        /// How many.
        parts: usize,
        /// Components of a vector.
        dimensions: usize,
    },
    /// Nothing to learn from.
    #[error("a codebook cannot be trained without rows")]
    NoRows,
}

fn check_length(what: &'static str, found: usize, expected: usize) -> Result<(), QuantizerError> {
    if found == expected { Ok(()) } else { Err(QuantizerError::Length { what, found, expected }) }
}

fn check_finite(what: &'static str, values: &[f32]) -> Result<(), QuantizerError> {
    match values.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(at) => Err(QuantizerError::NotFinite { what, at, value: values[at] }),
    }
}
