//! A folder, mounted, cut and mounted again.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    time::Duration,
};

use eddy_drill::lost_write::{Cut, LostWrites, MountError, Options};
use tempfile::TempDir;

/// A mount in a temporary folder. The mount goes first when it is dropped.
pub(crate) struct Bench {
    mount: Option<LostWrites>,
    dir: TempDir,
}

impl Bench {
    /// `None`, and the reason on standard error, where there is no FUSE.
    pub(crate) fn mount(options: Options) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["backing", "at"] {
            fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let mut bench = Self { mount: None, dir };
        match LostWrites::mount_with(&bench.backing(), &bench.at(), options) {
            Ok(mount) => bench.mount = Some(mount),
            Err(error) if error.is_unavailable() => {
                eprintln!("SKIPPED: {error}");
                return None;
            }
            Err(error) => panic!("{error}"),
        }
        Some(bench)
    }

    pub(crate) fn at(&self) -> PathBuf {
        self.dir.path().join("at")
    }

    pub(crate) fn backing(&self) -> PathBuf {
        self.dir.path().join("backing")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.at().join(name)
    }

    pub(crate) fn disk(&self) -> &LostWrites {
        self.mount.as_ref().unwrap()
    }

    /// The power fails; the mount is not there afterwards.
    pub(crate) fn cut(&mut self) -> Cut {
        let cut = self.mount.take().unwrap().cut().unwrap();
        assert!(!is_mounted(&self.at()));
        cut
    }

    pub(crate) fn unmount(&mut self) -> Result<(), MountError> {
        self.mount.take().unwrap().unmount()
    }

    /// The power is back.
    pub(crate) fn remount(&mut self, options: Options) {
        self.mount = Some(LostWrites::mount_with(&self.backing(), &self.at(), options).unwrap());
    }

    /// A file's bytes in the backing folder; `None` if it is not there.
    pub(crate) fn left(&self, name: &str) -> Option<Vec<u8>> {
        assert!(self.mount.is_none(), "only a mount that has ended has left something");
        fs::read(self.backing().join(name)).ok()
    }
}

pub(crate) fn is_mounted(at: &Path) -> bool {
    let at = at.to_str().unwrap();
    fs::read_to_string("/proc/self/mounts").unwrap().lines().any(|line| line.split(' ').nth(1) == Some(at))
}

/// A process that is killed at the latest when it is dropped.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) -> ExitStatus {
        self.0.kill().unwrap();
        self.0.wait().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until `done` gives something.
pub(crate) fn until<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    for _ in 0..30_000 {
        if let Some(found) = done() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("waited in vain for {what}");
}
