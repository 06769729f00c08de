//! Webhooks: CloudEvents 1.0 over HTTP, signed by Standard Webhooks.
//!
//! `webhook-id` is the event's id, the same in every try: by it a receiver knows an event that it has already. The timestamp
//! is that of the try, and the signature covers id, timestamp and body.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use eddy_runtime::{
    clock::{self, Clock},
    fresh::Fresh,
    trace::TRACEPARENT,
};
use reqwest::{
    Client, Proxy, StatusCode, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
    redirect::Policy,
};
use serde::Deserialize;

use crate::{
    config::{WebhookConfig, shown},
    event::Event,
    outlet::{Outlet, Verdict},
    signature::Signer,
};

/// How much of an answer is read: enough to say why.
const ANSWER_BYTES_MAX: usize = 2_048;
/// Connections that are kept open between requests.
const IDLE_MAX: usize = 4;

/// How an event is put into a request (CloudEvents HTTP protocol binding 1.0).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// All of it in the body.
    Structured,
    /// Attributes in headers, the data in the body.
    Binary,
}

/// A webhook.
pub struct Webhook {
    client: Fresh<Client>,
    url: Url,
    mode: Mode,
    signer: Option<Fresh<Signer>>,
    authorization: Option<Fresh<HeaderValue>>,
    clock: Arc<dyn Clock>,
}

impl Webhook {
    /// Checks the config and reads the files that it names.
    ///
    /// # Errors
    /// Every problem.
    pub fn new(config: &WebhookConfig, clock: Arc<dyn Clock>) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let url = Url::parse(&config.url).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        if url.is_none() {
            problems.push(format!("{} = {:?}: http:// or https:// is taken", key(config, "url"), shown(&config.url)));
        }
        let mut signer = None;
        if is_set(&config.secret_file) {
            match follow(&config.secret_file, Signer::open) {
                Ok(opened) => signer = Some(opened),
                Err(error) => {
                    problems.push(format!("{} = {:?}: {error}", key(config, "secret_file"), config.secret_file));
                }
            }
        } else if !config.unsigned {
            problems.push(format!("{} is empty: give a secret, or say unsigned = true", key(config, "secret_file")));
        }
        let mut authorization = None;
        if is_set(&config.authorization_file) {
            match follow(&config.authorization_file, read_authorization) {
                Ok(value) => authorization = Some(value),
                Err(error) => {
                    let (key, file) = (key(config, "authorization_file"), &config.authorization_file);
                    problems.push(format!("{key} = {file:?}: {error}"));
                }
            }
        }
        let client = follow_client(config).map_err(|found| problems.extend(found)).ok();
        match (url, client) {
            (Some(url), Some(client)) if problems.is_empty() => {
                Ok(Self { client, url, mode: config.mode, signer, authorization, clock })
            }
            _ => Err(problems),
        }
    }

    fn request(&self, event: &Event) -> Result<(HeaderMap, Bytes), String> {
        let (mut headers, body) = match self.mode {
            Mode::Structured => {
                let content_type = HeaderValue::from_static("application/cloudevents+json; charset=UTF-8");
                (HeaderMap::from_iter([(CONTENT_TYPE, content_type)]), event.json.clone())
            }
            Mode::Binary => (attributes(event)?, event.data()),
        };
        let id = &event.cloud.id;
        let timestamp = self.clock.now().div_euclid(1_000_000_000);
        insert(&mut headers, "webhook-id", id)?;
        insert(&mut headers, "webhook-timestamp", &timestamp.to_string())?;
        if let Some(signer) = &self.signer {
            insert(&mut headers, "webhook-signature", &signer.get().sign(id, timestamp, &body))?;
        }
        if let Some(trace) = event.traces.first() {
            insert(&mut headers, TRACEPARENT, &trace.to_string())?;
        }
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, HeaderValue::clone(&authorization.get()));
        }
        Ok((headers, body))
    }
}

impl Outlet for Webhook {
    async fn deliver(&self, event: &Event) -> Verdict {
        let (headers, body) = match self.request(event) {
            Ok(request) => request,
            Err(problem) => return Verdict::Refused { problem },
        };
        let mut answer = match self.client.get().post(self.url.clone()).headers(headers).body(body).send().await {
            Ok(answer) => answer,
            Err(error) => return Verdict::retry(chain(&error.without_url())),
        };
        let status = answer.status();
        if status.is_success() {
            // The connection can be used again once a short answer is read.
            let _ = text(&mut answer).await;
            return Verdict::Delivered { keep: None };
        }
        let after = answer.headers().get(RETRY_AFTER).and_then(|value| retry_after(value, self.clock.now()));
        let said = text(&mut answer).await;
        let problem = if said.is_empty() { status.to_string() } else { format!("{status}: {said}") };
        if is_final(status) { Verdict::Refused { problem } } else { Verdict::Retry { problem, after } }
    }
}

