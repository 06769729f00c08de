//! Sync: from a gateway to its region, alerts first, bulk within the link, nothing lost within stated budgets.
//!
//! [`queue`] keeps on disk what the region does not have yet; [`collect`] fills it from the gateway's streams.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod collect;
pub mod queue;
