//! Our own store under measurement, in a process of its own, so that memory is the store's: written and served, then searched
//! when all is built, then opened again by another process.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, Result};
use eddy_vectors::index::{Kind, Limits, Model, Searcher, SegmentRecord, Store};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    files::Files,
    floats,
    serve::{self, Load, query},
    shares,
    truth::{COUNT, NONE},
};
use crate::load::figures::{Figures, rounded};

/// Times that every query is asked when all is built.
const PASSES: usize = 3;

/// What the measuring process is told.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct StoreArgs {
    /// The folder with the vectors; the store is made in it
    #[arg(long)]
    pub(super) work: PathBuf,
    /// Components of a vector
    #[arg(long)]
    pub(super) dimensions: usize,
    /// Build graphs, merged into one
    #[arg(long)]
    pub(super) graph: bool,
    /// Windows a second; 0: as fast as they go
    #[arg(long, default_value_t = 0.0)]
    pub(super) insert_per_s: f64,
    /// Seconds that are told together
    #[arg(long, default_value_t = 5.0)]
    pub(super) bucket_s: f64,
    /// Open the store that is there
    #[arg(long)]
    pub(super) restarted: bool,
}

/// What a store did.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Measured {
    /// What it ended as: `1 graph`.
    pub(super) setting: String,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    pub(super) build_per_s: f64,
    pub(super) rss_mb: f64,
    pub(super) disk_mb: f64,
    /// Of the phase in which it is written.
    pub(super) serving: Value,
    /// Latencies by what went on beside, and over time.
    pub(super) activity: Vec<Value>,
    pub(super) timeline: Vec<Value>,
}

/// What a store did that was opened again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Restarted {
    /// Opening store and searcher, and the first search, in milliseconds; of a new process, with the files in the page cache.
    pub(super) restart_ms: f64,
    pub(super) restarted_rss_mb: f64,
}

fn limits(n: usize, graph: bool) -> Limits {
    let kind = if graph { Kind::Graph } else { Kind::Forest };
    let mut limits = Limits { map_bytes: 16 << 30, kind, graph_after: 0, graph_windows: 0, ..Limits::default() };
    if graph {
        // So that segments of a size are always four, until one is left.
        let mut size = n.div_ceil(4);
        while size > limits.segment_windows as usize {
            size = size.div_ceil(4);
        }
        limits.segment_windows = size as u32;
        limits.graph_windows = u32::MAX;
    }
    limits
}

/// Measures, and prints what [`Measured`] or [`Restarted`] hold.
///
/// # Errors
/// The store's.
pub(crate) fn run(args: &StoreArgs) -> Result<()> {
    let figures =
        if args.restarted { serde_json::to_value(restarted(args)?)? } else { serde_json::to_value(measured(args)?)? };
    println!("{figures}");
    Ok(())
}

fn model(dimensions: usize) -> Model {
    Model { digest: "bench".into(), head: "learned".into(), dimensions }
}

/// Writes the store, searches it, and writes what was found.
pub(super) fn measured(args: &StoreArgs) -> Result<Measured> {
    let files = Files::of(&args.work);
    let (base, queries) = (floats::read(&files.base)?, floats::read(&files.queries)?);
    let n = base.len() / args.dimensions;
    let model = model(args.dimensions);
    let limits = limits(n, args.graph);
    let before = memory_mb();
    let store = Store::open(&files.store, limits)?;
    let searcher = store.searcher()?;
    let load = Load { model: &model, base: &base, queries: &queries, insert_per_s: args.insert_per_s };
    let served = serve::serve(&store, &searcher, load)?;
    let found = found(&searcher, &load)?;
    floats::write_ids(&files.found, &found)?;
    let mut taken = Vec::new();
    for vector in std::iter::repeat_n(&queries, PASSES).flat_map(|queries| queries.chunks_exact(args.dimensions)) {
        let began = Instant::now();
        searcher.search(&query(&model, vector))?;
        taken.push(began.elapsed().as_secs_f64() * 1e6);
    }
    let after = memory_mb();
    let taken = Figures::new(taken);
    let mut serving = shares::serving(n, &served);
    if let Some(serving) = serving.as_object_mut() {
        serving.insert("rss_anon_mb".into(), rounded(after[1] - before[1]).into());
    }
    Ok(Measured {
        setting: setting(&searcher),
        p50_us: taken.quantile(0.5).unwrap_or(0.0),
        p99_us: taken.quantile(0.99).unwrap_or(0.0),
        build_per_s: n as f64 / served.built_after,
        rss_mb: after[0] - before[0],
        disk_mb: disk_mb(&files.store)?,
        serving,
        activity: shares::by_activity(&served.searches),
        timeline: shares::over_time(&served.searches, args.bucket_s),
    })
}

/// Opens what is there, and searches.
pub(super) fn restarted(args: &StoreArgs) -> Result<Restarted> {
    let files = Files::of(&args.work);
    let queries = floats::read(&files.queries)?;
    let model = model(args.dimensions);
    let load = Load { model: &model, base: &[], queries: &queries, insert_per_s: 0.0 };
    let (before, began) = (memory_mb(), Instant::now());
    let store = Store::open(&files.store, limits(0, args.graph))?;
    let searcher = store.searcher()?;
    searcher.search(&query(&model, &queries[..args.dimensions]))?;
    let restart_ms = began.elapsed().as_secs_f64() * 1e3;
    found(&searcher, &load)?;
    Ok(Restarted { restart_ms, restarted_rss_mb: memory_mb()[0] - before[0] })
}

/// What every query finds, ten a query.
fn found(searcher: &Searcher, load: &Load<'_>) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for vector in load.queries.chunks_exact(load.model.dimensions) {
        let near = searcher.search(&query(load.model, vector))?;
        // Windows are numbered as they come: as the base is.
        let ids = near.iter().map(|neighbour| neighbour.window as u32);
        found.extend(ids.chain(std::iter::repeat(NONE)).take(COUNT));
    }
    Ok(found)
}

/// Which segments there are, and the efforts that searches spend on them.
fn setting(searcher: &Searcher) -> String {
    let told = |record: SegmentRecord| {
        let kind = record.kind.as_str();
        match (record.effort(serve::RECALL), record.recall.last()) {
            (Some(effort), _) => format!("{kind} {effort}"),
            // None reached it when it was built: searches spend the most that was tried.
            (None, Some((effort, reached))) => format!("{kind} {effort} (reached {reached:.3})"),
            (None, None) => kind.to_owned(),
        }
    };
    let mut all: Vec<(String, usize)> = Vec::new();
    for name in searcher.segments().into_iter().map(told) {
        match all.iter_mut().find(|known| known.0 == name) {
            Some(known) => known.1 += 1,
            None => all.push((name, 1)),
        }
    }
    let each = |(name, times): &(String, usize)| if *times == 1 { name.clone() } else { format!("{times} x {name}") };
    all.iter().map(each).collect::<Vec<_>>().join(", ")
}

/// Resident memory of this process in MB, and the part of it that no file holds.
fn memory_mb() -> [f64; 2] {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ["VmRSS:", "RssAnon:"].map(|name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.split_ascii_whitespace().next().and_then(|kb| kb.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
    })
}

/// What the files of a folder take of the disk.
fn disk_mb(folder: &Path) -> Result<f64> {
    let (mut blocks, mut folders) = (0, vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            blocks += metadata.blocks();
            if metadata.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Ok(blocks as f64 * 512.0 / f64::from(1 << 20))
}
