//! What runs: `gateway.json`, kept up to date, and what was given up.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;

use super::journal::Journal;
use crate::gateway::GatewayFile;

/// A process that will not be started again, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenUp {
    /// Its name.
    pub name: String,
    /// How it ended.
    pub ending: String,
    /// The last lines that it printed.
    pub said: Vec<String>,
}

/// Shared by everything that supervises. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Register {
    dir: PathBuf,
    /// Where events are told.
    pub journal: Journal,
    file: Arc<Mutex<GatewayFile>>,
    given_up: watch::Sender<Vec<GivenUp>>,
}

impl Register {
    /// Of the gateway in `dir`.
    pub fn new(dir: &Path, journal: Journal, file: GatewayFile) -> Self {
        let (given_up, _) = watch::channel(Vec::new());
        Self { dir: dir.to_owned(), journal, file: Arc::new(Mutex::new(file)), given_up }
    }

    /// Changes the file, on disk too.
    pub fn update(&self, change: impl FnOnce(&mut GatewayFile)) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut file);
        if let Err(problem) = file.write(&self.dir) {
            self.journal.tell(&format!("gateway.json in {} cannot be written: {problem}", self.dir.display()));
        }
    }

    /// A process started, or is gone.
    pub fn set_pid(&self, name: &str, pid: Option<u32>) {
        self.update(|file| {
            file.http.remove(name);
            match pid {
                Some(pid) => file.pids.insert(name.to_owned(), pid),
                None => file.pids.remove(name),
            };
        });
    }

    /// The file as it stands.
    pub fn file(&self) -> GatewayFile {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A process will not be started again.
    pub fn give_up(&self, given_up: GivenUp) {
        self.journal.tell(&format!("{}: {}; not started again. It said:", given_up.name, given_up.ending));
        for line in &given_up.said {
            self.journal.tell(&format!("  {line}"));
        }
        self.update(|file| drop(file.given_up.insert(given_up.name.clone(), given_up.ending.clone())));
        self.given_up.send_modify(|all| all.push(given_up));
    }

    /// Follows what was given up.
    pub fn given_up(&self) -> watch::Receiver<Vec<GivenUp>> {
        self.given_up.subscribe()
    }

    /// Nothing runs any more.
    pub fn close(&self) {
        GatewayFile::remove(&self.dir);
    }
}
