//! capture: what devices send, in whatever format, becomes one ordered stream of readings and controls.
//!
//! [`decode`] turns bytes into readings and knows neither NATS nor stages, so that every other source (HTTP, MQTT, NATS
//! requests: [`Sources`]) stands on it; [`Capture`] is the stage that reads INGEST and CONTROL and writes READINGS.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod clock_offset;
mod config;
pub mod decode;
mod sources;
mod stage;
#[cfg(test)]
mod tests;

pub use config::Config;
pub use sources::Sources;
pub use stage::{Capture, Input};
