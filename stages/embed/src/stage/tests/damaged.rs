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
