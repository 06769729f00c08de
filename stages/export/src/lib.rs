//! From a gateway's or a hub's streams ([`source`]) to Parquet, in a folder or S3.
//!
//! [`job`] brings one class of rows into a [`store`]: range by range of the stream's sequences ([`select::Cut`], [`range`]), each
//! committed by a record ([`manifest`]). What a file is called and what is in it follow from its range, so whatever is killed or
//! repeated comes to the same files. [`policy`] says what may leave at all (INV-7). [`command`] is `eddy export`, [`receipts`] checks
//! what lies there, [`stage`] runs it continuously.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod class;
pub mod column;
pub mod command;
pub mod config;
pub mod done;
pub mod file;
pub mod job;
pub mod manifest;
pub mod policy;
pub mod progress;
pub mod range;
pub mod receipts;
pub mod rows;
pub mod select;
pub mod source;
pub mod stage;
pub mod store;
mod summary;
pub mod table;
