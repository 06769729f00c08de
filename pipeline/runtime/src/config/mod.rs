//! Config: the commented defaults, a file over them, the environment over both; every problem at once.
//!
//! The defaults are the schema: a key that does not stand in them is unknown, and a value must be of the default's type.
//! What they cannot say (ranges, files that must exist) is checked on the typed config.

mod merge;
mod print;
#[cfg(test)]
mod tests;
mod traces;

use std::path::{Path, PathBuf};

use serde::{Deserialize, de::DeserializeOwned};
use toml::{Table, Value};

use self::merge::Merged;
pub use self::traces::TracesConfig;
use crate::stage::Scope;

/// The shared part of every stage's defaults.
pub const DEFAULTS: &str = include_str!("../default.toml");

/// Everything that is wrong with a config.
#[derive(Debug, thiserror::Error)]
#[error("{}", .problems.join("\n"))]
pub struct ConfigError {
    /// One line each: where, which value, what is taken.
    pub problems: Vec<String>,
}

/// `[site]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteConfig {
    /// The site's name.
    pub name: String,
    /// The shard of this instance.
    pub shard: u32,
    /// How many shards the site has.
    pub shards: u32,
}

/// `[bus]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BusConfig {
    /// The server, or those of a cluster ([`servers`]).
    pub url: String,
    /// Credentials; empty: none.
    pub credentials_file: PathBuf,
    /// NKey; empty: none.
    pub nkey_file: PathBuf,
    /// CA certificate; empty: none.
    pub tls_ca_file: PathBuf,
    /// Client certificate; empty: none.
    pub tls_cert_file: PathBuf,
    /// Its key.
    pub tls_key_file: PathBuf,
    /// What the subjects of answers begin with; empty: the client's default.
    pub inbox_prefix: String,
    /// What the subjects of JetStream's API begin with; empty: `$JS.API`.
    pub api_prefix: String,
    /// Milliseconds.
    pub connect_timeout_ms: u64,
    /// Milliseconds.
    pub request_timeout_ms: u64,
}

impl BusConfig {
    /// Every key of `table` that holds what it cannot.
    pub fn problems(&self, table: &str) -> Vec<String> {
        let mut problems = Vec::new();
        for (key, value) in
            [("connect_timeout_ms", self.connect_timeout_ms), ("request_timeout_ms", self.request_timeout_ms)]
        {
            if !(10..=600_000).contains(&value) {
                problems.push(format!("{table}.{key} = {value}: 10 to 600000 is taken"));
            }
        }
        let (cert, key) = (&self.tls_cert_file, &self.tls_key_file);
        if cert.as_os_str().is_empty() != key.as_os_str().is_empty() {
            problems.push(format!("{table}.tls_cert_file and {table}.tls_key_file: give both or neither"));
        }
        if !self.credentials_file.as_os_str().is_empty() && !self.nkey_file.as_os_str().is_empty() {
            problems.push(format!("{table}.credentials_file and {table}.nkey_file: give one of them, or neither"));
        }
        let is_token =
            |token: &str| !token.is_empty() && !token.contains(['*', '>']) && !token.contains(char::is_whitespace);
        for (key, prefix) in [("inbox_prefix", &self.inbox_prefix), ("api_prefix", &self.api_prefix)] {
            if !prefix.is_empty() && !prefix.split('.').all(is_token) {
                problems.push(format!("{table}.{key} = {prefix:?}: tokens with a \".\" between them are taken"));
            }
        }
        problems
    }
}

/// The servers of a `bus.url`: any of a cluster's will do, and where one is gone the next is tried.
pub fn servers(url: &str) -> Vec<&str> {
    url.split(',').map(str::trim).collect()
}

/// `[limits]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsConfig {
    /// Messages of one pull.
    pub pull_messages_max: usize,
    /// Bytes of one pull.
    pub pull_bytes_max: usize,
    /// Bytes of one output.
    pub output_bytes_max: usize,
    /// Seconds.
    pub ack_wait_s: u64,
    /// Messages.
    pub ack_pending_max: u64,
    /// Tries.
    pub poison_tries: u32,
    /// Milliseconds.
    pub full_backoff_ms: u64,
}

/// `[state]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateConfig {
    /// Folder of all state.
    pub dir: PathBuf,
    /// Milliseconds.
    pub commit_interval_ms: u64,
    /// Things (devices) whose records are collected at once.
    pub collect_devices_max: usize,
    /// Milliseconds from that to the next.
    pub collect_every_ms: u64,
    /// Kilobytes of records that one transaction writes.
    pub piece_kb: usize,
    /// Megabytes.
    pub map_size_mb: u64,
}

/// `[telemetry]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TelemetryConfig {
    /// Address and port.
    pub listen: String,
    /// Where the bound address is written; empty: nowhere.
    pub address_file: PathBuf,
    /// Tracing filter.
    pub log: String,
    /// How logs are written.
    pub log_format: LogFormat,
    /// Seconds.
    pub stall_after_s: u64,
    /// Where traces go.
    pub traces: TracesConfig,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// What all stages share.
