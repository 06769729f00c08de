//! What runs a machine of eddy, a gateway or a hub: a folder that is its own, a server, worker processes, and one file that says
//! how to reach all of it.
//!
//! Order of start: the server, its streams, the workers, the chores. Order of stop: the workers, all at once, then the server. A
//! process that dies is started again, with growing waits; one that says that starting again cannot help (exit 64 or 70) is not,
//! and what it said is told.

pub mod config;
pub mod http;
pub mod journal;
pub mod process;
pub mod register;
mod renewed;
pub mod server;
pub mod workers;

use std::{fs::File, future::Future, path::Path};

use eddy_runtime::{bus::BusError, client::ClientError, config::ConfigError};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::JoinHandle,
};

use config::MachineConfig;
use journal::Journal;
use register::{MachineFile, Register};
use server::{Access, Server, ServerPlan};
use workers::{Worker, Workers};

/// Why a machine does not come up.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    /// The config.
    #[error("bad config:\n{0}")]
    Config(#[from] ConfigError),
    /// A file or folder.
    #[error("{0}: {1}")]
    Io(String, std::io::Error),
    /// Another supervisor.
    #[error("{0} is in use by another `eddy {1}`: stop that one, or choose another --dir")]
    Busy(String, &'static str),
    /// nats-server is not found.
    #[error("nats-server: {0}")]
    NoServer(String),
    /// A worker's binary is not found.
    #[error("{0} is not there: build the stages (`make build`), or name their folder in {1}.bin_dir")]
    NoWorker(String, &'static str),
    /// The server does not come up.
    #[error("nats-server: {ending}; it said:\n  {}", said.join("\n  "))]
    Server {
        /// How it ended, or what it did not do.
        ending: String,
        /// The last lines that it printed.
        said: Vec<String>,
    },
    /// A gateway's streams.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A hub's streams.
    #[error(transparent)]
    Bus(#[from] BusError),
}

/// Which of the two it is: what its files, tables and commands are called.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// The command after `eddy`.
    pub command: &'static str,
    /// Its config table.
    pub table: &'static str,
    /// The supervisor's log in `logs/`.
    pub log: &'static str,
    /// The file that says how to reach it.
    pub file: &'static str,
}

/// What a machine is made of.
#[derive(Clone, Debug)]
pub struct MachinePlan<'a> {
    /// Gateway or hub.
    pub kind: Kind,
    /// Its folder.
    pub dir: &'a Path,
    /// Its config.
    pub config: &'a MachineConfig,
    /// The server's name.
    pub server_name: String,
    /// Where the server listens, and who may do what.
    pub access: Access,
    /// What its file says beside how to reach it.
    pub about: serde_json::Value,
    /// Whether events go to standard error.
    pub loud: bool,
}

/// A machine that runs.
#[derive(Debug)]
pub struct Machine {
    /// What is known of it.
    pub register: Register,
    config: MachineConfig,
    server: Server,
    workers: Option<Workers>,
    chores: Vec<JoinHandle<()>>,
    _lock: File,
}

impl Machine {
    /// Starts the server and returns when it is well.
    ///
    /// # Errors
    /// See [`UpError`]; what was started by then is stopped.
    pub async fn start(plan: &MachinePlan<'_>) -> Result<Self, UpError> {
        let dir = plan.dir;
        let failed = |problem| UpError::Io(dir.display().to_string(), problem);
        for folder in ["logs", "run", "state", "streams"] {
            std::fs::create_dir_all(dir.join(folder)).map_err(failed)?;
        }
        let lock = lock(dir, plan.kind.command)?;
        let journal = Journal::open(dir, plan.kind.log, plan.loud).map_err(failed)?;
        let register = Register::new(dir, plan.kind.file, journal, plan.about.clone());
        register.set_pid("eddy", Some(std::process::id()));
        let server_plan = ServerPlan { dir, name: &plan.server_name, access: &plan.access, config: plan.config };
        let server = Server::start(&server_plan, plan.kind, register.clone()).await;
        let server = server.inspect_err(|_| register.close())?;
        Ok(Self { register, config: plan.config.clone(), server, workers: None, chores: Vec::new(), _lock: lock })
    }

    /// How to reach it.
    pub fn file(&self) -> MachineFile {
        self.register.file()
    }

    /// Starts the workers.
    pub fn start_workers(&mut self, workers: Vec<Worker>) {
        self.workers = Some(Workers::start(workers, &self.config, &self.register));
    }

    /// Keeps a task that ends with the machine.
    pub fn keep(&mut self, chore: JoinHandle<()>) {
        self.chores.push(chore);
    }

    /// Stops the workers, so that everything that they were doing is settled, and leaves the server.
    pub async fn stop_workers(&mut self) {
        if let Some(workers) = self.workers.take() {
            workers.stop().await;
        }
    }

    /// Stops everything.
    pub async fn stop(mut self) {
        self.stop_workers().await;
        self.chores.iter().for_each(JoinHandle::abort);
        self.server.stop().await;
        self.register.close();
        self.register.journal.tell("stopped");
    }

    /// As a power cut does: every process ends at once, and has no say in it. Returns when none is left.
    pub async fn kill(self) {
        // Who supervises goes first, and its children with it: else it would start again what it sees dying.
        if let Some(workers) = self.workers {
            workers.kill().await;
        }
        self.server.kill().await;
        for chore in self.chores {
            chore.abort();
            let _ = chore.await;
        }
        let mut pids = self.register.file().pids;
        pids.remove("eddy");
        for pid in pids.into_values() {
            process::gone(pid).await;
        }
        self.register.close();
        self.register.journal.tell("killed");
    }

    /// Says that it is up, waits until it is asked to stop, and stops everything.
    ///
    /// # Errors
    /// That a process had to be given up.
    pub async fn attend(self, signals: &mut Signals, is_up: &str) -> anyhow::Result<()> {
        self.register.journal.tell(is_up);
        signals.asked().await;
        let given_up = self.register.given_up().borrow().clone();
        self.register.journal.tell("stopping");
        self.stop().await;
        match given_up.first() {
            None => Ok(()),
            Some(first) => anyhow::bail!("{} was given up: {}", first.name, first.ending),
        }
    }
}

/// Held as long as the file is open: one machine to a folder. Also who must know that none runs there takes it.
///
/// # Errors
/// [`UpError::Busy`] if another one has it.
pub fn lock(dir: &Path, command: &'static str) -> Result<File, UpError> {
    let path = dir.join("run").join("lock");
    let failed = |problem| UpError::Io(path.display().to_string(), problem);
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(UpError::Busy(dir.display().to_string(), command)),
        Err(std::fs::TryLockError::Error(problem)) => Err(failed(problem)),
    }
}

/// SIGTERM and SIGINT, from when it is made on.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on they ask, and do not kill.
    ///
    /// # Errors
    /// That the system has none.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Returns when one came.
    pub async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// What comes first: `work`, or that it is asked to stop. Then what was started is killed with its handles.
    pub async fn or<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = work => Some(done),
            () = self.asked() => None,
        }
    }
}
