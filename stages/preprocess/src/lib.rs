//! The preprocess stage: READINGS become SAMPLES.
//!
//! [`stage`] says what it does, in which order, and what it keeps; [`grid`], [`pace`], [`checks`], [`recent`] and
//! [`waiting`] are the algorithms, each on its own.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod checks;
mod config;
mod emit;
mod fleet;
mod grid;
mod pace;
mod pattern;
mod recent;
mod record;
mod silence;
mod spectrum;
mod stage;
mod waiting;

pub use config::{Config, Gap, SeriesConfig};
pub use stage::Preprocess;
