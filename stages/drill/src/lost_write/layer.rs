//! What the mount does, without the kernel's protocol: a folder whose files forget what was not synced.

use std::{
    collections::HashMap,
    ffi::OsString,
    fs::{self, FileType, Metadata, OpenOptions},
    io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    thread,
    time::Duration,
};

use nix::errno::Errno;
use rand::{SeedableRng, rngs::StdRng};

use super::{
    Cut, Names, Options, Survive,
    entries::{Entry, Id},
    file::{Disk, FileNode},
    space::{ENTRY_BYTES, Space},
    tree::Tree,
};

/// A file's number, name and kind.
pub(super) type Listed = (Id, OsString, FileType);

/// Who makes a file, and with which permissions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Made {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// A backing folder, seen through the layer.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) disk: Disk,
    tree: RwLock<Tree>,
    survive: Survive,
    sync_takes: Duration,
    listings: Mutex<Listings>,
}

/// Folders that are being read, as they were when they were opened: names may go while a folder is read.
#[derive(Debug, Default)]
struct Listings {
    last: u64,
    open: HashMap<u64, Arc<Vec<Listed>>>,
}

impl Layer {
    pub(super) fn new(backing: &Path, options: Options) -> io::Result<Self> {
        let tree = Tree::new(backing.to_owned(), options.names == Names::Strict)?;
        let space = Space::new(bytes_within(backing)?, options.limit_bytes);
        let disk = Disk::new(space, options.unsynced_bytes_max);
        let Options { survive, sync_takes, .. } = options;
        Ok(Self { disk, tree: RwLock::new(tree), survive, sync_takes, listings: Mutex::default() })
    }

