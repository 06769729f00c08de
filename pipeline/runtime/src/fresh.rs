//! What is made of files that an operator replaces while the process runs: certificates, keys, secrets.
//!
//! Whoever needs the value asks [`Fresh::get`] each time. Files that changed are read again; if they are no good (half of a pair
//! that is being replaced, an empty file), what was made before stays, the log says so once for each state of the files, and
//! `eddy_files_refused_total` counts it. A restart would not survive such files, so the log is worth heeding.

use std::{
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// How often files of this process were no good when they had changed.
static REFUSED: AtomicU64 = AtomicU64::new(0);

/// What [`Fresh`] counts, for the metrics.
pub(crate) fn refused() -> u64 {
    REFUSED.load(Ordering::Relaxed)
}

/// What tells one state of a file from another: device, inode, size, time of change. `None`: it is not there.
type Stamp = Option<(u64, u64, u64, i64, i64)>;
type Make<T> = Box<dyn Fn() -> Result<T, String> + Send + Sync>;

/// A value that follows its files.
pub struct Fresh<T> {
    files: Vec<PathBuf>,
    make: Make<T>,
    kept: Mutex<Kept<T>>,
}

struct Kept<T> {
    value: Arc<T>,
    stamps: Vec<Stamp>,
}

impl<T> Fresh<T> {
    /// Makes the value of `files` by `make`, which reads them.
    ///
    /// # Errors
    /// What `make` says.
    pub fn new(
        files: Vec<PathBuf>,
        make: impl Fn() -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Self, String> {
        // Before they are read: what changes meanwhile is read again.
        let stamps = stamps(&files);
        let value = Arc::new(make()?);
        Ok(Self { files, make: Box::new(make), kept: Mutex::new(Kept { value, stamps }) })
    }

    /// The value of the files as they are, or were when they were last good.
    pub fn get(&self) -> Arc<T> {
        let stamps = stamps(&self.files);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if stamps != kept.stamps {
            kept.stamps = stamps;
            match (self.make)() {
                Ok(value) => {
                    kept.value = Arc::new(value);
                    tracing::info!(files = ?self.files, "read again: they had changed");
                }
                Err(problem) => {
                    REFUSED.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(files = ?self.files, problem, "no good: what was read before stays in use; put good ones there");
                }
            }
        }
        kept.value.clone()
    }
}

impl<T> std::fmt::Debug for Fresh<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the value: it is a secret.
        f.debug_struct("Fresh").field("files", &self.files).finish_non_exhaustive()
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    let stamp = |file: &PathBuf| {
        let seen = std::fs::metadata(file).ok()?;
        Some((seen.dev(), seen.ino(), seen.size(), seen.mtime(), seen.mtime_nsec()))
    };
    files.iter().map(stamp).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_changed_is_read_again_and_a_bad_one_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("number");
        let put = |text: &str| {
            std::fs::write(folder.path().join("new"), text).unwrap();
            std::fs::rename(folder.path().join("new"), &file).unwrap();
        };
        put("1");
        let read = file.clone();
        let number = move || {
            std::fs::read_to_string(&read).map_err(|e| e.to_string())?.parse::<u32>().map_err(|e| e.to_string())
        };
        let fresh = Fresh::new(vec![file.clone()], number).unwrap();
        let before = refused();
        assert_eq!(*fresh.get(), 1);
        put("22");
        assert_eq!(*fresh.get(), 22);
        put("rubbish");
        assert_eq!((*fresh.get(), *fresh.get()), (22, 22));
        std::fs::remove_file(&file).unwrap();
        assert_eq!(*fresh.get(), 22);
        assert_eq!(refused(), before + 2, "once for each state of the file");
        put("3");
        assert_eq!(*fresh.get(), 3);
    }

    #[test]
    fn files_that_are_no_good_at_first_are_told() {
        let told = Fresh::<()>::new(vec!["/nowhere".into()], || Err("it is not there".into())).unwrap_err();
        assert_eq!(told, "it is not there");
    }
}
