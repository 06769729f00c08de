//! `eddy-eval` as it is called: what it writes, what it prints, and its exit codes.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/data")
}

/// Runs it in a folder of its own: nothing may depend on where it is called.
fn eval(args: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    Command::new(env!("CARGO_BIN_EXE_eddy-eval")).args(args).current_dir(folder.path()).output().unwrap()
}

fn eval_into(data: &Path, out: &Path, more: &[&str]) -> Output {
    let both = [data.to_str().unwrap(), "--out", out.to_str().unwrap()];
    eval(&[both.as_slice(), more].concat())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn every_stream_has_a_result_that_depends_on_neither_threads_nor_preprocess() {
    let out = tempfile::tempdir().unwrap();
    let [one, two, three] = ["1", "2", "3"].map(|name| out.path().join(name));
    let ran = eval_into(&golden(), &one, &["--score", "--json", "--threads", "1"]);
    assert_eq!(ran.status.code(), Some(0), "{}", text(&ran.stderr));
    let report: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!((&report["inputs"], &report["rows"]), (&9.into(), &5620.into()));
    assert_eq!(report["windows"], report["rows"]);
    for figure in ["state_bytes_per_series_max", "microseconds_per_window"] {
        assert!(report[figure].as_f64().unwrap() > 0.0, "{figure}");
    }
    // SKAB's made-up runs have one channel each: its figure says little, but it is there.
    for (set, figure) in [("nab", "standard"), ("nab", "vus_pr"), ("skab", "f1"), ("telemetry", "vus_pr")] {
        assert!(report["scores"][set][figure].is_f64(), "{set} {figure}: {report}");
    }
    for (out, more) in [(&two, ["--threads", "4"].as_slice()), (&three, &["--skip-preprocess"])] {
        assert_eq!(eval_into(&golden(), out, more).status.code(), Some(0));
    }
    let source = fs::read_to_string(golden().join("nab/data/real/two.csv")).unwrap();
    let read = |out: &Path| fs::read_to_string(out.join("nab/real/two.csv")).unwrap();
    let result = read(&one);
    assert_eq!(
        (result.lines().next(), result.lines().count()),
        (Some("timestamp,anomaly_score,alerts"), source.lines().count())
    );
    let first = |line: &str| line.split(',').next().unwrap_or_default().to_owned();
    assert!(result.lines().map(first).eq(source.lines().map(first)));
    assert_eq!((&read(&two), &read(&three)), (&result, &result));
}

#[test]
fn labels_are_not_read() {
    let (data, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let [with, without] = ["with", "without"].map(|name| out.path().join(name));
    let source = fs::read_to_string(golden().join("telemetry/a.csv")).unwrap();
    let blind = source.lines().map(|line| {
        let cells: Vec<&str> = line.split(',').collect();
        let label = if cells[2] == "label" { "label" } else { "not told" };
        [cells[0], cells[1], label, cells[3]].join(",") + "\n"
    });
    fs::create_dir(data.path().join("telemetry")).unwrap();
    fs::write(data.path().join("telemetry/a.csv"), blind.collect::<String>()).unwrap();
    assert_eq!(eval_into(data.path(), &without, &[]).status.code(), Some(0));
    assert_eq!(eval_into(&golden(), &with, &["--only", "telemetry"]).status.code(), Some(0));
    let read = |out: &Path| fs::read(out.join("telemetry/a.csv")).unwrap();
    assert_eq!(read(&with), read(&without));
}

#[test]
fn a_stream_that_fails_is_told_and_the_others_go_on() {
    let (data, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let folder = data.path().join("ucr");
    fs::create_dir(&folder).unwrap();
    fs::copy(golden().join("telemetry/b.csv"), folder.join("good.csv")).unwrap();
    fs::write(folder.join("wrong.csv"), "timestamp,value,label,scored\n0,one,0,0\n").unwrap();
    fs::write(folder.join("short.csv"), "timestamp,value,label,scored\n0,1,0,1\n").unwrap();
    let ran = eval_into(data.path(), out.path(), &["--score"]);
    let told = text(&ran.stderr);
    assert_eq!(ran.status.code(), Some(2), "{told}");
    for part in ["ucr/wrong.csv", "line 2", "ucr/short.csv", "score of ucr: not scored: 2 of its streams failed"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(out.path().join("ucr/good.csv").is_file());
    fs::remove_file(folder.join("good.csv")).unwrap();
    assert_eq!(eval_into(data.path(), out.path(), &[]).status.code(), Some(1), "nothing was left to go on with");
}

#[test]
fn a_wrong_command_line_or_config_is_64() {
    let (empty, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (golden, empty, out) = (golden(), empty.path(), out.path());
    for (data, more, part) in [
        (empty, ["--score"].as_slice(), "no stream found"),
        (&*golden, &["--only", "gecco"], "no folder gecco"),
        (&*golden, &["--only", "weather"], "weather"),
        (&*golden, &["--set", "detect.gate_tail=7"], "gate_tail"),
        (&*golden, &["--config", "nowhere.toml"], "nowhere.toml"),
        (&*golden, &["--bundle", "nowhere"], "nowhere"),
        (&*golden, &["--fast"], "--fast"),
    ] {
        let ran = eval_into(data, out, more);
        let told = text(&ran.stderr);
        assert_eq!(ran.status.code(), Some(64), "{more:?}: {told}");
        assert!(told.contains(part), "{part}: {told}");
    }
    let help = eval(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(text(&help.stdout).contains("eddy eval data --out results"));
}
