//! The config table `[index]`.

use std::time::Duration;

use eddy_vectors::index::Limits;
use serde::Deserialize;

/// `[index]`, as `default.toml` documents it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Windows of a segment.
    pub segment_windows: u32,
    /// Hours between the ends of its windows.
    pub segment_span_h: f64,
    /// Searches that scan a segment until a graph is built of it.
    pub graph_after_searches: u32,
    /// Windows of a merged segment at most.
    pub graph_windows: u32,
    /// Megabytes of all files.
    pub bytes_max_mb: u64,
    /// Days.
    pub age_max_d: f64,
    /// Megabytes of address space.
    pub map_mb: u64,
    /// Megabytes.
    pub build_memory_mb: usize,
    /// Seconds.
    pub build_time_max_s: f64,
    /// The recall of searches that ask for none.
    pub recall: f32,
    /// Searches at the same time.
    pub searches_max: usize,
    /// Neighbours of a context message.
    pub context_neighbours: usize,
    /// How near is near, as a part of the window's own length.
    pub near: f32,
    /// The same of windows of siblings that were called normal lately.
    pub sibling_near: f32,
    /// How lately, in seconds of event time.
    pub sibling_within_s: f64,
    /// Labelled neighbours that must agree.
    pub votes: usize,
    /// Whether "known normal" is sent as a control.
    pub normal_closes: bool,
    /// Milliseconds that the region may take.
    pub region_deadline_ms: u64,
    /// Questions that fail in a row before it is left alone ...
    pub region_failures_max: u32,
    /// ... for so many seconds.
    pub region_pause_s: f64,
}

/// How many times what the index may hold its catalog's map must span.
const MAP_FACTOR: u64 = 2;

impl Config {
    /// Every key that holds what it cannot.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |key: &str, value: f64, least: f64, most: f64| {
            if !(least..=most).contains(&value) {
                problems.push(format!("index.{key} = {value}: {least} to {most} is taken"));
            }
        };
        check("segment_windows", f64::from(self.segment_windows), 100.0, 1e7);
        check("segment_span_h", self.segment_span_h, 1.0, 1e6);
        check("graph_after_searches", f64::from(self.graph_after_searches), 0.0, 1e9);
        check("graph_windows", f64::from(self.graph_windows), 0.0, 1e9);
        check("bytes_max_mb", self.bytes_max_mb as f64, 16.0, 1e7);
        check("age_max_d", self.age_max_d, 1.0, 1e5);
        check("map_mb", self.map_mb as f64, 16.0, 1e6);
        check("build_memory_mb", self.build_memory_mb as f64, 8.0, 1e5);
        check("build_time_max_s", self.build_time_max_s, 1.0, 1e5);
        check("recall", f64::from(self.recall), 0.01, 1.0);
        check("searches_max", self.searches_max as f64, 1.0, 64.0);
        check("context_neighbours", self.context_neighbours as f64, 1.0, 100.0);
        check("near", f64::from(self.near), 1e-6, 10.0);
        check("sibling_near", f64::from(self.sibling_near), 0.0, 10.0);
        check("sibling_within_s", self.sibling_within_s, 0.0, 1e7);
        check("votes", self.votes as f64, 1.0, 100.0);
        check("region_deadline_ms", self.region_deadline_ms as f64, 1.0, 1e4);
        check("region_failures_max", f64::from(self.region_failures_max), 1.0, 1e6);
        check("region_pause_s", self.region_pause_s, 1.0, 1e5);
        // All of it can lie in the catalog while builds lag behind, and deleting from a full map needs room itself.
        let (map, needed) = (self.map_mb, self.bytes_max_mb.saturating_mul(MAP_FACTOR));
        if map < needed {
            problems.push(format!(
                "index.map_mb = {map}: at least {MAP_FACTOR} x index.bytes_max_mb = {needed} is taken; it is address space, not memory or disk"
            ));
        }
        problems
    }

    /// As the store takes them.
    pub fn limits(&self) -> Limits {
        Limits {
            map_bytes: (self.map_mb as usize) << 20,
            segment_windows: self.segment_windows,
            segment_span: (self.segment_span_h * 3.6e12) as i64,
            graph_after: self.graph_after_searches.into(),
            graph_windows: self.graph_windows,
            bytes_max: self.bytes_max_mb << 20,
            age_max: (self.age_max_d * 8.64e13) as i64,
            build_memory: self.build_memory_mb << 20,
            build_time: Duration::from_secs_f64(self.build_time_max_s),
            ..Limits::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let defaults: toml::Table = include_str!("../default.toml").parse().unwrap();
        defaults["index"].clone().try_into().unwrap()
    }

    #[test]
    fn the_defaults_are_good_and_every_bound_is_told() {
        assert!(config().problems().is_empty());
        let wrong = Config { votes: 0, near: 0.0, recall: 1.5, map_mb: 1, ..config() };
        let problems = wrong.problems().join("\n");
        for key in ["index.votes = 0", "index.near = 0", "index.recall = 1.5", "index.map_mb = 1"] {
            assert!(problems.contains(key), "{problems}");
        }
        let narrow = Config { map_mb: 2_000, bytes_max_mb: 1_024, ..config() };
        let problems = narrow.problems().join("\n");
        assert!(problems.contains("index.map_mb = 2000: at least 2 x index.bytes_max_mb = 2048"), "{problems}");
        assert_eq!(config().limits().segment_span, 168 * 3_600_000_000_000);
    }
}
