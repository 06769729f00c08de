//! `ann`: the index of windows while it is written and when it is built, beside other libraries on the same vectors.
//!
//! [`windows`] has vectors of recorded streams ([`recorded`]), some of which are asked for and all others stored. [`store`]
//! measures our own index in a process of its own: [`serve`] is what it does while it is written, [`shares`] what is told of
//! that. [`peers`] runs the others, each in a process too. All write what they found ([`files`]), and [`truth`] judges it.
//! Everything runs on one thread an activity.

mod drawn;
mod files;
mod floats;
mod peers;
mod recorded;
mod serve;
mod shares;
mod show;
mod store;
#[cfg(test)]
mod tests;
mod truth;
mod windows;

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use eddy_bench::{
    embedded::Wanted,
    pipeline::{Pipeline, Settings},
};
use serde_json::{Value, json};

pub(crate) use drawn::{Queried, RecordedWindows};
pub(crate) use store::{StoreArgs, run as run_store};

use crate::load::{self, figures::rounded, peer};
use files::Files;
use recorded::Recorded;
use store::{Measured, Restarted};
use windows::{Split, Windows};

/// How long an engine may take.
const TIMEOUT: Duration = Duration::from_secs(3_600);
/// Most vectors: what a gateway's disk would hold.
const N_MAX: u64 = 10_000_000;

/// `ann`'s part of the command line.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  eddy-bench ann --n 10000,100000
  eddy-bench ann --n 100000 --engines eddy-graph,hnswlib --json
  eddy-bench ann --n 100000 --engines eddy-graph --insert-per-s 5000 --bucket-s 1
  eddy-bench ann --n 10000 --dimensions 16        # the learned head's own vectors")]
pub(crate) struct AnnArgs {
    /// Vectors to store; several numbers, separated by commas, make a table
    #[arg(long, value_delimiter = ',', default_values_t = [10_000, 100_000],
          value_parser = clap::value_parser!(u64).range(1_000..=N_MAX))]
    n: Vec<u64>,
    /// Components of a vector; past those of the bundle's learned head, that of windows one behind another, joined
    #[arg(long, default_value_t = 64)]
    dimensions: usize,
    /// Vectors that are asked for, never among the stored ones
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u16).range(10..=10_000))]
    queries: u16,
    /// Only these engines
    #[arg(long, value_delimiter = ',', value_parser = clap::builder::PossibleValuesParser::new(ENGINES))]
    engines: Vec<String>,
    /// Windows a second that our own index is given; 0: as fast as it takes them
    #[arg(long, default_value_t = 0.0)]
    insert_per_s: f64,
    /// Seconds that searches are told together in the course over time
    #[arg(long, default_value_t = 5.0)]
    bucket_s: f64,
    /// Folder that holds any of nab, skab, gecco, telemetry, ucr; where it has none, the made-up fleet is taken
    #[arg(long, env = "EDDY_DATA", default_value = "../shared/data")]
    data: PathBuf,
    /// Print one JSON object in place of tables
    #[arg(long)]
    json: bool,
    /// The folder in which a temporary one is made [default: the system's]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Bundle and configuration.
    #[command(flatten)]
    settings: Settings,
}

/// All engines, ours first.
const ENGINES: [&str; 7] = [FOREST, GRAPH, "hnswlib", "faiss-flat", "faiss-ivf-sq8", "usearch-f16", "qdrant-edge"];
const FOREST: &str = "eddy-forest";
const GRAPH: &str = "eddy-graph";

/// Measures, and prints the figures. Ctrl-C or SIGTERM ends it and whatever it started.
///
/// # Errors
/// Whatever keeps it from measuring; a peer that cannot be measured is told instead.
pub(crate) fn run(args: &AnnArgs) -> Result<()> {
    ensure!(args.bucket_s > 0.0, "--bucket-s: more than 0");
    ensure!(args.insert_per_s >= 0.0, "--insert-per-s: at least 0");
    let wanted = Wanted { head: "learned".into(), dimensions: args.dimensions };
    let largest = args.n.iter().max().map_or(0, |n| *n as usize);
    let pipeline = Pipeline::new(&args.settings)?;
    let recorded = Recorded::find(&args.data)?;
    let windows = Windows::get(&pipeline, &wanted, &recorded, largest + usize::from(args.queries), &cache())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let figures = runtime.block_on(load::unless_stopped(measure(args, &windows)))?;
    if args.json {
        println!("{figures}");
    } else {
        print!("{}", show::text(&figures));
    }
    Ok(())
}

/// Where windows are kept that were drawn once.
fn cache() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/ann")
}

/// Figures of all sizes and engines.
#[derive(Default)]
struct Report {
    rows: Vec<Value>,
    serving: Vec<Value>,
    activity: Vec<Value>,
    timeline: Vec<Value>,
    sets: Vec<Value>,
    skipped: Vec<String>,
}

