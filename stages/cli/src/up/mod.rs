//! `eddy up`: a whole gateway on this machine, supervised.
//!
//! Order of start: the server, its streams, the stages, the janitor. Order of stop: the stages, all at once, then the
//! server. A process that dies is started again, with growing waits; one that says that starting again cannot help
//! (exit 64 or 70) is not, and what it said is told.

pub mod bundle;
pub mod config;
pub mod http;
pub mod journal;
pub mod process;
pub mod register;
pub mod server;
pub mod stages;

use std::{
    fs::File,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use eddy_runtime::{
    client::{Client, ClientError, Endpoint},
    config::ConfigError,
    janitor::{self, Retention},
    provision,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinHandle,
};

use crate::gateway::{DEFAULT_DIR, Gateway, GatewayFile};
use config::GatewayConfig;
use journal::Journal;
use register::Register;
use server::Server;
use stages::{StagePlan, Stages};

/// Up's part of the command line.
#[derive(Args, Clone, Debug)]
pub struct UpArgs {
    /// Where streams, state, logs and gateway.json are kept
    #[arg(long, env = "EDDY_GATEWAY_DIR", value_name = "DIR", default_value = DEFAULT_DIR)]
    pub dir: PathBuf,
    /// The site [default: site.name of the config]
    #[arg(long, value_name = "NAME")]
    pub site: Option<String>,
    /// Port of the bus; 0 takes a free one, for the server's monitoring too [default: gateway.port of the config, 4222]
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// A TOML file with the table `gateway` and any stage's tables
    #[arg(long, env = "EDDY_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print the commented defaults of the table `gateway` and stop
    #[arg(long)]
    pub print_config: bool,
}

/// Why a gateway does not come up.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    /// The config.
    #[error("bad config:\n{0}")]
    Config(#[from] ConfigError),
    /// A file or folder.
    #[error("{0}: {1}")]
    Io(String, std::io::Error),
    /// Another `eddy up`.
    #[error("{0} is in use by another `eddy up`: stop that one, or choose another --dir")]
    Busy(String),
    /// nats-server is not found.
    #[error("nats-server: {0}")]
    NoServer(String),
    /// A stage's binary is not found.
    #[error("{0} is not there: build the stages (`make build`), or name their folder in gateway.bin_dir")]
    NoStage(String),
    /// The server does not come up.
    #[error("nats-server: {ending}; it said:\n  {}", said.join("\n  "))]
    Server {
        /// How it ended, or what it did not do.
        ending: String,
        /// The last lines that it printed.
        said: Vec<String>,
    },
    /// The streams.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// What a gateway is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its folder.
    pub dir: PathBuf,
    /// The site.
    pub site: String,
    /// How many shards it has.
    pub shards: u32,
    /// `[gateway]`.
    pub config: GatewayConfig,
    /// The config file, for the stages.
    pub config_file: Option<PathBuf>,
    /// Whether the config names a bundle of its own.
    pub own_bundle: bool,
    /// Whether the config names a sink of alerts: then notify runs too.
    pub sinks: bool,
    /// Whether events go to standard error.
    pub loud: bool,
}

impl Plan {
    /// From a config file, the environment and the defaults, in `dir`.
    ///
    /// # Errors
    /// Every problem of the config.
    pub fn load(dir: &Path, config_file: Option<&Path>) -> Result<Self, UpError> {
        let environment: Vec<_> = std::env::vars().filter(|(name, _)| name != "EDDY_GATEWAY_DIR").collect();
        let names_bundle = |name: &str| matches!(name, "EDDY_EMBED_BUNDLE" | "EDDY_DETECT_BUNDLE");
        let names_sink = |name: &str| matches!(name, "EDDY_NOTIFY_WEBHOOK" | "EDDY_NOTIFY_MQTT");
        let mut own_bundle = environment.iter().any(|(name, _)| names_bundle(name));
        let mut sinks = environment.iter().any(|(name, _)| names_sink(name));
        if let Some(path) = config_file {
            let text = std::fs::read_to_string(path).map_err(|e| UpError::Io(path.display().to_string(), e))?;
            let table: toml::Table = text.parse().unwrap_or_default();
            let names = |stage: &str| table.get(stage).is_some_and(|stage| stage.get("bundle").is_some());
            own_bundle |= names("embed") || names("detect");
            let lists = |kind: &str| table.get("notify")?.get(kind)?.as_array().map(|sinks| !sinks.is_empty());
            sinks |= lists("webhook").unwrap_or(false) || lists("mqtt").unwrap_or(false);
        }
        let (common, config) =
            eddy_runtime::config::load::<GatewayConfig>("gateway", config::DEFAULTS, config_file, environment)?;
        let problems = config.problems();
        if !problems.is_empty() {
            return Err(ConfigError { problems }.into());
        }
        let absolute = |path: &Path| std::path::absolute(path).map_err(|e| UpError::Io(path.display().to_string(), e));
        Ok(Self {
            dir: absolute(dir)?,
            site: common.site.name,
            shards: common.site.shards,
            config,
            config_file: config_file.map(absolute).transpose()?,
            own_bundle,
            sinks,
            loud: true,
        })
    }
}

/// A gateway that runs.
#[derive(Debug)]
pub struct Running {
    /// What is known of it.
    pub register: Register,
    /// Connected to it.
    pub gateway: Gateway,
    server: Server,
    stages: Option<Stages>,
    janitor: JoinHandle<()>,
    _lock: File,
}

impl Running {
    /// Starts everything and returns when the stages are started.
    ///
    /// # Errors
    /// See [`UpError`]; what was started by then is stopped.
    pub async fn start(plan: &Plan) -> Result<Self, UpError> {
        let dir = &plan.dir;
        let failed = |problem| UpError::Io(dir.display().to_string(), problem);
        for folder in ["logs", "run", "state", "streams"] {
            std::fs::create_dir_all(dir.join(folder)).map_err(failed)?;
        }
        let lock = lock(dir)?;
        bundle::write(&dir.join("bundle")).map_err(failed)?;
        let journal = Journal::open(dir, plan.loud).map_err(failed)?;
        let pids = [("eddy".to_owned(), std::process::id())].into();
        let file = GatewayFile { site: plan.site.clone(), shards: plan.shards, pids, ..GatewayFile::default() };
        let register = Register::new(dir, journal, file);
        let token = eddy_schemas::names::encode(&plan.site);
        let server = Server::start(dir, &token, &plan.config, register.clone()).await?;
        match Self::start_stages(plan, &register).await {
            Ok((gateway, stages)) => {
                let janitor =
                    tokio::spawn(sweep(gateway.client.clone(), plan.config.clone(), register.journal.clone()));
                Ok(Self { register, gateway, server, stages: Some(stages), janitor, _lock: lock })
            }
            Err(problem) => {
                server.stop().await;
                register.close();
                Err(problem)
            }
        }
    }

    async fn start_stages(plan: &Plan, register: &Register) -> Result<(Gateway, Stages), UpError> {
        let file = register.file();
        let client = Client::connect(&Endpoint::new(&file.url, "eddy-up")).await?;
        provision::provision(&client, &plan.site, plan.shards, &plan.config.streams).await?;
        let stage_plan = StagePlan {
            dir: &plan.dir,
            url: &file.url,
            site: &plan.site,
            shards: plan.shards,
            config_file: plan.config_file.as_deref(),
            own_bundle: plan.own_bundle,
            sinks: plan.sinks,
        };
        let programs = stages::programs(&stage_plan, &plan.config)?;
        let stages = Stages::start(programs, &plan.config, register);
        Ok((Gateway { client, site: plan.site.clone(), file: Some(file) }, stages))
    }

    /// Stops the stages, so that everything that they were doing is settled, and leaves the server.
    pub async fn stop_stages(&mut self) {
        if let Some(stages) = self.stages.take() {
            stages.stop().await;
        }
    }

    /// Stops everything.
    pub async fn stop(mut self) {
        self.stop_stages().await;
        self.janitor.abort();
        self.server.stop().await;
        self.register.close();
        self.register.journal.tell("stopped");
    }
}

/// Held as long as the file is open: one gateway to a folder.
fn lock(dir: &Path) -> Result<File, UpError> {
    let path = dir.join("run").join("lock");
    let failed = |problem| UpError::Io(path.display().to_string(), problem);
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(UpError::Busy(dir.display().to_string())),
        Err(std::fs::TryLockError::Error(problem)) => Err(failed(problem)),
    }
}

