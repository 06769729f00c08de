//! What `all` runs, one part after the other: measurements that this program and `eddy-eval` have as commands of their own.

use std::path::{Path, PathBuf};

use crate::runner::{Part, Planned, bench};

/// The parts of `eddy-bench`. What is small shows that all of it works; its figures say nothing.
const BENCHES: [Planned; 6] = [
    ("latency", ["latency", "latency --devices 33 --seconds 4 --rounds 1"], [300, 30]),
    ("throughput", ["throughput", "throughput --series 99 --rows 400000 --peer-seconds 2"], [240, 40]),
    ("footprint", ["footprint --series 3000,30000", "footprint --series 99,300 --hours 6 --points 4"], [300, 40]),
    ("recover", ["recover", "recover --series 99 --starts 1 --kills 1 --hours 1"], [300, 80]),
    ("sync", ["sync", "sync --only link --seconds 10"], [300, 40]),
    (
        "ann",
        [
            "ann --n 1000000 --dimensions 64 --engines eddy-graph,hnswlib",
            "ann --n 2000 --dimensions 64 --queries 50 --engines eddy-graph,hnswlib",
        ],
        [960, 30],
    ),
];

/// NAB as it is shipped.
pub(super) const NAB: &str = "nab";
/// NAB with histories that nothing bounds: what bounds cost. The settings are those of bench/quality/README.md.
pub(super) const NAB_UNBOUNDED: &str = "nab-unbounded";
/// The heads whose histories have a bound of their own.
const HEADS: [&str; 7] = ["value", "contrast", "span16", "span32", "span64", "span128", "span256"];
/// More than a NAB file's rows fill.
const HISTORY_BYTES: u32 = 65_536;

/// All parts, in their order: what takes longest comes last.
pub(super) fn all(small: bool, data: &Path, scratch: &Path) -> Vec<Part> {
    let mut parts: Vec<Part> = BENCHES.iter().map(|planned| bench(planned, small)).collect();
    if let Some(ann) = parts.last_mut() {
        ann.arguments.extend(["--data".to_owned(), data.display().to_string()]);
    }
    // Before the index, which is the longest.
    let before = parts.len() - 1;
    let unbounded = || HEADS.iter().flat_map(|head| ["--head".into(), format!("{head}.history_bytes={HISTORY_BYTES}")]);
    let no_gate = ["--set".to_owned(), "detect.gate_tail=1e-5".to_owned()];
    parts.insert(before, nab(NAB, data, scratch, [].into_iter(), 20));
    parts.insert(before + 1, nab(NAB_UNBOUNDED, data, scratch, unbounded().chain(no_gate), 60));
    parts
}

fn nab(name: &'static str, data: &Path, scratch: &Path, settings: impl Iterator<Item = String>, seconds: u64) -> Part {
    let out: PathBuf = scratch.join(name);
    let fixed = [data.display().to_string(), "--out".into(), out.display().to_string()];
    let flags = ["--only", "nab", "--score", "--json"].map(str::to_owned);
    Part { name, by_eval: true, arguments: fixed.into_iter().chain(flags).chain(settings).collect(), seconds }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_whole_have_the_same_parts_with_other_arguments() {
        let [whole, small] = [false, true].map(|small| all(small, Path::new("d"), Path::new("s")));
        let names = |parts: &[Part]| parts.iter().map(|part| part.name).collect::<Vec<_>>();
        assert_eq!(names(&whole), names(&small));
        assert_eq!(whole.last().map(|part| part.name), Some("ann"));
        assert_eq!(small[0].arguments[..3], ["latency", "--devices", "33"]);
        let sum = |parts: &[Part]| parts.iter().map(|part| part.seconds).sum::<u64>();
        assert!(sum(&small) * 4 < sum(&whole));
        let unbounded = whole.iter().find(|part| part.name == NAB_UNBOUNDED).unwrap();
        assert!(unbounded.by_eval && unbounded.arguments.contains(&"span256.history_bytes=65536".to_owned()));
    }
}
