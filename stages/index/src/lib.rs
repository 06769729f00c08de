//! Index: the gateway's memory of windows.
//!
//! Input DETECTIONS: the score rows that carry a vector (kept by detect, or alerted), the alerts, and the controls in their
//! place. Output: a store on disk (`eddy_vectors::index`), whose position is in its own transactions; one message on
//! `context.<site>.<device>` for each alert that opens; answers to `eddy.search.<site>`.
//!
//! `changes.rs` (what a message says), `sink.rs` (into the store), `context.rs` (what is known of an alert's window),
//! `answer.rs` (searches), `builder.rs` (segments, in the background), `app.rs` (all together).
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod answer;
mod app;
mod builder;
mod changes;
mod config;
mod context;
mod region;
mod sink;
mod verdict;

pub use app::Index;
pub use config::Config;
