//! Export as a stage: what is complete goes out by itself, from where the store says.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use eddy_export::{
    class::Class,
    job::{ExportError, Job},
    policy::{Heads, Policy},
    progress::Progress,
    select::{Cut, Selection},
    source::Source,
    store::Store,
};

use super::filled::{Filled, summary, tree};
use crate::{gateway::SITE, stage::StageProcess};

fn environment(filled: &Filled, to: &str) -> Vec<(String, String)> {
    let state = filled.gateway.folder.path().join("state").display().to_string();
    let pairs = [
        ("EDDY_BUS_URL", filled.gateway.server.url()),
        ("EDDY_SITE_NAME", SITE.into()),
        ("EDDY_STATE_DIR", state),
        ("EDDY_EXPORT_TO", to.into()),
        ("EDDY_EXPORT_CLASSES", "[\"scores\", \"alerts\"]".into()),
        ("EDDY_EXPORT_CUT_ROWS", "2000".into()),
        ("EDDY_EXPORT_CUT_AGE_S", "86400".into()),
        ("EDDY_EXPORT_POLL_S", "1".into()),
    ];
    pairs.into_iter().map(|(name, value): (&str, String)| (name.to_owned(), value)).collect()
}

/// Rows of the records of a class.
fn committed(root: &Path, class: &str) -> u64 {
    let folder = root.join(format!("_manifests/class={class}"));
    if !folder.exists() {
        return 0;
    }
    let of = |path: String| -> u64 {
        let record: serde_json::Value = serde_json::from_slice(&std::fs::read(folder.join(path)).unwrap()).unwrap();
        record["rows"].as_u64().unwrap()
    };
    tree(&folder).into_keys().filter(|path| path.ends_with(".json") && !path.contains(".eddy-")).map(of).sum()
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not in time");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_complete_goes_out_and_a_kill_changes_nothing() {
    let mut filled = Filled::with(12).await;
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().to_str().unwrap();
    let mut export = StageProcess::start("export", filled.gateway.folder.path(), &environment(&filled, to));
    // Five messages of 400 rows are a range; what is not complete waits for the hour's end.
    until("the first ranges", || committed(folder.path(), "scores") == 4_000).await;
    export.kill();
    filled.add(12, 31).await;
    export.restart();
    until("what came while it was away", || committed(folder.path(), "scores") == 12_000).await;
    assert_eq!(committed(folder.path(), "alerts"), 0, "alerts are too few for a range");
    let pending = || export.metric("eddy_export_pending_messages", "scores");
    until("the metric of what waits", || pending() > 0).await;
    assert_eq!(export.stop().code(), Some(0));
    // By hand it goes on to the end, from the same place.
    let mut by_hand = filled.export(to);
    let done = summary(by_hand.args(["--class", "scores,alerts"]));
    assert_eq!(done["rows"], filled.rows["scores"] + filled.rows["alerts"]);
    summary(&mut filled.receipts(to));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_away_is_waited_for() {
    let filled = Filled::with(12).await;
    let folder = tempfile::tempdir().unwrap();
    let away = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut environment = environment(&filled, "s3://bucket/x");
    let s3 = [
        ("AWS_ENDPOINT_URL", format!("http://{away}")),
        ("AWS_ACCESS_KEY_ID", "a".into()),
        ("AWS_SECRET_ACCESS_KEY", "b".into()),
    ];
    environment.extend(s3.into_iter().map(|(name, value)| (name.to_owned(), value)));
    let export = StageProcess::start("export", folder.path(), &environment);
    until("the store is away", || export.log().contains("tried again after a while")).await;
    assert!(export.log().contains("s3://bucket"), "{}", export.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_writers_that_cut_otherwise_one_ends() {
    let filled = Filled::with(12).await;
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().to_str().unwrap()).await.unwrap();
    let (selection, policy, heads) = (Selection::default(), Policy::default(), Heads::all());
    let progress = Progress::default();
    let job = |rows| Job {
        client: &filled.gateway.client,
        source: Source::Gateway,
        site: SITE,
        store: &store,
        selection: &selection,
        cut: Cut { rows, bytes: usize::MAX, age: None },
        policy: &policy,
        heads: &heads,
        dry_run: false,
        only_complete_at: None,
        progress: &progress,
    };
    let (one, other) = (job(800), job(2_000));
    let (one, other) = tokio::join!(one.run(Class::Scores), other.run(Class::Scores));
    let (good, bad) = if one.is_ok() { (one, other) } else { (other, one) };
    let rows: u64 = good.unwrap().records.iter().map(|record| record.rows).sum();
    assert_eq!(rows, filled.rows["scores"]);
    assert!(matches!(bad, Err(ExportError::OtherWriter { .. })), "{bad:?}");
    // What the other one had written is named by no record.
    summary(filled.receipts(folder.path().to_str().unwrap()).arg("--prune"));
    summary(&mut filled.receipts(folder.path().to_str().unwrap()));
}
