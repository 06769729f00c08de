//! What can be wrong with a store of windows, and the way out.

use std::path::{Path, PathBuf};

/// Why the store cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The folder, its files, or a disk that is full.
    #[error("index in {path}: {source}; check the disk and the folder's permissions")]
    Io {
        /// The folder.
        path: PathBuf,
        /// What failed.
        source: std::io::Error,
    },
    /// The map has reached its bound.
    #[error(
        "index in {path}: {what} does not fit its map of {bytes} bytes: raise index.map_mb, or lower index.bytes_max_mb"
    )]
    MapFull {
        /// The folder.
        path: PathBuf,
        /// What is too large.
        what: &'static str,
        /// The map's size.
        bytes: usize,
    },
    /// LMDB's or arroy's own.
    #[error("index in {path}: {problem}: `eddy-index recover` makes it anew from what DETECTIONS still holds")]
    Damaged {
        /// The folder.
        path: PathBuf,
        /// What was found.
        problem: String,
    },
    /// Written by a release with another layout.
    #[error(
        "index in {path} has version {found}, this release reads {expected}: `eddy-index recover` makes it anew from what DETECTIONS still holds"
    )]
    Version {
        /// The folder.
        path: PathBuf,
        /// The version found.
        found: String,
        /// The version that is read.
        expected: u32,
    },
    /// Another instance wrote here since.
    #[error("index in {path} was moved on to {found} by another instance; this one had left it at {expected}")]
    Fenced {
        /// The folder.
        path: PathBuf,
        /// The position found.
        found: String,
        /// The position that this instance wrote or read last.
        expected: String,
    },
    /// Another process has it open for writing.
    #[error("index in {path} is in use by another eddy-index: stop that one first")]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// What is asked for does not fit what is stored.
    #[error("{0}")]
    Query(String),
    /// A build or a search was told to stop, or took too long.
    #[error("it was cancelled")]
    Cancelled,
}

impl IndexError {
    /// Wraps what LMDB says of the environment in `path`.
    pub(super) fn lmdb(path: &Path, error: heed::Error) -> Self {
        match error {
            heed::Error::Io(source) => Self::Io { path: path.to_owned(), source },
            heed::Error::Mdb(heed::MdbError::Other(code)) => {
                Self::Io { path: path.to_owned(), source: std::io::Error::from_raw_os_error(code) }
            }
            error => Self::Damaged { path: path.to_owned(), problem: error.to_string() },
        }
    }

    /// Whether the disk took no more, as a full one does: what was to be written can be written again once it does.
    pub fn is_full_disk(&self) -> bool {
        // LMDB says EIO of a write that was cut short, which is how a disk fills.
        let eio = |source: &std::io::Error| source.raw_os_error() == Some(5);
        matches!(self, Self::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull || eio(source))
    }
}
