//! State that is damaged, whatever its bytes: an error that names the record, or a stage that goes on. Never a panic, never a loop
//! without end: a power cut on cheap flash leaves such records, and who finds one is told how to begin anew.

use std::sync::OnceLock;

use eddy_runtime::contract::damage::{damage, damaged};
use proptest::{prelude::*, sample::Index};

use super::*;

/// Nothing waits in the first; in the second, readings do.
const CONFIGS: [&str; 2] = ["period_s = 1.0\ngap = \"hold\"", "period_s = 1.0\nlateness_s = 30.0"];

fn rows() -> Vec<Row> {
    let row = |i: i64| reading(["d/t", "d/u", "e%2Ff/t"][i as usize % 3], i * SECOND / 2, (i * 37 % 101) as f64 / 7.0);
    (0..150).map(row).collect()
}

fn records(config: usize) -> &'static BTreeMap<Vec<u8>, Vec<u8>> {
    static RECORDS: [OnceLock<BTreeMap<Vec<u8>, Vec<u8>>>; 2] = [const { OnceLock::new() }; 2];
    RECORDS[config].get_or_init(|| run(CONFIGS[config], &rows(), &UNCUT).state)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_record_is_an_error_that_names_it_or_is_worked_with(
        which in any::<Index>(), damage in damage(), config in 0..CONFIGS.len()
    ) {
        let (records, changed) = damaged(records(config), which, &damage);
        let mut stage = stage(CONFIGS[config]);
        for (key, value) in &records {
            if let Err(error) = stage.load(key, value) {
                prop_assert_eq!(&error.key, &String::from_utf8_lossy(key));
                prop_assert!(*key == changed && !error.problem.is_empty(), "{}", error);
                return Ok(());
            }
        }
        let message = message(&rows());
        let input = stage.decode(&message).unwrap();
        let mut out = Outbox::new(stage.outputs(), usize::MAX);
        prop_assert_eq!(stage.process(&message, &input, 0..150, &mut out), 150);
        stage.save(&mut |_, _| {});
    }
}
