//! `eddy eval` hands over to the binary beside it.
#![allow(clippy::unwrap_used)]

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

/// `eddy` in a folder of its own; once a folder.
fn alone(folder: &Path) -> Command {
    let (from, to) = (env!("CARGO_BIN_EXE_eddy"), folder.join("eddy"));
    fs::hard_link(from, &to).or_else(|_| fs::copy(from, &to).map(drop)).unwrap();
    Command::new(to)
}

#[test]
fn a_missing_binary_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let ran = alone(folder.path()).args(["eval", "data", "--out", "results"]).output().unwrap();
    let told = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert_eq!(ran.status.code(), Some(1), "{told}");
    assert!(told.contains("eddy-eval") && told.contains("belongs beside eddy"), "{told}");
}

#[test]
fn arguments_help_and_the_exit_code_pass() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("eddy-eval");
    fs::write(&script, "#!/bin/sh\necho \"[$*]\"\nexit 64\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let mut eddy = alone(folder.path());
    let ran = eddy.args(["eval", "--help", "a b", "--set", "detect.gate_tail=1"]).output().unwrap();
    assert_eq!(ran.status.code(), Some(64));
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "[--help a b --set detect.gate_tail=1]\n");
}

#[test]
fn a_comparison_is_handed_over_as_it_stands_and_a_replay_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("eddy-eval");
    fs::write(&script, "#!/bin/sh\necho \"[$*]\"\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let eddy = alone(folder.path()).get_program().to_owned();
    let run = |arguments: &[&str]| Command::new(&eddy).args(arguments).current_dir(folder.path()).output().unwrap();
    let ran = run(&["replay", "--diff", "default", "new", "a b.csv", "--json"]);
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "[replay --diff default new a b.csv --json]\n");
    let ran = run(&["replay", "--dir", "nowhere", "a b.csv"]);
    assert_eq!((ran.status.code(), ran.stdout.len()), (Some(1), 0));
    let ran = run(&["replay", "--diff", "default", "new"]);
    assert_eq!((ran.status.code(), ran.stdout.len()), (Some(64), 0), "a recording has to be named");
}
