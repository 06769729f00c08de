//! `eddy-eval rehearse` against the real nats-server.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use bytes::Bytes;
use eddy_cli::{
    readers::{Merged, ReadOptions, Row, open::BytesRead, time::RowClock},
    supervise::{
        Kind,
        journal::Journal,
        register::Register,
        server::{Access, Server, ServerPlan},
    },
    up::config::{DEFAULTS, GatewayConfig},
};
use eddy_runtime::{
    client::{Client, Endpoint},
    provision,
};
use eddy_schemas::ReadingsBuilder;
use serde_json::Value;

const SITE: &str = "plant 1";
/// Rows of a message.
const ROWS: usize = 1_000;
/// No test depends on how fast the machine is.
const PATIENT: [&str; 4] = ["--slower-factor", "1000", "--budget-us", "1e9"];

struct Setting {
    dir: tempfile::TempDir,
    server: Server,
    client: Client,
    /// Rows in READINGS.
    rows: u64,
}

impl Setting {
    /// A server whose READINGS holds two devices of the fleet.
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["logs", "run", "streams"] {
            fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let path = dir.path().join("eddy.toml");
        fs::write(&path, "[gateway]\nport = 0\nmonitor_port = 0\n").unwrap();
        let (_, config) = eddy_runtime::config::load::<GatewayConfig>("gateway", DEFAULTS, Some(&path), []).unwrap();
        let journal = Journal::open(dir.path(), "gateway.log", false).unwrap();
        let register = Register::new(dir.path(), "gateway.json", journal, serde_json::json!({"site": SITE}));
        let access = Access::loopback();
        let plan = ServerPlan { dir: dir.path(), name: "test", access: &access, config: &config.machine };
        let kind = Kind { command: "up", table: "gateway", log: "gateway.log", file: "gateway.json" };
        let server = Server::start(&plan, kind, register.clone()).await.unwrap();
        let client = Client::connect(&Endpoint::new(register.file().url, "test")).await.unwrap();
        provision::provision(&client, SITE, 1, &config.streams).await.unwrap();
        let mut setting = Self { dir, server, client, rows: 0 };
        setting.record().await;
        setting
    }

    async fn record(&mut self) {
        let files = ["harbour-1", "station"].map(|device| repository(&format!("fixtures/fleet/{device}.csv.gz")));
        let options = ReadOptions { device: None, rows: RowClock { start: 0, period: 1 } };
        let mut recording = Merged::open(&files, &options, &BytesRead::default()).unwrap();
        let (mut row, mut batch) = (Row::default(), ReadingsBuilder::default());
        while recording.next_row(&mut row).unwrap() {
            for (series, value) in &row.values {
                batch.push(recording.names().series_name(*series), row.time, *value, 0, row.time);
                self.rows += 1;
            }
            if batch.len() >= ROWS {
                self.publish(&mut batch).await;
            }
        }
        self.publish(&mut batch).await;
    }

    async fn publish(&self, batch: &mut ReadingsBuilder) {
        self.client.publish("readings.plant%201.0", &[], Bytes::from(batch.encode())).await.unwrap();
    }

    fn rehearse(&self, site: &str, new: &Path, more: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_eddy-eval"));
        command.args(["rehearse", "--json", "--site", site, "--url", self.client.url(), "--old"]);
        command.arg(repository("fixtures/bundles/default")).arg("--new").arg(new).args(more);
        command.current_dir(self.dir.path()).output().unwrap()
    }

