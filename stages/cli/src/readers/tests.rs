//! The readers side by side, and Parquet files as others write them.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
};

use ::parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    file::properties::WriterProperties,
};
use arrow_array::{
    ArrayRef, DictionaryArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray,
    types::Int32Type,
};

use super::*;

mod damaged;
mod parquet_files;

const ROWS: time::RowClock = time::RowClock { start: 0, period: 1_000_000_000 };
const START: i64 = 1_767_225_600_000_000_000;
const SECOND: i64 = 1_000_000_000;

/// A reading: time, series, value.
type Reading = (Timestamp, String, f64);

/// Everything that `files` hold, merged, in order; and what was left out.
fn read(files: &[PathBuf], device: Option<&str>) -> Result<(Vec<Reading>, Skipped), ReadError> {
    let options = ReadOptions { device: device.map(str::to_owned), rows: ROWS };
    let bytes_read = open::BytesRead::default();
    let mut merged = Merged::open(files, &options, &bytes_read)?;
    let (mut row, mut all) = (Row::default(), Vec::new());
    while merged.next_row(&mut row)? {
        for (series, value) in &row.values {
            let name = merged.names().series_name(*series);
            assert_eq!(eddy_schemas::SeriesName::parse(name).unwrap().device, merged.names().device_name(row.device));
            all.push((row.time, name.to_owned(), *value));
        }
    }
    // The progress bar ends where the files do.
    let bytes: u64 = files.iter().map(|file| file.metadata().unwrap().len()).sum();
    assert_eq!(bytes_read.load(Ordering::Relaxed), bytes);
    Ok((all, merged.skipped()))
}

