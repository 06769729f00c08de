//! The mount: made, cut, ended, and never left behind.

use std::{
    fs::OpenOptions,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use fuser::{BackgroundSession, Config, MountOption, SessionACL};
use nix::{
    errno::Errno,
    mount::{MntFlags, umount2},
};

use super::{Cut, Options, fuse::Fuse, layer::Layer};

/// Requests that are served at once; a sync occupies one for as long as it takes.
const THREADS: usize = 8;

/// How often, and how long after each other, an end that meets a busy mount is tried again: a killed process closes
/// its files a moment after it is gone.
const TRIES: u32 = 100;
const TRY_AFTER: Duration = Duration::from_millis(20);

/// Why a folder cannot be mounted, or a mount not be ended.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The kernel has no FUSE, or the container does not see it.
    #[error(
        "/dev/fuse: {0}; the file system that loses writes needs FUSE: `modprobe fuse`, and in a container `--device /dev/fuse`"
    )]
    NoDevice(io::Error),
    /// Not allowed to mount.
    #[error(
        "mounting by FUSE: {0}; it needs root (in a container `--cap-add SYS_ADMIN`), or fusermount3 (package fuse3)"
    )]
    NoPermission(io::Error),
    /// One folder lies in the other.
    #[error("{backing} and {at} must lie beside each other", backing = backing.display(), at = at.display())]
    Nested {
        /// The backing folder.
        backing: PathBuf,
        /// The place of the mount.
        at: PathBuf,
    },
    /// A program still has files open.
    #[error("{path} is in use: end what runs on it first", path = .0.display())]
    Busy(PathBuf),
    /// Anything else.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
}

impl MountError {
    /// Whether it cannot run on this machine at all, by no fault of the folders: a reason to skip, not to fail.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::NoDevice(_) | Self::NoPermission(_))
    }
}

/// A folder mounted at another place, which loses what was not synced when the power fails.
///
/// Dropping it detaches the mount, with all writes kept. Only a process that is killed leaves its mount behind (dead:
/// "transport endpoint is not connected"); the next mount at the same place clears it away.
#[derive(Debug)]
pub struct LostWrites {
    layer: Arc<Layer>,
    at: PathBuf,
    /// `None` once it has been detached.
    session: Option<BackgroundSession>,
}

impl LostWrites {
    /// Mounts the folder `backing` at the folder `at`, with the default [`Options`].
    ///
    /// # Errors
    /// See [`MountError`].
    pub fn mount(backing: &Path, at: &Path, limit_bytes: Option<u64>) -> Result<Self, MountError> {
        Self::mount_with(backing, at, Options { limit_bytes, ..Options::default() })
    }

