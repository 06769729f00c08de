//! The config table `[sync]`.

use std::{path::PathBuf, time::Duration};

use eddy_runtime::config::BusConfig;
use eddy_schemas::{names, region::API_PREFIX, sync::Class};
use serde::Deserialize;

use crate::{
    collect::{CollectConfig, Int8, Policy, Product, VectorCoder},
    queue::Bounds,
    send::SendConfig,
};

/// The map must have room for what LMDB keeps beside the budgets.
const MAP_SPARE: f64 = 1.5;

/// `[sync]`, as `default.toml` documents it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Milliseconds.
    pub target_latency_ms: u64,
    /// Milliseconds.
    pub congested_after_ms: u64,
    /// Seconds.
    pub linger_s: f64,
    /// Megabytes; 0: not metered.
    pub metered_mb_per_day: u64,
    /// Milliseconds.
    pub ask_timeout_ms: u64,
    /// Questions at the same time.
    pub asks_max: usize,
    /// Seconds.
    pub sketch_poll_s: u64,
    /// Milliseconds.
    pub commit_interval_ms: u64,
    /// Kilobytes.
    pub hold_kb_max: usize,
    /// Seconds.
    pub summary_period_s: u32,
    /// How vectors are written.
    pub vectors: Vectors,
    /// Vectors that a codebook is learned from.
    pub pq_rows: usize,
    /// Bytes of a vector; 0: half as many as components.
    pub pq_parts: usize,
    /// Entries of a class.
    pub entries_max: u64,
    /// Megabytes.
    pub map_mb: u64,
    /// Folder of the gateway's bundles; empty: none are taken.
    pub bundles: PathBuf,
    /// Who may sign them.
    pub trusted_keys: Vec<String>,
    /// Whether they need not be signed.
    pub allow_unsigned: bool,
    /// Readings that may leave.
    pub policy: Vec<Policy>,
    /// Megabytes of each class.
    pub budget_mb: Budgets,
    /// The region's NATS.
    pub hub: BusConfig,
}

/// How vectors are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Vectors {
    /// A byte a component.
    Int8,
    /// Product-quantized.
    Pq,
}

/// `[sync.budget_mb]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "each is a class")]
pub struct Budgets {
    pub alerts: u64,
    pub contexts: u64,
    pub health: u64,
    pub deltas: u64,
    pub summaries: u64,
    pub snippets: u64,
    pub readings: u64,
}

impl Budgets {
    /// In the order of [`Class::ALL`].
    fn all(&self) -> [u64; 7] {
        [self.alerts, self.contexts, self.health, self.deltas, self.summaries, self.snippets, self.readings]
    }
}

