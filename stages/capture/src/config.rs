//! The `[capture]` table; `default.toml` says what each key means.

use std::path::PathBuf;

use eddy_schemas::bursts;
use serde::Deserialize;

use crate::{
    clock_offset::Limits,
    decode::{LineChannel, Rules, SenmlChannel, TimeUnit},
    sources::{DirectConfig, HttpConfig, MqttConfig, RequestsConfig},
};

/// The table `[capture]` as it is written; every key stands, commented, in `default.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    time_unit: TimeUnit,
    line_protocol_time_unit: TimeUnit,
    time_keys: Vec<String>,
    future_limit_s: i64,
    ignored_keys: Vec<String>,
    channel_key: String,
    value_key: String,
    values_keys: Vec<String>,
    device_keys: Vec<String>,
    burst_rate_key: String,
    burst_values_key: String,
    burst_values_max: usize,
    any_device: bool,
    senml_channel: SenmlChannel,
    line_protocol_channel: LineChannel,
    line_protocol_channel_tags: Vec<String>,
    line_protocol_device_tags: Vec<String>,
    payload_bytes_max: usize,
    message_readings_max: usize,
    device_channels_max: usize,
    clock_offset_limit_s: i64,
    clock_offset_messages: u32,
    clock_offset_hold_s: i64,
    clock_offset_max_s: i64,
    clock_offset_devices_max: usize,
    pub(crate) bundles: PathBuf,
    pub(crate) trusted_keys: Vec<String>,
    pub(crate) allow_unsigned: bool,
    pub(crate) direct: DirectConfig,
    pub(crate) http: HttpConfig,
    pub(crate) mqtt: MqttConfig,
    pub(crate) requests: RequestsConfig,
}

const SECOND: i64 = 1_000_000_000;

impl Config {
    /// Checks the values and turns them into what the decoders and the clock watch take.
    ///
    /// # Errors
    /// Every problem, each naming the key, the value and what is taken.
    pub(crate) fn validate(self) -> Result<(Rules, Limits), Vec<String>> {
        let mut problems = Vec::new();
        let mut range = |key: &str, value: i64, least: i64, most: i64| {
            if !(least..=most).contains(&value) {
                problems.push(format!("capture.{key} is {value}: {least} to {most} is taken"));
            }
        };
        let count = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        range("future_limit_s", self.future_limit_s, 0, 31_536_000);
        range("payload_bytes_max", count(self.payload_bytes_max), 1024, 67_108_864);
        range("message_readings_max", count(self.message_readings_max), 1, 10_000_000);
        range("device_channels_max", count(self.device_channels_max), 1, 100_000);
        let bursts = (count(bursts::VALUES_MIN), count(bursts::VALUES_MAX));
        range("burst_values_max", count(self.burst_values_max), bursts.0, bursts.1);
        range("clock_offset_limit_s", self.clock_offset_limit_s, 0, 86_400);
        range("clock_offset_messages", self.clock_offset_messages.into(), 1, 10_000);
        range("clock_offset_hold_s", self.clock_offset_hold_s, 0, 86_400);
        range("clock_offset_max_s", self.clock_offset_max_s, self.clock_offset_limit_s.saturating_add(1), 604_800);
        range("clock_offset_devices_max", count(self.clock_offset_devices_max), 1, 1_000_000);
        self.check_keys(&mut problems);
        if !problems.is_empty() {
            return Err(problems);
        }
        let limits = Limits {
            limit: self.clock_offset_limit_s * SECOND,
            messages: self.clock_offset_messages,
            hold: self.clock_offset_hold_s * SECOND,
            max: self.clock_offset_max_s * SECOND,
            devices_max: self.clock_offset_devices_max,
        };
        Ok((self.rules(), limits))
    }