async fn measure(args: &AnnArgs, windows: &Windows) -> Result<Value> {
    let mut report = Report::default();
    let is_asked = |engine: &&str| args.engines.is_empty() || args.engines.iter().any(|asked| asked == engine);
    let engines: Vec<&str> = ENGINES.into_iter().filter(is_asked).collect();
    let python = match engines.iter().any(|engine| ![FOREST, GRAPH].contains(engine)) {
        true => peers::python(&mut report.skipped).await,
        false => None,
    };
    for n in &args.n {
        let folder = tempfile::Builder::new()
            .prefix("eddy-ann-")
            .tempdir_in(args.dir.clone().unwrap_or_else(std::env::temp_dir))?;
        let set = Set::new(windows, *n as usize, usize::from(args.queries), folder.path())?;
        report.sets.push(json!({
            "n": n,
            "queries": set.split.queries.len() / set.dimensions,
            "saturated": set.split.saturated(set.dimensions),
            "copies": set.split.copies,
            "copies_share": rounded(set.split.copies as f64 / *n as f64),
        }));
        for engine in &engines {
            say(&format!("{engine}, {n} vectors"));
            let measured = match (*engine, &python) {
                (FOREST | GRAPH, _) => own(args, &set, *engine == GRAPH, &mut report).await,
                (_, Some(python)) => peers::measure(python, engine, &set).await,
                (_, None) => continue,
            };
            match measured {
                Ok(row) => report.rows.push(row),
                Err(problem) => report.skip(&format!("{engine} with {n} vectors: {problem:#}")),
            }
        }
    }
    Ok(report.json(args, windows))
}

impl Report {
    fn skip(&mut self, problem: &str) {
        say(&format!("SKIPPED: {problem}"));
        self.skipped.push(problem.to_owned());
    }

    fn json(self, args: &AnnArgs, windows: &Windows) -> Value {
        json!({
            "mode": "ann",
            "profile": if cfg!(debug_assertions) { "debug" } else { "release" },
            "cores": std::thread::available_parallelism().map_or(0, usize::from),
            "load_average": std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim(),
            "dimensions": args.dimensions,
            "insert_per_s_asked": args.insert_per_s,
            "streams": windows.from.streams,
            "streams_of": windows.from.folder,
            "windows": windows.from.windows,
            "windows_distinct": windows.from.distinct,
            "sets": self.sets,
            "rows": self.rows,
            "serving": self.serving,
            "beside": self.activity,
            "timeline": self.timeline,
            "skipped": self.skipped,
        })
    }
}

/// The vectors of one size, on disk for the processes that measure.
struct Set {
    split: Split,
    dimensions: usize,
    truth: Vec<u32>,
    folder: PathBuf,
}

impl Set {
    fn new(windows: &Windows, n: usize, queries: usize, folder: &Path) -> Result<Self> {
        let split = windows.split(n, queries);
        let dimensions = windows.dimensions;
        let truth = truth::nearest(&split.base, &split.queries, dimensions);
        let files = Files::of(folder);
        floats::write(&files.base, &split.base)?;
        floats::write(&files.queries, &split.queries)?;
        floats::write_ids(&files.truth, &truth)?;
        Ok(Self { split, dimensions, truth, folder: folder.to_owned() })
    }

    fn n(&self) -> usize {
        self.split.base.len() / self.dimensions
    }

    fn files(&self) -> Files {
        Files::of(&self.folder)
    }

    /// How much of the truth an engine found: of the nearest one, of the ten nearest.
    fn recall(&self) -> Result<[f64; 2]> {
        let found = floats::read_ids(&self.files().found)?;
        ensure!(found.len() == self.truth.len(), "it wrote {} ids for {}", found.len(), self.truth.len());
        Ok(truth::recall(&self.split.base, &self.split.queries, self.dimensions, &self.truth, &found))
    }
}

/// Runs our own index in a process of its own, and opens it again in another.
async fn own(args: &AnnArgs, set: &Set, graph: bool, report: &mut Report) -> Result<Value> {
    let (engine, files) = (if graph { GRAPH } else { FOREST }, set.files());
    let program = std::env::current_exe().context("where this program lies")?;
    let command = || {
        let mut command = Command::new(&program);
        command.arg("ann-store").arg("--work").arg(&set.folder).args(["--dimensions", &set.dimensions.to_string()]);
        command.args(["--insert-per-s", &args.insert_per_s.to_string(), "--bucket-s", &args.bucket_s.to_string()]);
        if graph {
            command.arg("--graph");
        }
        command
    };
    let measured: Measured = peer::figures(&mut command(), TIMEOUT, &set.folder).await?;
    let restarted: Restarted = peer::figures(command().arg("--restarted"), TIMEOUT, &set.folder).await?;
    std::fs::remove_dir_all(&files.store).with_context(|| files.store.display().to_string())?;
    let named = |rows: &[Value]| -> Vec<Value> { rows.iter().map(|row| with_name(engine, set.n(), row)).collect() };
    let mut serving = with_name(engine, set.n(), &measured.serving);
    if let Some(serving) = serving.as_object_mut() {
        serving.insert("restart_ms".into(), rounded(restarted.restart_ms).into());
        serving.insert("restarted_rss_mb".into(), rounded(restarted.restarted_rss_mb).into());
    }
    report.serving.push(serving);
    report.activity.extend(named(&measured.activity));
    report.timeline.extend(named(&measured.timeline));
    let [first, all] = set.recall()?;
    Ok(json!({
        "engine": engine, "n": set.n(), "setting": measured.setting,
        "recall_at_1": rounded(first), "recall_at_10": rounded(all),
        "p50_us": rounded(measured.p50_us), "p99_us": rounded(measured.p99_us),
        "build_per_s": rounded(measured.build_per_s),
        "rss_mb": rounded(measured.rss_mb), "disk_mb": rounded(measured.disk_mb),
    }))
}

fn with_name(engine: &str, n: usize, row: &Value) -> Value {
    let mut named = json!({ "engine": engine, "n": n });
    if let (Some(named), Some(row)) = (named.as_object_mut(), row.as_object()) {
        named.extend(row.clone());
    }
    named
}

/// Progress.
fn say(text: &str) {
    eprintln!("eddy-bench: {text}");
}
