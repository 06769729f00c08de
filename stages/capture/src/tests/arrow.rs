//! Arrow tables and readings batches.

use std::{collections::HashMap, sync::Arc};

use arrow_array::{
    ArrayRef, BooleanArray, DictionaryArray, Float32Array, Float64Array, Int64Array, StringArray,
    TimestampMillisecondArray, types::Int32Type,
};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::Schema;
use eddy_schemas::{Control, ControlKind, ReadingsBuilder, quality};

use super::{capture, message, rules, run, table};
use crate::decode::{Source, decode};

const NOW: i64 = 1_767_225_600_000_000_000; // 2026-01-01T00:00:00Z

fn lines(payload: Vec<u8>) -> Vec<String> {
    run(&mut capture(1), &message("ingest.plant.d", None, NOW, payload))
}

#[test]
fn a_wide_table_is_one_channel_a_column() {
    let time: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![Some(1000), None, Some(3000)]));
    let found = lines(table(vec![
        ("time", time),
        ("t", Arc::new(Float64Array::from(vec![Some(1.5), None, Some(f64::INFINITY)]))),
        ("on", Arc::new(BooleanArray::from(vec![true, false, true]))),
        ("unit", Arc::new(StringArray::from(vec!["C", "C", "C"]))),
    ]));
    assert_eq!(
        found,
        [
            "d/t 1970-01-01T00:00:01Z 1.5",
            "d/on 1970-01-01T00:00:01Z 1.0",
            "d/on 2026-01-01T00:00:00Z 0.0 arrival_time",
            "d/on 1970-01-01T00:00:03Z 1.0",
            "rejected invalid_field x1 at item 4: row 2: \"t\" is inf, not finite",
            "  original: {\"on\":1.0,\"t\":\"inf\",\"time\":3000}",
            "counted missing_value 1",
        ]
    );
}

#[test]
fn a_long_table_names_its_channels_in_a_column() {
    let time: ArrayRef = Arc::new(Int64Array::from(vec![1_700_000_000; 4]));
    let value: ArrayRef = Arc::new(Float32Array::from(vec![1.0, 2.0, 3.0, 4.0]));
    let names = vec![Some("t"), Some("h"), None, Some("t")];
    let plain: ArrayRef = Arc::new(StringArray::from(names.clone()));
    let dictionary: ArrayRef = Arc::new(names.into_iter().collect::<DictionaryArray<Int32Type>>());
    for channel in [plain, dictionary] {
        let found = lines(table(vec![("ts", time.clone()), ("channel", channel), ("value", value.clone())]));
        assert_eq!(
            found,
            [
                "d/t 2023-11-14T22:13:20Z 1.0",
                "d/h 2023-11-14T22:13:20Z 2.0",
                "d/t 2023-11-14T22:13:20Z 4.0",
                "rejected invalid_field x1 at item 2: row 2: the value has no channel",
                "  original: {\"channel\":null,\"time\":1700000000,\"value\":3.0}",
            ]
        );
    }
}

#[test]
fn columns_that_are_no_numbers_are_put_aside_once_with_their_count() {
    let found = lines(table(vec![
        ("state", Arc::new(StringArray::from(vec![Some("on"), None, Some("off")])) as ArrayRef),
        ("t", Arc::new(Int64Array::from(vec![1, 2, 3]))),
    ]));
    assert_eq!(found.len(), 5, "{found:?}");
    assert!(found[3].starts_with("rejected invalid_field x2 at item 0"), "{found:?}");
    assert!(found[3].contains("\"state\" is of type Utf8"), "{found:?}");
}

#[test]
fn a_readings_batch_names_its_series_and_may_not_bring_controls() {
    let mut batch = ReadingsBuilder::default();
    let kind = ControlKind::DeviceReset { device: "d".into() };
    batch.push("e%2Ef/t", 1_000_000_000, 1.0, quality::STUCK | quality::BREAK, 7);
    batch.push_control(&Control { id: "c1".into(), origin: "x".into(), time: 7, kind }, 7);
    batch.push("d/%74", 1_000_000_000, 2.0, 0, 7);
    batch.push("d/t", 1_000_000_000, f64::NAN, 0, 7);
    batch.push("d/t", NOW + 301_000_000_000, 3.0, 0, NOW * 2);
    let found = lines(batch.encode());
    assert_eq!(found[0], "e%2Ef/t 1970-01-01T00:00:01Z 1.0 stuck");
    assert_eq!(found[1], "d/t 1970-01-01T00:00:01Z 2.0");
    assert!(
        found[2].starts_with("rejected invalid_field x1 at item 1: row 1: control \"c1\" among readings"),
        "{found:?}"
    );
    assert!(found[4].ends_with("row 3: \"d/t\" is NaN, not finite"), "{found:?}");
    assert!(
        found[6].starts_with("rejected future x1 at item 4: row 4: time 2026-01-01T00:05:01Z is 301.000 s ahead"),
        "{found:?}"
    );
    assert_eq!(found.len(), 8);
}

#[test]
fn other_devices_in_a_batch_are_refused_where_subjects_tell_devices_apart() {
    let mut batch = ReadingsBuilder::default();
    batch.push("e/t", 1, 1.0, 0, 1);
    batch.push("d/t", 1, 2.0, 0, 1);
    let rules = crate::decode::Rules { any_device: false, ..rules() };
    let decoded =
        decode(&batch.encode(), &Source { device: Some("d"), arrival: NOW, ..Source::default() }, &rules).unwrap();
    assert_eq!((decoded.value.as_slice(), decoded.bad.len()), (&[2.0][..], 1));
    assert!(decoded.bad[0].detail.contains("device \"e\" in a message of device \"d\""), "{:?}", decoded.bad);
}

#[test]
fn what_is_no_stream_is_refused_whole() {
    let mut batch = ReadingsBuilder::default();
    batch.push("d/t", 1, 1.0, 0, 1);
    let good = batch.encode();
    // Two batches in one stream: the layout's reader would see the first only.
    let mut twice = Vec::new();
    let end = good.len() - 8;
    let first = 8 + u32::from_le_bytes(good[4..8].try_into().unwrap()) as usize;
    twice.extend_from_slice(&good[..end]);
    twice.extend_from_slice(&good[first..]);
    let cut = good[..good.len() / 2].to_vec();
    let trailing = [&good[..], b"more"].concat();
    for (payload, part) in [
        (twice, "one batch, not 2"),
        (cut, "cut off"),
        (trailing, "follow its end"),
        (b"ARROW1\0\0".to_vec(), "send the stream format"),
        (b"\xff\xff\xff\xff\xff\xff\xff\x7f".to_vec(), "cut off"),
    ] {
        let found = lines(payload);
        assert!(found.len() == 1 && found[0].contains(part), "{part}: {found:?}");
    }
}

#[test]
fn an_unknown_version_says_which_are_read() {
    let metadata = [("eddy.layout", "readings"), ("eddy.version", "99")];
    let metadata: HashMap<String, String> = metadata.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let schema = Schema::empty().with_metadata(metadata);
    let batch = arrow_array::RecordBatch::new_empty(Arc::new(schema));
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    writer.write(&batch).unwrap();
    let found = lines(writer.into_inner().unwrap());
    assert!(found[0].starts_with("refused unknown_version") && found[0].contains("99"), "{found:?}");
}
