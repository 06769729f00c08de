//! The whole of `latency`, small: a gateway, a fault, an alert, the floor.

use std::process::{Command, Stdio};

#[test]
fn latency_of_twenty_devices_is_measured_and_nothing_is_left_behind() {
    // Unit tests run from target/<profile>/deps.
    let test = std::env::current_exe().unwrap();
    let folder = test.parent().and_then(std::path::Path::parent).unwrap();
    let missing: Vec<&str> = ["eddy", "eddy-bench", "eddy-capture", "eddy-preprocess", "eddy-embed", "eddy-detect"]
        .into_iter()
        .filter(|name| !folder.join(name).is_file())
        .collect();
    if !missing.is_empty() {
        println!("SKIPPED: {missing:?} not in {} (`cargo build --workspace --bins`)", folder.display());
        return;
    }
    let temporary = tempfile::tempdir().unwrap();
    let output = Command::new(folder.join("eddy-bench"))
        .args(["latency", "--json", "--devices", "20", "--seconds", "3", "--rounds", "1", "--dir"])
        .arg(temporary.path())
        .env_remove("CARGO")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("nats-server: it is neither") {
        println!("SKIPPED: no nats-server (`make tools`)");
        return;
    }
    assert!(output.status.success(), "{said}");
    let figures: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for key in ["p50_ms", "p99_ms", "max_ms", "floor_p50_ms", "floor_p99_ms", "readings_per_s", "pss_mb_total"] {
        assert!(figures[key].as_f64().is_some_and(|value| value > 0.0), "{key} in {figures}");
    }
    for stage in ["eddy", "nats-server", "capture", "preprocess", "embed", "detect"] {
        assert!(figures["processes"][stage]["pss_mb"].as_f64().is_some(), "{stage} in {figures}");
    }
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
}
