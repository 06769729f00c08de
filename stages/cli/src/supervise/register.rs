//! What runs: the machine's file, kept up to date, and what was given up.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::sync::watch;

use super::journal::Journal;

/// How to reach what runs on a machine: in `DIR/gateway.json` or `DIR/hub.json`, beside what tells the two apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineFile {
    /// The bus.
    pub url: String,
    /// The server's monitoring address.
    pub monitoring: String,
    /// Process ids: `eddy` itself, `nats-server`, and each worker.
    pub pids: BTreeMap<String, u32>,
    /// Per worker the address of its `/metrics` and `/healthz`.
    pub http: BTreeMap<String, String>,
    /// What is not started again, and how it ended.
    #[serde(default)]
    pub given_up: BTreeMap<String, String>,
}

/// Reads the file `name` of the machine in `dir`; `None` if there is none or it is no such file.
pub fn read<F: DeserializeOwned>(dir: &Path, name: &str) -> Option<F> {
    serde_json::from_slice(&std::fs::read(dir.join(name)).ok()?).ok()
}

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
    name: &'static str,
    /// Where events are told.
    pub journal: Journal,
    about: Arc<serde_json::Value>,
    file: Arc<Mutex<MachineFile>>,
    /// How often each process was started.
    starts: Arc<Mutex<BTreeMap<String, u64>>>,
    given_up: watch::Sender<Vec<GivenUp>>,
}

impl Register {
    /// Of the machine in `dir`, whose file is called `name` and says what `about` does too.
    pub fn new(dir: &Path, name: &'static str, journal: Journal, about: serde_json::Value) -> Self {
        let (given_up, _) = watch::channel(Vec::new());
        let (file, starts) = (Arc::default(), Arc::default());
        Self { dir: dir.to_owned(), name, journal, about: Arc::new(about), file, starts, given_up }
    }

    /// Changes the file, on disk too.
    pub fn update(&self, change: impl FnOnce(&mut MachineFile)) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut file);
        if let Err(problem) = self.write(&file) {
            self.journal.tell(&format!("{} in {} cannot be written: {problem}", self.name, self.dir.display()));
        }
    }

    /// In one step: nobody reads half of it.
    fn write(&self, file: &MachineFile) -> std::io::Result<()> {
        let mut all = serde_json::to_value(file)?;
        if let (Some(all), Some(about)) = (all.as_object_mut(), self.about.as_object()) {
            all.extend(about.clone());
        }
        let (path, draft) = (self.dir.join(self.name), self.dir.join(format!(".{}.draft", self.name)));
        std::fs::write(&draft, serde_json::to_vec_pretty(&all)?)?;
        std::fs::rename(draft, path)
    }

    /// A process started, or is gone.
    pub fn set_pid(&self, name: &str, pid: Option<u32>) {
        if pid.is_some() {
            *self.starts.lock().unwrap_or_else(PoisonError::into_inner).entry(name.to_owned()).or_default() += 1;
        }
        self.update(|file| {
            file.http.remove(name);
            match pid {
                Some(pid) => file.pids.insert(name.to_owned(), pid),
                None => file.pids.remove(name),
            };
        });
    }

    /// How often each process was started again.
    pub fn restarts(&self) -> BTreeMap<String, u64> {
        let starts = self.starts.lock().unwrap_or_else(PoisonError::into_inner);
        starts.iter().map(|(name, starts)| (name.clone(), starts - 1)).collect()
    }

    /// The file as it stands.
    pub fn file(&self) -> MachineFile {
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

    /// Nothing runs any more: the file goes.
    pub fn close(&self) {
        // It may be gone already; there is nothing else to do about it.
        let _ = std::fs::remove_file(self.dir.join(self.name));
    }
}
