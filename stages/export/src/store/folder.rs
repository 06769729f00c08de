//! A folder: a file is written beside its place under another name, brought to disk, and renamed.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, RenameFlags, renameat2},
};

use super::StoreError;

/// What the names of files that are not complete begin with; readers of Parquet folders leave such names out.
const UNFINISHED: &str = ".eddy-";

/// See the module.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
}

impl Folder {
    pub(super) fn open(path: &str) -> Result<Self, StoreError> {
        let root = PathBuf::from(path);
        fs::create_dir_all(&root).map_err(|error| failed(&root, "making the folder", &error))?;
        Ok(Self { root })
    }

    pub(super) fn put(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.root.join(name);
        self.written(&path, bytes, |unfinished| fs::rename(unfinished, &path))
            .map_err(|error| failed(&path, "writing", &error))
    }

    pub(super) fn create(&self, name: &str, bytes: &[u8]) -> Result<bool, StoreError> {
        let path = self.root.join(name);
        match self.written(&path, bytes, |unfinished| rename_new(unfinished, &path)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(failed(&path, "writing", &error)),
        }
    }

    fn written(&self, path: &Path, bytes: &[u8], place: impl Fn(&Path) -> io::Result<()>) -> io::Result<()> {
        let folder = path.parent().unwrap_or(&self.root);
        fs::create_dir_all(folder)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // One name for all writers: what a killed one left is overwritten by the next, and two take turns.
        let unfinished = folder.join(format!("{UNFINISHED}{name}"));
        let mut file = own(&unfinished)?;
        let to_disk = |file: &mut File| {
            file.set_len(0)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        if let Err(error) = to_disk(&mut file).and_then(|()| place(&unfinished)) {
            // It is this writer's: the lock is held until `file` is dropped.
            let _ = fs::remove_file(&unfinished);
            return Err(error);
        }
        File::open(folder)?.sync_all()
    }

    pub(super) fn get(&self, name: &str) -> Result<Option<Bytes>, StoreError> {
        let path = self.root.join(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(&path, "reading", &error)),
        }
    }

    pub(super) fn list(&self, folder: &str) -> Result<Vec<(String, u64)>, StoreError> {
        let mut files = Vec::new();
        let path = self.root.join(folder);
        self.walk(&path, &mut files).map_err(|error| failed(&path, "listing", &error))?;
        Ok(files)
    }

    fn walk(&self, folder: &Path, files: &mut Vec<(String, u64)>) -> io::Result<()> {
        let entries = match folder.read_dir() {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                self.walk(&path, files)?;
                continue;
            }
            let is_unfinished = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(UNFINISHED));
            if let (false, Ok(name)) = (is_unfinished, path.strip_prefix(&self.root)) {
                files.push((name.to_string_lossy().into_owned(), path.metadata()?.len()));
            }
        }
        Ok(())
    }

    pub(super) fn delete(&self, name: &str) -> Result<(), StoreError> {
        let path = self.root.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(&path, "removing", &error)),
            _ => Ok(()),
        }
    }
}

/// Opens an unfinished file for this writer alone, until it is dropped.
fn own(path: &Path) -> io::Result<File> {
    loop {
        let file = File::options().write(true).create(true).truncate(false).open(path)?;
        file.lock()?;
        let own = file.metadata()?;
        match fs::metadata(path) {
            // A writer that was killed between its link and the removal: the file is a finished one's, too.
            Ok(there) if there.ino() == own.ino() && own.nlink() > 1 => fs::remove_file(path)?,
            Ok(there) if there.ino() == own.ino() => return Ok(file),
            // Whoever had it before put it in its place: another one is to be made.
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
}

/// Renames a file if there is none of the new name.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
        // A file system that cannot do that, NFS for one: a link is refused where there is a file.
        Err(Errno::EINVAL | Errno::ENOSYS | Errno::ENOTSUP) => {
            let linked = fs::hard_link(from, to);
            fs::remove_file(from).and(linked)
        }
        renamed => renamed.map_err(io::Error::from),
    }
}

fn failed(path: &Path, what: &str, error: &io::Error) -> StoreError {
    let hint = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "; make room and run the export again, it goes on where it was"
        }
        ErrorKind::PermissionDenied => "; may this user write there?",
        _ => "",
    };
    StoreError { what: format!("{what} {}", path.display()), problem: format!("{error}{hint}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_that_create_a_file_one_does() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path().to_str().unwrap()).unwrap();
        assert!(folder.create("a/b.json", b"one").unwrap());
        assert!(!folder.create("a/b.json", b"two").unwrap());
        assert_eq!(folder.get("a/b.json").unwrap().unwrap(), "one");
        folder.put("a/b.json", b"three").unwrap();
        assert_eq!(folder.list("a").unwrap(), [("a/b.json".to_owned(), 5)]);
        folder.delete("a/b.json").unwrap();
        assert_eq!((folder.get("a/b.json").unwrap(), folder.list("").unwrap()), (None, vec![]));
    }

    #[test]
    fn writers_of_one_name_take_turns_and_none_touches_what_is_finished() {
        let root = tempfile::tempdir().unwrap();
        let open = || Folder::open(root.path().to_str().unwrap()).unwrap();
        std::thread::scope(|scope| {
            for writer in 0..4_u8 {
                let folder = open();
                scope.spawn(move || {
                    for _ in 0..20 {
                        folder.put("a/x.parquet", &vec![writer; 10_000]).unwrap();
                        folder.create("a/r.json", &[writer; 100]).unwrap();
                    }
                });
            }
        });
        let (file, record) = (open().get("a/x.parquet").unwrap().unwrap(), open().get("a/r.json").unwrap().unwrap());
        assert!(file.len() == 10_000 && file.iter().all(|byte| *byte == file[0]));
        assert!(record.len() == 100 && record.iter().all(|byte| *byte == record[0]));
        assert_eq!(fs::read_dir(root.path().join("a")).unwrap().count(), 2);
        // Killed between the link and the removal of the other name.
        fs::hard_link(root.path().join("a/r.json"), root.path().join("a/.eddy-r.json")).unwrap();
        assert!(!open().create("a/r.json", b"another").unwrap());
        assert_eq!(open().get("a/r.json").unwrap().unwrap(), record);
    }

    #[test]
    fn what_a_killed_writer_left_is_no_file() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path().to_str().unwrap()).unwrap();
        fs::write(root.path().join(".eddy-x.parquet"), b"half").unwrap();
        assert_eq!(folder.list("").unwrap(), []);
        folder.put("x.parquet", b"whole").unwrap();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }
}
