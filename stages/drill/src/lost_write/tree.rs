//! The names of the layer's files: which file stands where in the backing folder, and in the strict mode what of that
//! has not been synced.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    fs::{self, Metadata},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::errno::Errno;

use super::{
    entries::{Entry, Id, Pending},
    file::{Disk, FileNode},
};

/// The mount's own folder.
pub(super) const ROOT: Id = 1;

/// In the backing folder, unseen on the mount: what was unlinked and would come back after a cut.
const LIMBO: &str = ".eddy-lost-write";

#[derive(Debug)]
enum Place {
    At(Entry),
    /// Unlinked; a cut brings it back.
    Limbo,
    /// Unlinked for good; somebody may have it open.
    Gone,
}

#[derive(Debug)]
struct Node {
    place: Place,
    /// Of regular files.
    file: Option<Arc<FileNode>>,
}

/// All files that were met, by number. Each has one name: hard links cannot be made on the mount.
#[derive(Debug)]
pub(super) struct Tree {
    root: PathBuf,
    nodes: HashMap<Id, Node>,
    ids: HashMap<Entry, Id>,
    last_id: Id,
    pending: Option<Pending>,
}

impl Tree {
    /// The tree of the backing folder `root`; names are durable only once they are synced if `strict`.
    pub(super) fn new(root: PathBuf, strict: bool) -> io::Result<Self> {
        let tree = Self {
            root,
            nodes: HashMap::new(),
            ids: HashMap::new(),
            last_id: ROOT,
            pending: strict.then(Pending::default),
        };
        // One that a killed process left holds what had been unlinked.
        tree.remove_limbo()?;
        if strict {
            fs::create_dir(tree.root.join(LIMBO))?;
        }
        Ok(tree)
    }

    pub(super) fn remove_limbo(&self) -> io::Result<()> {
        match fs::remove_dir_all(self.root.join(LIMBO)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// Where `id` stands in the backing folder.
    pub(super) fn path(&self, id: Id) -> io::Result<PathBuf> {
        if id == ROOT {
            return Ok(self.root.clone());
        }
        match &self.nodes.get(&id).ok_or(Errno::ESTALE)?.place {
            Place::At(entry) => self.entry_path(entry),
            Place::Limbo => Ok(self.limbo(id)),
            Place::Gone => Err(Errno::ENOENT.into()),
        }
    }

    fn entry_path(&self, entry: &Entry) -> io::Result<PathBuf> {
        Ok(self.path(entry.0)?.join(&entry.1))
    }

    fn limbo(&self, id: Id) -> PathBuf {
        self.root.join(LIMBO).join(id.to_string())
    }

    /// The regular file `id`.
    pub(super) fn file(&self, id: Id) -> io::Result<Arc<FileNode>> {
        self.nodes.get(&id).and_then(|node| node.file.clone()).ok_or_else(|| Errno::EBADF.into())
    }

    /// All regular files that were met, by number.
    pub(super) fn files(&self) -> Vec<(Id, Arc<FileNode>)> {
        let mut files: Vec<_> = self.nodes.iter().filter_map(|(id, node)| Some((*id, node.file.clone()?))).collect();
        files.sort_unstable_by_key(|(id, _)| *id);
        files
    }

    /// What the kernel asks of `id`.
    pub(super) fn metadata(&self, id: Id) -> io::Result<Metadata> {
        match self.nodes.get(&id).and_then(|node| node.file.as_ref()).map(|file| file.metadata()).transpose()? {
            Some(Some(metadata)) => Ok(metadata),
            _ => fs::symlink_metadata(self.path(id)?),
        }
    }

    pub(super) fn lookup(&mut self, entry: Entry) -> io::Result<(Id, Metadata)> {
        if entry.0 == ROOT && entry.1 == LIMBO {
            return Err(Errno::ENOENT.into());
        }
        let metadata = fs::symlink_metadata(self.entry_path(&entry)?)?;
        Ok((self.id(entry, metadata.is_file()), metadata))
    }

    fn id(&mut self, entry: Entry, is_file: bool) -> Id {
        if let Some(id) = self.ids.get(&entry) {
            return *id;
        }
        self.last_id += 1;
        let file = is_file.then(Arc::default);
        self.ids.insert(entry.clone(), self.last_id);
        self.nodes.insert(self.last_id, Node { place: Place::At(entry), file });
        self.last_id
    }

    /// What stands in the folder `id`.
    pub(super) fn list(&mut self, id: Id) -> io::Result<Vec<(Id, OsString, fs::FileType)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.path(id)?)? {
            let entry = entry?;
            let (name, kind) = (entry.file_name(), entry.file_type()?);
            if id != ROOT || name != LIMBO {
                found.push((self.id((id, name.clone()), kind.is_file()), name, kind));
            }
        }
        Ok(found)
    }

    /// Makes a new entry by `make`, which is given its path.
    pub(super) fn create(
        &mut self,
        entry: Entry,
        make: impl FnOnce(&Path) -> io::Result<()>,
    ) -> io::Result<(Id, Metadata)> {
        let path = self.entry_path(&entry)?;
        make(&path)?;
        let metadata = fs::symlink_metadata(&path)?;
        let id = self.id(entry.clone(), metadata.is_file());
        if let Some(pending) = &mut self.pending {
            pending.changed(entry, None, Some(id));
        }
        Ok((id, metadata))
    }

