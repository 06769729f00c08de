//! What every stage of eddy stands on: the only crate that knows NATS.
//!
//! [`stage`] is the contract that a stage holds to, [`stage_loop`] what runs it, [`bus`] what the loop runs over;
//! [`store_loop`] runs a stage whose output is a store, [`service`] answers requests.
//! [`direct`] takes input that comes without a stream; [`reader`] and [`letters`] are for what brings a stream's messages out
//! of the gateway; [`client`] is for tools; [`provision`] and [`janitor`] keep the streams; [`trace`]
//! follows single readings through all of it.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod allocator;
pub mod app;
pub mod audit;
pub mod bundle;
pub mod bus;
pub mod client;
pub mod clock;
pub mod config;
#[cfg(any(test, feature = "contract"))]
pub mod contract;
pub mod dead_letter;
pub mod direct;
pub mod fresh;
pub mod identity;
mod incarnation;
pub mod janitor;
pub mod lease;
pub mod letters;
pub mod listener;
pub mod position;
pub mod program;
pub mod provision;
pub mod reader;
pub mod service;
pub mod stage;
pub mod stage_loop;
pub mod state;
pub mod store_loop;
pub mod telemetry;
pub mod trace;
