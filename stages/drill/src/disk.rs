//! A small file system of a sandbox's own, for its streams and state, which can be full.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::statvfs::statvfs;

use crate::trial::CannotRun;

/// What a sandbox has on it.
const FOLDERS: [&str; 2] = ["streams", "state"];
/// Its size in MB while it is not full. A tmpfs takes memory as it is used, not before.
const MB: u64 = 1_024;
/// How often filling is tried, and by how much less each time.
const TRIES: u64 = 20;
const SLACK_BYTES: u64 = 64 << 10;

/// One that is mounted.
#[derive(Debug)]
pub struct Tmpfs(PathBuf);

impl Tmpfs {
    /// Mounts one at `at`.
    ///
    /// # Errors
    /// [`CannotRun`] where this process may not mount.
    pub fn mount(at: &Path) -> Result<Self> {
        fs::create_dir_all(at).with_context(|| at.display().to_string())?;
        let size = format!("size={MB}m");
        mount(&["-t", "tmpfs", "-o", &size, "eddy-drill"], at)
            .map_err(|problem| CannotRun(format!("a file system that fills up cannot be mounted here: {problem:#}")))?;
        Ok(Self(at.to_owned()))
    }

    /// Takes away all room that is left.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn fill(&self) -> Result<()> {
        let mut refused = Ok(());
        for nth in 0..TRIES {
            let room = statvfs(&self.0)?;
            // Less than is used is refused, and meanwhile more may be: each try leaves a little more.
            let size = (room.blocks() - room.blocks_free()) * room.fragment_size() + nth * SLACK_BYTES;
            refused = mount(&["-o", &format!("remount,size={size}")], &self.0);
            if refused.is_ok() {
                break;
            }
        }
        refused
    }

    /// Gives it back.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn make_room(&self) -> Result<()> {
        mount(&["-o", &format!("remount,size={MB}m")], &self.0)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: what still looks into it does not hold it up.
        let _ = Command::new("umount").arg("-l").arg(&self.0).stderr(Stdio::null()).status();
    }
}

fn mount(arguments: &[&str], at: &Path) -> Result<()> {
    let ran = Command::new("mount").args(arguments).arg(at).stdin(Stdio::null()).output().context("mount")?;
    ensure!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr).trim());
    Ok(())
}

/// Lets the streams and state of the sandbox in `dir`, which does not run, lie below `disk`.
///
/// # Errors
/// If a folder or link cannot be made.
pub fn lay(dir: &Path, disk: &Path) -> Result<()> {
    for folder in FOLDERS {
        let place = disk.join(folder);
        fs::create_dir_all(&place).with_context(|| place.display().to_string())?;
        symlink(&place, dir.join(folder)).with_context(|| dir.join(folder).display().to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_full_and_has_room_again() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("disk");
        let disk = match Tmpfs::mount(&at) {
            Ok(disk) => disk,
            Err(problem) => {
                eprintln!("SKIPPED a_disk_is_full_and_has_room_again: {problem}");
                return;
            }
        };
        lay(folder.path(), &at).unwrap();
        let file = folder.path().join("streams/file");
        fs::write(&file, [1; 100_000]).unwrap();
        disk.fill().unwrap();
        let full = fs::write(folder.path().join("state/file"), [1; 100_000]).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
        disk.make_room().unwrap();
        fs::write(folder.path().join("state/file"), [1; 100_000]).unwrap();
        assert_eq!(fs::read(at.join("streams/file")).unwrap().len(), 100_000);
    }
}
