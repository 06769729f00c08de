//! The config table `[gateway]`.

use std::path::PathBuf;

use eddy_runtime::provision::StreamBounds;
use serde::Deserialize;

/// The commented defaults.
pub const DEFAULTS: &str = include_str!("../../default.toml");

/// `[gateway]`, as `default.toml` documents it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayConfig {
    /// The nats-server binary; empty: looked for.
    pub nats_server: PathBuf,
    /// Folder of the stage binaries; empty: that of the eddy binary.
    pub bin_dir: PathBuf,
    /// Port of the bus; 0 takes a free one.
    pub port: u16,
    /// Port of the server's monitoring; 0 takes a free one.
    pub monitor_port: u16,
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
    /// Seconds between two sweeps of the streams.
    pub janitor_interval_s: u64,
    /// Share of a stream's bound that is kept, in percent.
    pub keep_percent: u8,
    /// Messages below the ack floor that are kept.
    pub replay_tail_messages: u64,
    /// Bounds of the streams.
    pub streams: StreamBounds,
}

impl GatewayConfig {
    /// Every key that holds what it cannot.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut range = |key: &str, value: u64, low: u64, high: u64| {
            if !(low..=high).contains(&value) {
                problems.push(format!("gateway.{key} = {value}: {low} to {high} is taken"));
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
        range("janitor_interval_s", self.janitor_interval_s, 1, 86_400);
        range("keep_percent", u64::from(self.keep_percent), 0, 90);
        let (sum, store) = (self.streams.total_bytes() >> 20, self.store_mb_max);
        if sum > store {
            problems
                .push(format!("gateway.store_mb_max = {store}: less than the {sum} MB of [gateway.streams] together"));
        }
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
        assert_eq!((config.port, config.payload_bytes_max), (4222, 4 << 20));
    }

    #[test]
    fn streams_over_the_store_and_values_out_of_range_are_told_together() {
        let (_, problems) = load("[gateway]\nstore_mb_max = 100\nkeep_percent = 99\n[gateway.streams]\nside_mb = 1\n");
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[1].contains("5297 MB"), "{problems:?}");
    }
}
