//! The config table `[gateway]`.

use std::{net::IpAddr, path::PathBuf};

use eddy_runtime::provision::StreamBounds;
use serde::Deserialize;

use super::TABLE;
use crate::{rollout::Limits, supervise::config::MachineConfig};

/// The commented defaults.
pub const DEFAULTS: &str = include_str!("../../default.toml");

/// `[gateway]`, as `default.toml` documents it. A key that does not stand there is refused before it comes to this.
#[derive(Clone, Debug, Deserialize)]
pub struct GatewayConfig {
    /// What the supervisor follows.
    #[serde(flatten)]
    pub machine: MachineConfig,
    /// Seconds between two sweeps of the streams.
    pub janitor_interval_s: u64,
    /// Share of a stream's bound that is kept, in percent.
    pub keep_percent: u8,
    /// Messages below the ack floor that are kept.
    pub replay_tail_messages: u64,
    /// How its data must lie on the disk; only `eddy doctor` looks at it.
    pub encryption: Encryption,
    /// Who may sign bundles, beside whoever signed the default one.
    pub trusted_keys: Vec<String>,
    /// When a bundle is not taken.
    pub rollout: Limits,
    /// Who may reach the server.
    pub access: AccessConfig,
    /// Bounds of the streams.
    pub streams: StreamBounds,
}

/// How a gateway's data must lie on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encryption {
    /// As it comes.
    None,
    /// On a volume that dm-crypt encrypts.
    Volume,
    /// In streams that nats-server encrypts.
    Server,
}

/// `[gateway.access]`.
#[derive(Clone, Debug, Deserialize)]
pub struct AccessConfig {
    /// Where the server listens.
    pub host: IpAddr,
    /// The folder of its users' keys; empty: everybody may do everything.
    pub keys_dir: PathBuf,
    /// Whether the group of the operator's key may read it.
    pub operator_by_group: bool,
    /// Whether somebody without a key may send readings and hear alerts.
    pub guests: bool,
    /// What the streams are encrypted with on disk; empty: nothing.
    pub store_key_file: PathBuf,
    /// Where stages that run elsewhere serve `/metrics`, with `{stage}` for a name and `{port}` for its number.
    pub stages_at: String,
    /// How those that run elsewhere reach the bus.
    pub bus_at: String,
}

impl AccessConfig {
    /// Whether the server tells its users apart.
    pub fn has_users(&self) -> bool {
        !self.keys_dir.as_os_str().is_empty()
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !self.host.is_loopback() && !self.has_users() {
            problems.push(format!(
                "gateway.access.host = \"{}\": without gateway.access.keys_dir an address of the loopback is taken, for anybody may do everything",
                self.host
            ));
        }
        let key = &self.store_key_file;
        if !key.as_os_str().is_empty() && std::fs::read_to_string(key).map_or(true, |key| key.trim().len() < 16) {
            problems.push(format!(
                "gateway.access.store_key_file = \"{}\": a file with 16 characters or more is taken (openssl rand -base64 32)",
                key.display()
            ));
        }
        problems
    }
}

impl GatewayConfig {
    /// Every key that holds what it cannot.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = self.machine.problems(TABLE, self.streams.total_bytes() >> 20);
        if !(1..=86_400).contains(&self.janitor_interval_s) {
            let seconds = self.janitor_interval_s;
            problems.push(format!("gateway.janitor_interval_s = {seconds}: 1 to 86400 is taken"));
        }
        if self.keep_percent > 90 {
            problems.push(format!("gateway.keep_percent = {}: 0 to 90 is taken", self.keep_percent));
        }
        problems.extend(self.rollout.problems());
        problems.extend(self.access.problems());
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(file: &str) -> (GatewayConfig, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("eddy.toml");
        std::fs::write(&path, file).unwrap();
        let (_, config) = eddy_runtime::config::load::<GatewayConfig>("gateway", DEFAULTS, Some(&path), []).unwrap();
        let problems = config.problems();
        (config, problems)
    }

    #[test]
    fn the_defaults_are_every_key_and_valid() {
        let (config, problems) = load("");
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!((config.machine.port, config.machine.payload_bytes_max), (4222, 4 << 20));
    }

    #[test]
    fn streams_over_the_store_and_values_out_of_range_are_told_together() {
        let (_, problems) = load("[gateway]\nstore_mb_max = 100\nkeep_percent = 99\n[gateway.streams]\nside_mb = 1\n");
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains("5305 MB"), "{problems:?}");
    }

    #[test]
    fn a_value_that_fits_no_key_is_told_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("eddy.toml");
        std::fs::write(&path, "[gateway]\nport = 70000\n").unwrap();
        let error = eddy_runtime::config::load::<GatewayConfig>("gateway", DEFAULTS, Some(&path), []).unwrap_err();
        assert!(error.problems[0].contains("eddy.toml:2: gateway.port = 70000"), "{error}");
    }
}
