//! The table `[notify]`; `default.toml` says what each key means.

use std::{collections::BTreeSet, path::PathBuf};

use eddy_runtime::reader::StartAt;
use eddy_schemas::alert::Phase;
use serde::Deserialize;

use crate::{filter::Filter, lanes::Order, webhook::Mode};

/// The commented defaults.
pub const DEFAULTS: &str = include_str!("../default.toml");

/// The table `[notify]` as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `[[notify.webhook]]`
    pub webhook: Vec<WebhookConfig>,
    /// `[[notify.mqtt]]`
    pub mqtt: Vec<MqttConfig>,
    /// Alerts that a sink holds in memory.
    pub pending_max: usize,
    /// Where a new sink begins.
    pub start_at: StartAt,
    /// Milliseconds.
    pub stop_grace_ms: u64,
}

/// `[[notify.webhook]]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhookConfig {
    /// The sink.
    pub name: String,
    /// The receiver.
    pub url: String,
    /// How the event is put into a request.
    pub mode: Mode,
    /// Secrets; empty: none.
    pub secret_file: PathBuf,
    /// Whether it is meant that there is no secret.
    pub unsigned: bool,
    /// The Authorization header; empty: none.
    pub authorization_file: PathBuf,
    /// CA certificates; empty: the machine's.
    pub tls_ca_file: PathBuf,
    /// Client certificate; empty: none.
    pub tls_cert_file: PathBuf,
    /// Its key.
    pub tls_key_file: PathBuf,
    /// A proxy; empty: none.
    pub proxy: String,
    /// Milliseconds.
    pub timeout_ms: u64,
    /// Which alerts.
    pub filter: Filter,
    /// How they are delivered.
    pub delivery: DeliveryConfig,
}

impl Default for WebhookConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            url: String::new(),
            mode: Mode::Structured,
            secret_file: PathBuf::new(),
            unsigned: false,
            authorization_file: PathBuf::new(),
            tls_ca_file: PathBuf::new(),
            tls_cert_file: PathBuf::new(),
            tls_key_file: PathBuf::new(),
            proxy: String::new(),
            timeout_ms: 10_000,
            filter: Filter::default(),
            delivery: DeliveryConfig::default(),
        }
    }
}

/// `[[notify.mqtt]]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MqttConfig {
    /// The sink.
    pub name: String,
    /// The broker.
    pub url: String,
    /// Empty: made from site and name.
    pub client_id: String,
    /// Empty: none.
    pub username: String,
    /// Empty: none.
    pub password_file: PathBuf,
    /// CA certificates; empty: the machine's.
    pub tls_ca_file: PathBuf,
    /// Client certificate; empty: none.
    pub tls_cert_file: PathBuf,
    /// Its key.
    pub tls_key_file: PathBuf,
    /// Topic template of the retained state.
    pub state_topic: String,
    /// Topic template of every event; empty: none.
    pub event_topic: String,
    /// Whether states are published again on each connection.
    pub republish: bool,
    /// Seconds.
    pub keep_alive_s: u16,
    /// Milliseconds.
    pub timeout_ms: u64,
    /// Which alerts.
    pub filter: Filter,
    /// How they are delivered.
    pub delivery: DeliveryConfig,
}

impl Default for MqttConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            url: String::new(),
            client_id: String::new(),
            username: String::new(),
            password_file: PathBuf::new(),
            tls_ca_file: PathBuf::new(),
            tls_cert_file: PathBuf::new(),
            tls_key_file: PathBuf::new(),
            state_topic: "eddy/{site}/{device}/alert".into(),
            event_topic: String::new(),
            republish: true,
            keep_alive_s: 30,
            timeout_ms: 10_000,
            filter: Filter::default(),
            delivery: DeliveryConfig::default(),
        }
    }
}

/// `[notify.webhook.delivery]` and `[notify.mqtt.delivery]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeliveryConfig {
    /// Within what events keep their order.
    pub order: Order,
    /// Deliveries at once.
    pub in_flight_max: usize,
    /// Milliseconds.
    pub retry_wait_ms_min: u64,
    /// Milliseconds.
    pub retry_wait_ms_max: u64,
    /// Seconds.
    pub retry_after_s_max: u64,
    /// Tries.
    pub tries_max: u32,
    /// Seconds.
    pub age_s_max: u64,
}

