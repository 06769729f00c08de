//! `eddy up`: a whole gateway on this machine, supervised (see [`crate::supervise`]).

pub mod bundle;
pub mod config;
pub mod hold;
pub mod keys;
mod stages;
pub mod users;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use eddy_runtime::{
    bundle::Library,
    client::{Client, Endpoint},
    config::ConfigError,
    identity::Identity,
    janitor::{self, Retention},
    provision,
    telemetry::Telemetry,
};

use crate::{
    gateway::{DEFAULT_DIR, FILE, Gateway, GatewayFile},
    metrics::{self, Watched},
    rollout::follow::Follower,
    supervise::{Kind, Machine, MachinePlan, Signals, UpError, journal::Journal, server::Access},
};
use config::GatewayConfig;

pub(crate) use stages::workers;

/// A gateway's config table.
pub(crate) const TABLE: &str = "gateway";
pub(crate) const KIND: Kind = Kind { command: "up", table: TABLE, log: "gateway.log", file: FILE };

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
    /// Run the server, its streams and what looks after them; the stages run elsewhere, as in containers
    #[arg(long)]
    pub server_only: bool,
    /// On bad config stay and wait until the file changes: for what starts again whatever ends, as Docker does
    #[arg(long)]
    pub hold: bool,
    /// Print the commented defaults of the table `gateway` and stop
    #[arg(long)]
    pub print_config: bool,
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
    /// Where that lies.
    pub own_bundle_dir: Option<PathBuf>,
    /// Whom the config trusts with it, and whether it need not be signed.
    pub own_trust: (Vec<String>, bool),
    /// Whether the config names a sink of alerts: then notify runs too.
    pub sinks: bool,
    /// Whether the config names a hub: then sync runs too.
    pub hub: bool,
    /// Whether the config says where to export to: then export runs too.
    pub export: bool,
    /// Whether stages are run too.
    pub stages: bool,
    /// Whether events go to standard error.
    pub loud: bool,
    /// More of the stages' environment.
    pub environment: Vec<(String, OsString)>,
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
        let mut own_bundle_dir =
            environment.iter().find(|(name, _)| names_bundle(name)).map(|(_, dir)| PathBuf::from(dir));
        let said = |key: &str| {
            environment.iter().find(|(name, _)| name == &format!("EDDY_EMBED_{key}")).map(|(_, value)| value)
        };
        let keys = said("TRUSTED_KEYS").and_then(|list| serde_json::from_str::<Vec<String>>(list).ok());
        let mut own_trust = (keys.unwrap_or_default(), said("ALLOW_UNSIGNED").is_some_and(|value| value == "true"));
        let mut sinks = environment.iter().any(|(name, _)| names_sink(name));
        let mut hub = environment.iter().any(|(name, value)| name == "EDDY_SYNC_HUB_URL" && !value.is_empty());
        let mut export = environment.iter().any(|(name, value)| name == "EDDY_EXPORT_TO" && !value.is_empty());
        if let Some(path) = config_file {
            let text = std::fs::read_to_string(path).map_err(|e| UpError::Io(path.display().to_string(), e))?;
            let table: toml::Table = text.parse().unwrap_or_default();
            let named = |stage: &str| table.get(stage)?.get("bundle")?.as_str().map(PathBuf::from);
            own_bundle_dir = own_bundle_dir.or_else(|| named("embed")).or_else(|| named("detect"));
            let of_embed = |key: &str| table.get("embed").or_else(|| table.get("detect"))?.get(key);
            let keys = || of_embed("trusted_keys")?.as_array();
            own_trust.0.extend(keys().into_iter().flatten().filter_map(|key| key.as_str().map(str::to_owned)));
            own_trust.1 |= of_embed("allow_unsigned").and_then(toml::Value::as_bool).unwrap_or(false);
            let lists = |kind: &str| table.get("notify")?.get(kind)?.as_array().map(|sinks| !sinks.is_empty());
            sinks |= lists("webhook").unwrap_or(false) || lists("mqtt").unwrap_or(false);
            let url = || table.get("sync")?.get("hub")?.get("url")?.as_str();
            hub |= url().is_some_and(|url| !url.is_empty());
            let of_export = |key: &str| table.get("export")?.get(key);
            export |= of_export("to").and_then(toml::Value::as_str).is_some_and(|to| !to.is_empty());
        }
        let (common, mut config) =
            eddy_runtime::config::load::<GatewayConfig>(TABLE, config::DEFAULTS, config_file, environment)?;
        let problems = config.problems();
        if !problems.is_empty() {
            return Err(ConfigError { problems }.into());
        }
        let absolute = |path: &Path| std::path::absolute(path).map_err(|e| UpError::Io(path.display().to_string(), e));
        if config.access.has_users() {
            config.access.keys_dir = absolute(&config.access.keys_dir)?;
        }
        Ok(Self {
            dir: absolute(dir)?,
            site: common.site.name,
            shards: common.site.shards,
            config,
            config_file: config_file.map(absolute).transpose()?,
            own_bundle: own_bundle_dir.is_some(),
            own_bundle_dir,
            own_trust,
            sinks,
            hub,
            export,
            stages: true,
            loud: true,
            environment: Vec::new(),
        })
    }
}

