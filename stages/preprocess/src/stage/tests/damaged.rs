//! State that is damaged, whatever its bytes: an error that names the record, or a stage that goes on. Never a panic, never a loop
//! without end: a power cut on cheap flash leaves such records, and who finds one is told how to begin anew.

use std::sync::OnceLock;

use proptest::{collection::vec, prelude::*, sample::Index};

use super::*;

/// What happened to a record.
#[derive(Clone, Debug)]
enum Damage {
    Bytes(Vec<(Index, u8)>),
    Bit(Index, u8),
    Cut(Index),
    Longer(Vec<u8>),
    Other(Vec<u8>),
    /// The value of another record.
    Swapped(Index),
    Key(Index, u8),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        vec((any::<Index>(), prop_oneof![any::<u8>(), Just(0), Just(0xff), Just(0x7f)]), 1..6).prop_map(Damage::Bytes),
        (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Damage::Bit(at, bit)),
        any::<Index>().prop_map(Damage::Cut),
        vec(any::<u8>(), 1..9).prop_map(Damage::Longer),
        vec(any::<u8>(), 0..100).prop_map(Damage::Other),
        any::<Index>().prop_map(Damage::Swapped),
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Damage::Key(at, byte)),
    ]
}

/// The records with one of them damaged, and that one's key.
fn damaged(records: &BTreeMap<Vec<u8>, Vec<u8>>, which: Index, damage: &Damage) -> (Records, Vec<u8>) {
    let mut records: Records = records.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    let one = which.index(records.len());
    let other = match damage {
        Damage::Swapped(with) => with.index(records.len()),
        _ => one,
    };
    let swapped = records[other].1.clone();
    let (key, value) = &mut records[one];
    let length = value.len();
    match damage {
        Damage::Bytes(changes) => {
            for (at, byte) in changes.iter().filter(|_| length > 0) {
                value[at.index(length)] = *byte;
            }
        }
        Damage::Bit(at, bit) if length > 0 => value[at.index(length)] ^= 1 << bit,
        Damage::Bit(..) => {}
        Damage::Cut(at) => value.truncate(at.index(length.max(1))),
        Damage::Longer(more) => value.extend(more),
        Damage::Other(bytes) => value.clone_from(bytes),
        Damage::Swapped(_) => *value = swapped,
        Damage::Key(at, byte) => {
            let at = at.index(key.len());
            key[at] = *byte;
        }
    }
    let key = key.clone();
    (records, key)
}

type Records = Vec<(Vec<u8>, Vec<u8>)>;

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
