//! The scorers against the benchmarks' own in Python: golden figures, and side by side where Python and the data are.
#![allow(clippy::unwrap_used)]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use eddy_bench::{
    inputs::{self, Set},
    score::Scores,
    table,
};
use serde_json::{Map, Value};

/// Three decimals of a figure of 0 to 100, or of 0 to 1.
const TOLERANCE: f64 = 5e-4;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

fn assert_same(place: &str, found: &Value, expected: &Map<String, Value>) {
    for (name, expected) in expected {
        let (found, expected) = (found[name].as_f64().unwrap(), expected.as_f64().unwrap());
        // SKAB's rates are printed with two decimals.
        let tolerance = if name.ends_with("_percent") { 5e-3 + 1e-9 } else { TOLERANCE };
        assert!((found - expected).abs() <= tolerance, "{place} {name}: {found}, expected {expected}");
    }
}

#[test]
fn golden_figures_are_those_of_the_python_scorers() {
    let expected: Value = serde_json::from_slice(&fs::read(golden().join("expected.json")).unwrap()).unwrap();
    let mut scores = Scores::default();
    for set in [Set::Nab, Set::Skab, Set::Telemetry] {
        scores.add(set, &golden().join("data"), &golden().join("results")).unwrap();
    }
    let found = serde_json::to_value(&scores).unwrap();
    let expected = expected.as_object().unwrap();
    assert_eq!(expected.len(), 3);
    for (set, expected) in expected {
        assert_same(set, &found[set], expected.as_object().unwrap());
    }
}

#[test]
fn a_result_that_does_not_fit_its_data_is_told() {
    let out = tempfile::tempdir().unwrap();
    let told = |scores: &mut Scores| {
        format!("{:#}", scores.add(Set::Telemetry, &golden().join("data"), out.path()).unwrap_err())
    };
    table::write(&out.path().join("telemetry/a.csv"), [("0", 1.0, 0)].into_iter()).unwrap();
    assert!(told(&mut Scores::default()).contains("1 rows, the data has 900"));
    fs::remove_file(out.path().join("telemetry/a.csv")).unwrap();
    table::write(&out.path().join("telemetry/nowhere.csv"), [("0", 1.0, 0)].into_iter()).unwrap();
    assert!(told(&mut Scores::default()).contains("nowhere.csv"));
}

/// Folder of the recorded data with its scorers, and a Python with numpy.
fn data_and_python() -> Option<(PathBuf, String)> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let data = env::var_os("EDDY_DATA").map_or(beside, PathBuf::from);
    let python = env::var("EDDY_PYTHON").unwrap_or_else(|_| "python3".into());
    let has_numpy =
        || Command::new(&python).args(["-c", "import numpy"]).output().is_ok_and(|out| out.status.success());
    if !data.join("scorers/vus.py").is_file() {
        println!("SKIPPED: no recorded data at {}: set EDDY_DATA", data.display());
        return None;
    }
    if !has_numpy() {
        println!("SKIPPED: {python} with numpy is not there: set EDDY_PYTHON");
        return None;
    }
    Some((data, python))
}

/// The last word that a scorer prints.
fn told(python: &str, scorer: &Path, args: &[&Path], options: &[&str]) -> f64 {
    let out = Command::new(python).arg(scorer).args(args).args(options).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).split_whitespace().last().unwrap().parse().unwrap()
}

/// A cheap score with ties: how far a row lies from the mean of the ten before it, summed over channels.
fn cheap_scores(stream: &inputs::Stream) -> Vec<f64> {
    let score = |row: usize| {
        let from = row.saturating_sub(10);
        (0..stream.channels.len()).map(move |channel| {
            let values = (from..row).map(|before| stream.row(before)[channel]).filter(|x| !x.is_nan());
            let (sum, count) = values.fold((0.0, 0), |(sum, count), x| (sum + x, count + 1));
            let away = stream.row(row)[channel] - sum / f64::from(count.max(1));
            if away.is_nan() { 0.0 } else { (away.abs() * 100.0).round() / 100.0 }
        })
    };
    (0..stream.times.len()).map(|row| score(row).sum()).collect()
}

#[test]
fn recorded_data_score_as_the_python_scorers_do() {
    let Some((data, python)) = data_and_python() else { return };
    let out = tempfile::tempdir().unwrap();
    let sets: Vec<Set> =
        [Set::Nab, Set::Skab, Set::Telemetry].into_iter().filter(|set| data.join(set.folder()).is_dir()).collect();
    let mut scores = Scores::default();
    for set in &sets {
        for input in inputs::list(&data, &[*set]).unwrap() {
            let stream = inputs::read(&input).unwrap();
            let stamps = stream.stamps.iter().map(String::as_str);
            let file = out.path().join(set.folder()).join(&input.name);
            table::write(&file, stamps.zip(cheap_scores(&stream)).map(|(stamp, score)| (stamp, score, 0))).unwrap();
        }
        scores.add(*set, &data, out.path()).unwrap();
    }
    let (scorers, close) = (data.join("scorers"), |a: f64, b: f64, tolerance: f64| (a - b).abs() <= tolerance);
    if let Some(nab) = scores.nab {
        let (results, labels) = (out.path().join("nab"), data.join("nab/combined_windows.json"));
        let args: [&Path; 3] = [&results, Path::new("--labels"), &labels];
        for (profile, found) in
            [("standard", nab.standard), ("reward_low_FP_rate", nab.low_fp), ("reward_low_FN_rate", nab.low_fn)]
        {
            let expected = told(&python, &scorers.join("nab_score.py"), &args, &["--profile", profile]);
            // Printed with two decimals.
            assert!(close(found, expected, 5e-3 + 1e-9), "NAB {profile}: {found}, expected {expected}");
        }
    }
    if let Some(skab) = scores.skab {
        let (results, labels) = (out.path().join("skab"), data.join("skab"));
        let args: [&Path; 3] = [&results, Path::new("--data"), &labels];
        for (options, found) in
            [(["--mode", "calib", "--q", ".99", "--mult", "1.5"].as_slice(), skab.f1), (&[], skab.f1_best)]
        {
            let expected = told(&python, &scorers.join("skab_score.py"), &args, options);
            assert!(close(found, expected, TOLERANCE), "SKAB {options:?}: {found}, expected {expected}");
        }
    }
    if let Some(telemetry) = scores.telemetry {
        let (results, labels) = (out.path().join("telemetry"), data.join("telemetry"));
        let args: [&Path; 3] = [&results, Path::new("--data"), &labels];
        for (options, found) in [([].as_slice(), telemetry.vus_pr), (&["--ucr"], telemetry.top_1)] {
            let expected = told(&python, &scorers.join("vus.py"), &args, options);
            assert!(close(found, expected, TOLERANCE), "telemetry {options:?}: {found}, expected {expected}");
        }
    }
}