/// Whether trying again cannot help. A redirect is an operator's to mend; what is not delivered meanwhile is not lost.
fn is_final(status: StatusCode) -> bool {
    let later = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
    status.is_client_error() && !later.contains(&status)
}

/// Seconds or a date.
fn retry_after(value: &HeaderValue, now: i64) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let nanoseconds = clock::from_http_date(text)?.saturating_sub(now);
    Some(Duration::from_nanos(nanoseconds.max(0).unsigned_abs()))
}

/// The attributes as `ce-` headers.
fn attributes(event: &Event) -> Result<HeaderMap, String> {
    let cloud = &event.cloud;
    let mut headers = HeaderMap::new();
    insert(&mut headers, "content-type", &cloud.datacontenttype)?;
    for (name, value) in [
        ("ce-specversion", &cloud.specversion),
        ("ce-id", &cloud.id),
        ("ce-source", &cloud.source),
        ("ce-type", &cloud.kind),
        ("ce-subject", &cloud.subject),
        ("ce-time", &cloud.time),
        ("ce-dataschema", &cloud.dataschema),
    ] {
        insert(&mut headers, name, &encoded(value))?;
    }
    Ok(headers)
}

/// As the binding asks (3.1.3.2): space, quote, percent and all beyond printable ASCII are percent-encoded.
fn encoded(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'"' | b'%' | ..=b' ' | 0x7f.. => text.push_str(&format!("%{byte:02X}")),
            _ => text.push(char::from(byte)),
        }
    }
    text
}

fn insert(headers: &mut HeaderMap, name: &'static str, value: &str) -> Result<(), String> {
    let value = HeaderValue::from_str(value).map_err(|_| format!("{value:?} cannot stand in the header {name}"))?;
    headers.insert(HeaderName::from_static(name), value);
    Ok(())
}

/// The beginning of an answer, in one line.
async fn text(answer: &mut reqwest::Response) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < ANSWER_BYTES_MAX {
        match answer.chunk().await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            _ => break,
        }
    }
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(ANSWER_BYTES_MAX)]).into_owned();
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().filter(|c| !c.is_control()).take(200).collect()
}

fn key(config: &WebhookConfig, name: &str) -> String {
    format!("notify.webhook[{}].{name}", config.name)
}

fn is_set(path: &Path) -> bool {
    !path.as_os_str().is_empty()
}

/// What `read` makes of a file, again when it changes.
fn follow<T: 'static>(path: &Path, read: fn(&Path) -> Result<T, String>) -> Result<Fresh<T>, String> {
    let file = path.to_owned();
    Fresh::new(vec![path.to_owned()], move || read(&file))
}