impl Plan {
    /// The file with the key of `user`, where the server tells its users apart.
    pub fn key_of(&self, user: &str) -> Option<PathBuf> {
        let access = &self.config.access;
        access.has_users().then(|| keys::file(&access.keys_dir, user))
    }

    /// Where the server listens, and who may do what there; keys that are not there are made.
    ///
    /// # Errors
    /// That keys cannot be read or written.
    pub(crate) fn access(&self) -> Result<Access, UpError> {
        let mut access = Access { host: self.config.access.host.to_string(), ..Access::loopback() };
        if self.config.access.has_users() {
            keys::write(self)?;
            access.config = format!("include {}\n", serde_json::Value::from(keys::USERS_FILE));
        }
        let key = &self.config.access.store_key_file;
        if !key.as_os_str().is_empty() {
            let text = std::fs::read_to_string(key).map_err(|e| UpError::Io(key.display().to_string(), e))?;
            access.store_key = Some(text.trim().to_owned());
        }
        Ok(access)
    }

    /// Who may sign bundles: whoever signed the default one, or whom a config with a bundle of its own names for that; and whom
    /// `[gateway]` names.
    pub fn trusted_keys(&self) -> Vec<String> {
        let first = if self.own_bundle { self.own_trust.0.clone() } else { vec![bundle::default_key().to_owned()] };
        first.into_iter().chain(self.config.trusted_keys.iter().cloned()).collect()
    }

    /// Whether bundles need not be signed: only where the config says so of one of its own.
    pub fn allows_unsigned(&self) -> bool {
        self.own_bundle && self.own_trust.1
    }
}

/// A gateway that runs.
#[derive(Debug)]
pub struct Running {
    /// Its processes.
    pub machine: Machine,
    /// Connected to it.
    pub gateway: Gateway,
}

impl Running {
    /// Starts everything and returns when the stages are started.
    ///
    /// # Errors
    /// See [`UpError`]; what was started by then is stopped.
    pub async fn start(plan: &Plan) -> Result<Self, UpError> {
        let token = eddy_schemas::names::encode(&plan.site);
        let access = plan.access()?;
        let mut machine = Machine::start(&MachinePlan {
            kind: KIND,
            dir: &plan.dir,
            config: &plan.config.machine,
            server_name: format!("eddy-{token}"),
            access,
            about: serde_json::json!({
                "site": plan.site, "shards": plan.shards, "bus_at": plan.config.access.bus_at, "operator_key": plan.key_of(users::OPERATOR),
                "config_file": plan.config_file, "own_bundle": plan.own_bundle, "trusted_keys": plan.trusted_keys(), "allow_unsigned": plan.allows_unsigned(),
            }),
            loud: plan.loud,
        })
        .await?;
        match Self::start_stages(plan, &mut machine).await {
            Ok(gateway) => Ok(Self { machine, gateway }),
            Err(problem) => {
                machine.stop().await;
                Err(problem)
            }
        }
    }