    /// Unlinks a file, or removes an empty folder.
    pub(super) fn remove(&mut self, disk: &Disk, entry: Entry, is_folder: bool) -> io::Result<()> {
        let (id, metadata) = self.lookup(entry.clone())?;
        if is_folder {
            is_empty(&self.entry_path(&entry)?)?;
        }
        let place = self.take_away(&entry, id, metadata.is_dir())?;
        self.unnamed(disk, &entry, id, place, &metadata);
        if let Some(pending) = &mut self.pending {
            pending.changed(entry, Some(id), None);
        }
        Ok(())
    }

    /// Out of its folder: to where a cut finds it, or for good.
    fn take_away(&self, entry: &Entry, id: Id, is_folder: bool) -> io::Result<Place> {
        let path = self.entry_path(entry)?;
        if self.pending.as_ref().is_some_and(|pending| pending.comes_back(entry, id)) {
            fs::rename(path, self.limbo(id))?;
            return Ok(Place::Limbo);
        }
        if is_folder {
            fs::remove_dir(path)?
        } else {
            fs::remove_file(path)?
        }
        Ok(Place::Gone)
    }

    /// `id` has lost its name.
    fn unnamed(&mut self, disk: &Disk, entry: &Entry, id: Id, place: Place, metadata: &Metadata) {
        self.ids.remove(entry);
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if let Some(file) = &node.file {
            file.removed(disk, metadata.len());
            if matches!(place, Place::Gone) {
                file.forget_undo(disk);
            }
        }
        node.place = place;
    }

    /// Renames; what `to` names is replaced unless `keep`.
    pub(super) fn rename(&mut self, disk: &Disk, from: Entry, to: Entry, keep: bool) -> io::Result<()> {
        let (id, _) = self.lookup(from.clone())?;
        let replaced = match self.lookup(to.clone()) {
            Ok(_) if keep => return Err(Errno::EEXIST.into()),
            Ok(found) => Some(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let (from_path, to_path) = (self.entry_path(&from)?, self.entry_path(&to)?);
        let mut place = Place::Gone;
        if let Some((old, metadata)) = &replaced
            && self.pending.as_ref().is_some_and(|pending| pending.comes_back(&to, *old))
        {
            if metadata.is_dir() {
                is_empty(&to_path)?;
            }
            fs::rename(&to_path, self.limbo(*old))?;
            place = Place::Limbo;
        }
        fs::rename(from_path, to_path)?;
        if let Some((old, metadata)) = &replaced {
            self.unnamed(disk, &to, *old, place, metadata);
        }
        if let Some(pending) = &mut self.pending {
            pending.changed(from.clone(), Some(id), None);
            pending.changed(to.clone(), replaced.map(|(old, _)| old), Some(id));
        }
        self.ids.remove(&from);
        self.place(id, to);
        Ok(())
    }

    fn place(&mut self, id: Id, entry: Entry) {
        self.ids.insert(entry.clone(), id);
        if let Some(node) = self.nodes.get_mut(&id) {
            node.place = Place::At(entry);
        }
    }

    /// The names that a sync of `id` makes durable.
    pub(super) fn sync(&mut self, disk: &Disk, id: Id) -> io::Result<()> {
        let gone = self.pending.as_mut().map(|pending| pending.sync(id)).unwrap_or_default();
        for id in gone {
            let Some(node) = self.nodes.get_mut(&id) else { continue };
            if matches!(std::mem::replace(&mut node.place, Place::Gone), Place::Limbo) {
                let file = node.file.clone();
                let path = self.limbo(id);
                if let Some(file) = file {
                    file.forget_undo(disk);
                    fs::remove_file(path)?;
                } else {
                    fs::remove_dir(path)?;
                }
            }
        }
        Ok(())
    }

    /// The kernel has no more use for `id`.
    pub(super) fn forget(&mut self, id: Id) {
        if self.nodes.get(&id).is_some_and(|node| matches!(node.place, Place::Gone)) {
            self.nodes.remove(&id);
        }
    }

    /// The power has failed: names go back to what was synced. Returns how many entries that were.
    pub(super) fn cut(&mut self) -> io::Result<u64> {
        let changes = self.pending.take().map(|mut pending| pending.cut()).unwrap_or_default();
        // First everything out of the way, then each to its old place: so no order among them matters.
        for (entry, change) in &changes {
            if let Some(id) = change.now {
                fs::rename(self.entry_path(entry)?, self.limbo(id))?;
                self.ids.remove(entry);
                if let Some(node) = self.nodes.get_mut(&id) {
                    node.place = Place::Limbo;
                }
            }
        }
        for (entry, change) in &changes {
            if let Some(id) = change.synced {
                fs::rename(self.limbo(id), self.entry_path(entry)?)?;
                self.place(id, entry.clone());
            }
        }
        self.remove_limbo()?;
        Ok(changes.len() as u64)
    }
}

/// The entry `name` of `folder`.
pub(super) fn entry(folder: u64, name: &OsStr) -> Entry {
    (folder, name.to_owned())
}

fn is_empty(folder: &Path) -> io::Result<()> {
    if fs::read_dir(folder)?.next().is_some() { Err(Errno::ENOTEMPTY.into()) } else { Ok(()) }
}
