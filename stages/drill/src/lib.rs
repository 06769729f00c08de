//! `eddy drill`: a sandbox of the installed gateway, broken on purpose while a recording goes through it, and judged.
//!
//! A [`sandbox`] has the installed binaries, server and config, and nothing else of the gateway's: its own folder, ports and streams. A
//! [`recording`] is [`feed`]ed into it as devices would, and a [`witness`] reads what comes out; the [`ledger`] knows what was offered, and
//! what became of it. Undisturbed once, that is the baseline; each of the [`drills`] disturbs another run of it, a [`trial`], and the
//! [`judge`] compares (INV-3, INV-4). [`soak`] does it for as long as one likes on one gateway.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod command;
pub mod dice;
pub mod disk;
pub mod drill;
pub mod drills;
pub mod feed;
pub mod judge;
pub mod ledger;
pub mod lost_write;
pub mod memory;
pub mod outcome;
pub mod recording;
pub mod region;
pub mod report;
pub mod sandbox;
pub mod soak;
pub mod trial;
pub mod witness;