#[derive(Clone, Debug, Deserialize)]
pub struct CommonConfig {
    /// `[site]`
    pub site: SiteConfig,
    /// `[bus]`
    pub bus: BusConfig,
    /// `[limits]`
    pub limits: LimitsConfig,
    /// `[state]`
    pub state: StateConfig,
    /// `[telemetry]`
    pub telemetry: TelemetryConfig,
}

impl CommonConfig {
    /// The part of the site that this instance serves.
    pub fn scope(&self) -> Scope {
        Scope { site: self.site.name.clone(), shard: self.site.shard, shards: self.site.shards }
    }

    /// The defaults, with state in `folder`.
    #[cfg(any(test, feature = "contract"))]
    pub fn for_tests(folder: &Path) -> Self {
        let mut config: Self = toml::from_str(DEFAULTS).unwrap_or_else(|error| panic!("default.toml: {error}"));
        config.state.dir = folder.to_owned();
        config
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut range = |key: &str, value: u64, low: u64, high: u64| {
            if !(low..=high).contains(&value) {
                problems.push(format!("{key} = {value}: {low} to {high} is taken"));
            }
        };
        range("site.shards", u64::from(self.site.shards), 1, 256);
        range("site.shard", u64::from(self.site.shard), 0, u64::from(self.site.shards.max(1)) - 1);
        range("limits.pull_messages_max", self.limits.pull_messages_max as u64, 1, 100_000);
        range("limits.pull_bytes_max", self.limits.pull_bytes_max as u64, 1, 64_000_000);
        range("limits.output_bytes_max", self.limits.output_bytes_max as u64, 1_000, 3_000_000);
        range("limits.ack_wait_s", self.limits.ack_wait_s, 1, 3_600);
        range("limits.ack_pending_max", self.limits.ack_pending_max, 10, 1_000_000);
        range("limits.poison_tries", u64::from(self.limits.poison_tries), 1, 100);
        range("limits.full_backoff_ms", self.limits.full_backoff_ms, 1, 60_000);
        range("state.commit_interval_ms", self.state.commit_interval_ms, 0, 3_600_000);
        range("state.collect_every_ms", self.state.collect_every_ms, 0, 60_000);
        range("state.collect_devices_max", self.state.collect_devices_max as u64, 1, 10_000_000);
        range("state.piece_kb", self.state.piece_kb as u64, 1, 1_000_000);
        range("state.map_size_mb", self.state.map_size_mb, 1, 65_536);
        range("telemetry.stall_after_s", self.telemetry.stall_after_s, 1, 86_400);
        if !eddy_schemas::names::is_valid(&self.site.name) {
            problems.push(format!("site.name = {:?}: 1 to 128 bytes (percent-encoded) are taken", self.site.name));
        }
        problems.extend(self.bus.problems("bus"));
        problems.extend(self.telemetry.traces.problems());
        if let Err(error) = self.telemetry.listen.parse::<std::net::SocketAddr>() {
            problems.push(format!(
                "telemetry.listen = {:?}: an address and port is taken ({error})",
                self.telemetry.listen
            ));
        }
        if let Err(error) = tracing_subscriber::EnvFilter::try_new(&self.telemetry.log) {
            let filter = &self.telemetry.log;
            problems.push(format!("telemetry.log = {filter:?}: {error}; info or eddy_runtime=debug,info is taken"));
        }
        problems
    }
}

/// Loads the config of stage `stage`, whose own defaults are the table `[stage]` in `stage_defaults`.
///
/// # Errors
/// Every problem, one line each: where it was set, the key, the value, what is taken.
pub fn load<C: DeserializeOwned>(
    stage: &str,
    stage_defaults: &str,
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<(CommonConfig, C), ConfigError> {
    let mut merged = Merged::new(stage, stage_defaults, file, environment)?;
    let mut problems = std::mem::take(&mut merged.problems);
    let (common, wrong) = merged.typed::<CommonConfig>(Value::Table);
    problems.extend(wrong);
    if let Some(common) = &common {
        problems.extend(common.problems().into_iter().map(|problem| with_source(problem, &merged)));
    }
    let (own, wrong) = merged.typed::<C>(|mut table| table.remove(stage).unwrap_or(Value::Table(Table::new())));
    problems.extend(wrong);
    match (common, own) {
        (Some(common), Some(own)) if problems.is_empty() => Ok((common, own)),
        _ => Err(ConfigError { problems }),
    }
}

/// Says where the key of a problem that starts with `KEY = ` was set.
fn with_source(problem: String, merged: &Merged) -> String {
    let key = problem.split(" = ").next().unwrap_or_default();
    match merged.changes.iter().rev().find(|change| change.key() == key) {
        Some(change) => format!("{}: {problem}", change.source),
        None => problem,
    }
}

/// What `print-config` prints: the commented defaults with the effective value of every key, and where it was set.
///
/// # Errors
/// If the file or environment cannot be merged.
pub fn print(
    stage: &str,
    stage_defaults: &str,
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<String, ConfigError> {
    let mut merged = Merged::new(stage, stage_defaults, file, environment)?;
    match std::mem::take(&mut merged.problems) {
        problems if problems.is_empty() => Ok(print::commented(stage_defaults, &merged)),
        problems => Err(ConfigError { problems }),
    }
}
