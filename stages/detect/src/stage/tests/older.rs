//! State of an earlier release: its records have other keys.

use super::*;

/// A record's key as releases before wrote it: the kind first.
fn older(key: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(key).unwrap();
    match text.strip_prefix('r').map(|own| own.rsplit_once('\0').unwrap()) {
        None => text.to_owned(),
        Some((name, kind)) if kind.starts_with('m') => format!("m{},{name}", &kind[1..]),
        Some((name, kind)) => format!("{kind}{name}"),
    }
    .into_bytes()
}

#[test]
fn records_under_older_keys_are_read_and_told_anew() {
    let mut items = Source::new("m,1", 2, 700).items();
    items.extend(Source::new("e", 1, 450).items());
    let (mut stage, mut records) = (detect(), Records::new());
    run(&mut stage, &items, 500, false);
    save(&mut stage, &mut records);
    let before: Records = records.iter().map(|(key, value)| (older(key), value.clone())).collect();
    let is_there = |key: &str| before.contains_key(key.as_bytes());
    assert!(is_there("he/c0") && is_there("m0,m%2C1/c1"));
    let mut again = detect();
    before.iter().for_each(|(key, value)| again.load(key, value).unwrap());
    let mut told = before.clone();
    save(&mut again, &mut told);
    assert!(told == records, "{:?} and {:?}", told.keys(), records.keys());
    save(&mut again, &mut Records::new());
    assert!(told == records);
}
