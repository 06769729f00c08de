//! Whatever bytes come: no decoder panics, and what a message tells adds up (INV-4, INV-6).

use std::{fmt::Write, sync::Arc};

use arrow_array::{ArrayRef, Float64Array, Int64Array};
use eddy_schemas::ReadingsBuilder;
use proptest::prelude::*;

use super::{rules, table};
use crate::decode::{Decoded, Original, Refused, Source, decode};

const TYPES: [Option<&str>; 5] = [
    None,
    Some("application/json"),
    Some("application/senml+json"),
    Some("text/plain"),
    Some("application/vnd.apache.arrow.stream"),
];

fn decoded(payload: &[u8], content_type: Option<&str>) -> Result<Decoded, Refused> {
    let result = decode(payload, &Source { device: Some("d"), content_type, ..Source::default() }, &rules());
    if let Ok(decoded) = &result {
        for columns in [decoded.of.len(), decoded.value.len(), decoded.quality.len()] {
            assert_eq!(columns, decoded.time.len());
        }
        assert!(decoded.value.iter().all(|value| value.is_finite()));
        assert!(decoded.of.iter().all(|series| (*series as usize) < decoded.series.len()));
        let mut last = 0;
        for bad in &decoded.bad {
            assert!(bad.readings > 0 && bad.after >= last && bad.after <= decoded.time.len());
            last = bad.after;
            if let Original::Bytes(range) = &bad.original {
                assert!(payload.get(range.clone()).is_some());
            }
        }
    }
    result
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("1e999".to_owned()),
        Just("\"wet\"".to_owned()),
        Just("[[1],{}]".to_owned()),
        any::<f64>()
            .prop_filter("JSON has finite numbers", |value| value.is_finite())
            .prop_map(|value| format!("{value:?}")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_bytes(payload in proptest::collection::vec(any::<u8>(), 0..200)) {
        for content_type in TYPES {
            decoded(&payload, content_type).ok();
        }
    }

    #[test]
    fn nearly_right_text(payload in "[\\[{]?([\\[\\]{}:,\"\\\\= #\n\r-]|time|t|bn|n|v|vs|values|channel|null|true|1|1\\.5e3|\"a\"|é){0,40}[}\\]]?") {
        for content_type in TYPES {
            decoded(payload.as_bytes(), content_type).ok();
        }
    }

    #[test]
    fn an_arrow_stream_with_bytes_changed(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        own in any::<bool>(),
    ) {
        let mut payload = if own {
            let mut batch = ReadingsBuilder::default();
            batch.push("d/t", 1, 1.0, 0, 1);
            batch.push("e/u", 2, 2.0, 0, 2);
            batch.encode()
        } else {
            let time: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
            table(vec![("time", time), ("t", Arc::new(Float64Array::from(vec![Some(1.0), None, Some(3.0)])))])
        };
        for (index, byte) in changes {
            let at = index.index(payload.len());
            payload[at] = byte;
        }
        decoded(&payload, None).ok();
    }

    #[test]
    fn json_adds_up(records in proptest::collection::vec((any::<bool>(), proptest::collection::vec(value(), 1..6)), 0..150)) {
        let (mut text, mut values) = (String::from("["), 0);
        for (index, (bad_time, fields)) in records.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(text, "{comma}{{\"time\":{}", if *bad_time { "\"no\"" } else { "5" }).unwrap();
            let told = fields.iter().filter(|value| *value != "null").count();
            // A record whose time is wrong counts as one reading even if it tells none.
            values += if *bad_time { told.max(1) } else { told };
            for (channel, value) in fields.iter().enumerate() {
                write!(text, ",\"c{channel}\":{value}").unwrap();
            }
            text.push('}');
        }
        text.push(']');
        prop_assert_eq!(decoded(text.as_bytes(), Some("application/json")).unwrap().readings(), values as u64);
    }

    #[test]
    fn senml_adds_up(values in proptest::collection::vec(value(), 1..150)) {
        let records: Vec<_> = values.iter().map(|value| format!("{{\"n\":\"a\",\"t\":3e8,\"v\":{value}}}")).collect();
        let told = values.iter().filter(|value| *value != "null").count();
        let pack = format!("[{}]", records.join(","));
        prop_assert_eq!(decoded(pack.as_bytes(), None).unwrap().readings(), told as u64);
    }

    #[test]
    fn lines_add_up(lines in proptest::collection::vec(0..7_usize, 0..300)) {
        const KINDS: [(&str, u64); 7] = [
            ("cpu,host=a used=1,free=2i 5", 2),
            ("t value=\"a string\",u=T 5\r", 2),
            ("t value=1 99999999999999999", 1),
            ("# a comment", 0),
            ("", 0),
            ("no fields", 1),
            ("t value=1e999", 1),
        ];
        let text: Vec<_> = lines.iter().map(|kind| KINDS[*kind].0).collect();
        let told: u64 = lines.iter().map(|kind| KINDS[*kind].1).sum();
        let text = text.join("\n") + "\n";
        prop_assert_eq!(decoded(text.as_bytes(), Some("text/plain")).unwrap().readings(), told);
    }

    #[test]
    fn readings_batches_add_up(values in proptest::collection::vec(any::<f64>(), 1..300)) {
        let mut batch = ReadingsBuilder::default();
        for (row, value) in values.iter().enumerate() {
            batch.push(["d/t", "e/t", "d/u"][row % 3], row as i64, *value, 0, 1);
        }
        prop_assert_eq!(decoded(&batch.encode(), None).unwrap().readings(), values.len() as u64);
    }
}
