//! What `eddy replay --diff` tells of a recording is what a gateway tells.

use std::{path::Path, process::Command};

use crate::stage::binary;

/// `eddy` with these arguments, in a folder for what it leaves; its standard output.
fn eddy(folder: &Path, arguments: &[&str]) -> String {
    let fleet = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/fleet");
    let ran = Command::new(binary("eddy")).args(arguments).arg(fleet).current_dir(folder).output().unwrap();
    assert!(ran.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap()
}

#[test]
fn each_side_of_a_comparison_alerts_as_a_gateway_does() {
    let folder = tempfile::tempdir().unwrap();
    let demo = eddy(folder.path(), &["demo", "--recording"]);
    let last = demo.lines().last().unwrap();
    let said = |key: &str| last.split_whitespace().find_map(|word| word.strip_prefix(key)).unwrap().to_owned();
    let quiet = folder.path().join("quiet.toml");
    std::fs::write(&quiet, "[detect]\nalerts_per_day = 0.5\n").unwrap();
    let line = ["replay", "--json", "--site", "demo", "--diff", "default", quiet.to_str().unwrap()];
    let report: serde_json::Value = serde_json::from_str(&eddy(folder.path(), &line)).unwrap();
    let old = &report["old"];
    assert_eq!(old["alerts_hash"], said("alerts_hash=").as_str(), "{last}");
    let found = format!("{}/{}", old["truth"]["found"], old["truth"]["faults"]);
    assert_eq!((found, old["truth"]["false"].to_string()), (said("found="), said("false=")), "{last}");
    assert_eq!(report["readings"].to_string(), said("readings="));
    assert_ne!(report["new"]["alerts_hash"], old["alerts_hash"]);
}
