//! The worker processes: started, and started again unless they say that it cannot help.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tokio::{process::Child, sync::watch, task::JoinHandle};

use super::{
    config::MachineConfig,
    process::{self, Program, Restarts},
    register::{GivenUp, Register},
};

/// Bad config, and positions that do not fit: the same start would end in the same way.
const EXITS_FOR_GOOD: [i32; 2] = [64, 70];
/// How often logs are looked at, and a worker's address is asked for.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A worker process to be: a stage, or a hub.
#[derive(Clone, Debug)]
pub struct Worker {
    program: Program,
    address_file: PathBuf,
}

impl Worker {
    /// Called `name` in the machine in `dir`, with its state below it in `state`; it reads `config_file` if there is one.
    pub fn new(
        dir: &Path,
        name: String,
        binary: PathBuf,
        config_file: Option<&Path>,
        mut environment: Vec<(String, OsString)>,
    ) -> Self {
        let address_file = dir.join("run").join(format!("{name}.address"));
        environment.push(("EDDY_TELEMETRY_ADDRESS_FILE".to_owned(), address_file.clone().into()));
        let mut arguments = vec!["run".into()];
        if let Some(file) = config_file {
            arguments.extend(["--config".into(), file.into()]);
        }
        let log = dir.join("logs").join(format!("{name}.log"));
        Self { program: Program { name, binary, arguments, environment, log }, address_file }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.program.name
    }

    /// What it is an instance of: its name without a shard.
    pub fn stage(&self) -> &str {
        self.name().split('-').next().unwrap_or_default()
    }

    /// Its binary.
    pub fn binary(&self) -> &Path {
        &self.program.binary
    }

    /// Its arguments, with another command than `run`.
    pub fn arguments(&self, command: &str) -> Vec<OsString> {
        [OsString::from(command)].into_iter().chain(self.program.arguments.iter().skip(1).cloned()).collect()
    }

    /// What is added to its environment.
    pub fn environment(&self) -> impl Iterator<Item = (&str, &OsString)> {
        self.program.environment.iter().map(|(name, value)| (name.as_str(), value))
    }
}

/// Worker processes that are supervised.
#[derive(Debug)]
pub struct Workers {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts all of them.
    pub fn start(workers: Vec<Worker>, config: &MachineConfig, register: &Register) -> Self {
        let (stop, _) = watch::channel(false);
        let start =
            |worker: Worker| tokio::spawn(supervise(worker, config.clone(), register.clone(), stop.subscribe()));
        let tasks = workers.into_iter().map(start).collect();
        Self { stop, tasks }
    }

    /// Stops all of them, at the same time.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        for task in self.tasks {
            // A task that panicked has dropped, and so killed, its child.
            let _ = task.await;
        }
    }

    /// Kills all of them, at the same time, as by SIGKILL.
    pub async fn kill(self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        for task in self.tasks {
            // It was aborted: its child was killed as it was dropped.
            let _ = task.await;
        }
    }
}

async fn supervise(worker: Worker, config: MachineConfig, register: Register, mut stop: watch::Receiver<bool>) {
    let name = worker.program.name.as_str();
    let grace = Duration::from_secs(config.stop_grace_s);
    let (min, max) = (config.restart_wait_ms_min, config.restart_wait_ms_max);
    let mut restarts = Restarts::new(Duration::from_millis(min), Duration::from_millis(max), config.restarts_max);
    loop {
        let started = Instant::now();
        // An address of an earlier run would be somebody else's by now.
        let _ = std::fs::remove_file(&worker.address_file);
        let (why, for_good) = match worker.program.start() {
            Err(problem) => (problem.to_string(), false),
            Ok(mut child) => {
                register.set_pid(name, child.id());
                register.journal.tell(&format!("{name}: started, process {}", child.id().unwrap_or_default()));
                let ended = tokio::select! {
                    status = child.wait() => status,
                    () = watch_over(&worker, &config, &register) => return,
                    () = process::asked(&mut stop) => {
                        stop_worker(name, &mut child, grace, &register).await;
                        return;
                    }
                };
                register.set_pid(name, None);
                match ended {
                    Ok(status) => {
                        (process::ending(status), status.code().is_some_and(|code| EXITS_FOR_GOOD.contains(&code)))
                    }
                    Err(problem) => (problem.to_string(), false),
                }
            }
        };
        let wait = restarts.next(started.elapsed()).filter(|_| !for_good);
        let Some(wait) = wait else {
            register.give_up(GivenUp { name: name.to_owned(), ending: why, said: worker.program.said() });
            return;
        };
        let said = worker.program.said().pop().map_or_else(String::new, |last| format!("; it said: {last}"));
        register.journal.tell(&format!("{name}: {why}; starting again in {wait:?}{said}"));
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = process::asked(&mut stop) => return,
        }
    }
}