async fn sweep(client: Client, config: GatewayConfig, journal: Journal) {
    let retention = Retention { keep_percent: config.keep_percent, replay_tail: config.replay_tail_messages };
    let mut last_problem = String::new();
    loop {
        tokio::time::sleep(Duration::from_secs(config.janitor_interval_s)).await;
        match janitor::sweep(&client, retention).await {
            Ok(0) => {}
            Ok(removed) => journal.tell(&format!("janitor: {removed} messages removed that every reader is done with")),
            // The server may be restarting; said once, not every round.
            Err(problem) if last_problem != problem.to_string() => {
                last_problem = problem.to_string();
                journal.tell(&format!("janitor: {last_problem}"));
            }
            Err(_) => {}
        }
    }
}

/// The command: until SIGTERM or SIGINT.
///
/// # Errors
/// That the gateway does not come up, or that a process of it had to be given up.
pub async fn run(args: &UpArgs) -> anyhow::Result<()> {
    if args.print_config {
        crate::output::line(config::DEFAULTS.trim_end());
        return Ok(());
    }
    let mut plan = Plan::load(&args.dir, args.config.as_deref())?;
    if let Some(site) = &args.site {
        plan.site.clone_from(site);
    }
    if let Some(port) = args.port {
        plan.config.port = port;
        if port == 0 {
            plan.config.monitor_port = 0;
        }
    }
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let running = tokio::select! {
        running = Running::start(&plan) => running?,
        // What was started is killed with its handles.
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    let file = running.register.file();
    running.register.journal.tell(&format!("site {} is up: {} ({})", plan.site, file.url, plan.dir.display()));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    let given_up = running.register.given_up().borrow().clone();
    running.register.journal.tell("stopping");
    running.stop().await;
    match given_up.first() {
        None => Ok(()),
        Some(first) => anyhow::bail!("{} was given up: {}", first.name, first.ending),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notify_runs_if_the_config_names_a_sink() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("eddy.toml");
        for (text, sinks) in [
            ("[site]\nname = \"s\"\n", false),
            ("[notify]\nwebhook = []\npending_max = 5\n", false),
            ("[[notify.webhook]]\nname = \"x\"\n", true),
            ("[[notify.mqtt]]\nname = \"x\"\n", true),
        ] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(Plan::load(folder.path(), Some(&file)).unwrap().sinks, sinks, "{text}");
        }
    }
}
