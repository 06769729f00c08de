//! That the check can fail, and when it must not.

use super::*;
use baseline::{Compared, Verdict};

fn environment() -> Environment {
    Environment {
        arch: "x86_64".into(),
        features: "avx2".into(),
        rustc: "rustc 1".into(),
        build: "opt-level 3".into(),
        libc: "glibc 2".into(),
        valgrind: "valgrind-3".into(),
    }
}

fn counts(cases: &[(&str, &str, f64)]) -> Counts {
    let per_unit = |unit: &str, instructions| PerUnit { unit: unit.to_owned(), instructions };
    let cases = cases.iter().map(|(name, unit, instructions)| ((*name).to_owned(), per_unit(unit, *instructions)));
    Counts { environment: environment(), cases: cases.collect() }
}

fn verdicts(compared: &[Compared]) -> Vec<(&str, Verdict)> {
    compared.iter().map(|case| (case.case.as_str(), case.verdict)).collect()
}

#[test]
fn a_case_that_grew_by_more_than_a_twentieth_fails_and_one_that_shrank_does_not() {
    let baseline = counts(&[("a", "row", 1000.0), ("b", "row", 1000.0), ("c", "row", 1000.0), ("d", "row", 1000.0)]);
    let now = counts(&[("a", "row", 1049.9), ("b", "row", 1050.1), ("c", "row", 949.0), ("d", "row", 951.0)]);
    let compared = now.beside(&baseline, &["a", "b", "c", "d"], false);
    let expected = [("a", Verdict::Ok), ("b", Verdict::Worse), ("c", Verdict::Better), ("d", Verdict::Ok)];
    assert_eq!(verdicts(&compared), expected);
    assert_eq!(compared.iter().map(|case| case.verdict.fails()).collect::<Vec<_>>(), [false, true, false, false]);
    let table = show::table(&compared);
    assert!(table.contains("WORSE") && table.contains("1.050") && table.contains("write it anew"), "{table}");
}

#[test]
fn a_case_without_a_baseline_and_a_baseline_without_a_case_fail() {
    let baseline = counts(&[("a", "row", 10.0), ("renamed", "row", 10.0), ("unit", "row", 10.0)]);
    let now = counts(&[("a", "row", 10.0), ("new", "row", 10.0), ("unit", "query", 10.0)]);
    let compared = now.beside(&baseline, &["a", "new", "unit"], false);
    let expected = [("a", Verdict::Ok), ("new", Verdict::New), ("unit", Verdict::New), ("renamed", Verdict::Gone)];
    assert_eq!(verdicts(&compared), expected);
    assert!(compared[1..].iter().all(|case| case.verdict.fails()));
    // Who asks for some is not told of the others.
    assert_eq!(verdicts(&now.beside(&baseline, &["a"], true)), [("a", Verdict::Ok)]);
}

#[test]
fn a_baseline_of_nothing_or_of_no_number_allows_nothing() {
    for wrong in [0.0, -1.0, f64::NAN] {
        let compared = counts(&[("a", "row", 10.0)]).beside(&counts(&[("a", "row", wrong)]), &["a"], false);
        assert!(compared[0].verdict.fails(), "{wrong}: {compared:?}");
    }
}

#[test]
fn only_the_same_environment_is_compared() {
    let here = environment();
    assert_eq!(here.differences(&here), Vec::<String>::new());
    let there = Environment { rustc: "rustc 2".into(), features: "sse4.2".into(), ..environment() };
    assert_eq!(here.differences(&there), ["features: avx2, there sse4.2", "rustc: rustc 1, there rustc 2"]);
}

#[test]
fn names_of_cases_are_told_apart_and_the_committed_baseline_has_them_all() {
    let committed = Counts::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("baseline.json")).unwrap();
    let names: Vec<&str> = cases::ALL.iter().map(|case| case.name).collect();
    let committed: Vec<&str> = committed.cases.keys().map(String::as_str).collect();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, committed);
    assert!(chosen(&["detect".into(), "loop.detect".into()]).unwrap().len() > 3);
    assert!(chosen(&["nothing".into()]).unwrap_err().to_string().contains("capture.arrow"));
}
