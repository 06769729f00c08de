//! The layer in the kernel's protocol: requests in, answers out.
//!
//! The page cache is left on, for maps need it, and it cannot be stale: nothing changes the files but by this mount. The
//! kernel passes each write on before it returns to the writer (no write-back cache); only what a process stores into a
//! shared map comes later. After a write to a file that is open with `O_SYNC` or `O_DSYNC` the kernel asks for an fsync
//! by itself. What has no answer here the kernel does by itself (locks, seeks) or refuses (hard links, device files).

use std::{
    ffi::OsStr,
    fs::{self, FileType as StdFileType, Metadata, Permissions},
    io,
    os::unix::fs::{FileTypeExt as _, MetadataExt, PermissionsExt},
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner,
    OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use nix::{
    fcntl::AT_FDCWD,
    sys::{
        stat::{UtimensatFlags, utimensat},
        statvfs::statvfs,
        time::TimeSpec,
    },
};

use super::{
    entries::Id,
    layer::{Layer, Made},
    space::ENTRY_BYTES,
    tree::{ROOT, entry},
};

/// How long the kernel may believe what it was told: nothing changes but by it.
const TTL: Duration = Duration::from_secs(60);

/// The layer as a file system.
pub(super) struct Fuse(pub(super) Arc<Layer>);

fn errno(error: io::Error) -> Errno {
    Errno::from_i32(error.raw_os_error().unwrap_or(nix::errno::Errno::EIO as i32))
}

fn time(seconds: i64, nanoseconds: i64) -> SystemTime {
    let (seconds, nanoseconds) = (u64::try_from(seconds).unwrap_or(0), u64::try_from(nanoseconds).unwrap_or(0));
    UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds)
}

fn kind(kind: StdFileType) -> FileType {
    FileType::from_std(kind).unwrap_or(if kind.is_fifo() { FileType::NamedPipe } else { FileType::RegularFile })
}

fn attr(id: Id, metadata: &Metadata) -> FileAttr {
    let changed = time(metadata.ctime(), metadata.ctime_nsec());
    FileAttr {
        ino: INodeNo(id),
        size: metadata.len(),
        blocks: metadata.blocks(),
        atime: time(metadata.atime(), metadata.atime_nsec()),
        mtime: time(metadata.mtime(), metadata.mtime_nsec()),
        ctime: changed,
        crtime: changed,
        kind: kind(metadata.file_type()),
        perm: (metadata.mode() & 0o7777) as u16,
        nlink: metadata.nlink() as u32,
        uid: metadata.uid(),
        gid: metadata.gid(),
        rdev: 0,
        blksize: metadata.blksize() as u32,
        flags: 0,
    }
}

fn made(request: &Request, mode: u32, umask: u32) -> Made {
    Made { mode: mode & !umask, uid: request.uid(), gid: request.gid() }
}

fn set_times(path: &Path, atime: Option<TimeOrNow>, mtime: Option<TimeOrNow>) -> io::Result<()> {
    let spec = |time: Option<TimeOrNow>| match time {
        None => TimeSpec::UTIME_OMIT,
        Some(TimeOrNow::Now) => TimeSpec::UTIME_NOW,
        Some(TimeOrNow::SpecificTime(time)) => {
            TimeSpec::from_duration(time.duration_since(UNIX_EPOCH).unwrap_or_default())
        }
    };
    Ok(utimensat(AT_FDCWD, path, &spec(atime), &spec(mtime), UtimensatFlags::NoFollowSymlink)?)
}

fn answer(reply: ReplyEmpty, result: io::Result<()>) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(errno(error)),
    }
}

fn answer_entry(reply: ReplyEntry, result: io::Result<(Id, Metadata)>) {
    match result {
        Ok((id, metadata)) => reply.entry(&TTL, &attr(id, &metadata), Generation(0)),
        Err(error) => reply.error(errno(error)),
    }
}

