//! What is measured for the curves.

use crate::runner::{Part, Planned, bench};

/// Windows and readings a second over series.
pub(super) const SPEED: &str = "speed-by-series";
/// Sensor to alert over series.
pub(super) const LATENCY: &str = "latency-by-series";
/// Memory over series, and the cost of a window over hours of event time.
pub(super) const FOOTPRINT: &str = "footprint-by-series";
/// Windows a second over shards.
pub(super) const SHARDS: &str = "speed-by-shards";
/// The cost of a window over the rows of its series' history.
pub(super) const HISTORY: &str = "cost-by-history";

const PARTS: [Planned; 5] = [
    (HISTORY, ["heap --series 99 --rows 10000 --points 20", "heap --series 6 --rows 400 --points 4"], [20, 5]),
    (
        SHARDS,
        [
            "throughput --series 9999 --shards 1,2,4 --rows 1000000 --peer-seconds 0",
            "throughput --series 99 --shards 1,2 --rows 400000 --peer-seconds 0",
        ],
        [180, 40],
    ),
    (
        SPEED,
        [
            "throughput --series 99,999,9999,30000 --rows 1000000 --peer-seconds 0",
            "throughput --series 30,99 --rows 400000 --peer-seconds 0",
        ],
        [270, 40],
    ),
    (
        FOOTPRINT,
        [
            "footprint --series 99,999,9999,30000 --hours 24 --points 12",
            "footprint --series 30,99 --hours 6 --points 4",
        ],
        [300, 30],
    ),
    (
        LATENCY,
        [
            "latency --devices 33,333,3333,10000 --seconds 30 --rounds 1 --faults 0.2",
            "latency --devices 10,33 --seconds 4 --rounds 1",
        ],
        [480, 50],
    ),
];

/// All of it.
pub(super) fn all(small: bool) -> Vec<Part> {
    PARTS.iter().map(|planned| bench(planned, small)).collect()
}