/// Writes a Parquet file of these columns, in row groups of so many rows.
fn write_parquet(path: &Path, columns: Vec<(&str, ArrayRef)>, group_rows: usize) {
    let batch =
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)));
    let batch = batch.unwrap();
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(group_rows))
        .set_data_page_row_count_limit(100)
        .set_write_batch_size(50)
        .set_compression(if group_rows.is_multiple_of(2) {
            Compression::ZSTD(ZstdLevel::default())
        } else {
            Compression::SNAPPY
        })
        .build();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut writer = ArrowWriter::try_new(fs::File::create(path).unwrap(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn stamps(times: impl IntoIterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(TimestampNanosecondArray::from_iter(times))
}

fn floats(values: impl IntoIterator<Item = Option<f64>>) -> ArrayRef {
    Arc::new(Float64Array::from_iter(values))
}

fn dictionary<'a>(texts: impl IntoIterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(texts.into_iter().collect::<DictionaryArray<Int32Type>>())
}

/// One line of a recording: time, device, values of its channels `t` and `flow rate`.
type Line = (i64, &'static str, [Option<f64>; 2]);

/// Two devices with jitter, missing values, repeated and late rows, and values that take all their digits.
fn lines() -> Vec<Line> {
    let mut lines = Vec::new();
    for row in 0..3_000_i64 {
        let time = START + row * SECOND / 7 + row * row % 1_009;
        let value = (row as f64 * 0.1).sin() * 10f64.powi((row % 40 - 20) as i32);
        let device = if row % 3 == 0 { "pump 1" } else { "fan.b" };
        lines.push((time, device, [Some(value), (row % 5 != 2).then_some(row as f64 / 3.0)]));
        if row % 100 == 50 {
            lines.push(lines[lines.len() - 1]);
            lines.push((time - SECOND, device, [Some(-value), None]));
        }
    }
    lines
}

#[test]
fn one_recording_gives_the_same_readings_in_every_format() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let lines = lines();
    let cell = |value: Option<f64>| value.map(|value| format!("{value:?}")).unwrap_or_default();
    let csv: String = lines
        .iter()
        .map(|(time, device, [t, f])| format!("{},{device},{},{}\n", eddy_schemas::rfc3339(*time), cell(*t), cell(*f)))
        .collect();
    fs::write(at("a.csv"), format!("time,device,t,flow rate\n{csv}")).unwrap();
    let json: String = lines
        .iter()
        .map(|(time, device, [t, f])| {
            let object = |value: Option<f64>| value.map_or("null".into(), |value| format!("{value:?}"));
            format!("{{\"time\":{time},\"device\":\"{device}\",\"t\":{},\"flow rate\":{}}}\n", object(*t), object(*f))
        })
        .collect();
    fs::write(at("a.jsonl"), json).unwrap();
    let line_protocol: String = lines
        .iter()
        .map(|(time, device, [t, f])| {
            let fields =
                [("t", t), ("flow\\ rate", f)].map(|(name, value)| value.map(|value| format!("{name}={value:?}")));
            let fields: Vec<_> = fields.into_iter().flatten().collect();
            format!("{} {} {time}\n", device.replace(' ', "\\ "), fields.join(","))
        })
        .collect();
    fs::write(at("a.lp"), line_protocol).unwrap();
    let column = |channel: usize| floats(lines.iter().map(|line| line.2[channel]));
    let times = || stamps(lines.iter().map(|line| Some(line.0)));
    let devices = || dictionary(lines.iter().map(|line| Some(line.1)));
    write_parquet(
        &at("a.parquet"),
        vec![("time", times()), ("device", devices()), ("t", column(0)), ("flow rate", column(1))],
        701,
    );

    let (expected, skipped) = read(&[at("a.csv")], None).unwrap();
    let given: usize = lines.iter().map(|line| line.2.iter().flatten().count()).sum();
    assert_eq!((expected.len(), skipped.count), (given, 0));
    assert!(expected[0].1 == "pump%201/t" && expected[1].1 == "pump%201/flow%20rate", "{:?}", &expected[..2]);
    for file in ["a.jsonl", "a.lp", "a.parquet"] {
        let (found, skipped) = read(&[at(file)], None).unwrap();
        assert_eq!(skipped, Skipped::default(), "{file}");
        assert_eq!(found.len(), expected.len(), "{file}");
        for (found, expected) in found.iter().zip(&expected) {
            let bits = |(time, series, value): &Reading| (*time, series.clone(), value.to_bits());
            assert_eq!(bits(found), bits(expected), "{file}");
        }
    }

    // The same, long, and as eddy exports it, a line a value.
    let values: Vec<(i64, &str, &str, f64)> = lines
        .iter()
        .flat_map(|(time, device, values)| {
            let named = ["t", "flow rate"].into_iter().zip(values);
            named.filter_map(|(channel, value)| Some((*time, *device, channel, (*value)?)))
        })
        .collect();
    let time = || stamps(values.iter().map(|value| Some(value.0)));
    let value = || floats(values.iter().map(|value| Some(value.3)));
    write_parquet(
        &at("long.parquet"),
        vec![
            ("channel", dictionary(values.iter().map(|value| Some(value.2)))),
            ("value", value()),
            ("device", Arc::new(StringArray::from_iter_values(values.iter().map(|value| value.1)))),
            ("time", time()),
        ],
        1_000,
    );
    let series: Vec<String> = values.iter().map(|v| eddy_schemas::SeriesName::encode(v.1, v.2)).collect();
    write_parquet(
        &at("class=readings/site=s/date=2026-01-01/part-0.parquet"),
        vec![
            ("series", dictionary(series.iter().map(|series| Some(series.as_str())))),
            ("time", time()),
            ("value", value()),
            ("quality", Arc::new(Int64Array::from_iter_values(values.iter().map(|_| 2)))),
            ("arrival", time()),
        ],
        1_000_000,
    );
    for file in ["long.parquet", "class=readings/site=s/date=2026-01-01/part-0.parquet"] {
        assert_eq!(read(&[at(file)], Some("no one")).unwrap(), (expected.clone(), Skipped::default()), "{file}");
    }
}
