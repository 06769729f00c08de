//! Questions to the region through a real nats-server, with what sync and index would answer.
#![allow(clippy::unwrap_used, missing_docs)]

use std::process::Output;

use bytes::Bytes;
use eddy_cli::{
    supervise::{
        Kind,
        journal::Journal,
        register::Register,
        server::{Access, Server, ServerPlan},
    },
    up::config::{DEFAULTS, GatewayConfig},
};
use eddy_schemas::region::wire;
use futures_util::StreamExt;
use prost::Message;
use serde_json::{Value, json};

struct Setting {
    dir: tempfile::TempDir,
    server: Server,
    client: async_nats::Client,
}

impl Setting {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["logs", "run", "streams"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let path = dir.path().join("eddy.toml");
        std::fs::write(&path, "[gateway]\nport = 0\nmonitor_port = 0\n").unwrap();
        let (_, config) = eddy_runtime::config::load::<GatewayConfig>("gateway", DEFAULTS, Some(&path), []).unwrap();
        let journal = Journal::open(dir.path(), "gateway.log", false).unwrap();
        let about = json!({"site": "s 1", "shards": 1});
        let register = Register::new(dir.path(), "gateway.json", journal, about);
        let access = Access::loopback();
        let plan = ServerPlan { dir: dir.path(), name: "test", access: &access, config: &config.machine };
        let kind = Kind { command: "up", table: "gateway", log: "gateway.log", file: "gateway.json" };
        let server = Server::start(&plan, kind, register.clone()).await.unwrap();
        let client = async_nats::connect(register.file().url).await.unwrap();
        Self { dir, server, client }
    }

    /// Answers requests on a subject until the test ends; an error is told as NATS services tell it.
    async fn answer(&self, subject: &str, answer: impl Fn(Bytes) -> Result<Vec<u8>, String> + Send + 'static) {
        let mut requests = self.client.subscribe(subject.to_owned()).await.unwrap();
        self.client.flush().await.unwrap();
        let client = self.client.clone();
        tokio::spawn(async move {
            while let Some(request) = requests.next().await {
                let mut headers = async_nats::HeaderMap::new();
                let payload = answer(request.payload).unwrap_or_else(|problem| {
                    headers.insert("Nats-Service-Error", problem);
                    Vec::new()
                });
                let reply = request.reply.unwrap();
                client.publish_with_headers(reply, headers, payload.into()).await.unwrap();
            }
        });
    }

    async fn eddy(&self, arguments: &[&str]) -> Output {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_eddy"));
        command.args(arguments).env("EDDY_GATEWAY_DIR", self.dir.path()).env_remove("EDDY_BUS_URL");
        command.env_remove("EDDY_SITE_NAME").output().await.unwrap()
    }
}