    fn check_keys(&self, problems: &mut Vec<String>) {
        let lists = [
            ("time_keys", &self.time_keys),
            ("ignored_keys", &self.ignored_keys),
            ("values_keys", &self.values_keys),
            ("device_keys", &self.device_keys),
            ("line_protocol_channel_tags", &self.line_protocol_channel_tags),
            ("line_protocol_device_tags", &self.line_protocol_device_tags),
        ];
        for (key, list) in lists {
            if list.len() > 64 {
                problems.push(format!("capture.{key} has {} entries: at most 64 are taken", list.len()));
            }
            if list.iter().any(String::is_empty) {
                problems.push(format!("capture.{key} has an empty entry: remove it"));
            }
        }
        for (key, value) in [("channel_key", &self.channel_key), ("value_key", &self.value_key)] {
            let elsewhere = [&self.time_keys, &self.ignored_keys, &self.values_keys];
            if value.is_empty() {
                problems.push(format!("capture.{key} is empty: a key is taken"));
            } else if elsewhere.iter().any(|list| list.contains(value)) {
                problems.push(format!("capture.{key} is {value:?}, which another list of keys has too: name it once"));
            }
        }
        if self.channel_key == self.value_key {
            problems.push(format!("capture.channel_key and capture.value_key are both {:?}", self.value_key));
        }
        for (key, value) in [("burst_rate_key", &self.burst_rate_key), ("burst_values_key", &self.burst_values_key)] {
            if value.is_empty() {
                problems.push(format!("capture.{key} is empty: a key is taken"));
            }
        }
        if self.burst_rate_key == self.burst_values_key {
            problems.push(format!(
                "capture.burst_rate_key and capture.burst_values_key are both {:?}",
                self.burst_rate_key
            ));
        }
        if self.line_protocol_time_unit == TimeUnit::Rfc3339 {
            problems.push("capture.line_protocol_time_unit is \"rfc3339\": line protocol has numbers only".into());
        }
    }

    pub(crate) fn rules(self) -> Rules {
        Rules {
            time_unit: self.time_unit,
            line_time_unit: self.line_protocol_time_unit,
            time_keys: self.time_keys,
            future_limit: self.future_limit_s * SECOND,
            ignored_keys: self.ignored_keys,
            channel_key: self.channel_key,
            value_key: self.value_key,
            values_keys: self.values_keys,
            device_keys: self.device_keys,
            line_device_tags: self.line_protocol_device_tags,
            burst_rate_key: self.burst_rate_key,
            burst_values_key: self.burst_values_key,
            burst_values_max: self.burst_values_max,
            any_device: self.any_device,
            senml_channel: self.senml_channel,
            line_channel: self.line_protocol_channel,
            line_channel_tags: self.line_protocol_channel_tags,
            payload_bytes_max: self.payload_bytes_max,
            readings_max: self.message_readings_max,
            channels_max: self.device_channels_max,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(change: &str, to: &str) -> Result<Config, String> {
        let text = include_str!("../default.toml");
        assert!(text.contains(change), "{change}");
        let table: toml::Table = toml::from_str(&text.replace(change, to)).map_err(|error| error.to_string())?;
        table["capture"].clone().try_into().map_err(|error: toml::de::Error| error.to_string())
    }

    #[test]
    fn the_defaults_are_a_valid_config() {
        let (rules, limits) = parse("[capture]", "[capture]").unwrap().validate().unwrap();
        assert_eq!((rules.future_limit, limits.limit), (300 * SECOND, 60 * SECOND));
    }

    #[test]
    fn a_wrong_key_or_unit_is_refused_by_name() {
        assert!(parse("any_device", "any_devise").unwrap_err().contains("any_devise"));
        assert!(parse("\"auto\"\n# The same", "\"weeks\"\n# The same").unwrap_err().contains("weeks"));
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let mut config = parse("[capture]", "[capture]").unwrap();
        config.future_limit_s = -1;
        config.message_readings_max = 0;
        config.value_key = "channel".into();
        config.time_keys.push(String::new());
        let problems = config.validate().unwrap_err();
        for part in ["future_limit_s is -1", "message_readings_max is 0", "both \"channel\"", "time_keys has an empty"]
        {
            assert!(problems.iter().any(|problem| problem.contains(part)), "{part}: {problems:?}");
        }
    }
}
