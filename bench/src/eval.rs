//! `eddy eval`: every stream of the benchmarks through the stages, and a result file for each.
//!
//! Streams run beside each other, one a thread; each has stages of its own, so results depend on no thread and no other
//! stream. A thread holds one stream and its scores at a time. A stream that fails is told, and the others go on.

use std::{fmt, io::IsTerminal as _, path::PathBuf, time::Instant};

use anyhow::{Context as _, Result, anyhow};
use eddy_runtime::config::ConfigError;
use eddy_schemas::SeriesName;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rayon::prelude::*;
use serde::Serialize;

use crate::{
    inputs::{self, Input, Set},
    pipeline::{Pipeline, Settings},
    result,
    score::Scores,
    state::StateBytes,
    table,
};

/// Most threads.
const THREADS_MAX: usize = 256;

/// What to run.
#[derive(Clone, Debug, clap::Args)]
pub struct EvalArgs {
    /// Folder that holds any of nab, skab, gecco, telemetry, ucr
    pub data: PathBuf,
    /// Where results go: below it, a folder a benchmark, each stream at its own path
    #[arg(long, value_name = "OUT_DIR")]
    pub out: PathBuf,
    /// Score the results against the labels
    #[arg(long)]
    pub score: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Only these benchmarks
    #[arg(long, value_enum, value_delimiter = ',')]
    pub only: Vec<Set>,
    /// Streams at once (1 to 256); 0: one a core
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=256))]
    pub threads: u16,
    /// Leave preprocess out: readings are samples as they are
    #[arg(long)]
    pub skip_preprocess: bool,
    /// Bundle and configuration.
    #[command(flatten)]
    pub settings: Settings,
}

/// A stream or benchmark that failed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Failure {
    /// Which.
    pub what: String,
    /// Why.
    pub problem: String,
}

/// What a run did, and its figures.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Streams with a result.
    pub inputs: usize,
    /// Their rows, each one result row.
    pub rows: usize,
    /// Windows that were scored: one a channel and row, gaps left out.
    pub windows: usize,
    /// Wall time of reading, running and writing all of them.
    pub seconds: f64,
    /// Time in the stages a window, on one thread.
    pub microseconds_per_window: f64,
    /// The most that all stages kept of a series, over all streams and at any time.
    pub state_bytes_per_series_max: usize,
    /// The same by stage.
    pub state_bytes_per_series: StateBytes,
    /// The most that was kept at the end of a stream, when commissioning holds nothing any more.
    pub state_bytes_per_series_at_end: StateBytes,
    /// What failed.
    pub failed: Vec<Failure>,
    /// With `--score`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scores: Option<Scores>,
}

/// What one stream did.
struct Ran {
    rows: usize,
    windows: usize,
    seconds: f64,
    state: StateBytes,
    state_at_end: StateBytes,
}

/// Runs all of it. Failures of single streams stand in the report.
///
/// # Errors
/// [`ConfigError`] for what is wrong with the configuration or the command line; else what kept it from running at all.
pub fn run(args: &EvalArgs) -> Result<Report> {
    let pipeline = Pipeline::new(&args.settings)?;
    let sets = if args.only.is_empty() { Set::ALL.to_vec() } else { args.only.clone() };
    if let Some(set) = args.only.iter().find(|set| !args.data.join(set.folder()).is_dir()) {
        return Err(usage(format!("--only {0}: {1} has no folder {0}", set.folder(), args.data.display())));
    }
    let inputs = inputs::list(&args.data, &sets)?;
    if inputs.is_empty() {
        let folders = sets.iter().map(|set| set.folder()).collect::<Vec<_>>().join(", ");
        return Err(usage(format!("{}: no stream found, in any of {folders}", args.data.display())));
    }
    let started = Instant::now();
    let progress = progress(inputs.len() as u64, args.json);
    let threads = usize::from(args.threads).min(THREADS_MAX);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().context("threads cannot be started")?;
    let one = |input: &Input| {
        let ran = run_one(&pipeline, input, args);
        progress.inc(1);
        ran
    };
    let ran: Vec<Result<Ran>> = pool.install(|| inputs.par_iter().with_max_len(1).map(one).collect());
    progress.finish_and_clear();
    let mut report = sum(&inputs, ran);
    report.seconds = started.elapsed().as_secs_f64();
    if args.score && report.inputs > 0 {
        let budget = pipeline.detect.alerts_per_day / pipeline.detect.fleet_series;
        report.scores = Some(pool.install(|| score(args, &inputs, budget, &mut report.failed)));
    }
    Ok(report)
}

fn usage(problem: String) -> anyhow::Error {
    ConfigError { problems: vec![problem] }.into()
}

