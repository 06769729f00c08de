//! A regular file of the layer: its newest contents in the backing folder, and the way back to what was synced.

use std::{
    fs::{File, Metadata, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
};

use nix::errno::Errno;
use rand::rngs::StdRng;

use super::{
    space::Space,
    undo::{Contents, Undo},
};

/// What all files of a mount share.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) space: Space,
    is_off: AtomicBool,
    /// Bytes put aside by all files, and the most that may be.
    kept_bytes: AtomicU64,
    kept_bytes_max: u64,
    written_back: AtomicU64,
}

impl Disk {
    pub(super) fn new(space: Space, kept_bytes_max: u64) -> Self {
        let (is_off, kept_bytes, written_back) = Default::default();
        Self { space, is_off, kept_bytes, kept_bytes_max, written_back }
    }

    /// From now on nothing reaches the disk.
    pub(super) fn power_off(&self) {
        self.is_off.store(true, SeqCst);
    }

    /// Fails once the power is off. What must not go on after that asks while it holds the lock that the cut takes.
    pub(super) fn powered(&self) -> io::Result<()> {
        if self.is_off.load(SeqCst) { Err(Errno::EIO.into()) } else { Ok(()) }
    }

    /// How often a file was written back before it was synced, because too much was put aside.
    pub(super) fn written_back(&self) -> u64 {
        self.written_back.load(SeqCst)
    }
}

impl Contents for &File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn resize_to(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }
}

/// A regular file.
#[derive(Debug, Default)]
pub(super) struct FileNode(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The backing file: while somebody has it open, or something is not synced.
    file: Option<Arc<File>>,
    opens: u32,
    undo: Option<Undo>,
    /// Unlinked while open: its space is free at the last close.
    is_removed: bool,
}

impl FileNode {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic in another request leaves a state that is whole: each field changes in one step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more has it open. `path` is where it stands in the backing folder.
    pub(super) fn open(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.backing(path)?;
        state.opens += 1;
        Ok(())
    }

    /// One fewer. Whether it is open still.
    pub(super) fn close(&self, disk: &Disk) -> bool {
        let mut state = self.state();
        state.opens = state.opens.saturating_sub(1);
        if state.opens == 0 && state.is_removed {
            let len = state.file.as_deref().and_then(|file| file.metadata().ok()).map_or(0, |metadata| metadata.len());
            disk.space.give_back(len);
            state.is_removed = false;
        }
        state.let_go();
        state.opens > 0
    }

    /// Its last name is gone; `len` bytes of space are free when nobody has it open.
    pub(super) fn removed(&self, disk: &Disk, len: u64) {
        let mut state = self.state();
        if state.opens > 0 {
            state.is_removed = true;
        } else {
            disk.space.give_back(len);
        }
    }

    /// No cut will bring it back: nothing is owed to it.
    pub(super) fn forget_undo(&self, disk: &Disk) {
        self.state().synced(disk);
    }

    /// Of an open file.
    pub(super) fn metadata(&self) -> io::Result<Option<Metadata>> {
        self.state().file.as_ref().map(|file| file.metadata()).transpose()
    }

