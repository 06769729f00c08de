//! Quality flags of a reading or sample: a bit set, 0 is a plain good value.

/// Outside the range that is configured for the series.
pub const RANGE: u16 = 1 << 0;
/// Far from the median of the values before it; see preprocess's `spike_sigmas`.
pub const SPIKE: u16 = 1 << 1;
/// The same value for longer than `stuck_after_rows`.
pub const STUCK: u16 = 1 << 2;
/// Not measured: on a straight line between two readings.
pub const INTERPOLATED: u16 = 1 << 3;
/// Not measured: the last value held.
pub const HELD: u16 = 1 << 4;
/// The first sample after a gap that was too long to fill: windows start afresh here.
pub const BREAK: u16 = 1 << 5;
/// The source gave no time: stamped on arrival, so delivery is at least once.
pub const ARRIVAL_TIME: u16 = 1 << 6;

/// The names of the flags that are set, for logs and JSON.
pub fn names(flags: u16) -> Vec<&'static str> {
    [
        (RANGE, "range"),
        (SPIKE, "spike"),
        (STUCK, "stuck"),
        (INTERPOLATED, "interpolated"),
        (HELD, "held"),
        (BREAK, "break"),
        (ARRIVAL_TIME, "arrival_time"),
    ]
    .into_iter()
    .filter_map(|(bit, name)| (flags & bit != 0).then_some(name))
    .collect()
}
