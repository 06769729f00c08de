//! A file system that loses what was not synced when the power fails: for drills.
//!
//! [`LostWrites`] mounts a folder (the backing folder) at another place by FUSE. Programs see an ordinary file system there; the
//! layer keeps, for each file, the way back to its last sync. [`LostWrites::cut`] takes it: afterwards the backing
//! folder holds what a disk would, and can be mounted again.
//!
//! # What is durable
//! - A file's contents and length: at `fsync`, `fdatasync` or `msync`, and at each write to a file that is open with
//!   `O_SYNC` or `O_DSYNC`. A cut goes back to the last of these, whatever was written, cut off or truncated since.
//! - Names: under [`Names::AtOnce`] a create, rename or unlink is durable when it returns, as if the journal were
//!   committed each time, but the contents of a file are not: a file that is renamed into place without a sync is
//!   empty or old after a cut (as on XFS, or ext4 without `auto_da_alloc`). Under [`Names::Strict`] a name is durable
//!   once its file or its folder is synced, together with new folders above it and the other end of a rename, and
//!   nothing else is: a stricter disk than ext4, whose journal commits everything before it.
//! - Permissions, owners and times: at once.
//! - [`Survive::None`] drops all that is not durable; [`Survive::Random`] lets single blocks of 4 KiB, and lengths on
//!   the way, survive, for a disk writes back in an order of its own.
//!
//! # What it proves, and what not
//! A program that keeps what it has acknowledged on this layer syncs before it acknowledges, and recovers from torn
//! files. It does not prove that the real disk, its controller and the kernel keep a sync's promise; blocks tear at 4 KiB
//! and not within; what has been synced never rots. A sync
//! takes as long as [`Options::sync_takes`] says, nothing by default, so times are no measure of a disk. Hard
//! links, symbolic links, device files and extended attributes cannot be made. Writes by `mmap` reach the layer when
//! the kernel passes them on, which is a loss like any other until `msync`.

mod entries;
mod file;
mod fuse;
mod layer;
mod mount;
mod space;
mod tree;
mod undo;

#[cfg(test)]
mod entries_tests;
#[cfg(test)]
mod undo_tests;

use std::time::Duration;

pub use mount::{LostWrites, MountError};

/// What of the unsynced survives a cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Survive {
    /// Nothing.
    #[default]
    None,
    /// Each block of 4 KiB by the toss of a coin, and any length between the old and the new; from a seed.
    Random(u64),
}

/// When a name (a create, rename or unlink) is durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Names {
    /// When the call returns.
    #[default]
    AtOnce,
    /// When the file or its folder is synced.
    Strict,
}

/// How a folder is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The files' lengths may add up to so many bytes; more is refused with `ENOSPC`. `None`: the disk's own bound.
    pub limit_bytes: Option<u64>,
    /// What survives a cut.
    pub survive: Survive,
    /// When names are durable.
    pub names: Names,
    /// Old contents that may be held in memory for a cut; past it files are written back before they are synced, as by a
    /// kernel that runs out of memory, and [`Cut::written_back`] counts them.
    pub unsynced_bytes_max: u64,
    /// How long a sync takes, before anything is durable: as much as a disk's, so that a cut comes in the middle of one
    /// as often as it would there.
    pub sync_takes: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            limit_bytes: None,
            survive: Survive::None,
            names: Names::AtOnce,
            unsynced_bytes_max: 1 << 30,
            sync_takes: Duration::ZERO,
        }
    }
}

/// What a cut has dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// Files with something that was not synced.
    pub files: u64,
    /// Bytes that were written and are gone; a block that was written over counts whole.
    pub bytes: u64,
    /// Names that changed back ([`Names::Strict`]).
    pub names: u64,
    /// How often a file was written back for want of memory: what it held then was not dropped.
    pub written_back: u64,
}
