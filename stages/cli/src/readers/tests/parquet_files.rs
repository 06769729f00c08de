use arrow_array::{
    BooleanArray, Date32Array, Date64Array, Decimal128Array, Float32Array, Int32Array, StringViewArray,
    TimestampMicrosecondArray, TimestampMillisecondArray, TimestampSecondArray, UInt8Array, UInt64Array,
};

use super::*;

/// The readings of one file of these columns, with times in seconds.
fn check(name: &str, columns: Vec<(&str, ArrayRef)>, expected: &[(i64, &str, f64)]) -> Skipped {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    write_parquet(&path, columns, 1_000);
    let (found, skipped) = read(&[path], None).unwrap();
    let expected: Vec<_> = expected.iter().map(|(s, series, v)| (s * SECOND, (*series).to_owned(), *v)).collect();
    assert_eq!(found, expected);
    skipped
}

#[test]
fn every_type_of_time_is_the_same_instant() {
    let second = START / SECOND;
    let berlin = TimestampMillisecondArray::from_iter_values([second * 1_000]).with_timezone("Europe/Berlin");
    let text = eddy_schemas::rfc3339(START);
    let times: [ArrayRef; 12] = [
        Arc::new(TimestampSecondArray::from_iter_values([second])),
        Arc::new(berlin),
        Arc::new(TimestampMicrosecondArray::from_iter_values([second * 1_000_000]).with_timezone("+02:00")),
        stamps([Some(START)]),
        // 2026-01-01 is a midnight.
        Arc::new(Date32Array::from_iter_values([(second / 86_400) as i32])),
        Arc::new(Date64Array::from_iter_values([second * 1_000])),
        Arc::new(Int64Array::from_iter_values([second])),
        Arc::new(Int64Array::from_iter_values([START])),
        Arc::new(UInt64Array::from_iter_values([second as u64 * 1_000])),
        floats([Some(second as f64)]),
        Arc::new(StringArray::from_iter_values([text.as_str()])),
        dictionary([Some(text.as_str())]),
    ];
    for time in times {
        let kind = time.data_type().to_string();
        let skipped = check("d.parquet", vec![("ts", time), ("x", floats([Some(1.5)]))], &[(second, "d/x", 1.5)]);
        assert_eq!(skipped.count, 0, "{kind}");
    }
    // Row numbers.
    let rows = Arc::new(Int32Array::from_iter_values([0, 1, 5]));
    check(
        "d.parquet",
        vec![("timestamp", rows), ("x", floats([Some(1.0), Some(2.0), Some(3.0)]))],
        &[(0, "d/x", 1.0), (1, "d/x", 2.0), (5, "d/x", 3.0)],
    );
}

#[test]
fn every_type_of_number_is_a_channel_and_nulls_are_missing() {
    let second = START / SECOND;
    let decimal = Decimal128Array::from_iter([Some(12_345), None]).with_precision_and_scale(10, 3).unwrap();
    let skipped = check(
        "pump%201.parquet",
        vec![
            ("note", Arc::new(StringArray::from_iter_values(["a", "b"]))),
            ("i", Arc::new(Int32Array::from_iter([Some(-7), None]))),
            ("time", stamps([Some(START), Some(START + SECOND)])),
            ("u", Arc::new(UInt8Array::from_iter([None, Some(255)]))),
            ("f", Arc::new(Float32Array::from_iter([Some(0.5), Some(f32::NAN)]))),
            ("on", Arc::new(BooleanArray::from_iter([Some(true), Some(false)]))),
            ("money", Arc::new(decimal)),
            ("label", floats([Some(1.0), Some(1.0)])),
            ("inf", floats([Some(f64::INFINITY), Some(2.0)])),
        ],
        &[
            (second, "pump%201/i", -7.0),
            (second, "pump%201/f", 0.5),
            (second, "pump%201/on", 1.0),
            (second, "pump%201/money", 12.345),
            (second + 1, "pump%201/u", 255.0),
            (second + 1, "pump%201/on", 0.0),
            (second + 1, "pump%201/inf", 2.0),
        ],
    );
    assert_eq!(skipped.count, 1);
    let first = skipped.first.unwrap();
    assert!(first.contains("row 1") && first.contains("\"inf\"") && first.contains("finite"), "{first}");
}

