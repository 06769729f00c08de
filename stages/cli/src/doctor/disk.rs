//! Room: of the partitions of streams and state, against what the streams may take.

use std::{os::unix::fs::MetadataExt as _, path::Path};

use nix::sys::statvfs::statvfs;

use super::{Patient, finding::Check};
use crate::backup;

/// Below this LMDB, logs and the server's own files are in danger.
const FREE_BYTES_MIN: u64 = 256 << 20;

/// What is looked at.
#[derive(Clone, Copy, Debug)]
struct Room {
    /// What the partition can still take.
    free: u64,
    /// What the streams take already.
    used: u64,
    /// The streams' bounds together.
    bounds: u64,
    /// The server's bound on all of them.
    store: u64,
}

pub fn look(patient: &Patient, check: &mut Check<'_>) {
    for folder in ["streams", "state"] {
        let path = patient.dir.join(folder);
        let Some(free) = free(&path) else {
            check.unchecked(format!("{} is not on this machine", path.display()));
            continue;
        };
        if free < FREE_BYTES_MIN {
            let remedy =
                "free room: `eddy support-bundle` and old logs can go; then restart the gateway if the server says 503";
            check.error(path.display(), format!("{} MB are free", free >> 20), remedy);
        }
        if let (Some(plan), "streams") = (&patient.plan, folder) {
            let (bounds, store) = (plan.config.streams.total_bytes(), plan.config.machine.store_mb_max << 20);
            judge(&path, Room { free, used: used(&path), bounds, store }, check);
        }
    }
}

fn judge(path: &Path, room: Room, check: &mut Check<'_>) {
    let can_take = room.free + room.used;
    let mb = |bytes: u64| format!("{} MB", bytes >> 20);
    let remedy = "lower [gateway.streams] and store_mb_max below what the partition can take, or give it more room: a full disk \
                  wedges a stream until the server restarts";
    if room.bounds > can_take {
        let what = format!("bounds of {} where the partition can take {}", mb(room.bounds), mb(can_take));
        check.error(path.display(), what, remedy);
    } else if room.store > can_take {
        let what = format!("store_mb_max of {} where the partition can take {}", mb(room.store), mb(can_take));
        check.warning(path.display(), what, remedy);
    }
}

/// What the partition of `path` can still take of a process that is not root.
pub fn free(path: &Path) -> Option<u64> {
    let stat = statvfs(path).ok()?;
    Some(stat.blocks_available() as u64 * stat.fragment_size() as u64)
}

/// What the files below `path` take on the disk.
fn used(path: &Path) -> u64 {
    let blocks = |path: &std::path::PathBuf| path.metadata().map_or(0, |metadata| metadata.blocks() * 512);
    backup::below(path).iter().map(blocks).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::found;

    #[test]
    fn bounds_above_the_partition_are_errors_and_the_stores_a_warning() {
        let room = |bounds, store| Room { free: 900, used: 100, bounds, store };
        let of = |room| found(|check| judge(Path::new("/streams"), room, check));
        assert_eq!(of(room(1_000, 1_000)).findings, []);
        let warned = of(room(1_000, 1_001));
        assert!(warned.is_sound(false) && warned.findings[0].what.contains("store_mb_max"));
        assert!(!of(room(1_001, 2_000)).is_sound(false));
    }

    #[test]
    fn a_folder_has_room_and_what_is_not_there_has_none() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("x"), vec![1; 100_000]).unwrap();
        assert!(free(folder.path()).unwrap() > 0);
        assert!(used(folder.path()) >= 98_304);
        assert_eq!(free(Path::new("/nowhere/at/all")), None);
    }
}
