//! A sandbox: the installed gateway's binaries, server and config, in a folder of its own, on ports of its own.

pub mod config;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use eddy_cli::{
    demo::through,
    gateway::FILE,
    supervise::register::GivenUp,
    up::{Plan, Running},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use self::config::Config;
use crate::witness;

/// A sandbox does not wait for half a minute before it starts again what is killed all the time.
const RESTART_WAIT_MS: (u64, u64) = (50, 1_000);
const RESTARTS_MAX: u32 = 1_000_000;
/// How long nothing may move while everything is to come through.
const PATIENCE: Duration = Duration::from_secs(120);

/// The gateway's name among its processes.
pub const SERVER: &str = "nats-server";

/// A sandbox that runs, or is about to.
#[derive(Debug)]
pub struct Sandbox {
    /// Its folder.
    pub dir: PathBuf,
    /// What it is made of.
    pub plan: Plan,
    running: Option<Running>,
}

impl Sandbox {
    /// In `dir`, with this config.
    ///
    /// # Errors
    /// If the folder holds something, or the config is not taken.
    pub fn new(dir: &Path, config: &Config) -> Result<Self> {
        refuse_used(dir)?;
        std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        let file = dir.join("eddy.toml");
        config.write(&file)?;
        let mut plan = Plan::load(dir, Some(&file))?;
        plan.loud = false;
        // Whatever the environment says, too.
        (plan.sinks, plan.export) = (false, false);
        let machine = &mut plan.config.machine;
        machine.listen_on(0);
        (machine.restart_wait_ms_min, machine.restart_wait_ms_max) = RESTART_WAIT_MS;
        machine.restarts_max = RESTARTS_MAX;
        Ok(Self { dir: dir.to_owned(), plan, running: None })
    }

    /// Starts it, on the ports that it had before.
    ///
    /// # Errors
    /// That it does not come up.
    pub async fn start(&mut self) -> Result<()> {
        let running = Running::start(&self.plan).await?;
        let file = running.machine.file();
        let port = |url: &str| url.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        let machine = &mut self.plan.config.machine;
        machine.port = port(&file.url).with_context(|| file.url.clone())?;
        machine.monitor_port = port(&file.monitoring).with_context(|| file.monitoring.clone())?;
        self.running = Some(running);
        Ok(())
    }

    /// Where its bus is.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.plan.config.machine.port)
    }

    /// The folder and file that say which processes run.
    pub fn machine(&self) -> (PathBuf, &'static str) {
        (self.dir.clone(), FILE)
    }

    /// Its processes, the server among them.
    pub fn pids(&self) -> BTreeMap<String, u32> {
        witness::pids(&[self.machine()])
    }

    /// The names of its stage processes.
    pub fn stages(&self) -> Vec<String> {
        self.pids().into_keys().filter(|name| name != SERVER).collect()
    }

    /// Sends a signal to a process; whether it was there.
    pub fn signal(&self, name: &str, signal: Signal) -> bool {
        let pid = self.pids().get(name).and_then(|pid| i32::try_from(*pid).ok());
        pid.is_some_and(|pid| kill(Pid::from_raw(pid), signal).is_ok())
    }

    /// What is not started again.
    pub fn given_up(&self) -> Option<GivenUp> {
        let running = self.running.as_ref()?;
        running.machine.register.given_up().borrow().first().cloned()
    }

    /// How often its supervisor's log says so.
    pub fn journal_says(&self, words: &str) -> usize {
        let path = self.dir.join("logs").join("gateway.log");
        std::fs::read_to_string(path).unwrap_or_default().matches(words).count()
    }

    /// How often any of its logs says so.
    pub fn logs_say(&self, words: &str) -> usize {
        let logs = self.dir.join("logs").read_dir().into_iter().flatten().flatten();
        let texts = logs.map(|log| std::fs::read(log.path()).unwrap_or_default());
        texts.map(|text| String::from_utf8_lossy(&text).matches(words).count()).sum()
    }

    /// Waits until all that is in INGEST has come through.
    ///
    /// # Errors
    /// That it does not: which stage is behind, or was given up.
    pub async fn through(&self) -> Result<()> {
        let running = self.running.as_ref().context("the sandbox does not run")?;
        let (mut last, mut moved) = (String::new(), Instant::now());
        loop {
            if let Some(all) = self.given_up() {
                bail!("{}: {}; it said:\n  {}", all.name, all.ending, all.said.join("\n  "));
            }
            let now = match through::behind(&running.gateway, self.plan.shards).await {
                Ok(None) => return Ok(()),
                Ok(Some(behind)) => format!("{}: {}", behind.stage, behind.place),
                // A server that starts again has no streams for a moment.
                Err(problem) => problem.to_string(),
            };
            if now != last {
                (last, moved) = (now, Instant::now());
            }
            ensure!(moved.elapsed() < PATIENCE, "nothing has moved for {PATIENCE:?}: {last}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Stops the stages, so that all they were doing is settled.
    pub async fn stop_stages(&mut self) {
        if let Some(running) = &mut self.running {
            running.stop_stages().await;
        }
    }

    /// Stops everything.
    pub async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop().await;
        }
    }

    /// Ends everything at once, as a power cut does.
    pub async fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            running.kill().await;
        }
    }
}

/// A sandbox never lies where something is, least of all a gateway.
///
/// # Errors
/// What lies there.
pub fn refuse_used(dir: &Path) -> Result<()> {
    let is_gateway = [FILE, "streams", "state"].iter().any(|name| dir.join(name).exists());
    ensure!(!is_gateway, "{} holds a gateway: a drill never touches one; choose another folder", dir.display());
    let is_empty = dir.read_dir().map_or(true, |mut entries| entries.next().is_none());
    ensure!(is_empty, "{} is not empty: choose another folder", dir.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_used_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(refuse_used(folder.path()).is_ok() && refuse_used(&folder.path().join("new")).is_ok());
        std::fs::create_dir(folder.path().join("state")).unwrap();
        assert!(refuse_used(folder.path()).unwrap_err().to_string().contains("holds a gateway"));
        std::fs::rename(folder.path().join("state"), folder.path().join("x")).unwrap();
        assert!(refuse_used(folder.path()).unwrap_err().to_string().contains("not empty"));
    }
}