fn lines(output: &Output) -> Vec<String> {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_region_is_asked_by_the_vector_that_the_gateways_index_has() {
    let setting = Setting::new().await;
    let alone = setting.eddy(&["query", "--like", "00ff", "--scope", "region"]).await;
    assert_eq!(alone.status.code(), Some(1));
    let problem = String::from_utf8(alone.stderr).unwrap();
    assert!(problem.contains("eddy-sync passes questions on"), "{problem}");
    setting
        .answer("eddy.search.s%201", |request| {
            let request: Value = serde_json::from_slice(&request).unwrap();
            if request["like"]["alert"] != "00ff" {
                return Err("no window of that alert".into());
            }
            assert_eq!(request["with_vector"], true);
            let answer = json!({"bundle": "b", "neighbours": [], "windows": 1, "took_us": 1, "vector": [1.0, 2.0]});
            Ok(answer.to_string().into_bytes())
        })
        .await;
    setting
        .answer("eddy.region.s%201.search", |request| {
            let asked = wire::SearchRequest::decode(request).unwrap();
            let window = |site: &str| wire::Window {
                site: site.into(),
                device: "pump".into(),
                channel: if asked.vector.is_empty() { format!("of {}", asked.alert) } else { "t".into() },
                distance: asked.vector.first().copied().unwrap_or_default(),
                label: "leak".into(),
                label_origin: "plant 2/cli".into(),
                ..Default::default()
            };
            assert_eq!((asked.k, asked.label.as_str(), asked.radius), (3, "*", 0.5));
            let neighbours = match asked.other_than_site.as_str() {
                "s 1" => vec![window("plant 2")],
                _ => vec![window("s 1"), window("plant 2")],
            };
            let missing_shards = if asked.vector.is_empty() { vec![1] } else { Vec::new() };
            let answer = wire::SearchResponse { neighbours, windows: 9, missing_shards, ..Default::default() };
            Ok(answer.encode_to_vec())
        })
        .await;
    let asked = ["query", "--scope", "region", "-k", "3", "--label", "*", "--radius", "0.5", "--like"];
    let told = lines(&setting.eddy(&[&asked[..], &["00ff", "--others"]].concat()).await);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("1.000  plant 2/pump/t ") && told[0].contains("leak"), "{told:?}");
    assert!(told[1].starts_with("1 of 9 windows"), "{told:?}");
    // An alert of another site: the gateway's index does not know it, the region does.
    let told = lines(&setting.eddy(&[&asked[..], &["77aa"]].concat()).await);
    assert!(told[0].contains("s 1/pump/of 77aa") && told[3].contains("without shards [1]"), "{told:?}");
    let told = lines(&setting.eddy(&[&asked[..], &["00ff", "--json"]].concat()).await);
    let told: Value = serde_json::from_str(&told[0]).unwrap();
    assert_eq!((&told["neighbours"][1]["site"], &told["windows"]), (&json!("plant 2"), &json!(9)));
    let wrong = setting.eddy(&["query", "--like", "00ff", "--of-site", "plant 2"]).await;
    assert!(String::from_utf8(wrong.stderr).unwrap().contains("--scope region"));
    setting.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receipts_say_what_is_missing_by_their_exit_code_too() {
    let setting = Setting::new().await;
    assert_eq!(setting.eddy(&["receipts"]).await.status.code(), Some(1), "nobody answers");
    setting
        .answer("eddy.region.s%201.receipts", |request| {
            let asked = wire::ReceiptsRequest::decode(request).unwrap();
            let chain = |site: &str, class: &str| wire::ChainReceipt {
                site: site.into(),
                class: class.into(),
                chain: "3f".repeat(16),
                batches: 40,
                entries: 812,
                first: 1,
                last: 812,
                receipt: "ab".repeat(32),
                current: true,
                ..Default::default()
            };
            let mut gap = chain("plant 2", "deltas");
            gap.missing.push(wire::MissingRange {
                first: 5,
                last: 9,
                count: 5,
                cause: "budget".into(),
                detail: String::new(),
            });
            let chains = match asked.site.as_str() {
                "plant 1" => vec![chain("plant 1", "deltas"), chain("plant 1", "alerts")],
                "" => vec![gap, chain("plant 1", "alerts")],
                _ => vec![],
            };
            Ok(wire::ReceiptsResponse { chains, missing_shards: Vec::new(), now: 0 }.encode_to_vec())
        })
        .await;
    let told = lines(&setting.eddy(&["receipts", "--site", "plant 1"]).await);
    assert_eq!(told.len(), 3);
    assert_eq!(told[0], "site plant 1");
    assert!(told[1].starts_with("  alerts: nothing missing from 1 to 812 (chain 3f3f3f3f…, 40 batches"), "{told:?}");
    assert!(told[2].starts_with("  deltas: nothing missing"), "{told:?}");
    let all = setting.eddy(&["receipts", "--json"]).await;
    assert_eq!(all.status.code(), Some(1), "something is missing");
    assert!(String::from_utf8(all.stderr).unwrap().contains("missing of 1 of 2 chains"));
    let told: Value = serde_json::from_slice(&all.stdout).unwrap();
    assert_eq!(told["chains"][1]["missing"][0], json!({"first": 5, "last": 9, "count": 5, "cause": "budget"}));
    let unknown = setting.eddy(&["receipts", "--site", "nowhere"]).await;
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8(unknown.stderr).unwrap().contains("nothing of site \"nowhere\""));
    setting.server.stop().await;
}
