//! A gateway whose streams are filled by hand: what lies there is known row by row, and no stage has to run.

use std::{collections::BTreeMap, path::Path, process::Command};

use eddy_runtime::client::Client;
use eddy_schemas::{
    Control, ControlKind, EmbeddingsBuilder, HeadLayout, ReadingsBuilder, SamplesBuilder, ScoresBuilder, SeriesName,
    Told,
    alert::{Alert, CloudEvent, Phase, Severity, Share},
    bursts::Burst,
    flags,
};

use crate::{
    gateway::{Gateway, ROOMY, SITE},
    stage::binary,
};

/// 2026-01-05T00:00:00Z.
const START: i64 = 1_767_571_200_000_000_000;
const SECOND: i64 = 1_000_000_000;
/// Names that have to be encoded somewhere on the way.
pub const DEVICES: [&str; 8] = ["pump 1", "a.b", "é/ü", "d-3", "d-4", "d-5", "d-6", "d-7"];
/// Rows of a message.
pub const ROWS: usize = 400;

/// A gateway with streams, and how many rows there are of each class.
pub struct Filled {
    pub gateway: Gateway,
    pub rows: BTreeMap<String, u64>,
}

impl Filled {
    /// So many messages in each stream.
    pub async fn with(messages: usize) -> Self {
        let gateway = Gateway::without_stages(&ROOMY).await;
        let mut filled = Self { gateway, rows: BTreeMap::new() };
        filled.add(0, messages).await;
        filled
    }

    /// Messages number `from` to `to`.
    pub async fn add(&mut self, from: usize, to: usize) {
        let client = self.gateway.client.clone();
        let mut acks = Vec::new();
        for n in from..to {
            for (class, prefix, rows, payload) in messages(n) {
                *self.rows.entry(class.to_owned()).or_default() += rows;
                if !prefix.is_empty() {
                    acks.push(
                        client
                            .send(&format!("{prefix}.{SITE}.{}", last_token(prefix)), &[], payload.into())
                            .await
                            .unwrap(),
                    );
                }
            }
            if n % 10 == 0 {
                alert(&client, n).await;
                *self.rows.entry("alerts".to_owned()).or_default() += 1;
            }
            for ack in acks.drain(..) {
                ack.stored().await.unwrap();
            }
        }
    }

    /// Vectors that do not compress, in EMBEDDINGS: files of more than one part of an upload.
    pub async fn noise(&mut self) {
        let (rows, dimensions) = (900, 1024);
        let mut dice = crate::faults::Dice(1);
        for n in 0..4 {
            let head = HeadLayout { name: "noise".into(), dimensions, optional: false };
            let mut embeddings = EmbeddingsBuilder::new("bundle", &[head]);
            (0..rows).for_each(|row| embeddings.push("d-3/t", START + n * 1_000 + row, 0, 9, false, 0));
            let vectors: Vec<f32> = (0..rows as usize * dimensions).map(|_| dice.below(60_000) as f32).collect();
            embeddings.extend_head(0, &vectors);
            let subject = format!("embeddings.{SITE}.0");
            self.gateway.client.publish(&subject, &[], embeddings.encode().into()).await.unwrap();
            *self.rows.entry("embeddings".to_owned()).or_default() += rows as u64;
        }
    }

    /// `eddy-export --to TO` of this gateway.
    pub fn export(&self, to: &str) -> Command {
        let mut command = Command::new(binary("eddy-export"));
        command.args(["--to", to]);
        self.told(&mut command);
        command
    }

    /// `eddy-export receipts --to TO`.
    pub fn receipts(&self, to: &str) -> Command {
        let mut command = Command::new(binary("eddy-export"));
        command.args(["receipts", "--to", to]);
        self.told(&mut command);
        command
    }

    fn told(&self, command: &mut Command) {
        command.args(["--json", "--url", &self.gateway.server.url(), "--site", SITE]);
        command.env_remove("EDDY_SEED").env_remove("EDDY_CONFIG");
    }
}

/// All classes, with the policy that they need.
pub const ALL: [&str; 6] = [
    "--class",
    "readings,samples,embeddings,scores,alerts,contexts,labels",
    "--allow",
    "readings,samples,heads",
    "--purpose",
    "a test",
];

fn last_token(prefix: &str) -> &'static str {
    if prefix == "context" { "d-3" } else { "0" }
}

