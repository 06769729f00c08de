//! `eddy hub`: the region on this machine, supervised (see [`crate::supervise`]): the server that gateways come to, and eddy-hub.

pub mod access;
pub mod config;
mod plan;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use eddy_runtime::{
    client::{Client, Endpoint, TlsFiles},
    telemetry::Telemetry,
};
use serde::{Deserialize, Serialize};

pub use self::plan::Plan;
use crate::{
    metrics::{self, Watched},
    supervise::{
        Kind, Machine, MachinePlan, Signals, UpError,
        register::{self, MachineFile},
    },
};

/// Where `eddy hub up` keeps a hub unless told otherwise.
pub const DEFAULT_DIR: &str = ".hub";
/// What it writes there.
pub const FILE: &str = "hub.json";
/// A hub machine's config table.
const TABLE: &str = "region";
const KIND: Kind = Kind { command: "hub up", table: TABLE, log: "hub.log", file: FILE };

/// Hub's part of the command line.
#[derive(Clone, Debug, Subcommand)]
pub enum HubCommand {
    /// Run the region on this machine: the server, its streams and eddy-hub
    Up(HubUpArgs),
}

/// What `eddy hub up` takes.
#[derive(Args, Clone, Debug)]
pub struct HubUpArgs {
    /// Where streams, state, logs and hub.json are kept
    #[arg(long, env = "EDDY_REGION_DIR", value_name = "DIR", default_value = DEFAULT_DIR)]
    pub dir: PathBuf,
    /// Port of the server; 0 takes a free one, for its monitoring too [default: region.port of the config, 4322]
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// A TOML file with the tables `region` and `hub`
    #[arg(long, env = "EDDY_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// On bad config stay and wait until the file changes: for what starts again whatever ends, as Docker does
    #[arg(long)]
    pub hold: bool,
    /// Print the commented defaults of the table `region` and stop
    #[arg(long)]
    pub print_config: bool,
}

/// What is in `hub.json`: how to reach the hub that runs there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubFile {
    /// Its processes.
    #[serde(flatten)]
    pub machine: MachineFile,
    /// The sites whose gateways may come.
    pub sites: Vec<String>,
    /// How many shards the region has.
    pub shards: u32,
    /// What its server is spoken to with, if that is TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsFiles>,
}

impl HubFile {
    /// Reads the file of the hub in `dir`; `None` if there is none or it is no such file.
    pub fn read(dir: &Path) -> Option<Self> {
        register::read(dir, FILE)
    }
}

/// A connection to the bus of the hub in the folder `place`, or at that URL; TLS files of a URL are those of `EDDY_BUS_TLS_CA_FILE`,
/// `_CERT_FILE` and `_KEY_FILE`.
///
/// # Errors
/// That no hub runs there, or that nobody answers.
pub async fn connect(place: &str) -> anyhow::Result<Client> {
    let (url, tls) = if place.contains("://") {
        let file = |what: &str| std::env::var_os(format!("EDDY_BUS_TLS_{what}_FILE")).map(PathBuf::from);
        let files = file("CA").zip(file("CERT")).zip(file("KEY"));
        (place.to_owned(), files.map(|((ca, cert), key)| TlsFiles { ca, cert, key }))
    } else {
        let file = HubFile::read(Path::new(place));
        let none = || format!("{place} holds no hub.json, so no hub runs there: start it with `eddy hub up`");
        let file = file.with_context(none)?;
        (file.machine.url, file.tls)
    };
    Ok(Client::connect(&Endpoint { tls, ..Endpoint::new(url, "eddy-cli") }).await?)
}

/// Starts everything and returns when the hub processes are started.
///
/// # Errors
/// See [`UpError`]; what was started by then is stopped.
pub async fn start(plan: &Plan) -> Result<Machine, UpError> {
    let mut machine = Machine::start(&MachinePlan {
        kind: KIND,
        dir: &plan.dir,
        config: &plan.config.machine,
        server_name: plan.server_name(),
        access: access::access(&plan.config, &plan.sites),
        about: serde_json::json!({"sites": plan.sites, "shards": plan.shards, "tls": plan.tls_files()}),
        loud: plan.loud,
    })
    .await?;
    match plan.workers(&machine.file().url) {
        Ok(workers) => {
            machine.start_workers(workers);
            if let Some(listen) = plan.config.machine.metrics_address() {
                let watched = watched(plan, &machine).await;
                machine.keep(tokio::spawn(metrics::serve(watched, listen)));
            }
            Ok(machine)
        }
        Err(problem) => {
            machine.stop().await;
            Err(problem)
        }
    }
}

async fn watched(plan: &Plan, machine: &Machine) -> Watched {
    let endpoint = Endpoint { tls: plan.tls_files(), ..Endpoint::new(machine.file().url, "eddy-hub-up") };
    let client = Client::connect(&endpoint).await;
    if let Err(problem) = &client {
        machine.register.journal.tell(&format!("what the streams hold is not told in /metrics: {problem}"));
    }
    Watched {
        telemetry: Arc::new(Telemetry::supervisor(TABLE)),
        register: machine.register.clone(),
        dir: plan.dir.clone(),
        site: String::new(),
        client: client.ok(),
        config_file: plan.config_file.clone(),
    }
}

/// The command: until SIGTERM or SIGINT.
///
/// # Errors
/// That the hub does not come up, or that a process of it had to be given up.
pub async fn run(command: &HubCommand) -> anyhow::Result<()> {
    let HubCommand::Up(args) = command;
    if args.print_config {
        crate::output::line(config::DEFAULTS.trim_end());
        return Ok(());
    }
    let mut plan = Plan::load(&args.dir, args.config.as_deref())?;
    if let Some(port) = args.port {
        plan.config.machine.listen_on(port);
    }
    let mut signals = Signals::new()?;
    let Some(machine) = signals.or(start(&plan)).await else { return Ok(()) };
    let machine = machine?;
    let (sites, url) = (plan.sites.len(), machine.file().url);
    let is_up = format!("the region of {sites} sites is up: {url} ({})", plan.dir.display());
    machine.attend(&mut signals, &is_up).await
}
