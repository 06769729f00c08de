//! Sync: from a gateway to its region, alerts first, bulk within the link, nothing lost within stated budgets.
//!
//! [`queue`] keeps on disk what the region does not have yet; [`collect`] fills it from the gateway's streams; [`send`] empties it, a
//! class's next batch at a time ([`pack`]), by what [`link`] knows of the way.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod collect;
pub mod link;
pub mod pack;
pub mod queue;
pub mod send;
