//! The `eddy` command: everything that a person does with a gateway.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod alerts;
pub mod audit;
pub mod backup;
pub mod bars;
pub mod certs;
pub mod commands;
mod config_files;
pub mod console;
pub mod demo;
pub mod device;
pub mod doctor;
pub mod gateway;
pub mod handed;
pub mod health;
pub mod hub;
pub mod label;
pub mod metrics;
pub mod model;
pub mod output;
pub mod query;
pub mod readers;
pub mod receipts;
pub mod region;
pub mod replay;
pub mod rollout;
pub mod status;
pub mod supervise;
pub mod support;
pub mod top;
pub mod up;
pub mod watch;

use eddy_runtime::clock::{Clock as _, SystemClock};
use eddy_schemas::Timestamp;

/// The wall clock: a tool may look at it.
pub fn now() -> Timestamp {
    SystemClock.now()
}
