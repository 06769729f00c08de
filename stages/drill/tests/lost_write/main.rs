//! The file system that loses writes, mounted for real. Without FUSE each test prints SKIPPED and why.

#![allow(clippy::unwrap_used)]

mod files;
mod lmdb;
mod names;
mod server;
mod space;
mod support;
