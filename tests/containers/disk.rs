//! A disk of a volume's own, which can be full. Not a tmpfs: its pages would count as the container's memory.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use eddy_tests::ballast;

use crate::engine::done;

/// An ext4 file system in a file.
pub struct Disk(tempfile::TempDir);

impl Disk {
    /// Mounted, and of the containers' user; nothing if this machine does not let us.
    pub fn new(megabytes: u64) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let disk = Self(folder);
        let file = disk.0.path().join("file");
        std::fs::File::create(&file).unwrap().set_len(megabytes << 20).unwrap();
        done(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&file));
        std::fs::create_dir(disk.path()).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-o", "loop"]).arg(&file).arg(disk.path()).stderr(Stdio::null());
        if !mount.status().is_ok_and(|status| status.success()) {
            return None;
        }
        // What mkfs makes is not the gateway's.
        std::fs::remove_dir(disk.path().join("lost+found")).unwrap();
        std::fs::create_dir(disk.path().join("bundles")).unwrap();
        for folder in [disk.path(), disk.path().join("bundles")] {
            std::os::unix::fs::chown(folder, Some(10_001), Some(10_001)).unwrap();
        }
        Some(disk)
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.0.path().join("at")
    }

    /// Takes all the room that is left.
    pub fn fill(&self) {
        ballast::fill(&self.path());
    }

    pub fn make_room(&self) {
        ballast::make_room(&self.path());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).stderr(Stdio::null()).status();
    }
}
