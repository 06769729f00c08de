//! The config table `[region]`.

use std::{net::IpAddr, path::PathBuf};

use serde::Deserialize;

use super::{TABLE, plan::HubPart};
use crate::supervise::config::MachineConfig;

/// The commented defaults.
pub const DEFAULTS: &str = include_str!("../../region.toml");
/// What a gateway's subject holds in place of its name.
pub(super) const SITE: &str = "{site}";

/// `[region]`, as `region.toml` documents it. A key that does not stand there is refused before it comes to this.
#[derive(Clone, Debug, Deserialize)]
pub struct RegionConfig {
    /// What the supervisor follows.
    #[serde(flatten)]
    pub machine: MachineConfig,
    /// Hub processes.
    pub processes: u32,
    /// Where the server listens.
    pub host: IpAddr,
    /// Connections at the same time.
    pub connections_max: u32,
    /// Whom it is one region with.
    pub cluster: ClusterConfig,
    /// Certificates and subjects.
    pub tls: TlsConfig,
}

/// `[region.cluster]`
#[derive(Clone, Debug, Deserialize)]
pub struct ClusterConfig {
    /// This machine's server; empty: it is alone.
    pub name: String,
    /// Where the others reach it.
    pub port: u16,
    /// The others.
    pub routes: Vec<String>,
}

impl ClusterConfig {
    /// Whether there are others.
    pub fn is_used(&self) -> bool {
        !self.name.is_empty()
    }

    fn problems(&self) -> Vec<String> {
        let is_route = |route: &&String| {
            let address = route.strip_prefix("tls://").or_else(|| route.strip_prefix("nats://"));
            address.is_none_or(|address| !address.contains(':') || address.contains('/'))
        };
        let mut problems: Vec<String> = (self.routes.iter().filter(is_route))
            .map(|route| format!("region.cluster.routes: {route:?}: tls://HOST:PORT is taken"))
            .collect();
        if self.is_used() && self.routes.is_empty() {
            problems
                .push(format!("region.cluster.name = {:?}: without routes there is nobody to be one with", self.name));
        }
        if self.name.contains(|letter: char| !letter.is_ascii_alphanumeric() && !matches!(letter, '-' | '_')) {
            problems.push(format!("region.cluster.name = {:?}: letters, digits, - and _ are taken", self.name));
        }
        problems
    }
}

/// `[region.tls]`
#[derive(Clone, Debug, Deserialize)]
pub struct TlsConfig {
    /// The CA of all certificates; empty: no TLS.
    pub ca_file: PathBuf,
    /// This machine's certificate.
    pub cert_file: PathBuf,
    /// Its key.
    pub key_file: PathBuf,
    /// By what name this machine's own processes reach the server.
    pub reach: String,
    /// Subject of this machine's certificate.
    pub hub_subject: String,
    /// Subject of a gateway's, with `{site}` for its name.
    pub site_subject: String,
}

impl TlsConfig {
    /// Whether there is any.
    pub fn is_used(&self) -> bool {
        self.files().iter().any(|(_, path)| !path.as_os_str().is_empty())
    }

    fn files(&self) -> [(&'static str, &PathBuf); 3] {
        [("ca_file", &self.ca_file), ("cert_file", &self.cert_file), ("key_file", &self.key_file)]
    }
}

impl RegionConfig {
    /// Every key that holds what it cannot.
    pub fn problems(&self, hub: &HubPart) -> Vec<String> {
        let mut problems = self.machine.problems(TABLE, hub.streams_mb());
        let mut range = |key: &str, value: u32, low: u32, high: u32| {
            if !(low..=high).contains(&value) {
                problems.push(format!("region.{key} = {value}: {low} to {high} is taken"));
            }
        };
        range("processes", self.processes, 1, 64);
        range("connections_max", self.connections_max, 4, 1_000_000);
        problems.extend(self.cluster.problems());
        if self.tls.is_used() {
            for (key, path) in self.tls.files() {
                if !path.is_file() {
                    let path = path.display();
                    problems.push(format!("region.tls.{key} = \"{path}\": a PEM file is taken; `eddy certs` makes it"));
                }
            }
            if !self.tls.site_subject.contains(SITE) {
                let subject = &self.tls.site_subject;
                problems.push(format!("region.tls.site_subject = {subject:?}: a subject with {SITE} in it is taken"));
            }
        } else if !self.host.is_loopback() {
            problems.push(format!(
                "region.host = \"{}\": without [region.tls] an address of the loopback is taken, for anybody may do everything",
                self.host
            ));
        }
        problems
    }
}