async fn stop_worker(name: &str, child: &mut Child, grace: Duration, register: &Register) {
    let started = Instant::now();
    let ending = process::stop(child, grace).await.map_or("unknown".to_owned(), process::ending);
    register.set_pid(name, None);
    register.journal.tell(&format!("{name}: stopped ({ending}) in {} ms", started.elapsed().as_millis()));
}

/// Cuts the log, and tells the worker's address once it is known. Does not end.
async fn watch_over(worker: &Worker, config: &MachineConfig, register: &Register) {
    let mut known = false;
    loop {
        let wait = if known { LOOK_EVERY } else { Duration::from_millis(100) };
        tokio::time::sleep(wait).await;
        worker.program.cut_log(config.log_mb_max << 20);
        if !known && let Ok(address) = std::fs::read_to_string(&worker.address_file) {
            let name = worker.program.name.clone();
            register.update(|file| drop(file.http.insert(name, format!("http://{}", address.trim()))));
            known = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{supervise::journal::Journal, up::config::GatewayConfig};

    fn worker(folder: &Path, script: &str) -> Worker {
        let program = Program {
            name: "test".into(),
            binary: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            environment: Vec::new(),
            log: folder.join("logs/test.log"),
        };
        Worker { program, address_file: folder.join("test.address") }
    }

    fn setting(folder: &Path) -> (MachineConfig, Register) {
        let file =
            "[gateway]\nrestart_wait_ms_min = 10\nrestart_wait_ms_max = 20\nrestarts_max = 3\nstop_grace_s = 1\n";
        let path = folder.join("eddy.toml");
        std::fs::write(&path, file).unwrap();
        let defaults = crate::up::config::DEFAULTS;
        let (_, config): (_, GatewayConfig) = eddy_runtime::config::load("gateway", defaults, Some(&path), []).unwrap();
        let journal = Journal::open(folder, "supervisor.log", false).unwrap();
        (config.machine, Register::new(folder, "test.json", journal, serde_json::json!({})))
    }

    #[tokio::test]
    async fn a_worker_that_dies_is_started_again_and_then_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let (config, register) = setting(folder.path());
        let workers = Workers::start(vec![worker(folder.path(), "echo run; exit 1")], &config, &register);
        let mut given_up = register.given_up();
        let all = given_up.wait_for(|all| !all.is_empty()).await.unwrap().clone();
        assert_eq!(register.file().given_up.keys().collect::<Vec<_>>(), [&all[0].name], "eddy status can tell");
        assert_eq!((all[0].ending.as_str(), all[0].said.len()), ("exit 1", 4), "one start and three more");
        workers.stop().await;
    }

    #[tokio::test]
    async fn a_worker_that_says_it_cannot_go_on_is_not_started_again() {
        for code in EXITS_FOR_GOOD {
            let folder = tempfile::tempdir().unwrap();
            let (config, register) = setting(folder.path());
            let script = format!("echo 'run eddy-test recover' >&2; exit {code}");
            let workers = Workers::start(vec![worker(folder.path(), &script)], &config, &register);
            let mut given_up = register.given_up();
            let all = given_up.wait_for(|all| !all.is_empty()).await.unwrap().clone();
            assert_eq!(all[0].said, ["run eddy-test recover"]);
            workers.stop().await;
        }
    }

    #[tokio::test]
    async fn a_worker_is_asked_to_stop_and_its_address_told() {
        let folder = tempfile::tempdir().unwrap();
        let (config, register) = setting(folder.path());
        let address = folder.path().join("test.address");
        let script =
            format!("trap 'exit 0' TERM; echo 1.2.3.4:5 > {}; while :; do sleep 0.02; done", address.display());
        let workers = Workers::start(vec![worker(folder.path(), &script)], &config, &register);
        while register.file().http.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(register.file().http["test"], "http://1.2.3.4:5");
        workers.stop().await;
        assert!(register.file().pids.is_empty());
        let journal = std::fs::read_to_string(folder.path().join("logs/supervisor.log")).unwrap();
        assert!(journal.contains("stopped (exit 0)"), "{journal}");
    }
}
