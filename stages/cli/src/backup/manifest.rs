//! What an archive says of itself.

use std::{collections::BTreeMap, path::PathBuf};

use eddy_runtime::client::Snapshot;
use serde::{Deserialize, Serialize};

/// The layout of the archive; another one is refused.
pub const FORMAT: u32 = 1;

/// The last but one entry of an archive.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// Its layout.
    pub format: u32,
    /// The eddy that wrote it.
    pub eddy: String,
    /// The gateway's site.
    pub site: String,
    /// How many shards the site has.
    pub shards: u32,
    /// When it was begun, RFC 3339.
    pub made_at: String,
    /// Whether the gateway ran meanwhile: then streams are snapshots, else files.
    pub running: bool,
    /// Whether the files that the config names as keys and secrets are in it.
    pub with_keys: bool,
    /// How far each state had come, `STAGE: STREAM@incarnation:sequence`.
    pub positions: BTreeMap<String, String>,
    /// The streams, by name, as they were read.
    pub streams: BTreeMap<String, StreamPart>,
    /// Where files outside the gateway's folder came from, by part.
    pub from: BTreeMap<String, PathBuf>,
    /// What whoever restores it should know.
    pub notes: Vec<String>,
    /// Everything in it, in order.
    pub parts: Vec<Part>,
}

/// One stream of a gateway that ran.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StreamPart {
    /// When it was created, nanoseconds since the Unix epoch: positions name it.
    pub incarnation: i64,
    /// Its config and state.
    #[serde(flatten)]
    pub snapshot: Snapshot,
}

/// One entry: a zstd frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its name in the archive, without `.zst`.
    pub name: String,
    /// Its size, not compressed.
    pub bytes: u64,
    /// BLAKE3 of that.
    pub blake3: String,
    /// Permission bits.
    pub mode: u32,
}
