//! The stage between SAMPLES and EMBEDDINGS: each series' last samples become one vector per head of a model bundle.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod config;
mod held;
mod loaded;
mod model;
mod roles;
mod series;
mod shape;
mod stage;

pub use config::Config;
pub use model::Model;
pub use stage::Embed;
