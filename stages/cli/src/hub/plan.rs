//! What a hub machine is made of, and its processes.

use std::{
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use eddy_runtime::{
    client::TlsFiles,
    config::{self, ConfigError},
};
use eddy_schemas::names;
use serde::Deserialize;

use super::{
    TABLE,
    config::{DEFAULTS, RegionConfig},
};
use crate::supervise::{UpError, workers::Worker};

/// The hub's own defaults: what the region has is said there once, for the hub and for its server.
const HUB_DEFAULTS: &str = include_str!("../../../hub/default.toml");
/// MB of the streams in which leaders and wishes for bundles are told.
const LEADERS_MB: u64 = 80;

/// What of `[hub]` a supervisor must know.
#[derive(Clone, Debug, Deserialize)]
pub struct HubPart {
    name: String,
    sites: Vec<String>,
    shards: u32,
    site_mb: u64,
    region_mb: u64,
    sketches_mb: u64,
    models_mb: u64,
    #[serde(default)]
    grpc: GrpcPart,
}

/// What of `[hub.grpc]`.
#[derive(Clone, Debug, Default, Deserialize)]
struct GrpcPart {
    listen: String,
    ca_file: PathBuf,
    cert_file: PathBuf,
    key_file: PathBuf,
}

impl HubPart {
    /// What its streams may hold.
    pub(super) fn streams_mb(&self) -> u64 {
        self.site_mb * self.sites.len() as u64 + self.region_mb + self.sketches_mb + self.models_mb + LEADERS_MB
    }

    /// What is wrong with the sites: the server's config is made of them.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (at, site) in self.sites.iter().enumerate() {
            if !names::is_valid(site) || site.contains('/') {
                problems.push(format!("hub.sites: {site:?}: 1 to 128 bytes (percent-encoded) without \"/\" are taken"));
            }
            if self.sites[..at].contains(site) {
                problems.push(format!("hub.sites: {site:?} twice"));
            }
        }
        problems
    }
}

/// A hub machine to be.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its folder.
    pub dir: PathBuf,
    /// The sites whose gateways may come.
    pub sites: Vec<String>,
    /// How many shards the region has.
    pub shards: u32,
    /// `[region]`.
    pub config: RegionConfig,
    /// The config file, for the hub processes.
    pub config_file: Option<PathBuf>,
    /// Whether events go to standard error.
    pub loud: bool,
    /// More of the hub processes' environment.
    pub environment: Vec<(String, OsString)>,
    hub: HubPart,
}

impl Plan {
    /// From a config file, the environment and the defaults, in `dir`.
    ///
    /// # Errors
    /// Every problem of the config.
    pub fn load(dir: &Path, config_file: Option<&Path>) -> Result<Self, UpError> {
        let environment: Vec<_> = std::env::vars().filter(|(name, _)| name != "EDDY_REGION_DIR").collect();
        let (_, config) = config::load::<RegionConfig>(TABLE, DEFAULTS, config_file, environment.clone())?;
        let (_, hub) = config::load::<HubPart>("hub", HUB_DEFAULTS, config_file, environment)?;
        let problems = [config.problems(&hub), hub.problems()].concat();
        if !problems.is_empty() {
            return Err(ConfigError { problems }.into());
        }
        let absolute = |path: &Path| std::path::absolute(path).map_err(|e| UpError::Io(path.display().to_string(), e));
        Ok(Self {
            dir: absolute(dir)?,
            sites: hub.sites.clone(),
            shards: hub.shards,
            config,
            config_file: config_file.map(absolute).transpose()?,
            loud: true,
            environment: Vec::new(),
            hub,
        })
    }

    /// What its server is called.
    pub(super) fn server_name(&self) -> String {
        let cluster = &self.config.cluster;
        if cluster.is_used() { cluster.name.clone() } else { "eddy-hub".to_owned() }
    }

    /// What tools on this machine speak to the server with.
    pub(super) fn tls_files(&self) -> Option<TlsFiles> {
        let tls = &self.config.tls;
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let [ca, cert, key] = [&tls.ca_file, &tls.cert_file, &tls.key_file].map(|path| absolute(path));
        tls.is_used().then_some(TlsFiles { ca, cert, key })
    }

    /// The hub processes of this machine, whose bus is at `url`.
    ///
    /// # Errors
    /// If the binary is not there.
    pub(super) fn workers(&self, url: &str) -> Result<Vec<Worker>, UpError> {
        let binary = self.config.machine.binary("eddy-hub", TABLE)?;
        let worker = |process: u32| {
            let base = if self.hub.name.is_empty() { "hub" } else { &self.hub.name };
            let name = format!("{base}-{process}");
            let environment = self.environment_of(process, &name, url);
            Worker::new(&self.dir, name, binary.clone(), self.config_file.as_deref(), environment)
        };
        Ok((0..self.config.processes).map(worker).collect())
    }

    fn environment_of(&self, process: u32, name: &str, url: &str) -> Vec<(String, OsString)> {
        // Two processes of a machine hold the same shards: each has a folder of its own.
        let mut environment: Vec<(String, OsString)> = vec![
            ("EDDY_BUS_URL".to_owned(), url.into()),
            ("EDDY_STATE_DIR".to_owned(), self.dir.join("state").join(name).into()),
            ("EDDY_HUB_NAME".to_owned(), name.into()),
        ];
        let (tls, grpc) = (&self.config.tls, &self.hub.grpc);
        if tls.is_used() {
            let files = [("CA", &tls.ca_file), ("CERT", &tls.cert_file), ("KEY", &tls.key_file)];
            let own = [&grpc.ca_file, &grpc.cert_file, &grpc.key_file];
            for ((what, file), own) in files.into_iter().zip(own) {
                environment.push((format!("EDDY_BUS_TLS_{what}_FILE"), file.into()));
                if own.as_os_str().is_empty() {
                    environment.push((format!("EDDY_HUB_GRPC_{what}_FILE"), file.into()));
                }
            }
        }
        // Ports in a row; a port that the system chooses is another one each time.
        if let Ok(address) = grpc.listen.parse::<SocketAddr>()
            && address.port() != 0
        {
            let port = u32::from(address.port()) + process;
            environment.push(("EDDY_HUB_GRPC_LISTEN".to_owned(), format!("{}:{port}", address.ip()).into()));
        }
        environment.extend(self.environment.iter().cloned());
        environment
    }
}
