//! End-to-end tests of eddy; everything is under `end_to_end/`, and here what their tools and the screenshots share.
#![allow(clippy::unwrap_used)]

pub mod ballast;
pub mod browser;
