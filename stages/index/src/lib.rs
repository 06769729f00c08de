//! Index: the gateway's memory of windows.
//!
//! Input DETECTIONS: the score rows that carry a vector (kept by detect, or alerted), the alerts, and the controls in their
//! place. Output: a store on disk (`eddy_vectors::index`), whose position is in its own transactions; one message on
//! `context.<site>.<device>` for each alert that opens; answers to `eddy.search.<site>`.
//!
//! `changes.rs` (what a message says), `sink.rs` and `filing.rs` (into the store), `remembered.rs` (what is kept of alerts), `context.rs` (what is known of an alert's window),
//! `answer.rs` (searches), `episodes.rs` (alerts that went alike), `offline.rs` (store and answers without a bus), `traced.rs` (traces of alerts), `builder.rs` (segments, in the background), `app.rs` (all together).
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod answer;
mod app;
mod builder;
mod changes;
mod config;
mod context;
mod episodes;
mod filing;
mod offline;
mod openings;
mod region;
mod remembered;
mod sink;
mod traced;
mod verdict;

pub use app::Index;
pub use changes::Message;
pub use config::Config;
pub use offline::Offline;
