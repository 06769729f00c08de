//! Whatever bytes come: all that [`super::checks`] says holds, and what a message tells adds up (INV-4, INV-6).

use std::{fmt::Write, sync::Arc};

use arrow_array::{
    ArrayRef, BooleanArray, DictionaryArray, Float32Array, Float64Array, Int64Array, StringArray, types::Int32Type,
};
use eddy_schemas::{ReadingsBuilder, bursts::Burst};
use proptest::{collection::vec, prelude::*, sample::Index};

use super::{
    checks::{self, Format, Setting, sources},
    table,
};
use crate::decode::{Decoded, Original, Refused, Source, decode};

const FORMATS: [Format; 6] = [Format::Sniffed, Format::Json, Format::Senml, Format::Line, Format::Arrow, Format::Plain];

/// A message of device `d`, with all checks.
fn decoded(payload: &[u8], format: Format) -> Result<Decoded, Refused> {
    checks::decoded(payload, Setting::new(format, [1, 0]))
}

/// Every choice of source and rules.
fn settings() -> impl Strategy<Value = [u8; 2]> {
    any::<[u8; 2]>()
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("1e999".to_owned()),
        Just("\"wet\"".to_owned()),
        Just("[[1],{}]".to_owned()),
        burst(),
        any::<f64>()
            .prop_filter("JSON has finite numbers", |value| value.is_finite())
            .prop_map(|value| format!("{value:?}")),
    ]
}