impl Config {
    /// Every key that holds what it cannot.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |key: &str, value: f64, least: f64, most: f64| {
            if !(least..=most).contains(&value) {
                problems.push(format!("sync.{key} = {value}: {least} to {most} is taken"));
            }
        };
        check("target_latency_ms", self.target_latency_ms as f64, 10.0, 10_000.0);
        check("congested_after_ms", self.congested_after_ms as f64, 100.0, 60_000.0);
        check("linger_s", self.linger_s, 0.0, 3_600.0);
        check("metered_mb_per_day", self.metered_mb_per_day as f64, 0.0, 1e6);
        check("ask_timeout_ms", self.ask_timeout_ms as f64, 100.0, 60_000.0);
        check("asks_max", self.asks_max as f64, 1.0, 64.0);
        check("sketch_poll_s", self.sketch_poll_s as f64, 1.0, 86_400.0);
        check("commit_interval_ms", self.commit_interval_ms as f64, 10.0, 60_000.0);
        check("hold_kb_max", self.hold_kb_max as f64, 16.0, 65_536.0);
        check("summary_period_s", f64::from(self.summary_period_s), 60.0, 86_400.0);
        check("pq_rows", self.pq_rows as f64, 512.0, 65_536.0);
        check("pq_parts", self.pq_parts as f64, 0.0, 256.0);
        check("entries_max", self.entries_max as f64, 100.0, 1e8);
        for (class, budget) in Class::ALL.into_iter().zip(self.budget_mb.all()) {
            check(&format!("budget_mb.{}", class.token()), budget as f64, 1.0, 1e5);
        }
        let sum: u64 = self.budget_mb.all().iter().sum();
        check("map_mb", self.map_mb as f64, (sum as f64 * MAP_SPARE).max(16.0), 1e6);
        problems.extend(self.hub.problems("sync.hub"));
        for (number, policy) in self.policy.iter().enumerate() {
            problems.extend(policy.problems(number));
        }
        problems
    }

    /// Whether there is a region.
    pub fn has_region(&self) -> bool {
        !self.hub.url.is_empty()
    }

    /// How the region's NATS is reached by the gateway of `site`.
    pub fn hub_of(&self, site: &str) -> BusConfig {
        let mut hub = self.hub.clone();
        if hub.inbox_prefix.is_empty() {
            hub.inbox_prefix = format!("_INBOX.{}", names::encode(site));
        }
        if hub.api_prefix.is_empty() && !hub.tls_cert_file.as_os_str().is_empty() {
            API_PREFIX.clone_into(&mut hub.api_prefix);
        }
        hub
    }

    /// Of the queue.
    pub fn bounds(&self) -> Bounds {
        Bounds {
            bytes: self.budget_mb.all().map(|megabytes| megabytes << 20),
            entries_max: self.entries_max,
            map_bytes: (self.map_mb as usize) << 20,
        }
    }

    /// Of what fills it.
    pub fn collect(&self) -> CollectConfig {
        let coder: Box<dyn VectorCoder> = match self.vectors {
            Vectors::Int8 => Box::new(Int8),
            Vectors::Pq => Box::new(Product::new(self.pq_rows, (self.pq_parts > 0).then_some(self.pq_parts))),
        };
        CollectConfig {
            commit_interval: Duration::from_millis(self.commit_interval_ms),
            hold_bytes_max: self.hold_kb_max << 10,
            period_s: self.summary_period_s,
            coder,
            policies: self.policy.clone(),
        }
    }

    /// Of what empties it.
    pub fn send(&self) -> SendConfig {
        SendConfig {
            target_latency: Duration::from_millis(self.target_latency_ms),
            congested_after: Duration::from_millis(self.congested_after_ms),
            linger: Duration::from_secs_f64(self.linger_s),
            metered_bytes: self.metered_mb_per_day << 20,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> toml::Table {
        let defaults: toml::Table = include_str!("../default.toml").parse().unwrap();
        defaults["sync"].as_table().unwrap().clone()
    }

    fn config() -> Config {
        table().try_into().unwrap()
    }

    #[test]
    fn the_defaults_are_good_and_every_bound_is_told() {
        assert_eq!(config().problems(), Vec::<String>::new());
        assert!(!config().has_region());
        let open = config().hub_of("plant 1");
        assert_eq!((open.inbox_prefix.as_str(), open.api_prefix.as_str()), ("_INBOX.plant%201", ""));
        let mut known = config();
        known.hub.tls_cert_file = "site.pem".into();
        assert_eq!(known.hub_of("plant 1").api_prefix, "JS.region.API");
        let mut wrong = Config { target_latency_ms: 1, linger_s: -1.0, map_mb: 100, asks_max: 0, ..config() };
        wrong.budget_mb.deltas = 0;
        wrong.hub.tls_cert_file = "cert.pem".into();
        wrong.hub.request_timeout_ms = 1;
        let problems = wrong.problems().join("\n");
        for key in [
            "sync.target_latency_ms = 1",
            "sync.linger_s = -1",
            "sync.map_mb = 100",
            "sync.asks_max = 0",
            "sync.budget_mb.deltas = 0",
            "sync.hub.request_timeout_ms = 1",
            "give both or neither",
        ] {
            assert!(problems.contains(key), "{key}: {problems}");
        }
    }

    #[test]
    fn unknown_keys_are_refused_and_policies_are_read() {
        for key in ["latency_ms", "hubs"] {
            let mut table = table();
            table.insert(key.into(), toml::Value::Integer(1));
            assert!(Config::deserialize(table).unwrap_err().to_string().contains(key));
        }
        let mut table = table();
        let policy: toml::Table = "[[policy]]\nseries = \"p/t\"\npurpose = \"\"\nwhat = \"readings\"".parse().unwrap();
        table.insert("policy".into(), policy["policy"].clone());
        let config: Config = table.try_into().unwrap();
        assert!(config.problems().join("\n").contains("sync.policy[0].purpose"), "{:?}", config.problems());
        assert_eq!(config.bounds().bytes[3], 512 << 20);
    }
}