    async fn start_stages(plan: &Plan, machine: &mut Machine) -> Result<Gateway, UpError> {
        let failed = |problem| UpError::Io(plan.dir.display().to_string(), problem);
        bundle::write(&plan.dir).map_err(failed)?;
        if let Err(problem) = bundle::take_own(plan) {
            machine.register.journal.tell(&format!("the config's bundle cannot be gone back to later: {problem}"));
        }
        let url = machine.file().url;
        let identity = plan.key_of(users::OPERATOR).map_or(Identity::Nobody, Identity::NKey);
        let client = Client::connect(&Endpoint { identity, ..Endpoint::new(&url, "eddy-up") }).await?;
        provision::provision(&client, &plan.site, plan.shards, &plan.config.streams).await?;
        if plan.stages {
            machine.start_workers(stages::workers(plan, &url)?);
        } else {
            stages::elsewhere(plan, &machine.register);
        }
        if plan.config.access.has_users() {
            machine.keep(tokio::spawn(keys::follow(plan.clone(), machine.register.clone())));
        }
        let journal = machine.register.journal.clone();
        machine.keep(tokio::spawn(sweep(client.clone(), plan.dir.clone(), plan.config.clone(), journal.clone())));
        let telemetry = Arc::new(Telemetry::supervisor(TABLE));
        if let Some(listen) = plan.config.machine.metrics_address() {
            let watched = Watched {
                telemetry: telemetry.clone(),
                register: machine.register.clone(),
                dir: plan.dir.clone(),
                site: plan.site.clone(),
                client: Some(client.clone()),
                config_file: plan.config_file.clone(),
            };
            machine.keep(tokio::spawn(metrics::serve(watched, listen)));
        }
        let file = GatewayFile {
            machine: machine.file(),
            site: plan.site.clone(),
            shards: plan.shards,
            config_file: plan.config_file.clone(),
            own_bundle: plan.own_bundle,
            trusted_keys: plan.trusted_keys(),
            allow_unsigned: plan.allows_unsigned(),
            operator_key: plan.key_of(users::OPERATOR),
            bus_at: plan.config.access.bus_at.clone(),
        };
        let gateway = Gateway { client, site: plan.site.clone(), file: Some(file) };
        let library = Library::new(&bundle::folder(&plan.dir), &plan.trusted_keys(), plan.allows_unsigned());
        let rollout = plan.config.rollout.clone();
        let mut follower = Follower::new(gateway.clone(), library, rollout, plan.config_file.clone());
        follower.telemetry = Some(telemetry);
        machine.keep(tokio::spawn(follower.follow(move |words| journal.tell(words))));
        Ok(gateway)
    }

    /// Stops the stages, so that everything that they were doing is settled, and leaves the server.
    pub async fn stop_stages(&mut self) {
        self.machine.stop_workers().await;
    }

    /// Stops everything.
    pub async fn stop(self) {
        self.machine.stop().await;
    }

    /// As a power cut does: see [`Machine::kill`].
    pub async fn kill(self) {
        self.machine.kill().await;
    }
}

async fn sweep(client: Client, dir: PathBuf, config: GatewayConfig, journal: Journal) {
    let retention = Retention { keep_percent: config.keep_percent, replay_tail: config.replay_tail_messages };
    let mut last_problem = String::new();
    loop {
        tokio::time::sleep(Duration::from_secs(config.janitor_interval_s)).await;
        // Who copies the streams may need what would be removed.
        let Ok(Some(_round)) = hold::try_janitor(&dir) else { continue };
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
    crate::backup::restore::ensure_whole(&args.dir)?;
    let mut plan = Plan::load(&args.dir, args.config.as_deref())?;
    if let Some(site) = &args.site {
        plan.site.clone_from(site);
    }
    if let Some(port) = args.port {
        plan.config.machine.listen_on(port);
    }
    plan.stages = !args.server_only;
    let mut signals = Signals::new()?;
    let Some(running) = signals.or(Running::start(&plan)).await else { return Ok(()) };
    let machine = running?.machine;
    let is_up = format!("site {} is up: {} ({})", plan.site, machine.file().url, plan.dir.display());
    machine.attend(&mut signals, &is_up).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notify_runs_if_the_config_names_a_sink_sync_if_it_names_a_hub_and_export_if_it_names_a_place() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("eddy.toml");
        for (text, sinks, hub, export) in [
            ("[site]\nname = \"s\"\n", false, false, false),
            (
                "[notify]\nwebhook = []\npending_max = 5\n[sync.hub]\nurl = \"\"\n[export]\nto = \"\"\n",
                false,
                false,
                false,
            ),
            ("[[notify.webhook]]\nname = \"x\"\n", true, false, false),
            ("[[notify.mqtt]]\nname = \"x\"\n", true, false, false),
            ("[sync.hub]\nurl = \"tls://hub:4322\"\n", false, true, false),
            ("[export]\nto = \"s3://bucket/x\"\n", false, false, true),
        ] {
            std::fs::write(&file, text).unwrap();
            let plan = Plan::load(folder.path(), Some(&file)).unwrap();
            assert_eq!((plan.sinks, plan.hub, plan.export), (sinks, hub, export), "{text}");
        }
    }
}