    // A panic in another request does not stop this one: the tree changes after the backing folder has.
    fn tree(&self) -> io::Result<RwLockReadGuard<'_, Tree>> {
        let tree = self.tree.read().unwrap_or_else(PoisonError::into_inner);
        self.disk.powered()?;
        Ok(tree)
    }

    fn tree_mut(&self) -> io::Result<RwLockWriteGuard<'_, Tree>> {
        let tree = self.tree.write().unwrap_or_else(PoisonError::into_inner);
        self.disk.powered()?;
        Ok(tree)
    }

    pub(super) fn lookup(&self, entry: Entry) -> io::Result<(Id, Metadata)> {
        self.tree_mut()?.lookup(entry)
    }

    pub(super) fn metadata(&self, id: Id) -> io::Result<Metadata> {
        self.tree()?.metadata(id)
    }

    pub(super) fn file(&self, id: Id) -> io::Result<Arc<FileNode>> {
        self.tree()?.file(id)
    }

    /// Calls `change` with the path of `id` in the backing folder.
    pub(super) fn at_path(&self, id: Id, change: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
        let tree = self.tree_mut()?;
        change(&tree.path(id)?)
    }

    pub(super) fn open(&self, id: Id) -> io::Result<()> {
        let tree = self.tree()?;
        let file = tree.file(id)?;
        match tree.path(id) {
            Ok(path) => file.open(&path),
            // Unlinked, and opened again by its descriptor.
            Err(_) => file.open(Path::new("")),
        }
    }

    pub(super) fn close(&self, id: Id) {
        let tree = self.tree.read().unwrap_or_else(PoisonError::into_inner);
        if let Ok(file) = tree.file(id) {
            file.close(&self.disk);
        }
    }

    pub(super) fn set_len(&self, id: Id, len: u64) -> io::Result<()> {
        let tree = self.tree()?;
        tree.file(id)?.set_len(&self.disk, tree.path(id).ok().as_deref(), len)
    }

    /// Makes and opens a file.
    pub(super) fn create(&self, entry: Entry, made: Made) -> io::Result<(Id, Metadata)> {
        self.has_room()?;
        let mut tree = self.tree_mut()?;
        let (id, metadata) = tree.create(entry, |path| {
            OpenOptions::new().read(true).write(true).create_new(true).mode(made.mode).open(path)?;
            own(path, made)
        })?;
        tree.file(id)?.open(&tree.path(id)?)?;
        Ok((id, metadata))
    }

    pub(super) fn create_folder(&self, entry: Entry, made: Made) -> io::Result<(Id, Metadata)> {
        self.has_room()?;
        self.tree_mut()?.create(entry, |path| {
            fs::create_dir(path)?;
            own(path, made)
        })
    }

    fn has_room(&self) -> io::Result<()> {
        if self.disk.space.free() < ENTRY_BYTES { Err(Errno::ENOSPC.into()) } else { Ok(()) }
    }

    pub(super) fn remove(&self, entry: Entry, is_folder: bool) -> io::Result<()> {
        self.tree_mut()?.remove(&self.disk, entry, is_folder)
    }

    pub(super) fn rename(&self, from: Entry, to: Entry, keep: bool) -> io::Result<()> {
        self.tree_mut()?.rename(&self.disk, from, to, keep)
    }

    /// All of the file `id` is on the disk, and in the strict mode its name.
    pub(super) fn sync(&self, id: Id) -> io::Result<()> {
        thread::sleep(self.sync_takes);
        self.file(id)?.sync(&self.disk)?;
        self.tree_mut()?.sync(&self.disk, id)
    }

    /// The names in the folder `id` are on the disk, and its own.
    pub(super) fn sync_folder(&self, id: Id) -> io::Result<()> {
        thread::sleep(self.sync_takes);
        self.tree_mut()?.sync(&self.disk, id)
    }

    pub(super) fn forget(&self, id: Id) {
        self.tree.write().unwrap_or_else(PoisonError::into_inner).forget(id);
    }

    fn listings(&self) -> MutexGuard<'_, Listings> {
        self.listings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a folder and returns the number by which it is read.
    pub(super) fn open_folder(&self, id: Id) -> io::Result<u64> {
        let listing = self.tree_mut()?.list(id)?;
        let mut listings = self.listings();
        listings.last += 1;
        let number = listings.last;
        listings.open.insert(number, Arc::new(listing));
        Ok(number)
    }

    pub(super) fn listing(&self, number: u64) -> io::Result<Arc<Vec<Listed>>> {
        self.disk.powered()?;
        self.listings().open.get(&number).cloned().ok_or_else(|| Errno::EBADF.into())
    }

    pub(super) fn close_folder(&self, number: u64) {
        self.listings().open.remove(&number);
    }

    pub(super) fn unsynced_files(&self) -> usize {
        let tree = self.tree.read().unwrap_or_else(PoisonError::into_inner);
        tree.files().iter().filter(|(_, file)| file.is_unsynced()).count()
    }

    /// The power fails. The backing folder holds afterwards what a disk would.
    pub(super) fn cut(&self) -> io::Result<Cut> {
        self.disk.power_off();
        // Whoever holds a lock is let finish; who comes later finds the power off.
        let mut tree = self.tree.write().unwrap_or_else(PoisonError::into_inner);
        let mut random = match self.survive {
            Survive::None => None,
            Survive::Random(seed) => Some(StdRng::seed_from_u64(seed)),
        };
        let mut cut = Cut { written_back: self.disk.written_back(), ..Cut::default() };
        for (_, file) in tree.files() {
            if let Some(bytes) = file.cut(random.as_mut())? {
                cut.files += 1;
                cut.bytes += bytes;
            }
        }
        cut.names = tree.cut()?;
        Ok(cut)
    }

    /// The mount has ended in order: the backing folder holds everything already.
    pub(super) fn end(&self) -> io::Result<()> {
        self.disk.power_off();
        self.tree.write().unwrap_or_else(PoisonError::into_inner).remove_limbo()
    }
}

/// Whoever makes a file on the mount owns it in the backing folder, whatever this process' umask.
fn own(path: &Path, made: Made) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(made.mode & 0o7777))?;
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::lchown(path, Some(made.uid), Some(made.gid))?;
    }
    Ok(())
}

/// The lengths of all files in `folder`, summed.
fn bytes_within(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            bytes += bytes_within(&entry.path())?;
        } else if metadata.is_file() {
            bytes += metadata.len();
        }
    }
    Ok(bytes)
}
