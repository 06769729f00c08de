//! Who may do what at the hub's server: known by the certificate's subject, each gateway no more than it needs.

use std::path::Path;

use eddy_schemas::{
    names,
    region::{NEWS_STREAM, RECEIPTS, REQUEST_PREFIX, SEARCH, SKETCH_BUCKET, STATS},
    sync::stream_of,
};
use serde_json::Value;

use super::config::{RegionConfig, SITE};
use crate::supervise::server::Access;

/// Seconds for a handshake, and for a client to say who it is: links are slow.
const HANDSHAKE_S: u32 = 20;

/// Where the server of a region with these sites listens, and who may do what.
pub fn access(config: &RegionConfig, sites: &[String]) -> Access {
    let host = config.host.to_string();
    let bounds = format!("max_connections: {}\n", config.connections_max);
    if !config.tls.is_used() {
        return Access { host: host.clone(), scheme: "nats", reach: host, config: bounds };
    }
    Access {
        host,
        scheme: "tls",
        reach: config.tls.reach.clone(),
        config: bounds + &tls(config) + &users(config, sites),
    }
}

fn tls(config: &RegionConfig) -> String {
    let quoted = |path: &Path| Value::from(path.to_string_lossy()).to_string();
    let tls = &config.tls;
    let (ca, cert, key) = (quoted(&tls.ca_file), quoted(&tls.cert_file), quoted(&tls.key_file));
    format!(
        "tls {{\n  ca_file: {ca}\n  cert_file: {cert}\n  key_file: {key}\n  \
         verify_and_map: true\n  timeout: {HANDSHAKE_S}\n}}\n"
    )
}

fn users(config: &RegionConfig, sites: &[String]) -> String {
    let mut text = format!("authorization {{\n  timeout: {HANDSHAKE_S}\n  users = [\n");
    text += &format!("    {{ user: {} }}\n", Value::from(config.tls.hub_subject.as_str()));
    for site in sites {
        let subject = config.tls.site_subject.replace(SITE, &escaped(site));
        let list = |subjects: Vec<String>| Value::from(subjects).to_string();
        text += &format!(
            "    {{ user: {}, permissions: {{ publish: {{ allow: {} }}, subscribe: {{ allow: {} }} }} }}\n",
            Value::from(subject),
            list(publish(site)),
            list(subscribe(site)),
        );
    }
    text + "  ]\n}\n"
}

/// What a gateway may publish: its own batches; the last of them, and what the region tells, by direct get; questions.
fn publish(site: &str) -> Vec<String> {
    let streams = [stream_of(site), NEWS_STREAM.to_owned(), format!("KV_{SKETCH_BUCKET}")];
    let mut allowed = vec![format!("sync.{}.*", names::encode(site))];
    for stream in &streams {
        allowed.push(format!("$JS.API.STREAM.INFO.{stream}"));
        allowed.push(format!("$JS.API.DIRECT.GET.{stream}"));
        allowed.push(format!("$JS.API.DIRECT.GET.{stream}.>"));
    }
    allowed.extend([SEARCH, RECEIPTS, STATS].map(|method| format!("{REQUEST_PREFIX}.{method}")));
    allowed
}

/// What it may hear: answers to itself, and that the region told something.
fn subscribe(site: &str) -> Vec<String> {
    vec![format!("_INBOX.{}.>", names::encode(site)), "region.label.>".to_owned(), format!("$KV.{SKETCH_BUCKET}.>")]
}

/// A value of a subject's attribute, as RFC 2253 has it written.
fn escaped(value: &str) -> String {
    let last = value.chars().count().saturating_sub(1);
    let mut text = String::with_capacity(value.len());
    for (at, letter) in value.chars().enumerate() {
        let is_special = matches!(letter, ',' | '+' | '"' | '\\' | '<' | '>' | ';')
            || (letter == ' ' && (at == 0 || at == last))
            || (letter == '#' && at == 0);
        if is_special {
            text.push('\\');
        }
        text.push(letter);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_written_as_servers_read_it() {
        assert_eq!(escaped("plant-1"), "plant-1");
        assert_eq!(escaped(" a, b+c \\ \"d\" "), "\\ a\\, b\\+c \\\\ \\\"d\\\"\\ ");
        assert_eq!(escaped("#1 <x>;#"), "\\#1 \\<x\\>\\;#");
    }
}
