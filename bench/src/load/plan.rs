//! What a measurement wants of its gateway.

use std::{fmt::Write as _, path::PathBuf};

/// What differs from a gateway as it is shipped.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Series of the fleet: detect shares its alert budget among them.
    pub(super) series: usize,
    /// Into how many shards the site is cut.
    pub(super) shards: u32,
    /// First rows of a series that set its scaling.
    pub(super) commissioning_rows: u64,
    /// Whether streams hold a whole measurement; else they are as shipped, and the janitor works.
    pub(super) roomy: bool,
    /// The folder in which the gateway's own is made.
    pub(super) parent: PathBuf,
}

impl Plan {
    /// The config file that `eddy up` is given.
    pub(super) fn config(&self) -> String {
        let mut text = format!(
            "[gateway]\nmonitor_port = 0\nrestart_wait_ms_min = 3600000\nrestart_wait_ms_max = 3600000\n\
             [site]\nshards = {}\n[embed]\ncommissioning_rows = {}\n[detect]\nfleet_series = {}.0\n",
            self.shards, self.commissioning_rows, self.series
        );
        if self.roomy {
            text = text.replacen("[gateway]\n", "[gateway]\nstore_mb_max = 36864\n", 1);
            let megabytes = [
                ("ingest", 2048),
                ("control", 16),
                ("readings", 4096),
                ("samples", 4096),
                ("embeddings", 12288),
                ("detections", 4096),
                ("context", 64),
                ("health", 64),
                ("side", 1024),
            ];
            text.push_str("[gateway.streams]\n");
            for (stream, megabytes) in megabytes {
                // Writing to a string cannot fail.
                let _ = writeln!(text, "{stream}_mb = {megabytes}");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_config_is_toml_with_or_without_room() {
        let plan = |roomy| Plan { series: 30, shards: 2, commissioning_rows: 64, roomy, parent: PathBuf::new() };
        for roomy in [false, true] {
            let table: toml::Table = plan(roomy).config().parse().unwrap();
            assert_eq!(table["detect"]["fleet_series"].as_float(), Some(30.0));
            assert_eq!(table["gateway"].get("streams").is_some(), roomy);
            assert_eq!(table["site"]["shards"].as_integer(), Some(2));
        }
    }
}
