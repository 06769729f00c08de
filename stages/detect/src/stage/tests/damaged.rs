//! State that is damaged, whatever its bytes: an error that names the record, or a stage that goes on. Never a panic, never a loop
//! without end: a power cut on cheap flash leaves such records, and who finds one is told how to begin anew.

use std::sync::OnceLock;

use eddy_runtime::contract::damage::{Damaged, Records as Whole, damage, damaged};
use proptest::{prelude::*, sample::Index};

use super::*;

/// A device with an episode, whose windows are held, and a joint; one whose channels are still being joined; and rows that
/// come after.
fn records() -> &'static (Whole, Vec<Item>) {
    static RECORDS: OnceLock<(Whole, Vec<Item>)> = OnceLock::new();
    RECORDS.get_or_init(|| {
        let mut items = Source::new("d", 2, 700).with(Event::Add(690..700, 0, 6.0)).items();
        let later = items.split_off(items.len() - 8);
        items.extend(Source::new("e", 2, 402).items());
        let (mut stage, mut records) = (detect(), Records::new());
        run(&mut stage, &items, 500, false);
        save(&mut stage, &mut records);
        (records.into_iter().collect(), later)
    })
}

/// Loads all records, or says why not.
fn load(records: &Damaged) -> Result<Detect, StateError> {
    let mut stage = detect();
    records.iter().try_for_each(|(key, value)| stage.load(key, value))?;
    Ok(stage)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_record_is_an_error_or_is_worked_with(which in any::<Index>(), damage in damage()) {
        let (records, later) = (&records().0, &records().1);
        let (records, _) = damaged(records, which, &damage);
        match load(&records) {
            Err(error) => prop_assert!(!error.problem.is_empty() && !error.key.is_empty(), "{}", error),
            Ok(mut stage) => {
                run(&mut stage, later, 500, false);
                save(&mut stage, &mut Records::new());
            }
        }
    }
}

/// Two bytes that say 65,535 would be a hundred megabytes of channels, and a joint of as many.
#[test]
fn a_place_or_a_number_of_channels_that_none_has_is_refused_before_there_is_room_for_it() {
    for (kind, at) in [("\0h", 0), ("\0q", 0), ("\0c", 0), ("\0m0", 0), ("\0j", 0)] {
        let mut records: Damaged = records().0.clone().into_iter().collect();
        let (_, value) = records.iter_mut().find(|(key, _)| key.ends_with(kind.as_bytes())).unwrap();
        value[at..at + 2].copy_from_slice(&[0xff, 0xff]);
        assert!(load(&records).is_err(), "{kind:?}");
    }
}

#[test]
fn two_series_at_one_place_are_refused() {
    let mut records: Damaged = records().0.clone().into_iter().collect();
    let (_, value) = records.iter_mut().find(|(key, _)| key == b"rd/c1\0h").unwrap();
    value[..2].copy_from_slice(&[0, 0]);
    assert!(load(&records).err().unwrap().problem.contains("place"));
}

/// Its devices wrote a joint record, which no stage of that bundle could read.
#[test]
fn state_of_a_bundle_without_a_joint_head_is_read_back() {
    let mut manifest = manifest();
    manifest.heads.retain(|head| head.name != "level");
    let scope = Scope { site: "site".into(), shard: 0, shards: 1 };
    let open = || Detect::with_manifest(config(), &scope, &manifest, DIGEST).unwrap();
    let (mut stage, mut records) = (open(), Records::new());
    let heads: Vec<_> = heads().into_iter().filter(|head| head.name != "level").collect();
    let mut builder = EmbeddingsBuilder::new(DIGEST, &heads);
    builder.push("d/t", 1, 0, 64, true, HOP);
    heads.iter().enumerate().for_each(|(index, head)| builder.extend_head(index, &vec![0.5; head.dimensions]));
    let payload = Bytes::from(builder.encode());
    let message = incoming(&Message { stream: "EMBEDDINGS", subject: "embeddings.site.0".into(), payload });
    let input = stage.decode(&message).unwrap();
    stage.process(&message, &input, 0..1, &mut Outbox::new(stage.outputs(), usize::MAX));
    save(&mut stage, &mut records);
    let mut again = open();
    records.iter().for_each(|(key, value)| again.load(key, value).unwrap());
}
