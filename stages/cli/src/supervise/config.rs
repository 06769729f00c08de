//! The part of a machine's config table that its supervisor follows, the same for a gateway and a hub.

use std::{net::SocketAddr, path::PathBuf};

use serde::Deserialize;

use super::UpError;

/// As the machine's `default.toml` documents it.
#[derive(Clone, Debug, Deserialize)]
pub struct MachineConfig {
    /// The nats-server binary; empty: looked for.
    pub nats_server: PathBuf,
    /// Folder of the workers' binaries; empty: that of the eddy binary.
    pub bin_dir: PathBuf,
    /// Port of the bus; 0 takes a free one.
    pub port: u16,
    /// Port of the server's monitoring; 0 takes a free one.
    pub monitor_port: u16,
    /// Where `/metrics` and `/targets` are served.
    pub metrics_listen: String,
    /// Bound on all streams together, in MB of 2^20 bytes.
    pub store_mb_max: u64,
    /// Largest message in bytes.
    pub payload_bytes_max: u64,
    /// The server's soft memory limit, in MB of 2^20 bytes.
    pub memory_mb: u64,
    /// Size at which a log is cut, in MB of 2^20 bytes.
    pub log_mb_max: u64,
    /// Seconds from SIGTERM to SIGKILL.
    pub stop_grace_s: u64,
    /// Milliseconds between two looks at the server's health.
    pub health_interval_ms: u64,
    /// Bad answers in a row before the server is restarted.
    pub health_failures_max: u32,
    /// First wait before a restart, in milliseconds.
    pub restart_wait_ms_min: u64,
    /// Longest wait before a restart, in milliseconds.
    pub restart_wait_ms_max: u64,
    /// Starts in a row without a minute of life.
    pub restarts_max: u32,
    /// Seconds that the server may take to start.
    pub start_timeout_s: u64,
}

impl MachineConfig {
    /// Every key of `table` that holds what it cannot; `streams_mb` is the sum of its streams' bounds.
    pub fn problems(&self, table: &str, streams_mb: u64) -> Vec<String> {
        let mut problems = Vec::new();
        let mut range = |key: &str, value: u64, low: u64, high: u64| {
            if !(low..=high).contains(&value) {
                problems.push(format!("{table}.{key} = {value}: {low} to {high} is taken"));
            }
        };
        range("payload_bytes_max", self.payload_bytes_max, 1 << 20, 64 << 20);
        range("memory_mb", self.memory_mb, 16, 65_536);
        range("log_mb_max", self.log_mb_max, 1, 10_000);
        range("stop_grace_s", self.stop_grace_s, 1, 300);
        range("health_interval_ms", self.health_interval_ms, 100, 600_000);
        range("health_failures_max", u64::from(self.health_failures_max), 1, 1_000);
        range("restart_wait_ms_min", self.restart_wait_ms_min, 10, self.restart_wait_ms_max);
        range("restart_wait_ms_max", self.restart_wait_ms_max, 10, 3_600_000);
        range("restarts_max", u64::from(self.restarts_max), 1, 1_000_000);
        range("start_timeout_s", self.start_timeout_s, 1, 3_600);
        if let Err(problem) = self.metrics_listen.parse::<SocketAddr>() {
            let listen = &self.metrics_listen;
            problems.push(format!("{table}.metrics_listen = {listen:?}: an address and port is taken ({problem})"));
        }
        let store = self.store_mb_max;
        if streams_mb > store {
            problems.push(format!(
                "{table}.store_mb_max = {store}: less than the {streams_mb} MB of [{table}.streams] together"
            ));
        }
        problems
    }

    /// Listens on `port`; 0 takes a free one, for monitoring and metrics too.
    pub fn listen_on(&mut self, port: u16) {
        self.port = port;
        if port == 0 {
            self.monitor_port = 0;
            self.metrics_listen = "127.0.0.1:0".to_owned();
        }
    }

    /// Where metrics are served; where the monitoring takes a free port, they do. `None`: no address, which was told as a problem.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        let mut address: SocketAddr = self.metrics_listen.parse().ok()?;
        if self.monitor_port == 0 {
            address.set_port(0);
        }
        Some(address)
    }

    /// The binary of a worker.
    ///
    /// # Errors
    /// If it is not there.
    pub fn binary(&self, name: &str, table: &'static str) -> Result<PathBuf, UpError> {
        let folder = if self.bin_dir.as_os_str().is_empty() {
            let own = std::env::current_exe().map_err(|problem| UpError::Io("the eddy binary".into(), problem))?;
            own.parent().map(ToOwned::to_owned).unwrap_or_default()
        } else {
            self.bin_dir.clone()
        };
        let binary = folder.join(name);
        if binary.is_file() { Ok(binary) } else { Err(UpError::NoWorker(binary.display().to_string(), table)) }
    }
}