impl Filesystem for Fuse {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        answer_entry(reply, self.0.lookup(entry(parent.0, name)));
    }

    fn forget(&self, _: &Request, ino: INodeNo, _: u64) {
        self.0.forget(ino.0);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.0.metadata(ino.0) {
            Ok(metadata) => reply.attr(&TTL, &attr(ino.0, &metadata)),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = || {
            if let Some(len) = size {
                self.0.set_len(ino.0, len)?;
            }
            if let Some(mode) = mode {
                self.0.at_path(ino.0, |path| fs::set_permissions(path, Permissions::from_mode(mode & 0o7777)))?;
            }
            if uid.is_some() || gid.is_some() {
                self.0.at_path(ino.0, |path| std::os::unix::fs::lchown(path, uid, gid))?;
            }
            if atime.is_some() || mtime.is_some() {
                self.0.at_path(ino.0, |path| set_times(path, atime, mtime))?;
            }
            self.0.metadata(ino.0)
        };
        match set() {
            Ok(metadata) => reply.attr(&TTL, &attr(ino.0, &metadata)),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        answer_entry(reply, self.0.create_folder(entry(parent.0, name), made(request, mode, umask)));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(reply, self.0.remove(entry(parent.0, name), false));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(reply, self.0.remove(entry(parent.0, name), true));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if !(flags - RenameFlags::RENAME_NOREPLACE).is_empty() {
            return reply.error(Errno::EINVAL);
        }
        let keep = flags.contains(RenameFlags::RENAME_NOREPLACE);
        answer(reply, self.0.rename(entry(parent.0, name), entry(newparent.0, newname), keep));
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.0.open(ino.0) {
            Ok(()) => reply.opened(FileHandle(ino.0), FopenFlags::FOPEN_KEEP_CACHE),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        match self.0.create(entry(parent.0, name), made(request, mode, umask)) {
            Ok((id, metadata)) => {
                let attr = attr(id, &metadata);
                reply.created(&TTL, &attr, Generation(0), FileHandle(id), FopenFlags::FOPEN_KEEP_CACHE);
            }
            Err(error) => reply.error(errno(error)),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.0.file(ino.0).and_then(|file| file.read(offset, size as usize)) {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.0.file(ino.0).and_then(|file| file.write(&self.0.disk, offset, data)) {
            // A request holds at most `max_write` bytes, which is a u32.
            Ok(written) => reply.written(written as u32),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.0.close(ino.0);
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer(reply, self.0.sync(ino.0));
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer(reply, self.0.sync_folder(ino.0));
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.0.open_folder(ino.0) {
            Ok(number) => reply.opened(FileHandle(number), FopenFlags::empty()),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn readdir(&self, _: &Request, ino: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let listing = match self.0.listing(fh.0) {
            Ok(listing) => listing,
            Err(error) => return reply.error(errno(error)),
        };
        let dots = [(ino.0, OsStr::new("."), FileType::Directory), (ROOT, OsStr::new(".."), FileType::Directory)];
        let found = listing.iter().map(|(id, name, of)| (*id, name.as_os_str(), kind(*of)));
        // An entry's offset is where to go on after it.
        for (next, (id, name, kind)) in (1..).zip(dots.into_iter().chain(found)).skip(offset as usize) {
            if reply.add(INodeNo(id), next, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(&self, _: &Request, _: INodeNo, fh: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.0.close_folder(fh.0);
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let mut found = None;
        if let Err(error) = self.0.at_path(ROOT, |path| {
            found = Some(statvfs(path)?);
            Ok(())
        }) {
            return reply.error(errno(error));
        }
        let Some(disk) = found else { return reply.error(Errno::EIO) };
        let space = &self.0.disk.space;
        let (blocks, free, block) = match space.limit() {
            Some(limit) => (limit / ENTRY_BYTES, space.free() / ENTRY_BYTES, ENTRY_BYTES),
            None => (disk.blocks(), disk.blocks_available(), disk.fragment_size()),
        };
        reply.statfs(blocks, free, free, disk.files(), disk.files_free(), block as u32, 255, block as u32);
    }
}
