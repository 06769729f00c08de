//! What the supervisor says: on standard error, and in a log beside its processes'.

use std::{
    fs::File,
    io::Write as _,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

/// Takes the supervisor's events. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Journal {
    loud: bool,
    file: Arc<Mutex<File>>,
}

impl Journal {
    /// Appends to `logs/<name>` in `dir`; also tells standard error if `loud`.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn open(dir: &Path, name: &str, loud: bool) -> std::io::Result<Self> {
        let logs = dir.join("logs");
        std::fs::create_dir_all(&logs)?;
        let file = File::options().append(true).create(true).open(logs.join(name))?;
        Ok(Self { loud, file: Arc::new(Mutex::new(file)) })
    }

    /// Tells one event.
    pub fn tell(&self, event: &str) {
        let now = eddy_schemas::rfc3339(crate::now() / 1_000_000 * 1_000_000);
        if self.loud {
            eprintln!("{now}  {event}");
        }
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // A journal that cannot be written must not stop what it tells of.
        let _ = writeln!(file, "{now}  {event}");
    }
}