impl Default for DeliveryConfig {
    fn default() -> Self {
        Self {
            order: Order::Device,
            in_flight_max: 4,
            retry_wait_ms_min: 500,
            retry_wait_ms_max: 30_000,
            retry_after_s_max: 3_600,
            tries_max: 5_000,
            age_s_max: 86_400,
        }
    }
}

/// The longest name of a sink.
const NAME_BYTES_MAX: usize = 32;
/// Sinks together.
const SINKS_MAX: usize = 64;

impl Config {
    /// Every key that holds what it cannot. Files are looked at where the sinks are made.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        range(&mut problems, "notify.pending_max", self.pending_max as u64, 10, 100_000);
        range(&mut problems, "notify.stop_grace_ms", self.stop_grace_ms, 0, 60_000);
        let count = self.webhook.len() + self.mqtt.len();
        if count > SINKS_MAX {
            problems.push(format!("notify has {count} sinks: at most {SINKS_MAX} are taken"));
        }
        let mut names = BTreeSet::new();
        let webhooks = self.webhook.iter().map(|sink| ("webhook", &sink.name, &sink.filter, &sink.delivery));
        let mqtt = self.mqtt.iter().map(|sink| ("mqtt", &sink.name, &sink.filter, &sink.delivery));
        for (index, (kind, name, filter, delivery)) in webhooks.chain(mqtt).enumerate() {
            let letters = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
            if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(letters) {
                let index = if kind == "mqtt" { index - self.webhook.len() } else { index };
                let what = "1 to 32 of a to z, 0 to 9, _ and - are taken";
                problems.push(format!("notify.{kind}[{index}].name = {name:?}: {what}"));
            } else if !names.insert(name) {
                problems.push(format!("notify.{kind}.name = {name:?}: another sink has this name"));
            }
            let key = format!("notify.{kind}[{name}]");
            filter_problems(&mut problems, &key, filter);
            delivery_problems(&mut problems, &key, delivery);
        }
        for sink in &self.webhook {
            range(&mut problems, &format!("notify.webhook[{}].timeout_ms", sink.name), sink.timeout_ms, 10, 600_000);
        }
        for sink in &self.mqtt {
            let key = format!("notify.mqtt[{}]", sink.name);
            range(&mut problems, &format!("{key}.timeout_ms"), sink.timeout_ms, 10, 600_000);
            range(&mut problems, &format!("{key}.keep_alive_s"), sink.keep_alive_s.into(), 5, 3_600);
        }
        problems
    }
}

fn range(problems: &mut Vec<String>, key: &str, value: u64, low: u64, high: u64) {
    if !(low..=high).contains(&value) {
        problems.push(format!("{key} = {value}: {low} to {high} is taken"));
    }
}

fn filter_problems(problems: &mut Vec<String>, key: &str, filter: &Filter) {
    if filter.devices.is_empty() || filter.devices.len() > 1_000 {
        problems.push(format!("{key}.filter.devices has {} patterns: 1 to 1,000 are taken", filter.devices.len()));
    }
    if let Some(long) = filter.devices.iter().find(|pattern| pattern.len() > 256) {
        problems.push(format!("{key}.filter.devices has a pattern of {} bytes: 256 are taken", long.len()));
    }
    let known = [Phase::Opened, Phase::Updated, Phase::Closed];
    if !known.iter().any(|phase| filter.phases.contains(phase)) {
        problems.push(format!("{key}.filter.phases is empty: nothing would ever be delivered"));
    }
}

fn delivery_problems(problems: &mut Vec<String>, key: &str, delivery: &DeliveryConfig) {
    let mut range = |name: &str, value, low, high| range(problems, &format!("{key}.delivery.{name}"), value, low, high);
    range("in_flight_max", delivery.in_flight_max as u64, 1, 256);
    range("retry_wait_ms_min", delivery.retry_wait_ms_min, 10, delivery.retry_wait_ms_max.max(10));
    range("retry_wait_ms_max", delivery.retry_wait_ms_max, 10, 3_600_000);
    range("retry_after_s_max", delivery.retry_after_s_max, 0, 86_400);
    range("tries_max", delivery.tries_max.into(), 1, 1_000_000);
    range("age_s_max", delivery.age_s_max, 1, 31_536_000);
}

