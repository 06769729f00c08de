//! Holding the janitor: it removes nothing while somebody copies the streams. A lock on a file, so that it ends with who holds it.

use std::{
    fs::{File, TryLockError},
    io,
    path::Path,
    time::Duration,
};

const FILE: &str = "run/janitor.lock";

/// The janitor's turn, as long as the file is open; `None` while somebody else has it.
///
/// # Errors
/// That the lock's file cannot be opened.
pub fn try_janitor(dir: &Path) -> io::Result<Option<File>> {
    let file = File::options().create(true).truncate(false).write(true).open(dir.join(FILE))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(problem)) => Err(problem),
    }
}

/// Waits for the end of the janitor's round, and holds it off as long as the file is open.
///
/// # Errors
/// That the lock's file cannot be opened.
pub async fn janitor(dir: &Path) -> io::Result<File> {
    loop {
        if let Some(held) = try_janitor(dir)? {
            return Ok(held);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_has_it_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("run")).unwrap();
        let held = janitor(dir.path()).await.unwrap();
        assert!(try_janitor(dir.path()).unwrap().is_none());
        drop(held);
        assert!(try_janitor(dir.path()).unwrap().is_some());
    }
}
