//! What columns and keys are called, the same in every format and in any case of letters.

/// The time.
pub const TIMES: [&str; 7] = ["time", "timestamp", "datetime", "date_time", "date", "ts", "_time"];
/// The device.
pub const DEVICES: [&str; 2] = ["device", "device_id"];
/// The channel of a value, in a long table.
pub const CHANNELS: [&str; 4] = ["channel", "metric", "sensor", "field"];
/// The value there.
pub const VALUE: &str = "value";
/// The series, `device/channel` percent-encoded, in eddy's own exports.
pub const SERIES: &str = "series";
/// The quality flags there.
pub const QUALITY: &str = "quality";
/// Labels are for scoring, not for a detector: they are never read.
const LABELS: [&str; 5] = ["anomaly", "changepoint", "label", "scored", "is_anomaly"];

/// Whether `name` is one of `known`.
pub fn is_one_of(name: &str, known: &[&str]) -> bool {
    known.iter().any(|known| name.trim().eq_ignore_ascii_case(known))
}

/// The first of `names` that is one of `known`.
pub fn find<'a>(known: &[&str], names: impl IntoIterator<Item = &'a str>) -> Option<usize> {
    names.into_iter().position(|name| is_one_of(name, known))
}

/// Whether a column of this name holds labels.
pub fn is_label(name: &str) -> bool {
    is_one_of(name, &LABELS)
}
