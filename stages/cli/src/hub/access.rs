//! Who may do what at the hub's server: known by the certificate's subject, each gateway in an account of its own with no more than it
//! needs.

use std::path::Path;

use eddy_schemas::{
    models::{BUCKET, DESIRED_BUCKET},
    names,
    region::{API_PREFIX, NEWS_STREAM, RECEIPTS, REQUEST_PREFIX, SEARCH, SKETCH_BUCKET, STATS},
    sync::stream_of,
};
use serde_json::Value;

use super::config::{RegionConfig, SITE};
use crate::supervise::server::Access;

/// The account of the hub, whose the streams are.
const HUB: &str = "HUB";
/// What is published that gateways hear: the region's labels, and that a sketch or a wish for a bundle changed.
const HEARD: [&str; 3] = ["region.label.>", "$KV.SKETCHES.>", "$KV.DESIRED.>"];
/// Seconds for a handshake, and for a client to say who it is: links are slow.
const HANDSHAKE_S: u32 = 20;

/// Where the server of a region with these sites listens, and who may do what.
pub fn access(config: &RegionConfig, sites: &[String]) -> Access {
    let host = config.host.to_string();
    let bounds = format!("max_connections: {}\n", config.connections_max) + &cluster(config);
    if !config.tls.is_used() {
        return Access { host: host.clone(), scheme: "nats", reach: host, config: bounds, store_key: None };
    }
    Access {
        host,
        scheme: "tls",
        reach: config.tls.reach.clone(),
        config: bounds + &tls(config) + &accounts(config, sites),
        store_key: None,
    }
}

fn tls(config: &RegionConfig) -> String {
    format!("tls {{\n  {}  verify_and_map: true\n  timeout: {HANDSHAKE_S}\n}}\n", files(config))
}

fn files(config: &RegionConfig) -> String {
    let quoted = |path: &Path| Value::from(path.to_string_lossy()).to_string();
    let tls = &config.tls;
    let (ca, cert, key) = (quoted(&tls.ca_file), quoted(&tls.cert_file), quoted(&tls.key_file));
    format!("ca_file: {ca}\n  cert_file: {cert}\n  key_file: {key}\n")
}

/// The servers of several machines as one; each shows the others its certificate.
fn cluster(config: &RegionConfig) -> String {
    let cluster = &config.cluster;
    if !cluster.is_used() {
        return String::new();
    }
    let (host, routes) = (config.host, Value::from(cluster.routes.as_slice()));
    let listen = Value::from(std::net::SocketAddr::new(host, cluster.port).to_string());
    let tls = if config.tls.is_used() {
        format!("  tls {{ {}  verify: true\n  timeout: {HANDSHAKE_S} }}\n", files(config))
    } else {
        String::new()
    };
    format!("cluster {{\n  name: eddy-region\n  listen: {listen}\n  no_advertise: true\n  routes: {routes}\n{tls}}}\n")
}

/// An account for the hub, and one for each gateway, which has nothing in it but what the hub's lends it. What a gateway publishes goes
/// to the hub under a reply subject of the server's, and the answer comes back into its own account: with permissions alone the server
/// would publish an answer wherever the gateway says, in the server's own right.
fn accounts(config: &RegionConfig, sites: &[String]) -> String {
    let quoted = |text: &str| Value::from(text).to_string();
    let (mut exports, mut accounts) = (String::new(), String::new());
    for stream in HEARD {
        exports += &format!("      {{ stream: {} }}\n", quoted(stream));
    }
    for (at, site) in sites.iter().enumerate() {
        let (account, subject) = (format!("SITE-{at}"), config.tls.site_subject.replace(SITE, &escaped(site)));
        let (mut imports, mut allowed) = (String::new(), Vec::new());
        for Lent { subject, to, streamed } in lent(site) {
            let response = if streamed { ", response_type: stream" } else { "" };
            exports += &format!("      {{ service: {}{response} }}\n", quoted(&subject));
            let service = format!("service: {{ account: {HUB}, subject: {} }}", quoted(&subject));
            let to_own = if subject == to { String::new() } else { format!(", to: {}", quoted(&to)) };
            imports += &format!("      {{ {service}{to_own} }}\n");
            allowed.push(to);
        }
        for stream in HEARD {
            imports += &format!("      {{ stream: {{ account: {HUB}, subject: {} }} }}\n", quoted(stream));
        }
        accounts += &format!(
            "  {account} {{\n    users = [ {{ user: {}, permissions: {{ publish: {{ allow: {} }}, subscribe: {{ allow: {} }} }} }} ]\n    \
             imports = [\n{imports}    ]\n  }}\n",
            quoted(&subject),
            Value::from(allowed),
            Value::from(subscribe(site)),
        );
    }
    let hub = quoted(&config.tls.hub_subject);
    format!(
        "authorization {{ timeout: {HANDSHAKE_S} }}\naccounts {{\n  {HUB} {{\n    jetstream: enabled\n    \
         users = [ {{ user: {hub} }} ]\n    exports = [\n{exports}    ]\n  }}\n{accounts}}}\n"
    )
}
/// What the hub's account lends a gateway's: requests to `to` there go to `subject` here.
struct Lent {
    subject: String,
    to: String,
    /// An answer is of several messages.
    streamed: bool,
}

/// A gateway's own batches; the last of them, and what the region tells, by direct get; questions, whose subject tells the hub who asks.
fn lent(site: &str) -> Vec<Lent> {
    let token = names::encode(site);
    let own = format!("sync.{token}.*");
    let mut lent = vec![Lent { subject: own.clone(), to: own, streamed: false }];
    let told =
        [NEWS_STREAM.into(), format!("KV_{SKETCH_BUCKET}"), format!("OBJ_{BUCKET}"), format!("KV_{DESIRED_BUCKET}")];
    for stream in [stream_of(site)].into_iter().chain(told) {
        for (call, streamed) in [("STREAM.INFO", false), ("DIRECT.GET", true)] {
            let subject = format!("$JS.API.{call}.{stream}");
            lent.push(Lent { to: subject.replace("$JS.API", API_PREFIX), subject, streamed });
        }
        let subject = format!("$JS.API.DIRECT.GET.{stream}.>");
        lent.push(Lent { to: subject.replace("$JS.API", API_PREFIX), subject, streamed: false });
    }
    lent.extend([SEARCH, RECEIPTS, STATS].map(|method| Lent {
        subject: format!("{REQUEST_PREFIX}.{method}.from.{token}"),
        to: format!("{REQUEST_PREFIX}.{method}"),
        streamed: false,
    }));
    lent
}

/// What a gateway may hear: answers to itself, and that the region told something.
fn subscribe(site: &str) -> Vec<String> {
    let own = format!("_INBOX.{}.>", names::encode(site));
    std::iter::once(own).chain(HEARD.map(str::to_owned)).collect()
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
