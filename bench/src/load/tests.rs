//! Whole measurements, small: real gateways, faults, alerts, kills. What they say is looked at, never how long it took.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

/// The folder of the programs, if all are there.
fn programs() -> Option<PathBuf> {
    // Unit tests run from target/<profile>/deps.
    let test = std::env::current_exe().unwrap();
    let folder = test.parent().and_then(Path::parent).unwrap();
    let missing: Vec<&str> =
        ["eddy", "eddy-bench", "eddy-capture", "eddy-preprocess", "eddy-embed", "eddy-detect", "eddy-index"]
            .into_iter()
            .filter(|name| !folder.join(name).is_file())
            .collect();
    if !missing.is_empty() {
        println!("SKIPPED: {missing:?} not in {} (`cargo build --workspace --bins`)", folder.display());
        return None;
    }
    Some(folder.to_owned())
}

/// What `eddy-bench` prints; none where there is nothing to run it with.
fn figures(arguments: &[&str]) -> Option<Value> {
    let output = Command::new(programs()?.join("eddy-bench"))
        .args(arguments)
        .env_remove("CARGO")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("nats-server: it is neither") {
        println!("SKIPPED: no nats-server (`make tools`)");
        return None;
    }
    assert!(output.status.success(), "{said}");
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

fn is_positive(figures: &Value, path: &str) {
    assert!(figures.pointer(path).and_then(Value::as_f64).is_some_and(|value| value > 0.0), "{path} in {figures}");
}

#[test]
fn latency_of_twenty_devices_is_measured_and_nothing_is_left_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().to_str().unwrap();
    let arguments = ["latency", "--json", "--devices", "20", "--seconds", "3", "--rounds", "1", "--dir", folder];
    let Some(figures) = figures(&arguments) else { return };
    for path in ["/p50_ms", "/p99_ms", "/max_ms", "/floor_p50_ms", "/floor_p99_ms", "/readings_per_s", "/pss_mb_total"]
    {
        is_positive(&figures, path);
    }
    for stage in ["eddy", "nats-server", "capture", "preprocess", "embed", "detect"] {
        assert!(figures["processes"][stage]["pss_mb"].as_f64().is_some(), "{stage} in {figures}");
    }
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
}

#[test]
fn a_gateway_alerts_again_whatever_was_killed_and_after_a_backlog() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().to_str().unwrap();
    let arguments =
        ["recover", "--json", "--series", "60", "--starts", "1", "--kills", "1", "--hours", "0.5", "--dir", folder];
    let Some(figures) = figures(&arguments) else { return };
    let restarts = ["nothing", "capture", "preprocess", "embed", "detect", "all_stages"];
    for path in restarts.map(|case| format!("/restarts_s/{case}/p50")) {
        is_positive(&figures, &path);
    }
    for path in ["/start_up_s", "/start_first_alert_s", "/restart_worst_s", "/restart_gateway_s", "/backlog/rows_per_s"]
    {
        is_positive(&figures, path);
    }
    // Half an hour of 60 series, a reading a minute.
    assert_eq!(figures["backlog"]["rows"], 1_800);
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
}

#[test]
fn all_shards_of_a_site_work() {
    let arguments =
        ["throughput", "--json", "--series", "60", "--shards", "2", "--rows", "400000", "--peer-seconds", "0"];
    let Some(figures) = figures(&arguments) else { return };
    for path in ["/windows_per_s", "/preprocess_readings_per_s", "/capture_readings_per_s"] {
        is_positive(&figures, path);
    }
    for stage in ["embed-0", "embed-1", "detect-0", "detect-1"] {
        is_positive(&figures["processes"]["memory"], &format!("/{stage}/pss_mb"));
    }
}

#[test]
fn one_pair_of_the_same_programs_shows_no_difference() {
    let Some(folder) = programs() else { return };
    let arguments = ["compare", folder.to_str().unwrap(), "--json", "--pairs", "1", "--benches", "footprint", "--"];
    let Some(figures) = figures(&[&arguments[..], &["--series", "30", "--hours", "1", "--points", "1"]].concat())
    else {
        return;
    };
    let compared = figures["figures"].as_array().unwrap();
    assert_eq!(compared.len(), 4, "{figures}");
    for figure in compared {
        is_positive(figure, "/ratio");
        // One pair says nothing, however far apart.
        assert_eq!(figure["verdict"], "no_difference", "{figure}");
    }
}

#[test]
fn one_part_of_all_is_measured_judged_and_kept() {
    let temporary = tempfile::tempdir().unwrap();
    let out = temporary.path().to_str().unwrap();
    let arguments = ["all", "--small", "--only", "footprint", "--json", "--out", out];
    let Some(first) = figures(&arguments) else { return };
    let again = figures(&[&arguments[..], &["--resume"]].concat()).unwrap();
    assert_eq!(first["figures"], again["figures"]);
    let rows = first["figures"].as_array().unwrap();
    let row =
        |what: &str| rows.iter().find(|row| row["what"].as_str().is_some_and(|text| text.contains(what))).unwrap();
    assert!(row("memory idle")["is_met"].is_boolean() && row("sensor to alert")["is_met"].is_null(), "{first}");
    let kept = std::fs::read(temporary.path().join("all-small-chosen.json")).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&kept).unwrap()["figures"], again["figures"]);
}
