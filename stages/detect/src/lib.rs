//! The detect stage: what is unusual, and whom to tell.
//!
//! A *window* of a series is judged by its distance to the nearest of what the series has seen ([`series`]), that distance
//! by how often the series had one as large. The channels of a device are also judged together ([`joint`]). All evidence
//! of a device is fused ([`device`]) and becomes an [`episode`].
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod budget;
pub mod buffer;
mod config;
pub mod device;
pub mod episode;
pub mod joint;
mod judge;
mod panel;
pub mod plan;
mod records;
mod registry;
pub mod series;
mod stage;
mod tally;
pub mod told;
mod turn;

pub use config::{Config, TellWindows};
pub use stage::Detect;
