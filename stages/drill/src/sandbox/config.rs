//! The installed config, without what would reach outside.

use std::path::Path;

use anyhow::{Context as _, Result};
use toml::{Table, Value};

/// A config for a sandbox.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// Its tables.
    pub tables: Table,
    /// What was left out, for people.
    pub left_out: Vec<String>,
}

/// Whole tables that are others', or lead elsewhere.
const TABLES: [&str; 5] = ["hub", "region", "notify", "export", "bus"];
/// Single keys that lead elsewhere, or are the live gateway's own.
const KEYS: [&[&str]; 16] = [
    &["sync", "hub"],
    &["sync", "bundles"],
    &["capture", "mqtt"],
    &["capture", "bundles"],
    &["embed", "bundles"],
    &["detect", "bundles"],
    &["state", "dir"],
    &["site", "shard"],
    &["telemetry", "listen"],
    &["telemetry", "address_file"],
    &["capture", "http", "listen"],
    &["capture", "http", "address_file"],
    // Its keys open the live gateway, and a sandbox makes none: it is on this machine's loopback alone.
    &["gateway", "access"],
    &["gateway", "port"],
    &["gateway", "monitor_port"],
    &["gateway", "metrics_listen"],
];
/// Variables of the environment that say such things: a sandbox's processes must not inherit them.
const VARIABLES: [&str; 21] = [
    "EDDY_HUB_",
    "EDDY_REGION_",
    "EDDY_NOTIFY_",
    "EDDY_EXPORT_",
    "EDDY_BUS_",
    "EDDY_SYNC_HUB_",
    "EDDY_SYNC_BUNDLES",
    "EDDY_CAPTURE_MQTT_",
    "EDDY_CAPTURE_HTTP_",
    "EDDY_CAPTURE_BUNDLES",
    "EDDY_EMBED_BUNDLES",
    "EDDY_DETECT_BUNDLES",
    "EDDY_STATE_DIR",
    "EDDY_SITE_SHARD",
    "EDDY_TELEMETRY_LISTEN",
    "EDDY_TELEMETRY_ADDRESS_FILE",
    "EDDY_GATEWAY_ACCESS_",
    "EDDY_GATEWAY_DIR",
    "EDDY_GATEWAY_PORT",
    "EDDY_GATEWAY_MONITOR_PORT",
    "EDDY_GATEWAY_METRICS_LISTEN",
];

/// Whether a variable would lead a sandbox's process outside.
pub fn leads_outside(variable: &str) -> bool {
    // The shards' number is the installed one.
    variable != "EDDY_SITE_SHARDS" && VARIABLES.iter().any(|prefix| variable.starts_with(prefix))
}

impl Config {
    /// From the installed config file, if there is one.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn of(file: Option<&Path>) -> Result<Self> {
        let Some(path) = file else { return Ok(Self::default()) };
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let tables = text.parse().with_context(|| path.display().to_string())?;
        Ok(Self::without(tables))
    }

    fn without(mut tables: Table) -> Self {
        let mut left_out = Vec::new();
        for name in TABLES {
            if tables.remove(name).is_some() {
                left_out.push(format!("[{name}]"));
            }
        }
        for path in KEYS {
            if let Some((key, above)) = path.split_last()
                && let Some(table) =
                    above.iter().try_fold(&mut tables, |table, name| table.get_mut(*name)?.as_table_mut())
                && table.remove(*key).is_some()
            {
                left_out.push(path.join("."));
            }
        }
        Self { tables, left_out }
    }

    /// Sets a key of a table.
    pub fn set(&mut self, path: &[&str], value: impl Into<Value>) {
        let Some((key, above)) = path.split_last() else { return };
        let mut table = &mut self.tables;
        for name in above {
            let entry = table.entry(*name).or_insert_with(|| Value::Table(Table::new()));
            if !entry.is_table() {
                *entry = Value::Table(Table::new());
            }
            let Value::Table(inner) = entry else { return };
            table = inner;
        }
        table.insert((*key).to_owned(), value.into());
    }

    /// Adds to a list of a table.
    pub fn add(&mut self, table: &str, key: &str, value: impl Into<Value>) {
        let list = self.tables.get(table).and_then(|table| table.get(key)).and_then(Value::as_array);
        let mut list = list.cloned().unwrap_or_default();
        list.push(value.into());
        self.set(&[table, key], list);
    }

    /// The site that it names, or the environment does.
    ///
    /// # Errors
    /// If it is not taken.
    pub fn site(&self) -> Result<String> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("eddy.toml");
        self.write(&file)?;
        Ok(eddy_cli::up::Plan::load(folder.path(), Some(&file))?.site)
    }

    /// Writes it.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        std::fs::write(path, toml::to_string(&self.tables)?).with_context(|| path.display().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_outside_is_left_out_and_all_else_stays() {
        let text = r#"
            [site]
            name = "plant"
            shards = 2
            shard = 1
            [detect]
            alerts_per_day = 3.0
            [sync]
            linger_s = 5.0
            [sync.hub]
            url = "tls://hub:4322"
            [[notify.webhook]]
            name = "x"
            [export]
            to = "s3://bucket"
            [capture.mqtt]
            url = "mqtt://broker"
            [capture.http]
            listen = "0.0.0.0:8080"
            timeout_ms = 500
            [gateway]
            port = 4222
            memory_mb = 64
            [gateway.access]
            host = "0.0.0.0"
            keys_dir = "/keys"
            [bus]
            url = "nats://live:4222"
        "#;
        let mut config = Config::without(text.parse().unwrap());
        let kept = "[capture.http]\ntimeout_ms = 500\n[detect]\nalerts_per_day = 3.0\n[gateway]\nmemory_mb = 64\n[site]\n\
                    name = \"plant\"\nshards = 2\n[sync]\nlinger_s = 5.0\n";
        assert_eq!(config.tables, kept.parse::<Table>().unwrap());
        let left_out = [
            "[notify]",
            "[export]",
            "[bus]",
            "sync.hub",
            "capture.mqtt",
            "site.shard",
            "capture.http.listen",
            "gateway.access",
            "gateway.port",
        ];
        assert_eq!(config.left_out, left_out);
        config.set(&["gateway", "streams", "side_mb"], 7);
        assert_eq!(config.tables["gateway"]["streams"]["side_mb"].as_integer(), Some(7));
        config.add("gateway", "trusted_keys", "one");
        config.add("gateway", "trusted_keys", "two");
        assert_eq!(config.tables["gateway"]["trusted_keys"].as_array().map(Vec::len), Some(2));
    }

    #[test]
    fn variables_that_lead_outside_are_known() {
        for name in ["EDDY_SYNC_HUB_URL", "EDDY_NOTIFY_WEBHOOK", "EDDY_EXPORT_TO", "EDDY_BUS_URL", "EDDY_SITE_SHARD"] {
            assert!(leads_outside(name), "{name}");
        }
        for name in ["EDDY_SITE_NAME", "EDDY_SITE_SHARDS", "EDDY_DETECT_ALERTS_PER_DAY", "EDDY_NATS_SERVER", "HOME"] {
            assert!(!leads_outside(name), "{name}");
        }
    }
}
