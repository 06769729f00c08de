//! `[hub]`, as `default.toml` documents it.

use std::time::Duration;

use eddy_vectors::{index::Limits, sketch};
use serde::Deserialize;

use crate::{
    filed,
    grpc::{AuditConfig, GrpcConfig, Roles},
    kept,
};

/// `[hub]`, as `default.toml` documents it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of this process; empty: one is drawn.
    pub name: String,
    /// Shards of the region.
    pub shards: u32,
    /// Shards that are kept here; empty: all.
    pub hold: Vec<u32>,
    /// Sites whose streams are made.
    pub sites: Vec<String>,
    /// Whether streams are made.
    pub provision: bool,
    /// Megabytes of a site's stream.
    pub site_mb: u64,
    /// Megabytes of the news.
    pub region_mb: u64,
    /// Megabytes of the sketches.
    pub sketches_mb: u64,
    /// Megabytes.
    pub models_mb: u64,
    /// Servers that hold a stream.
    pub replicas: usize,
    /// Percent of a site's stream.
    pub keep_percent: u8,
    /// Milliseconds.
    pub heartbeat_ms: u64,
    /// Milliseconds.
    pub lapse_after_ms: u64,
    /// Milliseconds.
    pub takeover_after_ms: u64,
    /// Windows of a segment.
    pub segment_windows: u32,
    /// Hours between the ends of its windows.
    pub segment_span_h: f64,
    /// Searches that scan a segment until a graph is built of it.
    pub graph_after_searches: u32,
    /// Windows of a merged segment at most.
    pub graph_windows: u32,
    /// Megabytes of a shard's files.
    pub bytes_max_mb: u64,
    /// Days.
    pub age_max_d: f64,
    /// Notes of a shard.
    pub notes_max: u64,
    /// Their megabytes.
    pub notes_mb_max: u64,
    /// Megabytes of address space.
    pub map_mb: u64,
    /// Megabytes.
    pub build_memory_mb: usize,
    /// Seconds.
    pub build_time_max_s: f64,
    /// Periods.
    pub summaries_per_device: u32,
    /// Seconds.
    pub sketch_every_s: f64,
    /// Clusters of a sketch.
    pub sketch_clusters: usize,
    /// Windows that the clusters of a sketch are learned from.
    pub sketch_windows_max: usize,
    /// `[hub.grpc]`
    pub grpc: GrpcConfig,
    /// `[hub.roles]`
    pub roles: Roles,
    /// `[hub.audit]`
    pub audit: AuditConfig,
}

