//! An audit log: `audit.jsonl` in a folder, as `eddy_schemas::audit` has it. A hub process has one, and so has a gateway for its operators' words.
//!
//! A call is written when it ends. A decision is on disk before anybody hears of it. At its bound a file is closed and lies beside the new
//! one; nothing is ever deleted here: when all files together have reached their bound, nothing is taken any more, and what cannot
//! be logged is not done. Old files may be moved away at any time.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use eddy_schemas::audit::{self, AuditProblem, Chain, Entry, FILE, Head};

use crate::clock::Clock;

/// Calls leave that part of the bound to decisions.
const RESERVED: u64 = 20;
/// Calls are on disk once there are so many bytes of them: a power cut takes no more, and closing a file does not take long.
const SYNC_BYTES: u64 = 1 << 20;

/// Bounds of the log.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of a file.
    pub file_bytes_max: u64,
    /// Bytes of all files.
    pub bytes_max: u64,
    /// The config key that says so; empty: it is fixed.
    pub key: &'static str,
}

/// Why something cannot be logged.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The disk's.
    #[error("audit log in {folder}: {source}")]
    Io {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is there is not what was written.
    #[error("audit log: {0}; move that file elsewhere to look into it: the log then goes on from the file before it")]
    Broken(AuditProblem),
    /// Another process writes it.
    #[error("audit log in {folder} is in use by another process: stop that one first")]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
    /// No room.
    #[error("audit log in {folder} has reached its {bytes_max} bytes: move audit-*.jsonl elsewhere{}", or_raise(key))]
    Full {
        /// The folder.
        folder: PathBuf,
        /// The bound.
        bytes_max: u64,
        /// See [`Bounds::key`].
        key: &'static str,
    },
    /// A line that was half written could not be taken back.
    #[error("audit log in {folder} has a half-written line: start its process again")]
    Torn {
        /// The folder.
        folder: PathBuf,
    },
}

fn or_raise(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!(", or raise {key}") }
}

/// The log, for the one process that writes it.
pub struct Audit {
    folder: PathBuf,
    bounds: Bounds,
    clock: Arc<dyn Clock>,
    open: Mutex<Open>,
    /// Held as long as the file is open.
    _lock: File,
}

/// The file that is written.
struct Open {
    file: Arc<File>,
    /// Its bytes.
    bytes: u64,
    /// Number of its first entry.
    first: u64,
    head: Head,
    /// Bytes of it that may not be on disk yet.
    unsynced: u64,
    /// Bytes of the other files, as of the last count.
    others: u64,
    torn: bool,
}

impl Audit {
    /// Opens or begins the log in `folder`. A last line that a crash left half-written is dropped, which is logged.
    ///
    /// # Errors
    /// If the folder cannot be used, another process has it, or a line is not what was written.
    pub fn open(folder: &Path, bounds: Bounds, clock: Arc<dyn Clock>) -> Result<Self, AuditError> {
        let failed = |source| AuditError::Io { folder: folder.to_owned(), source };
        let lock = lock(folder)?;
        let files = audit::files(folder).map_err(failed)?;
        let (mut chain, mut first) = (Chain::default(), None);
        let path = folder.join(FILE);
        // Of the files that are full only the last one tells where the chain stands.
        if let Some(full) = files.iter().rfind(|file| **file != path) {
            let ended = audit::read_file(full, &mut chain, |_, _| {}).map_err(AuditError::Broken)?;
            if let Some(torn) = ended.torn {
                let problem = "it does not end: it was cut".into();
                let problem = AuditProblem::Wrong { path: full.clone(), line: torn.line, problem };
                return Err(AuditError::Broken(problem));
            }
        }
        let file = File::options().create(true).append(true).open(&path).map_err(failed)?;
        let read = |_: &Entry, head: &Head| first = first.or(Some(head.seq));
        let ended = audit::read_file(&path, &mut chain, read).map_err(AuditError::Broken)?;
        let head = chain.head.unwrap_or(Head::START);
        if ended.torn.is_some() {
            file.set_len(ended.sound_bytes).map_err(failed)?;
        }
        file.sync_all().and_then(|()| sync_folder(folder)).map_err(failed)?;
        let open = Open {
            file: Arc::new(file),
            bytes: ended.sound_bytes,
            unsynced: 0,
            first: first.unwrap_or(head.seq + 1),
            head,
            others: others(folder).map_err(failed)?,
            torn: false,
        };
        let audit = Self { folder: folder.to_owned(), bounds, clock, open: Mutex::new(open), _lock: lock };
        if let Some(torn) = ended.torn {
            let detail =
                format!("{} bytes of a line that was not finished are dropped after entry {}", torn.bytes, head.seq);
            tracing::warn!(detail, "audit log");
            audit.decide("audit", "open", "ok", &detail)?;
        }
        // Kept elsewhere it shows a log whose end was cut off (`eddy audit verify --holds`).
        tracing::info!(head = %audit.head(), "audit log");
        Ok(audit)
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, source: io::Error) -> AuditError {
        AuditError::Io { folder: self.folder.clone(), source }
    }