    /// Mounts the folder `backing` at the folder `at`. Nothing else may change `backing` until the mount has ended.
    ///
    /// # Errors
    /// See [`MountError`].
    pub fn mount_with(backing: &Path, at: &Path, options: Options) -> Result<Self, MountError> {
        clear_dead(at);
        let canonical = |path: &Path| path.canonicalize().map_err(|source| io_error(path, source));
        let (backing, at) = (canonical(backing)?, canonical(at)?);
        if backing.starts_with(&at) || at.starts_with(&backing) {
            return Err(MountError::Nested { backing, at });
        }
        OpenOptions::new().read(true).write(true).open("/dev/fuse").map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => MountError::NoPermission(error),
            _ => MountError::NoDevice(error),
        })?;
        let layer = Arc::new(Layer::new(&backing, options).map_err(|source| io_error(&backing, source))?);
        let session =
            fuser::spawn_mount(Fuse(layer.clone()), &at, &config()).map_err(|source| match source.kind() {
                // No fusermount3, or it refused.
                io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => MountError::NoPermission(source),
                _ => io_error(&at, source),
            })?;
        Ok(Self { layer, at, session: Some(session) })
    }

    /// Bounds the bytes of all files from now on: less than [`used_bytes`](Self::used_bytes), and the disk is full.
    pub fn set_limit(&self, limit_bytes: Option<u64>) {
        self.layer.disk.space.set_limit(limit_bytes);
    }

    /// The lengths of all files, summed.
    pub fn used_bytes(&self) -> u64 {
        self.layer.disk.space.used()
    }

    /// How many files hold something at this moment that a cut would drop: a drill cuts when it hurts.
    pub fn unsynced_files(&self) -> usize {
        self.layer.unsynced_files()
    }

    /// The power fails at this moment: nothing reaches the disk any more, a sync that is under way does not end well, and
    /// programs get `EIO`. Call it before the programs are killed, for a process that is killed ends its sync first;
    /// then kill them, and [`cut`](Self::cut). What a program says later is nothing that it could have said.
    pub fn power_off(&self) {
        self.layer.disk.power_off();
    }

    /// The power has failed ([`power_off`](Self::power_off), if it was not called before): what was not synced is gone
    /// from the backing folder, and the mount is detached. A program that lives on gets errors.
    ///
    /// # Errors
    /// If the backing folder cannot be written, or the mount not be detached.
    pub fn cut(mut self) -> Result<Cut, MountError> {
        let cut = self.layer.cut().map_err(|source| io_error(&self.at, source));
        self.detach()?;
        cut
    }

    /// Ends the mount in order: all that was written is in the backing folder.
    ///
    /// # Errors
    /// [`MountError::Busy`] if a program still has files open: the mount is detached nevertheless.
    pub fn unmount(mut self) -> Result<(), MountError> {
        let mut result = umount2(&self.at, MntFlags::empty());
        for _ in 0..TRIES {
            if result != Err(Errno::EBUSY) {
                break;
            }
            thread::sleep(TRY_AFTER);
            result = umount2(&self.at, MntFlags::empty());
        }
        self.detach()?;
        if result == Err(Errno::EBUSY) { Err(MountError::Busy(self.at.clone())) } else { Ok(()) }
    }

    /// Detaches the mount if it is there, and waits for the last request for as long as an orderly end takes.
    fn detach(&mut self) -> Result<(), MountError> {
        let Some(session) = self.session.take() else { return Ok(()) };
        let detached = match umount2(&self.at, MntFlags::MNT_DETACH) {
            // Unmounted before, or not ours to unmount: `session` asks fusermount3 when it is dropped.
            Ok(()) | Err(Errno::EINVAL | Errno::EPERM) => Ok(()),
            Err(error) => Err(io_error(&self.at, error.into())),
        };
        for _ in 0..TRIES {
            if session.guard.is_finished() {
                break;
            }
            thread::sleep(TRY_AFTER);
        }
        drop(session);
        self.layer.end().map_err(|source| io_error(&self.at, source))?;
        detached
    }
}

impl Drop for LostWrites {
    fn drop(&mut self) {
        // Nobody is left to be told.
        let _ = self.detach();
    }
}

fn io_error(path: &Path, source: io::Error) -> MountError {
    MountError::Io { path: path.to_owned(), source }
}

fn config() -> Config {
    let mut config = Config::default();
    // Who may do what is the kernel's to check, by owners and permissions; a drill's processes may be of other users.
    config.acl = if nix::unistd::geteuid().is_root() { SessionACL::All } else { SessionACL::Owner };
    config.mount_options = vec![MountOption::DefaultPermissions, MountOption::FSName("eddy-lost-write".into())];
    config.n_threads = Some(THREADS);
    config.clone_fd = true;
    config
}

/// Takes away the mount of a process that was killed, so that its place can be used again.
fn clear_dead(at: &Path) {
    if std::fs::metadata(at).is_err_and(|error| error.raw_os_error() == Some(Errno::ENOTCONN as i32)) {
        // If it fails, so does the mount, and tells why.
        let _ = umount2(at, MntFlags::MNT_DETACH);
    }
}
