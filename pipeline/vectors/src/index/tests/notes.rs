use std::collections::BTreeMap;

use heed::{
    CommitOrAbort, EnvOpenOptions,
    types::{Bytes, Str},
};
use proptest::prelude::*;

use super::*;

#[test]
fn notes_are_committed_with_what_they_tell_of_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut batch = store.batch().unwrap();
    batch.add(&model(), &window(0)).unwrap();
    batch.note("ledger/a", b"1").unwrap();
    batch.note("ledger/b", b"2").unwrap();
    batch.note("ledgers", b"3").unwrap();
    assert_eq!(batch.noted("ledger/a").unwrap().as_deref(), Some(&b"1"[..]), "its own, too");
    assert_eq!(batch.notes("ledger/", 9).unwrap().len(), 2);
    assert_eq!(store.note("ledger/a").unwrap(), None, "not committed");
    batch.commit(None, "1").unwrap();
    let mut lost = store.batch().unwrap();
    lost.note("ledger/a", b"other").unwrap();
    assert!(lost.remove_note("ledgers").unwrap());
    assert!(matches!(lost.commit(Some("0"), "2"), Err(IndexError::Fenced { .. })));
    let searcher = store.searcher().unwrap();
    let listed = [("ledger/a".to_owned(), b"1".to_vec()), ("ledger/b".to_owned(), b"2".to_vec())];
    assert_eq!(store.notes("ledger/", 9).unwrap(), listed);
    assert_eq!(searcher.notes("ledger/", 9).unwrap(), listed);
    assert_eq!(store.notes("ledger/", 1).unwrap(), listed[..1]);
    assert_eq!((store.notes("", 9).unwrap().len(), store.notes("z", 9).unwrap().len()), (3, 0));
    let mut batch = store.batch().unwrap();
    assert!(batch.remove_note("ledger/a").unwrap() && !batch.remove_note("ledger/a").unwrap());
    batch.commit(Some("1"), "2").unwrap();
    assert_eq!((searcher.note("ledger/a").unwrap(), searcher.note("ledgers").unwrap()), (None, Some(b"3".to_vec())));
}

#[test]
fn a_name_that_cannot_be_kept_is_refused_and_looked_up_in_vain() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    add(&store, 0..1);
    let longest = "é".repeat(255) + "x";
    let long = longest.clone() + "x";
    let mut batch = store.batch().unwrap();
    batch.note(&longest, b"1").unwrap();
    batch.tag(&longest, 0).unwrap();
    for wrong in ["", &long] {
        let problem = batch.note(wrong, b"1").unwrap_err().to_string();
        assert!(problem.contains(&format!("of {} bytes: 1 to 511 are taken", wrong.len())), "{problem}");
        assert!(batch.tag(wrong, 0).unwrap_err().to_string().contains("a tag named"));
        assert!(!batch.remove_note(wrong).unwrap() && batch.noted(wrong).unwrap().is_none());
    }
    batch.commit(Some("1"), "2").unwrap();
    assert_eq!(store.notes(&longest, 9).unwrap(), [(longest, b"1".to_vec())]);
    assert!(store.notes(&long, 9).unwrap().is_empty());
}

#[test]
fn a_store_of_a_release_without_notes_opens_and_takes_some() {
    let folder = tempfile::tempdir().unwrap();
    // SAFETY: the folder is new, and nothing else has it open.
    let env = unsafe { EnvOpenOptions::new().max_dbs(10).map_size(1 << 20).open(folder.path()) }.unwrap();
    let made = env.create_databases_and_commit(env.write_txn().unwrap(), |opener, txn| {
        let names = ["models", "series", "windows", "segments", "deleted", "labels", "tags", "tagged", "outbox"];
        for name in names {
            opener.create_database::<Str, Bytes>(txn, Some(name))?;
        }
        let meta = opener.create_database::<Str, Bytes>(txn, Some("meta"))?;
        meta.put(txn, "version", &1u64.to_le_bytes())?;
        Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(()))
    });
    made.unwrap().unwrap_commit();
    drop(env);
    {
        let searcher = Searcher::open(folder.path(), 64 << 20).unwrap();
        assert_eq!((searcher.note("a").unwrap(), searcher.notes("", 9).unwrap()), (None, vec![]));
    }
    let store = open(folder.path());
    let mut batch = store.batch().unwrap();
    batch.note("a", b"1").unwrap();
    batch.commit(None, "1").unwrap();
    assert_eq!(store.note("a").unwrap(), Some(b"1".to_vec()));
}

#[test]
fn sites_are_told_apart_by_their_devices() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let device = |n: u64| match n % 4 {
        0 => "plant%201%2Fpump",
        1 => "plant%202%2Fpump%2F7",
        2 => "plant%201%2Ffan",
        _ => "pump",
    };
    let (mut batch, windows) = (store.batch().unwrap(), 0..120);
    for n in windows.clone() {
        batch.add(&model(), &Window { series: format!("{}/t", device(n)), ..window(n) }).unwrap();
    }
    batch.commit(None, "1").unwrap();
    let none = Filter::default;
    let site = |name: &str| Some(name.to_owned());
    for built in [false, true] {
        if built {
            assert!(!build_all(&store).is_empty());
        }
        let searcher = store.searcher().unwrap();
        let check = |filter: Filter, allowed: &dyn Fn(u64) -> bool| {
            let allowed: Vec<u64> = windows.clone().filter(|n| allowed(*n)).collect();
            assert_eq!(searcher.matching(&filter).unwrap(), allowed, "{filter:?}");
            let mut asked = query(&[0.5; DIMENSIONS], 200);
            asked.filter = filter;
            let found = ids(&searcher.search(&asked).unwrap());
            assert_eq!(found, nearest(allowed.into_iter(), &[0.5; DIMENSIONS], 200));
        };
        check(Filter { site: site("plant%201"), ..none() }, &|n| n % 2 == 0);
        check(Filter { other_than_site: site("plant%201"), ..none() }, &|n| n % 2 == 1);
        check(Filter { other_than_site: site("nowhere"), ..none() }, &|_| true);
        check(Filter { site: site("plant"), ..none() }, &|_| false);
        check(Filter { site: site("pump"), ..none() }, &|_| false);
        let of_site = |device: &str| Filter { site: site("plant%201"), device: site(device), ..none() };
        check(of_site("plant%201%2Ffan"), &|n| n % 4 == 2);
        check(of_site("plant%202%2Fpump%2F7"), &|_| false);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn notes_are_a_map(
        steps in prop::collection::vec(("[ab/]{1,4}", prop::option::of(0u8..9)), 1..40),
        prefix in "[ab/]{0,3}",
        limit in 0usize..12,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let mut map = BTreeMap::new();
        for (at, (key, value)) in steps.into_iter().enumerate() {
            let mut batch = store.batch().unwrap();
            match value {
                Some(value) => {
                    batch.note(&key, &[value]).unwrap();
                    map.insert(key, vec![value]);
                }
                None => prop_assert_eq!(batch.remove_note(&key).unwrap(), map.remove(&key).is_some()),
            }
            let before = at.checked_sub(1).map(|at| at.to_string());
            batch.commit(before.as_deref(), &at.to_string()).unwrap();
        }
        let expected: Vec<_> = map.into_iter().filter(|(key, _)| key.starts_with(&prefix)).take(limit).collect();
        prop_assert_eq!(store.notes(&prefix, limit).unwrap(), expected);
    }
}
