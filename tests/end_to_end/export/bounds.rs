//! What may leave, what is gone, what was repeated, and what is held in memory.

use super::filled::{ALL, Filled, ROWS, failure, summary, tree};
use crate::gateway::SITE;

const READINGS: [&str; 6] = ["--class", "readings", "--allow", "readings", "--purpose", "a test"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raw_data_leaves_only_by_a_policy_and_other_heads_never() {
    let filled = Filled::with(3).await;
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("out");
    for class in ["readings", "samples"] {
        let said = failure(filled.export(to.to_str().unwrap()).args(["--class", class]), 64);
        assert!(said.contains(&format!("export.policy.raw = [\"{class}\"]")) && said.contains("--purpose"), "{said}");
    }
    assert!(!to.exists() || tree(&to).is_empty(), "nothing left");
    // Without --class all that may leave does. Of embeddings no head: the bundle is not known.
    let done = summary(&mut filled.export(to.to_str().unwrap()));
    let classes: Vec<_> = done["classes"].as_array().unwrap().iter().map(|class| class["class"].clone()).collect();
    assert_eq!(classes, ["embeddings", "scores", "alerts", "contexts", "labels"]);
    let embeddings = tree(&to).into_keys().find(|path| path.starts_with("class=embeddings/")).unwrap();
    let bytes = std::fs::read(to.join(embeddings)).unwrap();
    let holds = |name: &str| bytes.windows(name.len()).any(|window| window == name.as_bytes());
    assert!(holds("commissioning") && !holds("head_"), "heads of a bundle that is not known stay");
    // A policy in the config does as well, and says why in the files.
    let config = folder.path().join("eddy.toml");
    std::fs::write(&config, "[export.policy]\nraw = [\"readings\"]\npurpose = \"to learn\"\n").unwrap();
    let raw = folder.path().join("raw");
    let mut export = filled.export(raw.to_str().unwrap());
    summary(export.args(["--class", "readings", "--config"]).arg(&config));
    let file = tree(&raw).into_keys().find(|path| path.starts_with("class=readings/")).unwrap();
    let bytes = std::fs::read(raw.join(file)).unwrap();
    assert!(bytes.windows(8).any(|window| window == b"to learn"), "the purpose stands in the file");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeated_it_writes_nothing_grown_only_what_is_new_and_what_was_lost_again() {
    let mut filled = Filled::with(4).await;
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().to_str().unwrap();
    let first = summary(filled.export(to).args(ALL));
    let files = tree(folder.path());
    assert_eq!(first["files_written"], first["files"]);
    let again = summary(filled.export(to).args(ALL));
    assert_eq!((&again["files_written"], &again["manifest"]), (&0.into(), &first["manifest"]));
    assert_eq!(tree(folder.path()), files);
    summary(&mut filled.receipts(to));

    filled.add(4, 6).await;
    let grown = summary(filled.export(to).args(ALL));
    let rows: u64 = filled.rows.values().sum();
    assert_eq!(grown["rows"], rows);
    let larger = tree(folder.path());
    assert!(files.iter().all(|(path, digest)| larger.get(path) == Some(digest)), "what was there is as it was");

    // One is lost, one is cut off, one is altered.
    let mut parquet = larger.keys().filter(|path| path.ends_with(".parquet"));
    let (lost, cut, altered) = (parquet.next().unwrap(), parquet.next().unwrap(), parquet.next().unwrap());
    std::fs::remove_file(folder.path().join(lost)).unwrap();
    std::fs::write(folder.path().join(cut), b"PAR1").unwrap();
    let mut bytes = std::fs::read(folder.path().join(altered)).unwrap();
    bytes[10] ^= 1;
    std::fs::write(folder.path().join(altered), bytes).unwrap();
    let output = filled.receipts(to).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1));
    assert!([lost, cut, altered].iter().all(|path| told.contains(path.as_str())), "{told}");
    summary(filled.export(to).args(ALL));
    let said = failure(&mut filled.receipts(to), 1);
    assert!(said.contains("1 problems"), "sizes are looked at by each run, bytes by receipts: {said}");
    std::fs::remove_file(folder.path().join(altered)).unwrap();
    summary(filled.export(to).args(ALL));
    summary(&mut filled.receipts(to));
    assert_eq!(tree(folder.path()), larger);
    // What no record names is told, and removed if that is asked for.
    let stray = folder.path().join("class=alerts/site=plant/stray.parquet");
    std::fs::write(&stray, b"x").unwrap();
    assert!(failure(&mut filled.receipts(to), 1).contains("1 files that no record names"));
    summary(filled.receipts(to).arg("--prune"));
    assert!(!stray.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_stream_no_longer_holds_is_a_gap_and_two_selections_do_not_mix() {
    let filled = Filled::with(6).await;
    let jetstream = async_nats::jetstream::new(async_nats::connect(filled.gateway.server.url()).await.unwrap());
    let stream = jetstream.get_stream("SAMPLES").await.unwrap();
    stream.purge().sequence(3).await.unwrap();
    stream.delete_message(5).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().to_str().unwrap();
    let done = summary(filled.export(to).args(ALL));
    let samples = done["classes"].as_array().unwrap().iter().find(|class| class["class"] == "samples").unwrap().clone();
    assert_eq!((&samples["rows"], &samples["gaps"], &samples["missing"]), (&(3 * ROWS).into(), &2.into(), &3.into()));
    let records = tree(folder.path()).into_keys().find(|path| path.contains("_manifests/class=samples")).unwrap();
    let record: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.path().join(records)).unwrap()).unwrap();
    assert_eq!(record["gaps"], serde_json::json!([{ "first": 1, "last": 2 }, { "first": 5, "last": 5 }]));
    summary(&mut filled.receipts(to));

    let said = failure(filled.export(to).args(["--class", "alerts", "--device", "d-3"]), 1);
    assert!(said.contains("selected otherwise") && said.contains(SITE), "{said}");
    let other = folder.path().join("one device");
    let mut export = filled.export(other.to_str().unwrap());
    let done = summary(export.args(["--class", "scores", "--device", "a.b", "--until", "2026-01-05T00:30:00Z"]));
    // One row in eight is this device's; a row comes every two seconds.
    assert_eq!(done["rows"], 900 / 8 + u64::from(900 % 8 > 1));
    let dry = summary(filled.export(other.to_str().unwrap()).args(READINGS).args(["--sequences", "2..3", "--dry-run"]));
    assert_eq!((&dry["rows"], &dry["manifest"]), (&(2 * (ROWS + 1)).into(), &serde_json::Value::Null));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rows_in_memory_have_a_bound_whatever_is_exported() {
    let mut filled = Filled::with(20).await;
    let mut held = Vec::new();
    for messages in [20, 60] {
        filled.add(messages - if messages == 20 { 0 } else { 40 }, messages).await;
        let folder = tempfile::tempdir().unwrap();
        let mut export = filled.export(folder.path().to_str().unwrap());
        let done = summary(export.args(ALL).env("EDDY_EXPORT_CUT_ROWS", "1000"));
        assert_eq!(done["rows"], filled.rows.values().sum::<u64>());
        held.push(done["rows_held_max"].as_u64().unwrap());
    }
    // Cut behind the message with which 1,000 rows are reached.
    assert!(held.iter().all(|rows| *rows < 1_000 + ROWS as u64 + 1), "{held:?}");
    assert_eq!(held[0], held[1]);
}
