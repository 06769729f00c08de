//! As in capture.

#[path = "../../src/sources/gzip.rs"]
pub mod gzip;
#[path = "../../src/sources/topic.rs"]
pub mod topic;
