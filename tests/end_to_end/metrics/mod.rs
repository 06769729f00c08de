//! What is shown and recorded of a gateway, asked of a real Prometheus that scrapes a running one with its region: every query of every
//! dashboard and every rule gives something. No query is left out.

mod prometheus;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;

use self::prometheus::Prometheus;
use crate::{
    region::machine::Machine,
    stage::binary,
    up::{Up, config},
};

/// The span that dashboards take rates over here.
const WINDOW: &str = "1m";
/// How long the slowest query may take to have data.
const PATIENCE: Duration = Duration::from_secs(120);

fn compose() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../compose")
}

/// The recorded fleet in two folders, so that what is counted rises twice.
fn halves(folder: &Path) -> [PathBuf; 2] {
    let fleet = fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/fleet")).unwrap();
    let halves = ["first", "second"].map(|name| folder.join(name));
    halves.iter().for_each(|half| fs::create_dir(half).unwrap());
    let files = fs::read_dir(fleet).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|file| file.to_string_lossy().ends_with(".csv.gz")).collect();
    files.sort();
    for (n, file) in files.iter().enumerate() {
        std::os::unix::fs::symlink(file, halves[n % 2].join(file.file_name().unwrap())).unwrap();
    }
    halves
}

/// Every query of every dashboard, with its place.
fn shown() -> Vec<(String, String)> {
    let mut queries = Vec::new();
    for file in fs::read_dir(compose().join("grafana/dashboards")).unwrap() {
        let dashboard: Value = serde_json::from_slice(&fs::read(file.unwrap().path()).unwrap()).unwrap();
        for panel in dashboard["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().unwrap() {
                let query = target["expr"].as_str().unwrap().replace("$site", ".*").replace("$window", WINDOW);
                queries.push((format!("{}: {}", dashboard["title"], panel["title"]), query));
            }
        }
    }
    queries
}

/// What each recording rule is called.
fn recorded() -> Vec<(String, String)> {
    let rules = fs::read_to_string(compose().join("prometheus/rules/recording.yml")).unwrap();
    let names = rules.lines().filter_map(|line| line.trim().strip_prefix("- record: "));
    names.map(|name| ("recording.yml".to_owned(), name.to_owned())).collect()
}

/// Says of some alert what it was: the newest, or the oldest.
fn label(up: &Up, newest: bool) {
    let alerts = up.ends(0, &["alerts", "--json"]);
    let events: Vec<Value> = alerts.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let event = if newest { events.last() } else { events.first() }.expect("the recording has alerts");
    let alert = event["data"]["alert"].as_str().unwrap();
    let mut eddy = Command::new(binary("eddy"));
    let ran = eddy.args(["label", alert, "fault", "wear"]).env("EDDY_GATEWAY_DIR", &up.dir).output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_query_of_dashboards_and_rules_has_data_on_a_gateway_that_runs() {
    let Some(program) = prometheus::binary() else {
        return println!("SKIPPED: Prometheus is not here (make prometheus)");
    };
    let folder = tempfile::tempdir().unwrap();
    let hub = Machine::start(&[crate::gateway::SITE]);
    let file = |name: String| hub.certs().join(name);
    let link = format!(
        "[sync]\nlinger_s = 0.2\n[sync.hub]\nurl = {:?}\ntls_ca_file = {:?}\ntls_cert_file = {:?}\ntls_key_file = {:?}\n",
        hub.url(),
        file("ca.pem".into()),
        file(format!("site-{}.pem", crate::gateway::SITE)),
        file(format!("site-{}.key", crate::gateway::SITE)),
    );
    let up = Up::start(&folder.path().join("gateway"), &config(folder.path(), &link));
    let targets = [up.file(), hub.file()].map(|file| format!("{}/targets", file["http"]["eddy"].as_str().unwrap()));
    let prometheus = Prometheus::start(&program, folder.path(), &compose().join("prometheus/rules"), &targets).await;
    let expected = ["capture", "detect", "eddy", "eddy", "embed", "hub-0", "index", "preprocess", "sync"];
    prometheus.wait_until_up(&expected).await;

    let [first, second] = halves(folder.path());
    let client = up.client().await;
    up.ends(0, &["replay", first.to_str().unwrap(), "--speed", "max"]);
    up.wait_until_through(&client).await;
    label(&up, false);
    // What is counted is scraped before it rises again.
    tokio::time::sleep(Duration::from_secs(3)).await;
    up.ends(0, &["replay", second.to_str().unwrap(), "--speed", "max"]);
    up.wait_until_through(&client).await;
    label(&up, true);

    let mut open = [shown(), recorded()].concat();
    assert!(open.len() > 100, "only {} queries were found", open.len());
    let deadline = Instant::now() + PATIENCE;
    while !open.is_empty() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut without = Vec::new();
        for (place, query) in open {
            if !prometheus.has_data(&query).await {
                without.push((place, query));
            }
        }
        open = without;
    }
    assert_eq!(open, [], "queries without data");
    prometheus.rules_are_well().await;
    up.stop();
}