#[test]
fn what_cannot_be_placed_is_counted_with_its_row() {
    let second = START / SECOND;
    let skipped = check(
        "d.parquet",
        vec![
            ("time", stamps([Some(START), None, Some(START), Some(START), Some(START + SECOND)])),
            ("device", dictionary([Some("a"), Some("a"), None, Some(""), Some("b")])),
            ("channel", Arc::new(StringViewArray::from_iter([Some("t"), Some("t"), Some("t"), Some("t"), None]))),
            ("value", floats([Some(1.0); 5])),
        ],
        &[(second, "a/t", 1.0)],
    );
    assert_eq!(skipped.count, 4);
    assert!(skipped.first.as_ref().unwrap().contains("row 2 column \"time\""), "{skipped:?}");
}

#[test]
fn an_export_is_merged_over_its_folders_without_what_was_filled_in() {
    let folder = tempfile::tempdir().unwrap();
    let day = 86_400 * SECOND;
    let mut expected = Vec::new();
    for number in 0..40_i64 {
        let date = format!("site=s/class=readings/date=2026-02-{number:02}/part.parquet");
        let times: Vec<i64> = (0..50).map(|row| START + number * day + row * SECOND).collect();
        let quality = |row: usize| if row % 10 == 3 { i64::from(eddy_schemas::quality::HELD) } else { 0 };
        let measured = times.iter().enumerate().filter(|(row, _)| quality(*row) == 0);
        expected.extend(measured.map(|(row, time)| (*time, "a%2Eb/t".to_owned(), row as f64)));
        let series = (0..50).map(|row| (row != 5).then_some("a%2Eb/t"));
        expected.retain(|reading| reading.0 != times[5]);
        write_parquet(
            &folder.path().join(date),
            vec![
                ("series", dictionary(series)),
                ("time", stamps(times.iter().copied().map(Some))),
                ("value", floats((0..50).map(|row| Some(f64::from(row))))),
                ("quality", Arc::new(Int64Array::from_iter_values((0..50).map(quality)))),
            ],
            1_001,
        );
    }
    fs::write(folder.path().join("_SUCCESS"), "").unwrap();
    let (files, bytes) = open::files(&[folder.path().to_owned()]).unwrap();
    assert_eq!(files.len(), 40);
    assert!(bytes > 0);
    let (found, skipped) = read(&files, None).unwrap();
    assert_eq!(found, expected);
    assert_eq!(skipped.count, 40, "{skipped:?}");
}

#[test]
fn a_folder_names_the_device_and_files_of_all_formats_are_merged() {
    let folder = tempfile::tempdir().unwrap();
    let parquet = folder.path().join("device=pump%201/part-0.parquet");
    write_parquet(
        &parquet,
        vec![
            ("time", stamps([0, 2, 4].map(|s| Some(START + s * SECOND)))),
            ("t", floats([Some(0.0), Some(2.0), Some(4.0)])),
        ],
        1_001,
    );
    let line = |s: i64| format!("{{\"ts\":{},\"t\":{s}}}\n", START + s * SECOND);
    fs::write(folder.path().join("fan.ndjson"), [1, 3, 5].map(line).concat()).unwrap();
    let (files, _) = open::files(&[folder.path().to_owned()]).unwrap();
    let (found, _) = read(&files, None).unwrap();
    let read: Vec<_> = found.iter().map(|(_, series, value)| (series.as_str(), *value as i64)).collect();
    assert_eq!(
        read,
        [("pump%201/t", 0), ("fan/t", 1), ("pump%201/t", 2), ("fan/t", 3), ("pump%201/t", 4), ("fan/t", 5)]
    );
    let (named, _) = super::read(&files, Some("x")).unwrap();
    assert!(named.iter().all(|(_, series, _)| series == "x/t"), "{named:?}");
}

#[test]
fn an_empty_table_has_no_readings() {
    let skipped = check("d.parquet", vec![("time", stamps([])), ("x", floats([]))], &[]);
    assert_eq!(skipped.count, 0);
}