impl Config {
    /// Every key that holds what it cannot.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |key: &str, value: f64, least: f64, most: f64| {
            if !(least..=most).contains(&value) {
                problems.push(format!("hub.{key} = {value}: {least} to {most} is taken"));
            }
        };
        check("shards", f64::from(self.shards), 1.0, 256.0);
        check("site_mb", self.site_mb as f64, 1.0, 1e7);
        check("region_mb", self.region_mb as f64, 1.0, 1e7);
        check("sketches_mb", self.sketches_mb as f64, 1.0, 1e7);
        check("models_mb", self.models_mb as f64, 1.0, 1e7);
        check("replicas", self.replicas as f64, 1.0, 5.0);
        check("keep_percent", f64::from(self.keep_percent), 1.0, 99.0);
        check("heartbeat_ms", self.heartbeat_ms as f64, 50.0, 60_000.0);
        // A heartbeat may be lost without harm.
        check("lapse_after_ms", self.lapse_after_ms as f64, 2.0 * self.heartbeat_ms as f64, 600_000.0);
        check("takeover_after_ms", self.takeover_after_ms as f64, self.lapse_after_ms as f64 + 50.0, 600_000.0);
        check("segment_windows", f64::from(self.segment_windows), 100.0, 1e7);
        check("segment_span_h", self.segment_span_h, 1.0, 1e6);
        check("graph_after_searches", f64::from(self.graph_after_searches), 0.0, 1e9);
        check("graph_windows", f64::from(self.graph_windows), 0.0, 1e9);
        check("bytes_max_mb", self.bytes_max_mb as f64, 16.0, 1e7);
        check("age_max_d", self.age_max_d, 1.0, 1e5);
        check("notes_max", self.notes_max as f64, 1e3, 1e9);
        check("notes_mb_max", self.notes_mb_max as f64, 1.0, 1e6);
        check("map_mb", self.map_mb as f64, 16.0, 1e7);
        check("build_memory_mb", self.build_memory_mb as f64, 8.0, 1e5);
        check("build_time_max_s", self.build_time_max_s, 1.0, 1e5);
        check("summaries_per_device", f64::from(self.summaries_per_device), 1.0, 1e5);
        check("sketch_every_s", self.sketch_every_s, 1.0, 1e6);
        check("sketch_clusters", self.sketch_clusters as f64, 1.0, 4_096.0);
        check("sketch_windows_max", self.sketch_windows_max as f64, 1e3, 1e6);
        problems.extend(self.grpc.problems());
        problems.extend(self.roles.problems());
        problems.extend(self.audit.problems());
        for shard in self.hold.iter().filter(|shard| **shard >= self.shards) {
            problems.push(format!("hub.hold: {shard}: 0 to hub.shards - 1 = {} is taken", self.shards.max(1) - 1));
        }
        for site in self.sites.iter().filter(|site| !filed::is_site(site)) {
            problems.push(format!("hub.sites: {site:?}: 1 to 128 bytes (percent-encoded) without \"/\" are taken"));
        }
        problems
    }

    /// The shards that are kept here.
    pub fn held(&self) -> Vec<u32> {
        let mut held = if self.hold.is_empty() { (0..self.shards).collect() } else { self.hold.clone() };
        held.sort_unstable();
        held.dedup();
        held
    }

    /// As a shard's store takes them.
    pub fn limits(&self) -> Limits {
        Limits {
            map_bytes: (self.map_mb as usize) << 20,
            segment_windows: self.segment_windows,
            segment_span: hours(self.segment_span_h),
            graph_after: self.graph_after_searches.into(),
            graph_windows: self.graph_windows,
            bytes_max: self.bytes_max_mb << 20,
            age_max: hours(24.0 * self.age_max_d),
            build_memory: self.build_memory_mb << 20,
            build_time: Duration::from_secs_f64(self.build_time_max_s),
            ..Limits::default()
        }
    }

    pub(crate) fn sketch(&self) -> sketch::Limits {
        let (clusters, sample) = (self.sketch_clusters, self.sketch_windows_max);
        sketch::Limits { clusters, sample, ..sketch::Limits::default() }
    }

    pub(crate) fn notes(&self) -> kept::Bounds {
        kept::Bounds { count: self.notes_max, bytes: self.notes_mb_max << 20, age: hours(24.0 * self.age_max_d) }
    }
}

/// In nanoseconds; what is longer than those of an i64 is for ever.
fn hours(hours: f64) -> i64 {
    (hours * 3.6e12) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let defaults: toml::Table = include_str!("../default.toml").parse().unwrap();
        defaults["hub"].clone().try_into().unwrap()
    }

    #[test]
    fn the_defaults_are_good_and_every_bound_is_told() {
        assert_eq!(config().problems(), Vec::<String>::new());
        let wrong = Config {
            shards: 2,
            hold: vec![1, 2],
            sites: vec![String::new()],
            takeover_after_ms: 2_000,
            notes_max: 0,
            ..config()
        };
        let problems = wrong.problems().join("\n");
        for part in [
            "hub.hold: 2: 0 to hub.shards - 1 = 1",
            "hub.sites: \"\"",
            "hub.takeover_after_ms = 2000: 2550",
            "hub.notes_max",
        ] {
            assert!(problems.contains(part), "{part}: {problems}");
        }
        assert_eq!(config().limits().segment_span, 720 * 3_600_000_000_000);
        assert_eq!(Config { shards: 3, ..config() }.held(), [0, 1, 2]);
        assert_eq!(Config { shards: 3, hold: vec![2, 0, 2], ..config() }.held(), [0, 2]);
        // A hundred thousand days do not fit nanoseconds of an i64.
        assert_eq!(Config { age_max_d: 1e5, ..config() }.limits().age_max, 8_640_000_000_000_000_000);
    }
}
