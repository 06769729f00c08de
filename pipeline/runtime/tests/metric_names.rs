//! The closed list of metrics against everything that names one: a metric that is renamed, and a rule, a dashboard or a text that is
//! not, fail here.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use eddy_runtime::telemetry::Metric;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every file below `folder`.
fn below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(below(&path)) } else { files.push(path) }
    }
    files
}

/// What names metrics: each text with its place.
fn texts() -> Vec<(PathBuf, String)> {
    let mut files = below(&root().join("compose"));
    files.extend(["README.md", "ARCHITECTURE.md"].map(|name| root().join(name)));
    // A generator puts names together; what it writes is committed, and checked here.
    files.retain(|path| path.extension().is_none_or(|extension| extension != "py"));
    // Others are pictures, archives, built things.
    files.into_iter().filter_map(|path| fs::read_to_string(&path).ok().map(|text| (path, text))).collect()
}

/// The words of `text` that begin with `eddy_` (a metric) or `eddy:` (what a rule records), by their beginning.
fn named<'a>(text: &'a str, prefix: &str) -> Vec<&'a str> {
    let in_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == ':';
    let mut found = Vec::new();
    for (at, _) in text.match_indices(prefix) {
        let is_whole = !text[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || "_-/.".contains(c));
        let word = &text[at..];
        let word = &word[..word.find(|c| !in_name(c)).unwrap_or(word.len())];
        if is_whole && word.len() > prefix.len() {
            found.push(word.trim_end_matches(':'));
        }
    }
    found
}

/// The crates, whose names as Rust has them look like metrics.
fn crates() -> BTreeSet<String> {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let names = lock.lines().filter_map(|line| line.strip_prefix("name = \"eddy-")?.strip_suffix('"'));
    names.map(|name| format!("eddy_{}", name.replace('-', "_"))).collect()
}

fn is_metric(word: &str) -> bool {
    let families = Metric::ALL.map(Metric::name);
    let of_histogram = ["_bucket", "_sum", "_count"].iter().filter_map(|suffix| word.strip_suffix(suffix));
    families.contains(&word)
        || of_histogram.into_iter().any(|family| families.contains(&family) && !family.ends_with("_total"))
}

#[test]
fn what_rules_dashboards_and_texts_call_a_metric_is_one() {
    let crates = crates();
    let recorded: BTreeSet<String> = {
        let rules = fs::read_to_string(root().join("compose/prometheus/rules/recording.yml")).unwrap();
        rules.lines().filter_map(|line| Some(line.trim().strip_prefix("- record: ")?.to_owned())).collect()
    };
    assert!(recorded.len() > 10, "{recorded:?}");
    let (mut seen, mut wrong) = (0, Vec::new());
    for (path, text) in texts() {
        for word in named(&text, "eddy_") {
            seen += 1;
            if !is_metric(word) && !crates.contains(word) {
                wrong.push(format!("{}: {word} is no metric", path.display()));
            }
        }
        // An image has a tag behind a colon, a container's folder an end.
        for word in named(&text, "eddy:").into_iter().filter(|word| word.contains('_')) {
            seen += 1;
            if !recorded.contains(word) {
                wrong.push(format!("{}: {word} is recorded by no rule", path.display()));
            }
        }
    }
    assert!(seen > 200, "only {seen} names were found: the check looks in the wrong places");
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn each_metric_has_its_line_in_the_table_and_each_line_a_metric() {
    let table = fs::read_to_string(root().join("compose/prometheus/METRICS.md")).unwrap();
    let lines: Vec<&str> = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let told: BTreeSet<&str> = lines.iter().copied().collect();
    assert_eq!(told.len(), lines.len(), "a metric has one line");
    assert_eq!(told, Metric::ALL.map(Metric::name).into());
}

#[test]
fn names_are_found_as_they_are_written() {
    let text = "rate(eddy_x_total{a=\"b\"}[5m]) `eddy_y_seconds_bucket` EDDY_Z my_eddy_w eddy:p_q:1h. eddy: no";
    assert_eq!(named(text, "eddy_"), ["eddy_x_total", "eddy_y_seconds_bucket"]);
    assert_eq!(named(text, "eddy:"), ["eddy:p_q:1h"]);
    assert!(is_metric("eddy_batch_seconds_bucket") && is_metric("eddy_late_rows_total"));
    assert!(!is_metric("eddy_late_rows_total_sum") && !is_metric("eddy_batch"));
}
