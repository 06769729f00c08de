//! `fixtures/capture/<case>.in`: headers, an empty line, the bytes of a message; `<case>.out`: what becomes of it.
//! `EDDY_UPDATE_GOLDEN=1` writes the `.out` files anew.

use std::{fs, path::Path};

use super::{capture, message, run};
use crate::decode::TimeUnit;

fn check(case: &Path) {
    let bytes = fs::read(case).unwrap();
    let split = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap();
    let head = std::str::from_utf8(&bytes[..split]).unwrap();
    let header =
        |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::to_owned);
    let stored_at = header("stored-at").unwrap();
    let stored_at =
        stored_at.parse::<i64>().map_or_else(|_| rfc3339(&stored_at), |seconds| TimeUnit::S.integer(seconds).unwrap());
    let content_type = header("content-type");
    let incoming =
        message(&header("subject").unwrap(), content_type.as_deref(), stored_at, bytes[split + 2..].to_vec());
    let found = run(&mut capture(1), &incoming).join("\n") + "\n";
    let expected = case.with_extension("out");
    if std::env::var_os("EDDY_UPDATE_GOLDEN").is_some() {
        fs::write(expected, found).unwrap();
        return;
    }
    assert_eq!(found, fs::read_to_string(&expected).unwrap_or_default(), "{}", case.display());
}

fn rfc3339(text: &str) -> i64 {
    let time: jiff::Timestamp = text.parse().unwrap();
    time.as_nanosecond().try_into().unwrap()
}

#[test]
fn every_golden_case() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/capture");
    let mut cases: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.extension().is_some_and(|extension| extension == "in"));
    cases.sort();
    assert!(cases.len() >= 10, "{cases:?}");
    cases.iter().for_each(|case| check(case));
}