fn progress(inputs: u64, quiet: bool) -> ProgressBar {
    let seen = std::io::stderr().is_terminal() && !quiet;
    let target = if seen { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} streams, {elapsed}");
    ProgressBar::with_draw_target(Some(inputs), target)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn run_one(pipeline: &Pipeline, input: &Input, args: &EvalArgs) -> Result<Ran> {
    let stream = inputs::read(input)?;
    let commissioning = pipeline.commissioning_rows(stream.granted_rows);
    let mut chain =
        if args.skip_preprocess { pipeline.chain_of_samples(commissioning)? } else { pipeline.chain(commissioning)? };
    let device = format!("{}/{}", input.set.folder(), input.name);
    let names: Vec<String> = stream.channels.iter().map(|channel| SeriesName::encode(&device, channel)).collect();
    let started = Instant::now();
    let mut newest = i64::MIN;
    for (row, time) in stream.times.iter().enumerate() {
        // Preprocess puts such readings aside; embed takes a series' samples in order.
        let is_late = args.skip_preprocess && *time <= newest;
        newest = newest.max(*time);
        for (name, value) in names.iter().zip(stream.row(row)).filter(|(_, value)| !is_late && !value.is_nan()) {
            chain.push(name, *time, *value)?;
        }
    }
    let outcome = chain.finish()?;
    let seconds = started.elapsed().as_secs_f64();
    let scores = result::scores(&stream.times, names.len(), &outcome.rows)?;
    let stamps = stream.stamps.iter().map(String::as_str);
    let alerts = result::alerts(&stream.times, &outcome.opened()?);
    let rows = stamps.zip(scores).zip(alerts).map(|((stamp, score), alerts)| (stamp, score, alerts));
    table::write(&args.out.join(input.set.folder()).join(&input.name), rows)?;
    Ok(Ran {
        rows: stream.times.len(),
        windows: outcome.rows.iter().filter(|row| !row.is_joint()).count(),
        seconds,
        state: outcome.state_max.per_series(names.len()),
        state_at_end: outcome.state_end.per_series(names.len()),
    })
}

fn sum(inputs: &[Input], ran: Vec<Result<Ran>>) -> Report {
    let (mut report, mut seconds) = (Report::default(), 0.0);
    for (input, ran) in inputs.iter().zip(ran) {
        match ran {
            Ok(ran) => {
                report.inputs += 1;
                report.rows += ran.rows;
                report.windows += ran.windows;
                seconds += ran.seconds;
                report.state_bytes_per_series = report.state_bytes_per_series.max(ran.state);
                report.state_bytes_per_series_at_end = report.state_bytes_per_series_at_end.max(ran.state_at_end);
            }
            Err(error) => {
                let what = format!("{}/{}", input.set.folder(), input.name);
                report.failed.push(Failure { what, problem: format!("{error:#}") });
            }
        }
    }
    report.state_bytes_per_series_max = report.state_bytes_per_series.total();
    report.microseconds_per_window = seconds * 1e6 / report.windows.max(1) as f64;
    report
}

/// Scores the benchmarks of which every stream has a result.
fn score(args: &EvalArgs, inputs: &[Input], budget: f64, failed: &mut Vec<Failure>) -> Scores {
    let mut scores = Scores::default();
    for set in Set::ALL.into_iter().filter(|set| inputs.iter().any(|input| input.set == *set)) {
        let of_set = format!("{}/", set.folder());
        let scored = match failed.iter().filter(|failure| failure.what.starts_with(&of_set)).count() {
            0 => scores
                .add(set, &args.data, &args.out)
                .and_then(|()| scores.add_budget(set, &args.data, &args.out, budget)),
            missing => Err(anyhow!("not scored: {missing} of its streams failed")),
        };
        if let Err(error) = scored {
            failed.push(Failure { what: format!("score of {}", set.folder()), problem: format!("{error:#}") });
        }
    }
    scores
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(scores) = &self.scores {
            write!(f, "{scores}")?;
        }
        let Self { inputs, rows, windows, seconds, microseconds_per_window, .. } = self;
        writeln!(
            f,
            "{inputs} streams, {rows} rows, {windows} windows in {seconds:.1} s, {microseconds_per_window:.1} us a window"
        )?;
        let StateBytes { preprocess, embed, detect } = self.state_bytes_per_series;
        let end = self.state_bytes_per_series_at_end;
        write!(
            f,
            "state_bytes_per_series_max {} (preprocess {preprocess}, embed {embed}, detect {detect}); at the end at most {} \
             (preprocess {}, embed {}, detect {})",
            self.state_bytes_per_series_max,
            end.total(),
            end.preprocess,
            end.embed,
            end.detect
        )
    }
}
