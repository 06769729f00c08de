//! The tables `[capture.direct]`, `[capture.http]`, `[capture.mqtt]` and `[capture.requests]`.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use eddy_runtime::{direct::Bounds, fresh::Fresh};
use eddy_schemas::names;
use serde::Deserialize;

use super::{http, mqtt, topic::Template};

/// `[capture.direct]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectConfig {
    requests_max: usize,
    bytes_max: usize,
    linger_ms: u64,
}

/// `[capture.http]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpConfig {
    listen: String,
    address_file: PathBuf,
    token_file: PathBuf,
    body_bytes_max: usize,
    connections_max: usize,
    timeout_ms: u64,
}

/// `[capture.mqtt]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MqttConfig {
    url: String,
    topics: Vec<String>,
    client_id: String,
    username: String,
    password_file: PathBuf,
    tls_ca_file: PathBuf,
    tls_cert_file: PathBuf,
    tls_key_file: PathBuf,
    keep_alive_s: u16,
    inflight_max: usize,
}

/// `[capture.requests]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestsConfig {
    pub(super) enabled: bool,
}

fn range(key: &str, value: u64, low: u64, high: u64, problems: &mut Vec<String>) {
    if !(low..=high).contains(&value) {
        problems.push(format!("capture.{key} is {value}: {low} to {high} is taken"));
    }
}

/// A file's content; empty for an empty path.
fn file(key: &str, path: &Path, problems: &mut Vec<String>) -> Vec<u8> {
    if path.as_os_str().is_empty() {
        return Vec::new();
    }
    std::fs::read(path).unwrap_or_else(|error| {
        problems.push(format!("capture.{key} is {}: {error}", path.display()));
        Vec::new()
    })
}

/// A file that holds one secret; the line's end is not part of it.
fn secret(key: &str, path: &Path, problems: &mut Vec<String>) -> Option<String> {
    if path.as_os_str().is_empty() {
        return None;
    }
    let text = String::from_utf8_lossy(&file(key, path, problems)).trim().to_owned();
    if text.is_empty() {
        problems
            .push(format!("capture.{key} is {}, which is empty: one line with the secret is taken", path.display()));
    }
    Some(text)
}

/// The same, read again when the file changes.
fn followed(key: &'static str, path: &Path, problems: &mut Vec<String>) -> Option<Arc<Fresh<String>>> {
    let file = path.to_owned();
    let read = move || {
        let mut problems = Vec::new();
        let read = secret(key, &file, &mut problems).filter(|_| problems.is_empty());
        read.ok_or_else(|| problems.join("; "))
    };
    if path.as_os_str().is_empty() {
        return None;
    }
    Fresh::new(vec![path.to_owned()], read).map_err(|problem| problems.push(problem)).ok().map(Arc::new)
}

impl DirectConfig {
    pub(super) fn validate(&self, problems: &mut Vec<String>) -> Bounds {
        range("direct.requests_max", self.requests_max as u64, 1, 1_000_000, problems);
        range("direct.bytes_max", self.bytes_max as u64, 65_536, 1 << 30, problems);
        range("direct.linger_ms", self.linger_ms, 0, 1_000, problems);
        let linger = Duration::from_millis(self.linger_ms);
        Bounds { requests_max: self.requests_max, bytes_max: self.bytes_max, linger }
    }
}

impl HttpConfig {
    pub(super) fn validate(&self, problems: &mut Vec<String>) -> Option<http::Settings> {
        range("http.body_bytes_max", self.body_bytes_max as u64, 1_024, 64 << 20, problems);
        range("http.connections_max", self.connections_max as u64, 1, 100_000, problems);
        range("http.timeout_ms", self.timeout_ms, 100, 3_600_000, problems);
        if self.listen.is_empty() {
            return None;
        }
        if let Err(error) = self.listen.parse::<std::net::SocketAddr>() {
            problems.push(format!("capture.http.listen is {:?}: an address and port is taken ({error})", self.listen));
        }
        Some(http::Settings {
            listen: self.listen.clone(),
            address_file: self.address_file.clone(),
            token: followed("http.token_file", &self.token_file, problems),
            body_bytes_max: self.body_bytes_max,
            connections_max: self.connections_max,
            timeout: Duration::from_millis(self.timeout_ms),
        })
    }
}

impl MqttConfig {
    pub(super) fn validate(&self, site: &str, problems: &mut Vec<String>) -> Option<mqtt::Settings> {
        range("mqtt.keep_alive_s", self.keep_alive_s.into(), 1, 3_600, problems);
        range("mqtt.inflight_max", self.inflight_max as u64, 1, 65_535, problems);
        if self.url.is_empty() {
            return None;
        }
        let broker = mqtt::Broker::parse(&self.url)
            .map_err(|problem| problems.push(format!("capture.mqtt.url is {:?}: {problem}", self.url)))
            .ok();
        if self.topics.is_empty() || self.topics.len() > 64 {
            problems.push(format!("capture.mqtt.topics has {} entries: 1 to 64 are taken", self.topics.len()));
        }
        let mut topics = Vec::new();
        for text in &self.topics {
            match Template::parse(text) {
                Ok(topic) => topics.push(topic),
                Err(problem) => problems.push(format!("capture.mqtt.topics has {text:?}: {problem}")),
            }
        }
        let (ca, cert) = (self.tls_ca_file.as_os_str(), self.tls_cert_file.as_os_str());
        if cert.is_empty() != self.tls_key_file.as_os_str().is_empty() {
            problems.push("capture.mqtt.tls_cert_file and capture.mqtt.tls_key_file: give both or neither".into());
        }
        if broker.as_ref().is_some_and(|broker| broker.tls) && ca.is_empty() && !cert.is_empty() {
            problems.push("capture.mqtt.tls_cert_file needs capture.mqtt.tls_ca_file, the broker's authority".into());
        }
        if !self.password_file.as_os_str().is_empty() && self.username.is_empty() {
            problems.push("capture.mqtt.password_file is given without capture.mqtt.username".into());
        }
        let secrets = self.secrets(problems);
        let site = names::encode(site);
        let client_id = if self.client_id.is_empty() { format!("eddy-capture-{site}") } else { self.client_id.clone() };
        Some(mqtt::Settings {
            broker: broker?,
            topics,
            client_id,
            username: self.username.clone(),
            secrets: secrets?,
            keep_alive_s: self.keep_alive_s,
            inflight_max: self.inflight_max,
        })
    }

    /// What its files hold, again when they change.
    fn secrets(&self, problems: &mut Vec<String>) -> Option<Arc<Fresh<mqtt::Secrets>>> {
        let of = self.clone();
        let read = move || {
            let mut problems = Vec::new();
            let password = secret("mqtt.password_file", &of.password_file, &mut problems).unwrap_or_default();
            let ca = file("mqtt.tls_ca_file", &of.tls_ca_file, &mut problems);
            let cert = file("mqtt.tls_cert_file", &of.tls_cert_file, &mut problems);
            let key = file("mqtt.tls_key_file", &of.tls_key_file, &mut problems);
            let client_auth = (!cert.is_empty()).then_some((cert, key));
            if problems.is_empty() { Ok(mqtt::Secrets { password, ca, client_auth }) } else { Err(problems.join("; ")) }
        };
        let all = [&self.password_file, &self.tls_ca_file, &self.tls_cert_file, &self.tls_key_file];
        let files = all.into_iter().filter(|path| !path.as_os_str().is_empty()).cloned().collect();
        Fresh::new(files, read).map_err(|problem| problems.push(problem)).ok().map(Arc::new)
    }
}
