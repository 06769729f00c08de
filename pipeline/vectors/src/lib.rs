//! What detection and memory are made of: histories, distances, calibration, fusion, and an index of windows on LMDB. No I/O
//! but that index's.
//!
//! Everything here is deterministic by construction (INV-3): sums run in a fixed order, in lanes of a fixed number, so
//! that a value does not depend on how the compiler or the processor vectorises, nor on what came in one batch.
//!
//! - [`history`]: what a series has seen, as a coreset within a budget of bytes, and the distance to the nearest of it.
//! - [`delay`]: rows that are too recent to be compared with.
//! - [`calibration`]: from a distance to its tail probability among the series' own past.
//! - [`running`]: mean and deviation of a stream.
//! - [`fusion`]: many tail probabilities into one.
//! - [`distance`], [`half_rows`]: distances from a vector to rows of int8 and of f16.
//! - [`index`]: a store of windows on disk, searchable while it grows.
//! - [`quantizer`]: vectors in fewer bytes, and [`kmeans`], of which one of its two kinds is made.
//! - [`sketch`]: what a store knows, in short.
//! - [`codec`]: how all of it is written into state records.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod calibration;
pub mod codec;
pub mod coreset;
pub mod delay;
pub mod distance;
pub mod fusion;
mod growth;
pub mod half_rows;
pub mod history;
pub mod index;
pub mod kmeans;
pub mod quantizer;
pub mod running;
pub mod scalar;
pub mod sketch;
