//! The figures that have a target: what each part says of them.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::parts::{NAB, NAB_UNBOUNDED};
use crate::load::figures::rounded;

/// What a window costs, and what memory is, counts as flat within this: runs of one binary lie as far apart.
const FLAT: f64 = 1.1;
/// Sensor to alert: at most so many times the floor of the same run, and never over so many milliseconds.
const FLOORS: f64 = 2.0;
const LATENCY_MS_MAX: f64 = 50.0;
/// Restart of any stage, or of all.
const RESTART_S_MAX: f64 = 2.0;
/// Search: at most so many times hnswlib's p99.
const PEERS: f64 = 3.0;

/// A figure beside its target.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Row {
    /// What it is of.
    pub(super) what: String,
    /// What it is measured in.
    pub(super) unit: &'static str,
    /// The target: at most, or at least.
    pub(super) target: Option<f64>,
    /// Whether more is better.
    pub(super) is_at_least: bool,
    /// What was measured; none where its part failed or was left out.
    pub(super) measured: Option<f64>,
    /// What stands beside it: the floor or the peer.
    pub(super) beside: Option<f64>,
    /// Which that is.
    pub(super) beside_what: &'static str,
    /// Whether the target is reached; none where one of both is missing.
    pub(super) is_met: Option<bool>,
}

impl Row {
    fn new(what: impl Into<String>, unit: &'static str, measured: Option<f64>) -> Self {
        let measured = measured.map(rounded);
        let (target, beside, is_met) = (None, None, None);
        Self { what: what.into(), unit, target, is_at_least: false, measured, beside, beside_what: "", is_met }
    }

    fn at_most(self, target: impl Into<Option<f64>>) -> Self {
        self.judged(target.into(), false)
    }

    fn at_least(self, target: impl Into<Option<f64>>) -> Self {
        self.judged(target.into(), true)
    }

    fn judged(mut self, target: Option<f64>, is_at_least: bool) -> Self {
        self.is_at_least = is_at_least;
        self.target = target.map(rounded);
        let is_met = |(measured, target)| if is_at_least { measured >= target } else { measured <= target };
        self.is_met = self.measured.zip(self.target).map(is_met);
        self
    }

    fn beside(mut self, what: &'static str, value: Option<f64>) -> Self {
        (self.beside, self.beside_what) = (value.map(rounded), what);
        self
    }
}

/// Figures of the parts that were measured, by their names.
pub(super) type Measured = BTreeMap<String, Value>;

/// All rows. What was not measured has none of its own numbers, but stands there.
pub(super) fn rows(parts: &Measured) -> Vec<Row> {
    let part = |name: &str| parts.get(name).unwrap_or(&Value::Null);
    let mut rows = latency(part("latency"));
    rows.extend(throughput(part("throughput")));
    rows.extend(footprint(part("footprint")));
    rows.extend(recover(part("recover")));
    rows.push(quality(part(NAB), part(NAB_UNBOUNDED)));
    rows.extend(search(part("ann")));
    rows.extend(sync(part("sync")));
    rows
}

/// A number in an object, by its path: `/a/b`.
fn number(figures: &Value, path: &str) -> Option<f64> {
    figures.pointer(path).and_then(Value::as_f64)
}

fn latency(figures: &Value) -> Vec<Row> {
    let floor = number(figures, "/floor_p99_ms");
    let target = floor.map_or(LATENCY_MS_MAX, |floor| (FLOORS * floor).min(LATENCY_MS_MAX));
    let series = figures["series"].as_u64().map_or_else(String::new, |series| format!(", {series} series"));
    let alert = Row::new(format!("sensor to alert{series}, p99"), "ms", number(figures, "/p99_ms"));
    let held = number(figures, "/held_back_alerts_ms/p99");
    let held = Row::new("of readings that their sensor held back, p99", "ms", held);
    vec![alert.at_most(target).beside("the bare floor", floor), held]
}