/// A burst, or what is nearly one.
fn burst() -> impl Strategy<Value = String> {
    let rate = prop_oneof![4 => Just("25600"), 1 => Just("0"), 1 => Just("\"fast\""), 1 => Just("1e999")];
    let value =
        prop_oneof![30 => Just("-0.25"), 30 => Just("7e3"), 1 => Just("null"), 1 => Just("1e39"), 1 => Just("[1]")];
    let key = prop_oneof![9 => Just("values"), 1 => Just("rate_hz")];
    (rate, key, proptest::collection::vec(value, 0..90))
        .prop_map(|(rate, key, values)| format!("{{\"rate_hz\":{rate},\"{key}\":[{}]}}", values.join(",")))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(payload in vec(any::<u8>(), 0..200), setting in settings()) {
        for format in FORMATS {
            checks::decoded(&payload, Setting::new(format, setting)).ok();
        }
        sources::gzip(&payload);
        sources::gzip(&sources::pack(&payload.repeat(30)));
    }

    #[test]
    fn any_topic(template in "(plant|\\+|\\{device\\}|\\{channel\\}|a b|)(/(\\+|#|\\{device\\}|\\{channel(\\.\\.\\.)?\\}|a|)){0,4}", topic in "(plant|a|pump 7|)(/[a-c é]{0,2}){0,4}") {
        sources::topic(format!("{template}\n{topic}").as_bytes());
    }

    #[test]
    fn nearly_right_text(
        payload in "[\\[{]?([\\[\\]{}:,\"\\\\= #\n\r-]|time|t|bn|n|v|vs|values|channel|null|true|1|1\\.5e3|\"a\"|é){0,40}[}\\]]?",
        setting in settings(),
    ) {
        for format in FORMATS {
            checks::decoded(payload.as_bytes(), Setting::new(format, setting)).ok();
        }
    }

    #[test]
    fn an_arrow_stream_with_bytes_changed(
        changes in vec((any::<Index>(), any::<u8>()), 1..6),
        cut in proptest::option::of(any::<Index>()),
        which in 0..3,
        setting in settings(),
    ) {
        let time: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
        let mut payload = match which {
            0 => {
                let mut batch = ReadingsBuilder::default();
                batch.push("d/t", 1, 1.0, 0, 1);
                batch.push("e/u", 2, 2.0, 0, 2);
                batch.burst(Burst { rate_hz: 25_600.0, values: &[0.5; 64] });
                batch.encode()
            }
            1 => table(vec![("time", time), ("t", Arc::new(Float64Array::from(vec![Some(1.0), None, Some(3.0)])))]),
            _ => {
                let channel: DictionaryArray<Int32Type> = vec![Some("t"), None, Some("u")].into_iter().collect();
                let value = Arc::new(Float32Array::from(vec![1.0, 2.0, f32::NAN]));
                table(vec![("time", time), ("channel", Arc::new(channel)), ("value", value)])
            }
        };
        for (index, byte) in changes {
            let at = index.index(payload.len());
            payload[at] = byte;
        }
        if let Some(cut) = cut {
            payload.truncate(cut.index(payload.len()));
        }
        checks::decoded(&payload, Setting::new(Format::Sniffed, setting)).ok();
    }

    #[test]
    fn arrow_tables_add_up(
        rows in vec((any::<Option<i64>>(), any::<Option<f64>>(), any::<bool>(), proptest::option::of("[a-c/.é]{0,3}")), 0..60),
        long in any::<bool>(),
        setting in settings(),
    ) {
        let time: ArrayRef = Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.0)));
        let value: ArrayRef = Arc::new(Float64Array::from_iter(rows.iter().map(|row| row.1)));
        let on: ArrayRef = Arc::new(BooleanArray::from_iter(rows.iter().map(|row| Some(row.2))));
        let names: ArrayRef = Arc::new(StringArray::from_iter(rows.iter().map(|row| row.3.clone())));
        let payload = if long {
            table(vec![("time", time), ("channel", names), ("value", value)])
        } else {
            table(vec![("time", time), ("t", value), ("on", on)])
        };
        let told = rows.iter().map(|row| u64::from(row.1.is_some()) + u64::from(!long));
        let nulls = rows.iter().filter(|row| row.1.is_none()).count() as u64;
        let decoded = checks::decoded(&payload, Setting::new(Format::Arrow, setting)).unwrap();
        // A row whose time is refused counts as one reading even if it tells none, and its nulls are not counted.
        let (least, most) = (told.clone().sum::<u64>(), told.map(|told| told.max(1)).sum::<u64>());
        prop_assert!((least..=most).contains(&decoded.readings()) && decoded.missing <= nulls);
        if decoded.bad.is_empty() {
            prop_assert_eq!((decoded.readings(), decoded.missing), (least, nulls));
        }
    }

    #[test]
    fn json_adds_up(records in vec((any::<bool>(), vec(value(), 1..6)), 0..150)) {
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
        prop_assert_eq!(decoded(text.as_bytes(), Format::Json).unwrap().readings(), values as u64);
    }

    #[test]
    fn senml_adds_up(values in vec(value(), 1..150)) {
        let records: Vec<_> = values.iter().map(|value| format!("{{\"n\":\"a\",\"t\":3e8,\"v\":{value}}}")).collect();
        let told = values.iter().filter(|value| *value != "null").count();
        let pack = format!("[{}]", records.join(","));
        prop_assert_eq!(decoded(pack.as_bytes(), Format::Sniffed).unwrap().readings(), told as u64);
    }

    #[test]
    fn lines_add_up(lines in vec(0..7_usize, 0..300)) {
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
        prop_assert_eq!(decoded(text.as_bytes(), Format::Plain).unwrap().readings(), told);
    }

    #[test]
    fn readings_batches_with_bursts_add_up(
        rows in vec((any::<bool>(), any::<f64>(), 60..70_usize, any::<f32>()), 1..60),
    ) {
        let (mut batch, mut good) = (ReadingsBuilder::default(), 0);
        for (row, (is_burst, value, count, item)) in rows.iter().enumerate() {
            batch.push("d/t", row as i64, *value, 0, 1);
            let values = vec![*item; *count];
            let burst = Burst { rate_hz: value.abs(), values: &values };
            if *is_burst {
                batch.burst(burst);
            }
            good += usize::from(if *is_burst { burst.problem().is_none() } else { value.is_finite() });
        }
        let decoded = decoded(&batch.encode(), Format::Sniffed).unwrap();
        prop_assert_eq!((decoded.readings(), decoded.time.len()), (rows.len() as u64, good));
    }

    #[test]
    fn readings_batches_add_up(values in vec(any::<f64>(), 1..300)) {
        let mut batch = ReadingsBuilder::default();
        for (row, value) in values.iter().enumerate() {
            batch.push(["d/t", "e/t", "d/u"][row % 3], row as i64, *value, 0, 1);
        }
        prop_assert_eq!(decoded(&batch.encode(), Format::Sniffed).unwrap().readings(), values.len() as u64);
    }
}

/// Names that are too long, in a table whose every row is refused: each row told with all its columns would be a hundred
/// times the message.
#[test]
fn refused_rows_take_no_more_than_the_message_they_came_in() {
    let names: Vec<String> = (0..20).map(|column| format!("{column}{}", "n".repeat(5_000))).collect();
    let values: ArrayRef = Arc::new(Float32Array::from(vec![1.0; 200]));
    let payload = table(names.iter().map(|name| (name.as_str(), values.clone())).collect());
    let rules = super::rules();
    let decoded = decode(&payload, &Source { device: Some("d"), ..Source::default() }, &rules).unwrap();
    assert_eq!((decoded.readings(), decoded.time.len()), (4_000, 0));
    assert!(checks::bytes(&decoded) <= 2 * payload.len() + checks::BYTES_MIN, "{} bytes", checks::bytes(&decoded));
    assert_eq!(decoded.bad.last().unwrap().original, Original::Message);
}
