//! Which curves there are, and what of the figures they show.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    draw::{Axis, Chart, Curve},
    parts::{FOOTPRINT, HISTORY, LATENCY, SHARDS, SPEED},
};

/// Figures by the names of their parts.
pub(super) type Measured = BTreeMap<String, Value>;

/// All charts, by the names of their files. One whose figures are missing is not there.
pub(super) fn all(parts: &Measured) -> Vec<(&'static str, Chart)> {
    let part = |name: &str| parts.get(name).unwrap_or(&Value::Null);
    let charts = [
        ("latency-by-series", latency(part(LATENCY))),
        ("speed-by-series", speed(part(SPEED))),
        ("memory-by-series", memory(part(FOOTPRINT))),
        ("cost-by-uptime", uptime(part(FOOTPRINT))),
        ("cost-by-history", history(part(HISTORY))),
        ("speed-by-shards", shards(part(SHARDS))),
    ];
    charts.into_iter().filter(|(_, chart)| chart.has_points()).collect()
}

/// The runs of a part: several, or the one.
fn runs(part: &Value) -> &[Value] {
    match part["scaling"].as_array() {
        Some(runs) => runs,
        None if part.is_object() => std::slice::from_ref(part),
        None => &[],
    }
}

/// One curve: a point for each row that has both numbers, given by their paths.
fn curve(name: impl Into<String>, rows: &[Value], x: &str, y: &str, scale: f64) -> Curve {
    let number = |row: &Value, path: &str| row.pointer(path).and_then(Value::as_f64);
    let points = rows.iter().filter_map(|row| Some((number(row, x)?, number(row, y)? * scale))).collect();
    Curve { name: name.into(), points }
}

fn latency(part: &Value) -> Chart {
    let of = |name, key| curve(name, runs(part), "/series", key, 1.0);
    Chart {
        title: "Sensor to alert, 1 Hz".into(),
        x: Axis { name: "series", is_log: true },
        y: Axis { name: "milliseconds", is_log: true },
        curves: vec![
            of("alert, p99", "/p99_ms"),
            of("alert, p50", "/p50_ms"),
            of("bare four hops, p99", "/floor_p99_ms"),
            of("bare four hops, p50", "/floor_p50_ms"),
        ],
    }
}

fn speed(part: &Value) -> Chart {
    Chart {
        title: "One stage at a time".into(),
        x: Axis { name: "series", is_log: true },
        y: Axis { name: "thousands a second", is_log: true },
        curves: paces(part, "/series"),
    }
}

/// How many thousands a second each stage did.
fn paces(part: &Value, over: &str) -> Vec<Curve> {
    let of = |name, key| curve(name, runs(part), over, key, 1e-3);
    vec![
        of("readings made durable by capture", "/capture_backlog_readings_per_s"),
        of("readings preprocessed", "/preprocess_readings_per_s"),
        of("windows embedded and scored", "/windows_per_s"),
    ]
}

fn memory(part: &Value) -> Chart {
    let of = |name, key| curve(name, runs(part), "/series", key, 1.0);
    Chart {
        title: "Memory of all processes (PSS)".into(),
        x: Axis { name: "series", is_log: true },
        y: Axis { name: "MB", is_log: true },
        curves: vec![
            of("at the end of the run", "/loaded_pss_mb"),
            of("once commissioned", "/commissioned_pss_mb"),
            of("idle", "/idle_pss_mb"),
        ],
    }
}

fn uptime(part: &Value) -> Chart {
    let one = |run: &Value| {
        let points = run["points"].as_array().map_or(&[][..], Vec::as_slice);
        curve(format!("{} series", run["series"]), points, "/hours", "/cpu_us_per_window", 1.0)
    };
    Chart {
        title: "Cost of a window over uptime".into(),
        x: Axis { name: "hours of event time", is_log: false },
        y: Axis { name: "microseconds of CPU a window, all processes", is_log: false },
        // Most series first, as in the other charts.
        curves: runs(part).iter().rev().map(one).collect(),
    }
}

fn history(part: &Value) -> Chart {
    let points = part["points"].as_array().map_or(&[][..], Vec::as_slice);
    Chart {
        title: "Cost of a window over its series' history".into(),
        x: Axis { name: "rows that the series has seen", is_log: false },
        y: Axis { name: "microseconds of CPU a window", is_log: false },
        curves: vec![curve("embed and detect in one process", points, "/rows", "/us_per_window", 1.0)],
    }
}

fn shards(part: &Value) -> Chart {
    let series = runs(part).first().map_or(&Value::Null, |run| &run["series"]);
    Chart {
        title: format!("Shards, {series} series"),
        x: Axis { name: "shards", is_log: false },
        y: Axis { name: "thousands a second", is_log: false },
        curves: paces(part, "/shards"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_curve_has_a_point_for_each_run_that_tells_both_numbers() {
        let part = json!({"scaling": [
            {"series": 99, "p99_ms": 40.0, "p50_ms": 10.0}, {"series": 999, "p99_ms": null, "p50_ms": 20.0}]});
        let chart = latency(&part);
        assert_eq!(chart.curves[0].points, [(99.0, 40.0)]);
        assert_eq!(chart.curves[1].points, [(99.0, 10.0), (999.0, 20.0)]);
    }

    #[test]
    fn one_run_is_a_table_of_one_and_what_is_missing_is_no_chart() {
        let points = json!([{"hours": 2.0, "cpu_us_per_window": 9.0}, {"hours": 4.0, "cpu_us_per_window": 9.5}]);
        let part = json!({"series": 30, "points": points});
        let charts = all(&[(FOOTPRINT.to_owned(), part)].into());
        let names: Vec<&str> = charts.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["cost-by-uptime"]);
        assert_eq!(charts[0].1.curves[0].name, "30 series");
        assert_eq!(charts[0].1.curves[0].points, [(2.0, 9.0), (4.0, 9.5)]);
    }
}