fn throughput(figures: &Value) -> Vec<Row> {
    let per_s = |what, key| Row::new(what, "a second", number(figures, key));
    let times = |what, key| Row::new(what, "times", number(figures, key)).at_least(20.0);
    let (rows_of_all, row_by_row) = ("/peer_windows_per_s", "/peer_singly_windows_per_s");
    vec![
        per_s("windows embedded and scored", "/windows_per_s").at_least(100_000.0),
        times("the same design in Python, all rows of a message at once", "/peer_ratio")
            .beside("its windows a second", number(figures, rows_of_all)),
        times("the same design in Python, row by row", "/peer_singly_ratio")
            .beside("its windows a second", number(figures, row_by_row)),
        per_s("readings made durable by capture, backlog", "/capture_backlog_readings_per_s").at_least(1e6),
        per_s("readings made durable by capture, while INGEST fills", "/capture_readings_per_s")
            .at_least(1e6)
            .beside("into INGEST", number(figures, "/ingest_readings_per_s")),
        per_s("the same from line protocol", "/line_protocol_readings_per_s"),
    ]
}

fn footprint(figures: &Value) -> Vec<Row> {
    let series = figures["series"].as_u64().map_or_else(String::new, |series| format!(", {series} series"));
    let loaded = Row::new(format!("memory loaded{series}"), "MB", number(figures, "/loaded_pss_mb"));
    let over = |key: &str| of_points(figures, key).map(|[middle, last]| last / middle);
    let cost_of_run = |run: &Value| of_points(run, "cpu_us_per_window").map(|[_, last]| last);
    let runs = figures["scaling"].as_array().map_or(&[][..], Vec::as_slice);
    let by_series = runs.first().zip(runs.last()).filter(|_| runs.len() > 1);
    let by_series = by_series.and_then(|(few, many)| Some(cost_of_run(many)? / cost_of_run(few)?));
    let fewest = runs.first().map_or_else(|| "few".to_owned(), |run| run["series"].to_string());
    vec![
        Row::new("memory idle, all processes", "MB", number(figures, "/idle_pss_mb")).at_most(100.0),
        loaded.at_most(400.0),
        Row::new("memory at the end over that halfway", "times", over("pss_mb_total")).at_most(FLAT),
        Row::new("cost of a window at the end over that halfway", "times", over("cpu_us_per_window"))
            .at_most(FLAT)
            .beside("microseconds of CPU", cost_of_run(figures)),
        Row::new(format!("cost of a window over that with {fewest} series"), "times", by_series).at_most(FLAT),
    ]
}

/// A key of the points of a footprint: halfway, and at the end.
fn of_points(run: &Value, key: &str) -> Option<[f64; 2]> {
    let points = run["points"].as_array()?;
    let at = |index: usize| points.get(index).and_then(|point| point[key].as_f64());
    Some([at((points.len() / 2).checked_sub(1)?)?, at(points.len() - 1)?])
}

fn recover(figures: &Value) -> Vec<Row> {
    let seconds = |what, key| Row::new(what, "s", number(figures, key));
    let backlog = Row::new(
        "rows worked off a second after an hour's backlog",
        "a second",
        number(figures, "/backlog/rows_per_s"),
    );
    vec![
        seconds("restart of any stage, or of all, to the first new alert", "/restart_worst_s")
            .at_most(RESTART_S_MAX)
            .beside("server and supervisor too", number(figures, "/restart_gateway_s")),
        seconds("an empty folder to the first alert", "/start_first_alert_s")
            .beside("until all stages listen", number(figures, "/start_up_s")),
        seconds("an hour's backlog worked off in", "/backlog/caught_up_s")
            .beside("rows", number(figures, "/backlog/rows")),
        backlog.beside("rows came a second", number(figures, "/backlog/rows_came_per_s")),
    ]
}

fn quality(shipped: &Value, unbounded: &Value) -> Row {
    let standard = |figures: &Value| number(figures, "/scores/nab/standard");
    let free = standard(unbounded);
    let target = free.map(|free| free - 1.0);
    Row::new("NAB, standard profile", "points", standard(shipped)).at_least(target).beside("unbounded histories", free)
}