    /// The report of a rehearsal of `new` that ends so.
    fn report(&self, new: &Path, more: &[&str], code: i32) -> Value {
        let patient = if more.contains(&"--budget-us") { &[] } else { &PATIENT[..] };
        let ran = self.rehearse(SITE, new, &[more, patient].concat());
        assert_eq!(ran.status.code(), Some(code), "{more:?}: {}", String::from_utf8_lossy(&ran.stderr));
        serde_json::from_slice(&ran.stdout).unwrap()
    }
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// A copy of the default bundle with another manifest.
fn changed(folder: &Path, from: &str, to: &str) -> PathBuf {
    let bundle = folder.join("changed");
    fs::create_dir_all(&bundle).unwrap();
    fs::copy(repository("fixtures/bundles/default/model.onnx"), bundle.join("model.onnx")).unwrap();
    let manifest = fs::read_to_string(repository("fixtures/bundles/default/model.toml")).unwrap();
    assert!(manifest.contains(from), "{from}");
    fs::write(bundle.join("model.toml"), manifest.replacen(from, to, 1)).unwrap();
    bundle
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tail_of_readings_is_judged_and_the_gateway_sees_nothing_of_it() {
    let setting = Setting::new().await;
    let same = changed(setting.dir.path(), "version = \"1.4.0\"", "version = \"1.4.1\"");
    let before = setting.client.consumers("READINGS").await.unwrap();
    let report = setting.report(&same, &[], 0);
    assert_eq!((&report["verdict"], &report["reasons"]), (&"accepted".into(), &Value::Array(vec![])));
    assert_eq!((&report["rows"], &report["series"]), (&setting.rows.into(), &6.into()));
    let (old, new) = (&report["old"], &report["new"]);
    for figure in ["windows", "windows_judged", "alerts", "state_bytes_per_series", "rejected"] {
        assert_eq!(old[figure], new[figure], "{figure}");
    }
    assert!(old["alerts"].as_u64().unwrap() > 4 && new["us_per_window"].as_f64().unwrap() > 0.0, "{report}");
    assert!(old["windows_judged"].as_u64() < old["windows"].as_u64(), "{old}");
    assert_ne!(old["digest"], new["digest"]);
    // It read by direct gets: the consumers are those that there were, and stand where they stood.
    assert_eq!(setting.client.consumers("READINGS").await.unwrap(), before);
    setting.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_and_minutes_bound_the_tail_and_a_short_one_is_called_so() {
    let setting = Setting::new().await;
    let bundle = repository("fixtures/bundles/default");
    let report = setting.report(&bundle, &["--rows", "2500"], 66);
    assert_eq!(report["verdict"], "too_short");
    let rows = report["rows"].as_u64().unwrap();
    assert!((1..=2_500).contains(&rows) && report["messages"].as_u64() > Some(1), "{report}");
    let one = setting.report(&bundle, &["--rows", "1"], 66);
    assert_eq!(one["messages"], 1, "a message is never cut");
    // 6 series, a reading in 300 s each: a day is some 1,728 rows, and the message that it begins in is taken whole.
    let day = setting.report(&bundle, &["--minutes", "1440"], 66);
    assert!((1_500..=1_728 + ROWS as u64 + 10).contains(&day["rows"].as_u64().unwrap()), "{day}");
    let some = setting.report(&bundle, &["--series-max", "3"], 0);
    assert_eq!((&some["series"], &some["rows"]), (&3.into(), &setting.rows.into()));
    assert!(some["rows_left_out"].as_u64().unwrap() > setting.rows / 3, "{some}");
    let none = setting.rehearse("elsewhere", &bundle, &[]);
    assert_eq!(none.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&none.stderr).contains("holds no rows"));
    setting.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_noisy_slow_or_misfitting_bundle_is_refused_with_its_reason() {
    let setting = Setting::new().await;
    let bundle = repository("fixtures/bundles/default");
    let reasons = |report: Value| {
        assert_eq!(report["verdict"], "refused", "{report}");
        report["reasons"].to_string()
    };
    let noisy = reasons(setting.report(&bundle, &["--alerts-factor", "0.01"], 65));
    assert!(noisy.contains("too noisy") && noisy.contains("at most 2 are borne"), "{noisy}");
    let slow = reasons(setting.report(&bundle, &["--budget-us", "0.001"], 65));
    assert!(slow.contains("too slow"), "{slow}");
    // The graph gives vectors of another length than the manifest says.
    let misfit = changed(setting.dir.path(), "dimensions = 1\n", "dimensions = 3\n");
    let misfit = reasons(setting.report(&misfit, &[], 65));
    assert!(misfit.contains("it fails") && misfit.contains("value"), "{misfit}");
    let absent = reasons(setting.report(Path::new("nowhere"), &[], 65));
    assert!(absent.contains("nowhere/model.toml"), "{absent}");
    setting.server.stop().await;
}
