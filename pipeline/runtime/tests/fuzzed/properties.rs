//! Texts made up, and real ones with bytes changed.

use std::{fs, path::Path};

use eddy_runtime::position::{Place, Position};
use proptest::{collection::vec, prelude::*, sample::Index};

use super::checks;

fn fixture(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/bundles").join(name)).unwrap()
}

/// Bytes with some of them changed, and cut off where `cut` says so.
fn damaged(mut bytes: Vec<u8>, changes: &[(Index, u8)], cut: Option<Index>) -> Vec<u8> {
    for (index, byte) in changes {
        let at = index.index(bytes.len());
        bytes[at] = *byte;
    }
    if let Some(cut) = cut {
        bytes.truncate(cut.index(bytes.len()));
    }
    bytes
}

fn changes() -> impl Strategy<Value = Vec<(Index, u8)>> {
    vec((any::<Index>(), prop_oneof![any::<u8>(), b'0'..b'z']), 0..4)
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..10_u64, any::<u64>(), Just(u64::MAX), Just(u64::MAX - 1)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_position_comes_back(places in vec(("[A-Z]{0,8}", any::<i64>(), number(), number()), 0..4), changes in changes()) {
        let mut position = Position::default();
        for (stream, incarnation, sequence, row) in places {
            position.set(&stream, Place { incarnation, sequence, row });
        }
        let text = position.to_string();
        prop_assert_eq!(text.parse::<Position>().unwrap(), position);
        checks::position(text.as_bytes());
        if !text.is_empty() {
            checks::position(&damaged(text.into_bytes(), &changes, None));
        }
    }

    #[test]
    fn a_bundle_with_bytes_changed_is_refused(changes in changes(), cut in proptest::option::of(any::<Index>()), kind in 0..3_u8) {
        let text = match kind {
            0 => fixture("default/model.toml"),
            1 => fixture("default/model.toml.minisig"),
            _ => fixture("default.pub").split(|byte| *byte == b'\n').nth(1).unwrap().to_vec(),
        };
        checks::bundle(&[&[kind][..], &damaged(text, &changes, cut)].concat());
    }

    #[test]
    fn dead_letters_of_any_text(text in proptest::option::of(".{0,40}"), base64 in proptest::option::of("[A-Za-z0-9+/=]{0,12}"), readings in any::<u64>(), changes in changes()) {
        let letter = serde_json::json!([{
            "reason": "malformed", "detail": "d", "subject": "ingest.s.d", "readings": readings, "stream": "INGEST",
            "sequence": readings, "row": 0, "text": text, "base64": base64,
        }]);
        checks::dead_letter(letter.to_string().as_bytes());
        checks::dead_letter(&damaged(letter.to_string().into_bytes(), &changes, None));
    }

    #[test]
    fn config_of_any_values(
        ratio in prop_oneof![any::<f64>().prop_map(|x| format!("{x:?}")), any::<i64>().prop_map(|x| x.to_string()), ".{0,6}"],
        name in ".{0,12}",
        unit in ".{0,8}",
        rows in any::<i64>(),
        variable in "(EDDY_[A-Z_]{1,20}|EDDY_DETECT_(NAMES|ON|UNITS|WINDOW_ROWS_MAX))=(true|[0-9]{1,4}|\\['a'\\]|.{0,6})",
        changes in changes(),
    ) {
        let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
        let file = format!(
            "[site]\nname = {}\n[detect]\nratio = {ratio}\n[detect.units]\n{} = \"s\"\n[detect.window]\nrows_max = {rows}\0{variable}",
            quoted(&name), quoted(&unit)
        );
        checks::config(file.as_bytes());
        checks::config(&damaged(file.into_bytes(), &changes, None));
    }
}