    /// Up to `length` bytes from `offset`.
    pub(super) fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let file = self.state().file.clone().ok_or(Errno::EBADF)?;
        let (mut bytes, mut read) = (vec![0; length], 0);
        while read < length {
            match file.read_at(&mut bytes[read..], offset + read as u64)? {
                0 => break,
                n => read += n,
            }
        }
        bytes.truncate(read);
        Ok(bytes)
    }

    /// Writes what fits on the disk, and tells how much that was.
    pub(super) fn write(&self, disk: &Disk, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.state();
        disk.powered()?;
        let file = state.file.clone().ok_or(Errno::EBADF)?;
        let len = file.metadata()?.len();
        let growth = (offset + bytes.len() as u64).saturating_sub(len);
        let taken = disk.space.take(growth);
        let fitting = (bytes.len() as u64).saturating_sub(growth - taken);
        if fitting == 0 && !bytes.is_empty() {
            disk.space.give_back(taken);
            return Err(Errno::ENOSPC.into());
        }
        let bytes = &bytes[..fitting as usize];
        let written = state.change(disk, len, |undo| undo.before_write(&&*file, offset, fitting)).and_then(|()| {
            file.write_all_at(bytes, offset)?;
            Ok(bytes.len())
        });
        if written.is_err() {
            let grown = file.metadata()?.len().saturating_sub(len);
            disk.space.give_back(taken.saturating_sub(grown));
        }
        state.bound(disk);
        written
    }

    /// Cuts, or grows with zeros. `path` is where it stands, if it has a name.
    pub(super) fn set_len(&self, disk: &Disk, path: Option<&Path>, len: u64) -> io::Result<()> {
        let mut state = self.state();
        disk.powered()?;
        let file = match (&state.file, path) {
            (Some(file), _) => file.clone(),
            (None, path) => state.backing(path.ok_or(Errno::EBADF)?)?,
        };
        let was = file.metadata()?.len();
        let growth = len.saturating_sub(was);
        let taken = disk.space.take(growth);
        if taken < growth {
            disk.space.give_back(taken);
            return Err(Errno::ENOSPC.into());
        }
        if len != was {
            state.change(disk, was, |undo| undo.before_set_len(&&*file, len))?;
            file.set_len(len)?;
            disk.space.give_back(was.saturating_sub(len));
        }
        state.bound(disk);
        state.let_go();
        Ok(())
    }

    /// All that was written is on the disk.
    pub(super) fn sync(&self, disk: &Disk) -> io::Result<()> {
        let mut state = self.state();
        disk.powered()?;
        state.synced(disk);
        Ok(())
    }

    pub(super) fn is_unsynced(&self) -> bool {
        self.state().undo.is_some()
    }

    /// The power has failed. Returns the bytes that are gone, if anything was not synced.
    pub(super) fn cut(&self, survive: Option<&mut StdRng>) -> io::Result<Option<u64>> {
        let mut state = self.state();
        let Some((undo, file)) = state.undo.take().zip(state.file.clone()) else { return Ok(None) };
        undo.cut(&mut &*file, survive).map(Some)
    }
}

impl State {
    fn backing(&mut self, path: &Path) -> io::Result<Arc<File>> {
        if let Some(file) = &self.file {
            return Ok(file.clone());
        }
        // Also a file that is opened for writing alone is read, for what is put aside.
        let options = |is_written| OpenOptions::new().read(true).write(is_written).open(path);
        let file = Arc::new(options(true).or_else(|_| options(false))?);
        self.file = Some(file.clone());
        Ok(file)
    }

    /// Lets `keep` put aside what is about to change of a file of `len` bytes.
    fn change(&mut self, disk: &Disk, len: u64, keep: impl FnOnce(&mut Undo) -> io::Result<u64>) -> io::Result<()> {
        let kept = keep(self.undo.get_or_insert_with(|| Undo::new(len)))?;
        disk.kept_bytes.fetch_add(kept, SeqCst);
        Ok(())
    }

    /// When too much is put aside, this file is written back, as a kernel does that runs out of memory.
    fn bound(&mut self, disk: &Disk) {
        if disk.kept_bytes.load(SeqCst) > disk.kept_bytes_max {
            disk.written_back.fetch_add(1, SeqCst);
            self.synced(disk);
        }
    }

    fn synced(&mut self, disk: &Disk) {
        if let Some(undo) = self.undo.take() {
            disk.kept_bytes.fetch_sub(undo.kept_bytes(), SeqCst);
        }
        self.let_go();
    }

    fn let_go(&mut self) {
        if self.opens == 0 && self.undo.is_none() {
            self.file = None;
        }
    }
}
