//! State that is damaged, whatever its bytes: an error that names the record, or a stage that goes on. Never a panic, never a loop
//! without end: a power cut on cheap flash leaves such records, and who finds one is told how to begin anew.

use std::sync::OnceLock;

use eddy_runtime::contract::damage::{damage, damaged};
use proptest::{prelude::*, sample::Index};

use super::*;

/// Series in every phase: one is still commissioned, with chunks of its own.
fn records() -> &'static BTreeMap<Vec<u8>, Vec<u8>> {
    static RECORDS: OnceLock<BTreeMap<Vec<u8>, Vec<u8>>> = OnceLock::new();
    RECORDS.get_or_init(|| {
        let (mut stage, mut state) = (embed(300), BTreeMap::new());
        run(&mut stage, &walk(3, 1_100, false), usize::MAX);
        saved(&mut stage, &mut state);
        state
    })
}

#[test]
fn the_records_that_are_damaged_are_of_every_kind() {
    let kinds = |first: u8| records().keys().filter(|key| key[0] == first).count();
    assert!(kinds(b's') == 4 && kinds(b'c') > 0, "{:?}", records().keys());
}

/// Every load opens the bundle: one stage does for all.
fn stage() -> &'static std::sync::Mutex<Embed> {
    static STAGE: OnceLock<std::sync::Mutex<Embed>> = OnceLock::new();
    STAGE.get_or_init(|| std::sync::Mutex::new(embed(300)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_record_is_an_error_or_is_worked_with(which in any::<Index>(), damage in damage()) {
        let (records, _) = damaged(records(), which, &damage);
        let mut stage = stage().lock().unwrap();
        stage.clear();
        for (key, value) in &records {
            // A damaged chunk is found by its series.
            if let Err(error) = stage.load(key, value) {
                prop_assert_eq!(&error.key, &String::from_utf8_lossy(key));
                prop_assert!(!error.problem.is_empty(), "{}", error);
                return Ok(());
            }
        }
        let rows = walk(4, 60, false);
        let batches = run(&mut stage, &rows, usize::MAX);
        for column in batches.iter().flat_map(|batch| &batch.heads) {
            let is_finite = match &column.vectors {
                Vectors::F32(values) => values.iter().all(|x| x.is_finite()),
                Vectors::F16(values) => values.iter().all(|x| !x.is_nan()),
            };
            prop_assert!(is_finite, "{}", column.head.name);
        }
        stage.save(&mut |_, _| {});
    }
}
