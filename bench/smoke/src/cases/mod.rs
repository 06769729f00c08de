//! The cases: what a reading's time goes to between a device and an alert, and what index and sync do beside it.
//!
//! A case prepares in a process of its own what would take too long under callgrind (a built index), sets up the rest, and does its
//! work in [`counted`](crate::counted::counted). What it did is checked, so that no case can come to count nothing.

mod capture;
mod detect;
mod embed;
mod index;
mod preprocess;
mod stage_loop;
mod staged;
mod state;
mod vectors;

use std::path::Path;

use anyhow::Result;

/// Something to count.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Its name, `part.what`; a file name too.
    pub name: &'static str,
    /// What its instructions are divided by.
    pub unit: &'static str,
    /// Puts into its folder, not under callgrind, what it needs.
    pub prepare: Option<fn(&Path) -> Result<()>>,
    /// Does it, and tells how many units that were.
    pub run: fn(&Path) -> Result<u64>,
}

const fn case(name: &'static str, unit: &'static str, run: fn(&Path) -> Result<u64>) -> Case {
    Case { name, unit, prepare: None, run }
}

/// All of them, in the order in which a reading meets them.
pub const ALL: &[Case] = &[
    case("capture.arrow", "row", capture::arrow),
    case("capture.json", "reading", capture::json),
    case("capture.senml", "reading", capture::senml),
    case("capture.line", "reading", capture::line),
    case("capture.emit", "row", capture::emit),
    case("preprocess.decode", "row", preprocess::decode),
    case("preprocess.learned", "row", preprocess::learned),
    case("preprocess.grid", "row", preprocess::grid),
    case("preprocess.encode", "row", preprocess::encode),
    case("embed.window", "window", embed::window),
    case("embed.encode", "window", embed::encode),
    case("detect.decode", "window", detect::decode),
    case("detect.judge", "window", detect::judge),
    case("detect.encode", "row", detect::encode),
    case("detect.records", "series", detect::records),
    case("state.commit", "record", state::commit),
    case("vectors.nearest", "query", vectors::nearest),
    case("vectors.admit", "vector", vectors::admit),
    case("vectors.scalar", "value", vectors::scalar),
    case("vectors.delay", "row", vectors::delay),
    case("vectors.calibration", "distance", vectors::calibration),
    case("vectors.bounds", "query", vectors::bounds),
    case("vectors.half_rows", "query", vectors::half_rows),
    case("sync.int8", "vector", vectors::int8),
    case("index.file", "window", index::file),
    Case { name: "index.search", unit: "query", prepare: Some(index::build), run: index::search },
    case("loop.preprocess", "row", stage_loop::preprocess),
    case("loop.detect", "window", stage_loop::detect),
];

/// The case of that name.
pub fn named(name: &str) -> Option<&'static Case> {
    ALL.iter().find(|case| case.name == name)
}
