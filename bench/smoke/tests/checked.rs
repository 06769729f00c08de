//! The check as it is run: on a case that is quick, with baselines that are right, doctored, and of another environment.
#![allow(clippy::unwrap_used)]

use std::{
    path::Path,
    process::{Command, Output},
};

const CASE: &str = "vectors.delay";

fn smoke(baseline: &Path, rest: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_eddy-smoke"))
        .arg(CASE)
        .arg("--baseline")
        .arg(baseline)
        .args(rest)
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn the_check_holds_what_is_true_and_fails_where_it_is_not() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("SKIPPED: valgrind is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let baseline = folder.path().join("baseline.json");
    let written = smoke(&baseline, &["--write"]);
    assert!(written.status.success(), "{}", text(&written));
    let honest: serde_json::Value = serde_json::from_slice(&std::fs::read(&baseline).unwrap()).unwrap();
    let check = |doctor: &dyn Fn(&mut serde_json::Value), rest: &[&str]| {
        let mut doctored = honest.clone();
        doctor(&mut doctored);
        std::fs::write(&baseline, doctored.to_string()).unwrap();
        let output = smoke(&baseline, rest);
        (output.status.code(), text(&output))
    };
    let count = |of: &mut serde_json::Value, times: f64| {
        let cell = &mut of["cases"][CASE]["instructions"];
        *cell = (cell.as_f64().unwrap() * times).into();
    };

    let (code, told) = check(&|_| {}, &[]);
    assert!(code == Some(0) && !told.contains("WORSE"), "{told}");
    // A tenth more than the baseline says.
    let (code, told) = check(&|of| count(of, 1.0 / 1.1), &[]);
    assert!(code == Some(2) && told.contains("WORSE") && told.contains("1.100"), "{told}");
    let (code, told) = check(&|of| count(of, 1.1), &["--json"]);
    let json: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!((code, &json["cases"][0]["verdict"]), (Some(0), &"better".into()));
    let (code, told) = check(&|of| _ = of["cases"].as_object_mut().unwrap().remove(CASE), &[]);
    assert!(code == Some(2) && told.contains("NOT IN THE BASELINE"), "{told}");
    let (code, told) = check(&|of| of["environment"]["rustc"] = "rustc 1.0.0".into(), &[]);
    assert!(code == Some(3) && told.contains("there rustc 1.0.0"), "{told}");
    let (code, told) = check(&|of| of["environment"]["rustc"] = "rustc 1.0.0".into(), &["--write"]);
    assert!(code == Some(1) && told.contains("all of it must be written"), "{told}");
}
