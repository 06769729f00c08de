//! The hub's server with certificates: who may come, and what each may do there.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use async_nats::{ConnectOptions, HeaderMap, jetstream};
use eddy_cli::{
    hub::{
        access::access,
        config::{DEFAULTS, RegionConfig},
    },
    supervise::{
        Kind,
        journal::Journal,
        register::Register,
        server::{Server, ServerPlan},
    },
};
use eddy_schemas::region::API_PREFIX;
use futures_util::StreamExt as _;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};

const SITES: [&str; 2] = ["plant, 1", "b"];

/// A CA and what it signed, as files `<name>.pem` and `<name>.key`.
struct Authority {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = named("ca", &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        std::fs::write(folder.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { folder, issuer: Issuer::new(params, key) }
    }

    fn sign(&self, file: &str, params: CertificateParams) {
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.file(file, "pem"), cert.pem()).unwrap();
        std::fs::write(self.file(file, "key"), key.serialize_pem()).unwrap();
    }

    fn file(&self, name: &str, extension: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.{extension}"))
    }
}

fn named(cn: &str, hosts: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::new(hosts.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, cn);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params
}

/// A server with certificates and the streams of a region.
struct Setting {
    _dir: tempfile::TempDir,
    authority: Authority,
    server: Server,
    url: String,
}