/// Of each class its stream's prefix, how many rows message `n` has, and its bytes.
fn messages(n: usize) -> Vec<(&'static str, &'static str, u64, Vec<u8>)> {
    let (mut readings, mut samples) = (ReadingsBuilder::default(), SamplesBuilder::default());
    let head = |name: &str, dimensions| HeadLayout { name: name.into(), dimensions, optional: false };
    let mut embeddings = EmbeddingsBuilder::new("bundle", &[head("learned", 8), head("raw", 2)]);
    let mut scores = ScoresBuilder::new("bundle");
    for row in 0..ROWS {
        let device = DEVICES[row % DEVICES.len()];
        let series = SeriesName::encode(device, if row % 3 == 0 { "flow rate" } else { "t" });
        // Two days and a bit; a few rows of the day before come late.
        let late = if row == 7 { 86_400 } else { 0 };
        let time = START + ((n * ROWS + row) as i64 * 2 - late) * SECOND;
        let value = ((n * 31 + row * 7) % 1000) as f64 / 10.0;
        readings.push(&series, time, value, 0, time + SECOND);
        samples.push(&series, time, value, 0, 2 * SECOND);
        embeddings.push(&series, time, 0, 9, row % 50 == 0, 2 * SECOND);
        let vector = [value as f32; 8];
        let told = (row % 20 == 0).then_some(Told { span: 5, filled: 9, vector: &vector });
        scores.push(&series, time, value as f32 / 100.0, 1.0 / (1.0 + value), flags::KEPT, told);
    }
    readings.burst(Burst { rate_hz: 12.5, values: &[1.0, 2.0, 3.0] });
    embeddings.extend_head(0, &vec![0.25; ROWS * 8]);
    embeddings.extend_head(1, &vec![0.5; ROWS * 2]);
    let kind = ControlKind::Label { device: "d-3".into(), alert: format!("a{n}"), label: "bearing".into() };
    let label = Control { id: format!("label-{n}"), origin: "test".into(), time: START + n as i64, kind };
    readings.push_control(&label, START);
    samples.push_control(&label);
    scores.push_control(&label);
    let rows = ROWS as u64;
    vec![
        ("readings", "readings", rows + 1, readings.encode()),
        ("samples", "samples", rows, samples.encode()),
        ("embeddings", "embeddings", rows, embeddings.encode()),
        ("scores", "scores", rows, scores.encode()),
        ("contexts", "context", 1, context(n)),
        ("labels", "", 1, Vec::new()),
    ]
}

fn context(n: usize) -> Vec<u8> {
    serde_json::json!({
        "alert": format!("a{n}"), "site": SITE, "device": "d-3", "opened": "2026-01-05T00:00:00Z",
        "verdict": { "kind": "recurring" }, "text": "as before", "neighbours": [], "windows": 5, "bundle": "bundle",
        "window": {
            "window": 1, "device": "d-3", "channel": "t", "start": 0, "end": 1, "distance": 0.0, "score": 1.0, "filled": 9, "sequence": 1,
        },
    })
    .to_string()
    .into_bytes()
}

async fn alert(client: &Client, n: usize) {
    let share = |name: &str| vec![Share { name: name.into(), share: 1.0 }];
    let alert = Alert {
        alert: format!("a{n}"),
        phase: Phase::Opened,
        severity: Severity::Major,
        site: SITE.into(),
        device: "d-3".into(),
        opened: "2026-01-05T00:00:00Z".into(),
        score: 1.5,
        tail: 1e-6,
        threshold: 1e-4,
        tail_min: 1e-6,
        channels: share("t"),
        heads: share("learned"),
        bundle: "bundle".into(),
    };
    let event = CloudEvent::new(alert, 0, "2026-01-05T00:00:00Z".into());
    client.publish(&event.nats_subject(), &[], event.to_json().into()).await.unwrap();
}

/// Runs to the end; the summary.
pub fn summary(command: &mut Command) -> serde_json::Value {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Runs to the end, which has to be a failure with this exit code; what it said.
pub fn failure(command: &mut Command, code: i32) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}\n{}", String::from_utf8_lossy(&output.stdout));
    said
}

/// Every file below `root`, and the digest of its bytes.
pub fn tree(root: &Path) -> BTreeMap<String, String> {
    fn walk(root: &Path, folder: &Path, all: &mut BTreeMap<String, String>) {
        for entry in folder.read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, all);
            } else {
                let digest = blake3::hash(&std::fs::read(&path).unwrap()).to_hex().to_string();
                all.insert(path.strip_prefix(root).unwrap().display().to_string(), digest);
            }
        }
    }
    let mut all = BTreeMap::new();
    walk(root, root, &mut all);
    all
}