/// A URL as a message may show it: without user and password, and without its path, which at webhooks is often the secret.
pub(crate) fn shown(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    // A password that is not encoded may hold what ends a host.
    let rest = rest.rsplit('@').next().unwrap_or_default();
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if scheme.is_empty() { host.to_owned() } else { format!("{scheme}://{host}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(file: &str) -> Result<Config, Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("eddy.toml");
        std::fs::write(&path, file).unwrap();
        let loaded = eddy_runtime::config::load::<Config>("notify", DEFAULTS, Some(&path), []);
        loaded.map(|(_, config)| config).map_err(|error| error.problems)
    }

    /// The keys that stand in comments, put into effect.
    fn described() -> String {
        let keys = DEFAULTS.lines().filter_map(|line| line.strip_prefix('#')).filter(|line| !line.starts_with(' '));
        keys.map(|line| format!("{line}\n")).collect()
    }

    #[test]
    fn the_keys_in_the_comments_are_all_keys_with_their_defaults() {
        let described = load(&described()).unwrap();
        assert_eq!((described.webhook, described.mqtt), (vec![WebhookConfig::default()], vec![MqttConfig::default()]));
        let keys = |text: &str| text.parse::<toml::Table>().unwrap();
        let table = keys(&self::described());
        let count = |kind: &str| table["notify"][kind][0].as_table().unwrap().len();
        // As many as the structs have: a key without a description would be missing here.
        assert_eq!((count("webhook"), count("mqtt")), (13, 15));
        assert_eq!(table["notify"]["mqtt"][0]["delivery"].as_table().unwrap().len(), 7);
        assert_eq!(table["notify"]["webhook"][0]["filter"].as_table().unwrap().len(), 3);
    }

    #[test]
    fn the_defaults_are_valid_and_have_no_sinks() {
        let config = load("").unwrap();
        assert_eq!((config.webhook.len(), config.mqtt.len(), config.problems()), (0, 0, vec![]));
    }

    #[test]
    fn a_wrong_key_is_refused_by_name() {
        for (file, key) in [
            ("[notify]\npending = 5", "notify.pending"),
            ("[[notify.webhook]]\nname = \"a\"\nsecret = \"x\"", "secret"),
            ("[[notify.webhook]]\nname = \"a\"\n[notify.webhook.delivery]\ntries = 5", "tries"),
            ("[[notify.mqtt]]\nname = \"a\"\ntopic = \"x\"", "topic"),
            ("[[notify.mqtt]]\nname = \"a\"\n[notify.mqtt.filter]\nseverity_min = \"fatal\"", "fatal"),
        ] {
            let problems = load(file).unwrap_err();
            assert!(problems.len() == 1 && problems[0].contains(key), "{file}: {problems:?}");
        }
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let file = "[notify]\npending_max = 1\n[[notify.webhook]]\nname = \"A b\"\n[[notify.webhook]]\nname = \"x\"\n\
            timeout_ms = 0\n[notify.webhook.filter]\ndevices = []\nphases = []\n[[notify.mqtt]]\nname = \"x\"\n\
            keep_alive_s = 1\n[notify.mqtt.delivery]\nin_flight_max = 0\nretry_wait_ms_max = 5\n";
        let problems = load(file).unwrap().problems();
        for part in [
            "notify.pending_max = 1:",
            "notify.webhook[0].name = \"A b\"",
            "notify.mqtt.name = \"x\": another",
            "notify.webhook[x].timeout_ms = 0",
            "notify.webhook[x].filter.devices has 0",
            "notify.webhook[x].filter.phases is empty",
            "notify.mqtt[x].keep_alive_s = 1",
            "notify.mqtt[x].delivery.in_flight_max = 0",
            "notify.mqtt[x].delivery.retry_wait_ms_max = 5",
        ] {
            assert!(problems.iter().any(|problem| problem.contains(part)), "{part}: {problems:?}");
        }
    }

    #[test]
    fn a_url_is_shown_without_what_may_be_secret() {
        for (url, expected) in [
            ("mqtt://us-er:p!ss~w0rdMQ@127.0.0.1:9", "mqtt://127.0.0.1:9"),
            ("mqtt://u:p/ss@h/x", "mqtt://h"),
            ("ftp://hooks.example/T0/SECRET?a=b@c", "ftp://c"),
            ("hooks.example/T0/SECRET", "hooks.example"),
            ("", ""),
        ] {
            assert_eq!(shown(url), expected, "{url}");
        }
    }
}