fn read_authorization(path: &Path) -> Result<HeaderValue, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let mut value = HeaderValue::from_str(text.trim()).map_err(|_| "one line of visible ASCII is taken".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

/// The client, made again when its certificates change: its connections end then, and new ones show the new ones.
fn follow_client(config: &WebhookConfig) -> Result<Fresh<Client>, Vec<String>> {
    client(config)?;
    let all = [&config.tls_ca_file, &config.tls_cert_file, &config.tls_key_file];
    let files = all.into_iter().filter(|path| is_set(path)).cloned().collect();
    let config = config.clone();
    let make = move || client(&config).map_err(|problems| problems.join("; "));
    Fresh::new(files, make).map_err(|problem| vec![problem])
}

fn client(config: &WebhookConfig) -> Result<Client, Vec<String>> {
    let key = |name: &str| key(config, name);
    let mut problems = Vec::new();
    let timeout = Duration::from_millis(config.timeout_ms);
    let mut builder = Client::builder()
        .user_agent(concat!("eddy-notify/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .pool_max_idle_per_host(IDLE_MAX)
        .timeout(timeout)
        .no_proxy();
    if !config.proxy.is_empty() {
        match Proxy::all(&config.proxy) {
            Ok(proxy) => builder = builder.proxy(proxy),
            Err(error) => problems.push(format!("{} = {:?}: {}", key("proxy"), shown(&config.proxy), chain(&error))),
        }
    }
    if is_set(&config.tls_ca_file) {
        match crate::tls::authorities(&config.tls_ca_file) {
            Ok(certificates) => builder = builder.tls_certs_only(certificates),
            Err(error) => problems.push(format!("{} = {:?}: {error}", key("tls_ca_file"), config.tls_ca_file)),
        }
    }
    match (is_set(&config.tls_cert_file), is_set(&config.tls_key_file)) {
        (false, false) => {}
        (true, true) => match crate::tls::identity(&config.tls_cert_file, &config.tls_key_file) {
            Ok(identity) => builder = builder.identity(identity),
            Err(error) => problems.push(format!("{}, tls_key_file: {error}", key("tls_cert_file"))),
        },
        _ => problems.push(format!("{} and tls_key_file: give both or neither", key("tls_cert_file"))),
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    builder.build().map_err(|error| vec![format!("notify.webhook[{}]: {}", config.name, chain(&error))])
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use eddy_runtime::{clock::ManualClock, trace::TraceContext};
    use eddy_schemas::alert::Phase;

    use super::*;
    use crate::event::tests::event;

    fn webhook(mode: Mode) -> Webhook {
        let folder = tempfile::tempdir().unwrap();
        let secret_file = folder.path().join("secret");
        std::fs::write(&secret_file, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        crate::tls::install();
        let url = "http://127.0.0.1:1/alerts".into();
        let config = WebhookConfig { name: "x".into(), url, mode, secret_file, ..WebhookConfig::default() };
        Webhook::new(&config, Arc::new(ManualClock::new(1_614_265_330_900_000_000))).unwrap()
    }

    #[test]
    fn a_structured_request_is_the_event_and_its_signature() {
        let (webhook, event) = (webhook(Mode::Structured), event(1, "a.b", Phase::Opened));
        let (headers, body) = webhook.request(&event).unwrap();
        assert_eq!(body, event.json);
        assert_eq!(headers["content-type"], "application/cloudevents+json; charset=UTF-8");
        assert_eq!(
            (&headers["webhook-id"], &headers["webhook-timestamp"]),
            (&"0123456789abcdef-0".parse().unwrap(), &"1614265330".parse().unwrap())
        );
        assert!(!headers.contains_key("traceparent"));
        let signer = webhook.signer.as_ref().unwrap();
        assert_eq!(headers["webhook-signature"], signer.get().sign("0123456789abcdef-0", 1_614_265_330, &body));
    }

    #[test]
    fn a_request_about_a_traced_alert_says_so() {
        let trace = TraceContext { trace: 7, span: 9 };
        let event = event(1, "a.b", Phase::Opened).traced([trace].into_iter().collect());
        let (headers, _) = webhook(Mode::Structured).request(&event).unwrap();
        assert_eq!(headers["traceparent"], trace.to_string());
    }

    #[test]
    fn a_binary_request_has_its_attributes_in_headers() {
        let (webhook, event) = (webhook(Mode::Binary), event(1, "a.b", Phase::Opened));
        let (headers, body) = webhook.request(&event).unwrap();
        assert_eq!(serde_json::from_slice::<eddy_schemas::alert::Alert>(&body).unwrap(), event.cloud.data);
        for (name, value) in [
            ("content-type", "application/json"),
            ("ce-specversion", "1.0"),
            ("ce-id", "0123456789abcdef-0"),
            ("ce-type", "eddy.alert.opened"),
            ("ce-subject", "a%252Eb"),
            ("ce-source", "eddy/plant%25201"),
            ("ce-time", "2026-01-01T00:05:00Z"),
            ("ce-dataschema", "urn:eddy:alert:1"),
        ] {
            assert_eq!(headers[name], value, "{name}");
        }
        assert_eq!(encoded("Euro \u{20AC} \"1\" \u{1F600}"), "Euro%20%E2%82%AC%20%221%22%20%F0%9F%98%80");
    }

    #[test]
    fn what_is_final_and_what_is_not() {
        for (status, last) in [(400, true), (401, true), (404, true), (410, true), (422, true)] {
            assert_eq!(is_final(StatusCode::from_u16(status).unwrap()), last, "{status}");
        }
        for status in [301, 408, 425, 429, 500, 502, 503, 504] {
            assert!(!is_final(StatusCode::from_u16(status).unwrap()), "{status}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let after = |text: &str| retry_after(&HeaderValue::from_str(text).unwrap(), 784_111_770_000_000_000);
        assert_eq!(after("120"), Some(Duration::from_secs(120)));
        assert_eq!(after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::from_secs(7)));
        assert_eq!(after("Sun, 06 Nov 1994 08:49:00 GMT"), Some(Duration::ZERO));
        assert_eq!(after("soon"), None);
    }

    #[test]
    fn every_problem_of_a_webhook_is_told() {
        crate::tls::install();
        let config = WebhookConfig {
            name: "x".into(),
            url: "ftp://me:planted@x/planted".into(),
            authorization_file: "/nowhere/a".into(),
            tls_ca_file: "/nowhere/b".into(),
            tls_cert_file: "/nowhere/c".into(),
            proxy: "::".into(),
            ..WebhookConfig::default()
        };
        let problems = Webhook::new(&config, Arc::new(ManualClock::new(0))).err().unwrap();
        for part in ["url", "secret_file", "authorization_file", "tls_ca_file", "give both or neither", "proxy"] {
            assert!(problems.iter().any(|problem| problem.contains(part)), "{part}: {problems:?}");
        }
        assert!(!problems.join(" ").contains("planted"), "{problems:?}");
    }
}