fn search(figures: &Value) -> Vec<Row> {
    let of = |table: &str, engine: &str, path: &str| {
        let rows = figures[table].as_array()?;
        rows.iter().rfind(|row| row["engine"] == engine).and_then(|row| number(row, path))
    };
    let (own, peer) = ("eddy-graph", "hnswlib");
    let n = figures["rows"].as_array().and_then(|rows| rows.last()).and_then(|row| row["n"].as_u64());
    let name = n.map_or_else(|| "search".to_owned(), |n| format!("search of {n} windows"));
    let peer_us = of("rows", peer, "/p99_us");
    vec![
        Row::new(format!("{name}, recall@10"), "", of("rows", own, "/recall_at_10"))
            .at_least(0.95)
            .beside("hnswlib", of("rows", peer, "/recall_at_10")),
        Row::new(format!("{name} while ingesting, p99"), "us", of("serving", own, "/search_us/p99"))
            .at_most(peer_us.map(|us| PEERS * us))
            .beside("hnswlib, p99", peer_us),
        Row::new("a window is findable after, at most", "ms", of("serving", own, "/findable_ms/max")).at_most(1_000.0),
    ]
}

fn sync(figures: &Value) -> Vec<Row> {
    let bytes = |what, key| Row::new(what, "bytes", number(figures, key));
    vec![
        bytes("sync: a quiet device, five minutes", "/bytes_per_device_5min_quiet").at_most(100.0),
        bytes("sync: a device, the worst five minutes", "/bytes_per_device_5min_worst").at_most(1_024.0),
        Row::new("sync: alert at the hub on a full link, p99", "ms", number(figures, "/alert_p99_ms"))
            .at_most(150.0)
            .beside("link use", number(figures, "/link_use")),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found<'a>(rows: &'a [Row], what: &str) -> &'a Row {
        rows.iter().find(|row| row.what.contains(what)).unwrap_or_else(|| panic!("{what} among {rows:?}"))
    }

    #[test]
    fn latency_is_judged_by_the_floor_of_its_run_and_by_its_bound() {
        for (floor, p99, target, is_met) in
            [(10.0, 19.0, 20.0, true), (10.0, 21.0, 20.0, false), (40.0, 51.0, 50.0, false)]
        {
            let rows = latency(&json!({"p99_ms": p99, "floor_p99_ms": floor, "series": 30_000}));
            assert_eq!((rows[0].target, rows[0].is_met), (Some(target), Some(is_met)));
        }
    }

    #[test]
    fn what_was_not_measured_stands_there_and_is_neither_met_nor_open() {
        let rows = rows(&Measured::new());
        assert!(rows.len() > 15, "{rows:?}");
        assert!(rows.iter().all(|row| row.measured.is_none() && row.is_met.is_none()));
    }

    #[test]
    fn flat_is_the_end_over_the_middle_and_linear_the_most_series_over_the_fewest() {
        let run = |series, costs: [f64; 4]| {
            let points: Vec<Value> =
                costs.iter().map(|us| json!({"cpu_us_per_window": us, "pss_mb_total": 300.0})).collect();
            json!({"series": series, "points": points})
        };
        let mut last = run(30_000, [9.0, 10.0, 10.0, 12.0]);
        last["scaling"] = json!([run(3_000, [9.0, 9.0, 9.0, 8.0]), last.clone()]);
        let rows = footprint(&last);
        let cost = found(&rows, "cost of a window at the end");
        assert_eq!((cost.measured, cost.is_met, cost.beside), (Some(1.2), Some(false), Some(12.0)));
        assert_eq!(found(&rows, "with 3000 series").measured, Some(1.5));
        assert_eq!(found(&rows, "memory at the end").is_met, Some(true));
    }

    #[test]
    fn quality_and_search_are_judged_beside_their_peers() {
        let nab = |standard: f64| json!({"scores": {"nab": {"standard": standard}}});
        assert_eq!(quality(&nab(70.0), &nab(70.9)).is_met, Some(true));
        assert_eq!(quality(&nab(69.8), &nab(70.9)).is_met, Some(false));
        let rows = search(&json!({
            "rows": [{"engine": "eddy-graph", "n": 7, "recall_at_10": 0.95}, {"engine": "hnswlib", "n": 7, "p99_us": 10.0}],
            "serving": [{"engine": "eddy-graph", "search_us": {"p99": 31.0}, "findable_ms": {"max": 999.0}}],
        }));
        assert_eq!(rows.iter().map(|row| row.is_met).collect::<Vec<_>>(), [Some(true), Some(false), Some(true)]);
    }
}