impl Setting {
    async fn new() -> Self {
        let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
        // A gateway's and a person's certificates name no host; the hub's does.
        authority.sign("hub", named("hub", &["localhost", "127.0.0.1"]));
        authority.sign("plant", named("site-plant, 1", &[]));
        authority.sign("b", named("site-b", &[]));
        authority.sign("stranger", named("site-unheard of", &[]));
        let mut expired = named("site-b", &[]);
        (expired.not_before, expired.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        authority.sign("expired", expired);
        for folder in ["logs", "run", "streams"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let path = dir.path().join("hub.toml");
        let files = ["ca_file", "cert_file", "key_file"].into_iter().zip(["ca.pem", "hub.pem", "hub.key"]);
        let files: String =
            files.map(|(key, file)| format!("{key} = {:?}\n", authority.folder.path().join(file))).collect();
        std::fs::write(&path, format!("[region]\nport = 0\nmonitor_port = 0\n[region.tls]\n{files}")).unwrap();
        let (_, config) = eddy_runtime::config::load::<RegionConfig>("region", DEFAULTS, Some(&path), []).unwrap();
        let journal = Journal::open(dir.path(), "hub.log", false).unwrap();
        let register = Register::new(dir.path(), "hub.json", journal, serde_json::json!({}));
        let access = access(&config, &SITES.map(str::to_owned));
        let plan = ServerPlan { dir: dir.path(), name: "test", access: &access, config: &config.machine };
        let kind = Kind { command: "hub up", table: "region", log: "hub.log", file: "hub.json" };
        let server = Server::start(&plan, kind, register.clone()).await.unwrap();
        let setting = Self { _dir: dir, authority, server, url: register.file().url };
        let hub = jetstream::new(setting.connect("hub").await.unwrap());
        for (name, subjects) in [
            ("SITE_plant%2C%201", "sync.plant%2C%201.>"),
            ("SITE_b", "sync.b.>"),
            ("REGION", "region.label.>"),
            ("KV_SKETCHES", "$KV.SKETCHES.>"),
        ] {
            let subjects = vec![subjects.to_owned()];
            let config =
                jetstream::stream::Config { name: name.into(), subjects, allow_direct: true, ..Default::default() };
            hub.create_stream(config).await.unwrap();
        }
        setting
    }

    async fn connect(&self, name: &str) -> Result<async_nats::Client, async_nats::ConnectError> {
        self.connect_as(&self.authority, Some(name), "_INBOX").await
    }

    async fn connect_as(
        &self,
        authority: &Authority,
        name: Option<&str>,
        inbox: &str,
    ) -> Result<async_nats::Client, async_nats::ConnectError> {
        let mut options = ConnectOptions::new()
            .add_root_certificates(self.authority.folder.path().join("ca.pem"))
            .require_tls(true)
            .custom_inbox_prefix(inbox)
            .request_timeout(Some(Duration::from_secs(2)));
        if let Some(name) = name {
            options = options.add_client_certificate(authority.file(name, "pem"), authority.file(name, "key"));
        }
        options.connect(&self.url).await
    }

    /// A gateway as sync connects.
    async fn gateway(&self, name: &str, site: &str) -> async_nats::Client {
        let inbox = format!("_INBOX.{}", eddy_schemas::names::encode(site));
        self.connect_as(&self.authority, Some(name), &inbox).await.unwrap()
    }

    /// The last sequence of a stream, as the hub sees it.
    async fn last(&self, stream: &str) -> u64 {
        let hub = jetstream::new(self.connect("hub").await.unwrap());
        hub.get_stream(stream).await.unwrap().get_info().await.unwrap().state.last_sequence
    }
}

async fn publish(client: &async_nats::Client, subject: &str) -> Result<u64, String> {
    let context = jetstream::ContextBuilder::new().timeout(Duration::from_secs(1)).build(client.clone());
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Expected-Last-Subject-Sequence", "0");
    let sent = context.publish_with_headers(subject.to_owned(), headers, "x".into()).await;
    let ack = sent.map_err(|error| error.to_string())?.await;
    ack.map(|ack| ack.sequence).map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_comes_without_a_good_certificate_of_somebody_who_is_known() {
    let setting = Setting::new().await;
    assert!(setting.connect_as(&setting.authority, None, "_INBOX").await.is_err(), "no certificate");
    for name in ["stranger", "expired"] {
        assert!(setting.connect(name).await.is_err(), "{name}");
    }
    let other = Authority::new();
    other.sign("b", named("site-b", &[]));
    assert!(setting.connect_as(&other, Some("b"), "_INBOX").await.is_err(), "another CA");
    assert!(async_nats::connect(setting.url.replace("tls:", "nats:")).await.is_err(), "no TLS");
    setting.connect("b").await.unwrap();
    setting.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_reads_and_writes_what_is_its_own() {
    let setting = Setting::new().await;
    let gateway = setting.gateway("plant", "plant, 1").await;
    assert_eq!(publish(&gateway, "sync.plant%2C%201.alerts").await, Ok(1));
    let streams = jetstream::with_prefix(gateway.clone(), API_PREFIX);
    let own = streams.get_stream("SITE_plant%2C%201").await.unwrap();
    let last = own.direct_get_last_for_subject("sync.plant%2C%201.alerts").await.unwrap();
    assert_eq!((last.sequence, &last.payload[..]), (1, &b"x"[..]));
    // What the region told is read by direct get, many messages an answer; a question finds nobody here, but may be asked.
    for stream in ["REGION", "KV_SKETCHES"] {
        streams.get_stream(stream).await.unwrap();
        let inbox = gateway.new_inbox();
        let mut answers = gateway.subscribe(inbox.clone()).await.unwrap();
        let question = r#"{"seq":1,"next_by_subj":">","batch":5}"#;
        gateway.publish_with_reply(format!("{API_PREFIX}.DIRECT.GET.{stream}"), inbox, question.into()).await.unwrap();
        let answer = tokio::time::timeout(Duration::from_secs(5), answers.next()).await.unwrap().unwrap();
        assert_eq!(answer.status.map(|status| status.as_u16()), Some(404), "{stream} is empty");
    }
    let asked = gateway.request("eddy.region.search", "".into()).await.unwrap_err();
    assert_eq!(asked.kind(), async_nats::RequestErrorKind::NoResponders, "{asked}");
    setting.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_another_sites_or_the_hubs_is_refused_to_a_gateway() {
    let setting = Setting::new().await;
    let gateway = setting.gateway("plant", "plant, 1").await;
    for subject in ["sync.b.alerts", "sync.plant%2C%201.alerts.more", "region.label.b", "$KV.SKETCHES.x", "hub.lead.0"]
    {
        assert!(publish(&gateway, subject).await.is_err(), "{subject}");
    }
    for stream in ["SITE_b", "REGION", "KV_SKETCHES"] {
        assert_eq!(setting.last(stream).await, 0, "{stream}");
    }
    let streams = jetstream::ContextBuilder::new().timeout(Duration::from_secs(1));
    let streams = streams.api_prefix(API_PREFIX).build(gateway.clone());
    assert!(streams.get_stream("SITE_b").await.is_err());
    assert!(streams.delete_stream("SITE_plant%2C%201").await.is_err());
    let own = streams.get_stream("SITE_plant%2C%201").await.unwrap();
    assert!(own.purge().await.is_err());
    let everything = jetstream::consumer::pull::Config::default();
    assert!(own.create_consumer(everything).await.is_err());
    // What is said to others is not heard.
    let inboxes = ["_INBOX.>", "_INBOX.b.>", "sync.>", "eddy.region.>"];
    let mut heard = Vec::new();
    for subject in inboxes {
        heard.push(gateway.subscribe(subject).await.unwrap());
    }
    gateway.flush().await.unwrap();
    let other = setting.gateway("b", "b").await;
    assert_eq!(publish(&other, "sync.b.alerts").await, Ok(1));
    for (subject, mut heard) in inboxes.into_iter().zip(heard) {
        let message = tokio::time::timeout(Duration::from_millis(300), heard.next()).await;
        assert!(!matches!(message, Ok(Some(_))), "{subject}: {message:?}");
    }
    setting.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_goes_nowhere_but_to_the_gateway_itself() {
    let setting = Setting::new().await;
    let gateway = setting.gateway("plant", "plant, 1").await;
    let forged = r#"{"origin":"hub/me"}"#;
    let own = "sync.plant%2C%201.alerts";
    jetstream::new(gateway.clone()).publish(own, forged.into()).await.unwrap().await.unwrap();
    // Permissions hold for what is published, not for where the server is to answer: what answers with a message of the gateway's
    // choice would put it anywhere.
    let get = format!("{API_PREFIX}.DIRECT.GET.SITE_plant%2C%201");
    let question = format!(r#"{{"last_by_subj":"{own}"}}"#);
    for target in ["sync.b.alerts", "region.label.b", "$KV.SKETCHES.x", "$JS.API.STREAM.DELETE.SITE_b"] {
        for (subject, payload) in [(get.as_str(), question.as_str()), (own, forged)] {
            gateway.publish_with_reply(subject.to_owned(), target, payload.to_owned().into()).await.unwrap();
        }
        let info = format!("{API_PREFIX}.STREAM.INFO.SITE_plant%2C%201");
        gateway.publish_with_reply(info, target, "".into()).await.unwrap();
    }
    gateway.flush().await.unwrap();
    // What was published to its own stream is there, so the rest was answered too.
    while setting.last("SITE_plant%2C%201").await < 5 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    for stream in ["SITE_b", "REGION", "KV_SKETCHES"] {
        assert_eq!(setting.last(stream).await, 0, "{stream}");
    }
    setting.server.stop().await;
}

#[test]
fn a_hub_that_others_reach_needs_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let eddy = |text: &str| {
        let config = folder.path().join("hub.toml");
        std::fs::write(&config, text).unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_eddy"));
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let dir = folder.path().join("run");
        command.args(["hub", "up", "--config", &path(&config), "--dir", &path(&dir)]).output().unwrap()
    };
    let open = eddy("[region]\nhost = \"0.0.0.0\"\n");
    assert_eq!(open.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&open.stderr).contains("without [region.tls]"), "{open:?}");
    let half = eddy("[region.tls]\nca_file = \"/nonexistent/ca.pem\"\nsite_subject = \"CN=x\"\n");
    assert_eq!(half.status.code(), Some(64));
    let said = String::from_utf8_lossy(&half.stderr);
    for part in ["region.tls.ca_file", "region.tls.cert_file", "region.tls.site_subject"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let named = eddy("[hub]\nsites = [\"a/b\", \"p\", \"p\", \"\"]\n");
    assert_eq!(named.status.code(), Some(64));
    let said = String::from_utf8_lossy(&named.stderr);
    for part in ["\"a/b\": 1 to 128 bytes", "\"p\" twice", "\"\": 1 to 128 bytes"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!folder.path().join("run").exists(), "nothing is made before the config is good");
}