    /// Its last entry: kept elsewhere it tells later whether lines are missing at the end.
    pub fn head(&self) -> Head {
        self.lock().head
    }

    /// Logs a call. It is with the operating system when this returns: a crash of the process loses nothing.
    ///
    /// # Errors
    /// That it is not logged.
    pub fn log(&self, who: &str, what: &str, outcome: &str, detail: &str) -> Result<Head, AuditError> {
        let bound = self.bounds.bytes_max - self.bounds.bytes_max / RESERVED;
        let (head, file, unsynced) = self.write([who, what, outcome, detail], bound)?;
        if unsynced >= SYNC_BYTES {
            self.sync(&file)?;
        }
        Ok(head)
    }

    /// Logs a decision. It is on disk when this returns.
    ///
    /// # Errors
    /// That it is not logged, or perhaps not on disk.
    pub fn decide(&self, who: &str, what: &str, outcome: &str, detail: &str) -> Result<Head, AuditError> {
        let (head, file, _) = self.write([who, what, outcome, detail], self.bounds.bytes_max)?;
        self.sync(&file)?;
        Ok(head)
    }

    /// Outside the lock: others write meanwhile. A file that was closed since is on disk already.
    fn sync(&self, file: &File) -> Result<(), AuditError> {
        self.lock().unsynced = 0;
        file.sync_data().map_err(|error| self.failed(error))
    }

    fn write(&self, texts: [&str; 4], bound: u64) -> Result<(Head, Arc<File>, u64), AuditError> {
        let mut open = self.lock();
        if open.torn {
            return Err(AuditError::Torn { folder: self.folder.clone() });
        }
        let (line, head) = Entry::new(&open.head, self.clock.now(), texts).line();
        let length = line.len() as u64;
        if open.bytes > 0 && open.bytes + length > self.bounds.file_bytes_max {
            self.close_full(&mut open).map_err(|error| self.failed(error))?;
        }
        if open.others + open.bytes + length > bound {
            // Files may have been moved away since.
            open.others = others(&self.folder).map_err(|error| self.failed(error))?;
            if open.others + open.bytes + length > bound {
                let Bounds { bytes_max, key, .. } = self.bounds;
                return Err(AuditError::Full { folder: self.folder.clone(), bytes_max, key });
            }
        }
        if let Err(error) = (&*open.file).write_all(line.as_bytes()) {
            // A full disk takes the first part of a line.
            open.torn = open.file.set_len(open.bytes).is_err();
            return Err(self.failed(error));
        }
        (open.bytes, open.unsynced, open.head) = (open.bytes + length, open.unsynced + length, head);
        Ok((head, open.file.clone(), open.unsynced))
    }

    /// Puts the full file beside a new one.
    fn close_full(&self, open: &mut Open) -> io::Result<()> {
        open.file.sync_all()?;
        let path = self.folder.join(FILE);
        let full = self.folder.join(audit::rotated(open.first));
        // Never over another one, whoever put it there.
        if full.try_exists()? {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{} is there already", full.display())));
        }
        fs::rename(&path, &full)?;
        let file = File::options().create_new(true).append(true).open(&path)?;
        sync_folder(&self.folder)?;
        (open.file, open.first) = (Arc::new(file), open.head.seq + 1);
        (open.bytes, open.unsynced) = (0, 0);
        open.others = others(&self.folder)?;
        let (held, bound) = (open.others, self.bounds.bytes_max);
        tracing::info!(file = %full.display(), head = %open.head, "an audit file is full");
        if held > bound / 2 {
            let raise = or_raise(self.bounds.key);
            tracing::warn!(held, bound, "the audit log fills up: move audit-*.jsonl elsewhere{raise}");
        }
        Ok(())
    }
}

fn lock(folder: &Path) -> Result<File, AuditError> {
    let failed = |source| AuditError::Io { folder: folder.to_owned(), source };
    fs::create_dir_all(folder).map_err(failed)?;
    let path = folder.join("audit.lock");
    let file = File::options().create(true).truncate(false).write(true).open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(AuditError::InUse { folder: folder.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Bytes of the files that are full.
fn others(folder: &Path) -> io::Result<u64> {
    let path = folder.join(FILE);
    let full = audit::files(folder)?.into_iter().filter(|file| *file != path);
    full.map(|file| fs::metadata(file).map(|data| data.len())).sum()
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests;
