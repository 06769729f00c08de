//! `eddy-eval replay --diff` as `eddy replay --diff` calls it. That a side's alerts are a gateway's is held by `tests/end_to_end/compared.rs`.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

/// Two devices of the fleet with the truth beside them, and a config with four times the alert budget.
struct Setting {
    folder: tempfile::TempDir,
}

impl Setting {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let fleet = repository("fixtures/fleet");
        fs::create_dir(folder.path().join("fleet")).unwrap();
        for file in ["harbour-1.csv.gz", "station.csv.gz", "truth.json"] {
            fs::copy(fleet.join(file), folder.path().join("fleet").join(file)).unwrap();
        }
        fs::write(folder.path().join("loud.toml"), "[detect]\nalerts_per_day = 8.0\n").unwrap();
        Self { folder }
    }

    fn diff(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_eddy-eval"));
        command.arg("replay").arg("--diff").args(arguments).current_dir(self.folder.path());
        command.output().unwrap()
    }

    fn report(&self, arguments: &[&str]) -> Value {
        let ran = self.diff(&[arguments, &["--json"]].concat());
        assert_eq!(ran.status.code(), Some(0), "{}", String::from_utf8_lossy(&ran.stderr));
        serde_json::from_slice(&ran.stdout).unwrap()
    }
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// How many alerts of each kind the list holds: what the summary must say.
fn counted(report: &Value) -> Value {
    let count =
        |change: &str| report["alerts"].as_array().unwrap().iter().filter(|pair| pair["change"] == change).count();
    serde_json::json!({
        "unchanged": count("unchanged"), "moved": count("moved"), "added": count("added"), "removed": count("removed"),
    })
}

#[test]
fn the_same_side_twice_changes_nothing_however_messages_are_cut() {
    let setting = Setting::new();
    let report = setting.report(&["default", "default", "fleet"]);
    assert_eq!((&report["devices"], &report["old"]["alerts"]), (&2.into(), &report["summary"]["unchanged"]));
    assert!(report["summary"]["unchanged"].as_u64().unwrap() > 4, "{report}");
    assert_eq!(report["summary"], counted(&report));
    let hash = &report["old"]["alerts_hash"];
    assert_eq!(&report["new"]["alerts_hash"], hash);
    let bundle = repository("fixtures/bundles/default");
    let small = setting.report(&[bundle.to_str().unwrap(), "default", "fleet", "--rows-per-message", "97"]);
    assert_eq!((&small["old"]["alerts_hash"], &small["new"]["alerts_hash"]), (hash, hash));
    let other_site = setting.report(&["default", "default", "fleet", "--site", "plant 1"]);
    assert_ne!(&other_site["old"]["alerts_hash"], hash, "an alert's id has the site in it");
}

#[test]
fn another_configuration_is_told_alert_by_alert_beside_the_known_faults() {
    let setting = Setting::new();
    let report = setting.report(&["default", "loud.toml", "fleet"]);
    assert_eq!(report["summary"], counted(&report));
    let (old, new, sum) = (&report["old"], &report["new"], &report["summary"]);
    let number = |value: &Value| value.as_u64().unwrap();
    assert_eq!(number(&old["alerts"]), number(&sum["unchanged"]) + number(&sum["moved"]) + number(&sum["removed"]));
    assert_eq!(number(&new["alerts"]), number(&sum["unchanged"]) + number(&sum["moved"]) + number(&sum["added"]));
    assert!(number(&new["alerts"]) > number(&old["alerts"]), "{sum}");
    assert_eq!(old["truth"]["faults"], new["truth"]["faults"]);
    assert!(number(&new["truth"]["false"]) > number(&old["truth"]["false"]), "{new}");
    let pairs = report["alerts"].as_array().unwrap();
    let moved = pairs.iter().find(|pair| pair["change"] == "moved").unwrap();
    for side in ["old", "new"] {
        for figure in ["score", "threshold", "tail"] {
            assert!(moved[side][figure].as_f64().unwrap() > 0.0, "{side} {figure}: {moved}");
        }
        assert!(!moved[side]["channels"].as_array().unwrap().is_empty());
    }
    let added = pairs.iter().find(|pair| pair["change"] == "added").unwrap();
    assert!(added["old"].is_null() && added["fault"].is_string(), "{added}");
    // The same for people, changes alone.
    let text = setting.diff(&["default", "loud.toml", "fleet", "--only-changes"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(
        text.contains("added ") && text.contains("moved ") && !text.lines().any(|line| line.starts_with("unchanged"))
    );
    let last = format!(
        "diff: unchanged={} moved={} added={} removed={}",
        sum["unchanged"], sum["moved"], sum["added"], sum["removed"]
    );
    assert_eq!(text.lines().last(), Some(last.as_str()));
}

#[test]
fn alerts_of_another_bundle_have_its_digest_and_a_file_without_truth_none() {
    let setting = Setting::new();
    let (from, to) = (repository("fixtures/bundles/default"), setting.folder.path().join("new"));
    fs::create_dir(&to).unwrap();
    fs::copy(from.join("model.onnx"), to.join("model.onnx")).unwrap();
    let manifest = fs::read_to_string(from.join("model.toml")).unwrap();
    let manifest = manifest.replacen("version = \"1.4.0\"", "version = \"9.9.9\"", 1);
    fs::write(to.join("model.toml"), &manifest).unwrap();
    fs::copy(setting.folder.path().join("fleet/station.csv.gz"), setting.folder.path().join("station.csv.gz")).unwrap();
    let report = setting.report(&["default", "new", "station.csv.gz"]);
    assert_eq!(report["new"]["version"], "9.9.9");
    assert_eq!(report["new"]["digest"], blake3_hex(&manifest));
    assert!(report["old"].get("truth").is_none() && report["alerts"][0].get("fault").is_none(), "{report}");
    let (unchanged, alerts) = (&report["summary"]["unchanged"], report["alerts"].as_array().unwrap().len());
    assert_eq!(unchanged.as_u64(), Some(alerts as u64), "the ids differ, the alerts do not");
    assert_ne!(report["alerts"][0]["old"]["alert"], report["alerts"][0]["new"]["alert"]);
}

/// The digest that a manifest of these bytes has, as a side with an unchanged graph tells it.
fn blake3_hex(text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("model.toml"), text).unwrap();
    fs::copy(repository("fixtures/bundles/default/model.onnx"), folder.path().join("model.onnx")).unwrap();
    eddy_runtime::bundle::Bundle::open(folder.path(), &[], true).unwrap().digest
}

#[test]
fn what_cannot_be_compared_is_told() {
    let setting = Setting::new();
    fs::create_dir(setting.folder.path().join("empty")).unwrap();
    fs::write(setting.folder.path().join("wrong.toml"), "[detect]\ngate_tial = 1.0\n").unwrap();
    fs::write(setting.folder.path().join("none.csv"), "time,x\n").unwrap();
    for (arguments, code, part) in [
        (["default", "empty", "fleet"].as_slice(), 64, "model.toml"),
        (&["default", "wrong.toml", "fleet"], 64, "gate_tial"),
        (&["default"], 64, "--diff"),
        (&["default", "default", "nowhere.csv"], 1, "nowhere.csv"),
        (&["default", "default", "none.csv"], 1, "holds a reading"),
        (&["default", "default", "fleet", "--speed", "10x"], 64, "--speed"),
        (&["default", "default", "fleet", "--near", "soon"], 64, "--near"),
    ] {
        let ran = setting.diff(arguments);
        let told = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert_eq!(ran.status.code(), Some(code), "{arguments:?}: {told}");
        assert!(told.contains(part), "{part}: {told}");
    }
}
