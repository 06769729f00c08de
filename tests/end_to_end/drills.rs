//! Every drill in small, as an operator runs them: each passes, or says why it cannot run here. That they can fail is tested beside the
//! judgement (`eddy-drill`).

use std::process::{Command, Output};

use serde_json::Value;

use crate::stage::binary;

fn drill(arguments: &[&str]) -> Output {
    Command::new(binary("eddy-drill")).args(arguments).env_remove("EDDY_SEED").output().unwrap()
}

fn said(ran: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr))
}

#[test]
fn every_drill_passes_in_small() {
    let ran = drill(&["all", "--small", "--json"]);
    let text = String::from_utf8_lossy(&ran.stdout);
    let reports: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<&str> = reports.iter().map(|report| report["drill"].as_str().unwrap()).collect();
    let all = [
        "crash",
        "server-kill",
        "throttle",
        "clock-jump",
        "poison",
        "bad-model",
        "flood",
        "link-cut",
        "slow-link",
        "disk-full",
        "power-cut",
    ];
    assert_eq!(names, all, "{}", said(&ran));
    let mut skipped = 0;
    for report in &reports {
        if let Some(why) = report["cannot_run"].as_str() {
            eprintln!("SKIPPED eddy drill {}: {why}", report["drill"]);
            skipped += 1;
            continue;
        }
        assert_eq!(report["passed"], true, "{report:#}");
        assert_eq!((&report["lost"], &report["duplicated"]), (&Value::from(0), &Value::from(0)), "{report:#}");
        assert_eq!(report["alerts_hash"], report["expected_alerts_hash"], "{report:#}");
        assert!(
            report["alerts"].as_u64().unwrap() > 0 && !report["done"].as_object().unwrap().is_empty(),
            "{report:#}"
        );
    }
    assert_eq!(ran.status.code(), Some(if skipped == 0 { 0 } else { 69 }));
}

#[test]
fn a_soak_of_a_few_seconds_loses_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().display().to_string();
    let ran = drill(&["soak", "--small", "--minutes", "0.3", "--rate", "2500", "--out", &out]);
    assert!(ran.status.success(), "{}", said(&ran));
    let report: Value = serde_json::from_slice(&std::fs::read(folder.path().join("soak.json")).unwrap()).unwrap();
    assert_eq!((&report["passed"], &report["lost"], &report["duplicated"]), (&true.into(), &0.into(), &0.into()));
    assert_eq!(report["alerts_hash"], report["expected_alerts_hash"]);
    assert!(report["rounds"].as_u64().unwrap() >= 2, "{report}");
    assert!(std::fs::read_to_string(folder.path().join("soak.txt")).unwrap().contains("availability="));
}

#[test]
fn a_live_gateways_folder_and_what_is_no_drill_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("streams")).unwrap();
    let ran = drill(&["crash", "--small", "--keep", folder.path().to_str().unwrap()]);
    assert!(ran.status.code() == Some(1) && said(&ran).contains("holds a gateway"), "{}", said(&ran));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing was written there");
    let ran = drill(&["earthquake"]);
    assert!(ran.status.code() == Some(64) && said(&ran).contains("power-cut"), "{}", said(&ran));
    let empty = folder.path().join("bad.toml");
    std::fs::write(&empty, "[gateway]\nno_such_key = 1\n").unwrap();
    let ran = drill(&["crash", "--small", "--config", empty.to_str().unwrap()]);
    assert_eq!(ran.status.code(), Some(64), "{}", said(&ran));
}
