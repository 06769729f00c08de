//! The checks that the fuzz targets run, without a fuzzer: over the committed corpus, and over batches made up and damaged.

#![allow(clippy::unwrap_used)]

mod checks;
mod corpus;
mod properties;
