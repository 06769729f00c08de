//! What can be wrong with the queue, and the way out.

use std::path::{Path, PathBuf};

use eddy_schemas::sync::Class;

/// Why the queue cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The folder, its files, or a disk that is full.
    #[error("queue in {path}: {source}; check the disk and the folder's permissions")]
    Io {
        /// The folder.
        path: PathBuf,
        /// What failed.
        source: std::io::Error,
    },
    /// The map has reached its bound.
    #[error(
        "queue in {path}: its map of {bytes} bytes is full; it has room again once the region took some: raise sync.map_mb, or lower sync.budget_mb"
    )]
    MapFull {
        /// The folder.
        path: PathBuf,
        /// The map's size.
        bytes: usize,
    },
    /// What is stored contradicts itself.
    #[error(
        "queue in {path} is damaged: {problem}: `eddy-sync recover` starts a new one, under a new chain, from what the gateway's streams still hold"
    )]
    Damaged {
        /// The folder.
        path: PathBuf,
        /// What was found.
        problem: String,
    },
    /// Written by a release with another layout.
    #[error(
        "queue in {path} has version {found}, this release reads {expected}: `eddy-sync recover` starts a new one, under a new chain"
    )]
    Version {
        /// The folder.
        path: PathBuf,
        /// The version found.
        found: String,
        /// The version that is read.
        expected: u32,
    },
    /// Another process has it open.
    #[error("queue in {path} is in use by another eddy-sync: stop that one first")]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// Another instance moved a reader's position.
    #[error("queue in {path}: {reader} stands at {found}, but was left at {expected}: another instance wrote here")]
    Fenced {
        /// The folder.
        path: PathBuf,
        /// The reader.
        reader: String,
        /// The position found.
        found: String,
        /// The position that was left there.
        expected: String,
    },
    /// The region has numbers that this queue has not given out.
    #[error(
        "queue in {path}: the region has {} up to {last} of this chain, but {next} is the next number here: this queue is an older copy; `eddy-sync recover` starts a new chain", .class.token()
    )]
    Behind {
        /// The folder.
        path: PathBuf,
        /// The class.
        class: Class,
        /// What the region has.
        last: u64,
        /// The next number of this queue.
        next: u64,
    },
    /// The region lacks numbers that it once had, and that are no longer here.
    #[error(
        "queue in {path}: the region has {} up to {after}, but once had them up to {done}: it was set back; `eddy-sync recover` starts a new chain", .class.token()
    )]
    Gone {
        /// The folder.
        path: PathBuf,
        /// The class.
        class: Class,
        /// What the region has.
        after: u64,
        /// What it had.
        done: u64,
    },
    /// What is to be stored is no entry.
    #[error("not an entry of {}: {problem}", .class.token())]
    Entry {
        /// The class.
        class: Class,
        /// What is wrong with it.
        problem: String,
    },
}

impl QueueError {
    /// Wraps what LMDB says of the environment in `path`.
    pub(super) fn lmdb(path: &Path, map_bytes: usize, error: heed::Error) -> Self {
        let path = path.to_owned();
        match error {
            heed::Error::Io(source) => Self::Io { path, source },
            heed::Error::Mdb(heed::MdbError::MapFull) => Self::MapFull { path, bytes: map_bytes },
            heed::Error::Mdb(heed::MdbError::Other(code)) => {
                Self::Io { path, source: std::io::Error::from_raw_os_error(code) }
            }
            error => Self::Damaged { path, problem: error.to_string() },
        }
    }

    /// Whether trying again may help: nothing was written, and a full disk or map can have room again.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Io { .. } | Self::MapFull { .. })
    }
}
