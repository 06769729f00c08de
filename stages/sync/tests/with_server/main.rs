//! Sync with real servers: the region's, and the gateway's.

#![allow(clippy::unwrap_used, reason = "a test ends there")]

mod down;
mod relay;
mod server;
mod site;
mod up;
