//! Sync: from a gateway to its region, alerts first, bulk within the link, nothing lost within stated budgets.
//!
//! [`queue`] keeps on disk what the region does not have yet; [`collect`] fills it from the gateway's streams; [`send`] empties it, a
//! class's next batch at a time ([`pack`]), by what [`link`] knows of the way. What comes down: [`tail`] follows the region's
//! streams, [`downlink`] makes controls of labels, [`sketches`] keeps what the region knows of; [`proxy`] passes questions on.
//! [`app`](Sync) is all together.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod app;
pub mod bundles;
pub mod collect;
pub mod config;
pub mod downlink;
pub mod link;
pub mod pack;
pub mod proxy;
pub mod queue;
pub mod send;
pub mod sketches;
pub mod tail;

pub use app::Sync;
