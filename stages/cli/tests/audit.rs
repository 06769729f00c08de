//! `eddy audit verify` and `eddy certs`, as they are run.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use eddy_schemas::audit::{Entry, FILE, Head};

fn eddy(arguments: &[&str], folder: &Path) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_eddy")).args(arguments).current_dir(folder).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn a_sound_log_exits_0_and_a_broken_one_1_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    let (mut head, mut heads, mut log) = (Head::START, Vec::new(), String::new());
    for (number, who) in ["console", "alice", "bob"].into_iter().enumerate() {
        let (line, next) = Entry::new(&head, number as i64, [who, "Search", "ok", "k=10"]).line();
        (head, log) = (next, log + &line);
        heads.push(head.to_string());
    }
    fs::write(&path, &log).unwrap();
    let verify = |more: &[&str]| eddy(&[&["audit", "verify", FILE], more].concat(), folder.path());
    let (code, told, _) = verify(&[]);
    assert_eq!((code, told), (Some(0), format!("sound: entries 1 to 3\nhead: {}\n", heads[2])));
    let (code, told, _) = verify(&["--json", "--holds", &heads[1]]);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!((code, told["last"].as_u64(), told["head"].as_str()), (Some(0), Some(3), Some(heads[2].as_str())));
    let (code, told, _) = eddy(&["audit", "verify", "."], folder.path());
    assert!(code == Some(0) && told.contains("entries 1 to 3"), "{told}");

    // Its last line is missing: only a head that was kept elsewhere tells.
    fs::write(&path, log.lines().take(2).map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    assert_eq!(verify(&[]).0, Some(0));
    let (code, told, error) = verify(&["--holds", &heads[2]]);
    assert!(code == Some(1) && told.is_empty() && error.contains("missing at its end"), "{error}");
    fs::write(&path, log.replace("alice", "mallo")).unwrap();
    let (code, told, error) = verify(&[]);
    assert!(code == Some(1) && told.is_empty() && error.contains("audit.jsonl, line 2: its hash"), "{error}");
    assert_eq!(eddy(&["audit", "verify", "nowhere"], folder.path()).0, Some(1));
    assert_eq!(verify(&["--holds", "3"]).0, Some(64));
}

#[test]
fn certificates_are_told_with_the_roles_to_give() {
    let folder = tempfile::tempdir().unwrap();
    let line = ["certs", "--out", "c", "--site", "plant 1", "--reader", "console", "--operator", "bob"];
    let (code, told, error) = eddy(&line, folder.path());
    assert_eq!(code, Some(0), "{error}");
    let expected = "made: ca.pem, ca.key\nmade: hub.pem, hub.key\nmade: bob.pem, bob.key\nmade: console.pem, console.key\n\
        made: site-plant%201.pem, site-plant%201.key\n\nFor the hub's config:\n[hub.roles]\nreader = [\"console\"]\n\
        labeler = []\noperator = [\"bob\"]\n";
    assert_eq!(told, expected);
    assert_eq!(eddy(&["certs", "--out", "c", "--reader", "hub"], folder.path()).0, Some(1));
    assert_eq!(eddy(&["certs", "--out", "c", "--days", "0"], folder.path()).0, Some(64));
}
