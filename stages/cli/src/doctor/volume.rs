//! Whether the gateway's data lies encrypted where the config asks for it (`gateway.encryption`).
//!
//! `volume`: the block device below the folder, or one below that (LUKS below LVM), is dm-crypt's; a file system's own encryption
//! (fscrypt, ZFS) cannot be seen and counts as none. `server`: nats-server keeps a key beside each stream, which it does only when it
//! encrypts them; state (LMDB) and bundles stay plain then.

use std::path::{Path, PathBuf};

use super::{Patient, finding::Check};
use crate::{backup, up::config::Encryption};

/// Devices below devices are followed so far.
const DEPTH_MAX: u32 = 8;

pub fn look(patient: &Patient, check: &mut Check<'_>) {
    let Some(plan) = &patient.plan else { return };
    match plan.config.encryption {
        Encryption::None => {}
        Encryption::Volume => {
            for folder in ["streams", "state"] {
                let path = patient.dir.join(folder);
                of_volume(&path, encrypted_below(&path, Path::new("/")), check);
            }
        }
        Encryption::Server => of_server(&patient.dir.join("streams"), check),
    }
}

fn of_volume(path: &Path, is_encrypted: Option<bool>, check: &mut Check<'_>) {
    match is_encrypted {
        Some(true) => {}
        Some(false) => check.error(
            path.display(),
            "gateway.encryption asks for an encrypted volume, and no device below it is dm-crypt's",
            "`cryptsetup luksFormat` a partition, mount it there, and restore a backup onto it; or gateway.encryption = \"server\"",
        ),
        None => check.unchecked(format!("the device of {} is not seen from here (a container?)", path.display())),
    }
}

fn of_server(streams: &Path, check: &mut Check<'_>) {
    let files = backup::below(streams);
    let plain = files.iter().filter(|path| path.ends_with("meta.inf"));
    let plain = plain.filter(|path| path.parent().is_some_and(|folder| !folder.join("meta.key").is_file()));
    for path in plain {
        let stream = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
        check.error(
            format!("stream {stream}"),
            "gateway.encryption asks for the server's, and its files are plain",
            "set gateway.access.store_key_file, and restore a backup: what was written before stays as it was",
        );
    }
}

/// Whether a device at or below that of `path` is dm-crypt's, by what `root`'s proc and sys say; `None` if they do not.
fn encrypted_below(path: &Path, root: &Path) -> Option<bool> {
    let mounts = std::fs::read_to_string(root.join("proc/self/mountinfo")).ok()?;
    let device = device_of(path, &mounts)?;
    let block = root.join("sys/dev/block").join(&device);
    // Devices without a block device of their own (overlay, btrfs, network) have no folder there.
    let block = std::fs::canonicalize(&block).ok()?;
    Some(is_crypt(&block, 0))
}

/// `major:minor` of the mount that holds `path`: of those above it the deepest, and of these the last.
fn device_of(path: &Path, mounts: &str) -> Option<String> {
    let mut best: Option<(usize, String)> = None;
    for line in mounts.lines() {
        let mut fields = line.split(' ');
        let (device, point) = (fields.nth(2)?, fields.nth(1)?);
        let point = PathBuf::from(point.replace("\\040", " "));
        let depth = point.components().count();
        if path.starts_with(&point) && best.as_ref().is_none_or(|(deepest, _)| depth >= *deepest) {
            best = Some((depth, device.to_owned()));
        }
    }
    best.map(|(_, device)| device)
}

fn is_crypt(block: &Path, depth: u32) -> bool {
    let uuid = std::fs::read_to_string(block.join("dm/uuid")).unwrap_or_default();
    if uuid.starts_with("CRYPT-") {
        return true;
    }
    if depth == DEPTH_MAX {
        return false;
    }
    // A partition's own folder lies in its disk's, which may be a mapped device.
    let disk = block.join("partition").is_file().then(|| block.parent().map(Path::to_owned)).flatten();
    let below = std::fs::read_dir(block.join("slaves")).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut below = below.chain(disk).filter_map(|path| std::fs::canonicalize(path).ok()).peekable();
    // Of several (a mirror) all must be: data lies on each.
    below.peek().is_some() && below.all(|block| is_crypt(&block, depth + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::found;

    /// A machine whose /var/lib lies on LVM on `lower`'s uuid.
    fn machine(uuid: Option<&str>) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        for folder in
            ["proc/self", "sys/dev/block", "sys/devices/dm-1/slaves", "sys/devices/dm-1/dm", "sys/devices/dm-0/dm"]
        {
            std::fs::create_dir_all(at(folder)).unwrap();
        }
        let mounts = "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n22 21 253:1 / /var/lib rw - ext4 /dev/mapper/x rw\n";
        std::fs::write(at("proc/self/mountinfo"), mounts).unwrap();
        std::fs::write(at("sys/devices/dm-1/dm/uuid"), "LVM-abc").unwrap();
        if let Some(uuid) = uuid {
            std::fs::write(at("sys/devices/dm-0/dm/uuid"), uuid).unwrap();
        }
        std::os::unix::fs::symlink(at("sys/devices/dm-1"), at("sys/dev/block/253:1")).unwrap();
        std::os::unix::fs::symlink(at("sys/devices/dm-0"), at("sys/devices/dm-1/slaves/dm-0")).unwrap();
        root
    }

    #[test]
    fn luks_below_lvm_is_found_and_a_plain_disk_is_told() {
        let path = Path::new("/var/lib/eddy/streams");
        let of = |root: &tempfile::TempDir, path: &Path| encrypted_below(path, root.path());
        let (luks, plain) = (machine(Some("CRYPT-LUKS2-abc")), machine(None));
        assert_eq!((of(&luks, path), of(&plain, path)), (Some(true), Some(false)));
        assert_eq!(of(&luks, Path::new("/home")), None, "a device that is not seen");
        assert_eq!(found(|check| of_volume(path, Some(true), check)).findings, []);
        assert!(!found(|check| of_volume(path, Some(false), check)).is_sound(false));
        assert_eq!(found(|check| of_volume(path, None, check)).unchecked.len(), 1);
    }

    #[test]
    fn streams_without_a_key_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let stream = folder.path().join("jetstream/$G/streams/READINGS");
        std::fs::create_dir_all(&stream).unwrap();
        std::fs::write(stream.join("meta.inf"), "{}").unwrap();
        assert!(found(|check| of_server(folder.path(), check)).findings[0].place.contains("READINGS"));
        std::fs::write(stream.join("meta.key"), "x").unwrap();
        assert_eq!(found(|check| of_server(folder.path(), check)).findings, []);
    }
}
