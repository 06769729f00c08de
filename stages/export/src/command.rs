//! `eddy export`: the command line.

use std::{collections::BTreeSet, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use eddy_cli::{
    gateway::{Gateway, GatewayArgs},
    output, up,
};
use eddy_runtime::{config::ConfigError, program};
use eddy_schemas::{Timestamp, time_of};
use serde::Serialize;

use crate::{
    class::Class,
    config::{self, Config},
    job::{Job, Report},
    manifest::Manifest,
    policy::Raw,
    progress::Progress,
    receipts::{self, ReceiptsArgs},
    select::{Filter, Selection},
    stage::Export,
    store::Store,
};

/// Bad config or a bad command line (sysexits' EX_USAGE).
const EXIT_USAGE: u8 = 64;
/// The commands that every stage has, which `eddy up` gives.
const OF_A_STAGE: [&str; 4] = ["run", "check", "print-config", "recover"];

const AFTER: &str = "\
Examples:
  eddy export --to out                                  embeddings, scores, alerts, contexts and labels, as Parquet
  eddy export --to s3://bucket/plant --class alerts     S3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL …
  eddy export --to out --class readings --allow readings --purpose 'retraining the encoder'
  eddy export --to out --since 2026-01-05T00:00:00Z --device 'pump 1' --dry-run
  eddy export receipts --to out                         is all there, as it was written, and as much as the streams hold

Files: class=CLASS/site=SITE/date=DATE/….parquet, readable by duckdb, pyarrow, Spark: select * from read_parquet('out/class=alerts/**/*.parquet',
hive_partitioning = true). Repeated, the command writes what is new; killed, it goes on. Rows of one selection (--since, --until, --device) and
of another do not go to one place.

Exit codes:
  0 done   1 failed; run it again   64 bad command line, config or policy";

#[derive(Debug, Parser)]
#[command(name = "eddy export", version, after_help = AFTER, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Other>,
    #[command(flatten)]
    export: ExportArgs,
}

#[derive(Debug, Subcommand)]
enum Other {
    /// Check what lies there against its records and the streams
    Receipts(ReceiptsArgs),
}

/// Export's part of the command line.
#[derive(Args, Clone, Debug)]
pub struct ExportArgs {
    /// A folder, or s3://bucket/prefix
    #[arg(long, value_name = "PLACE", required = true)]
    pub to: Option<String>,
    /// readings, samples, embeddings, scores, alerts, contexts, labels [default: export.classes of the config]
    #[arg(long = "class", value_name = "CLASS,…", value_delimiter = ',', value_parser = Class::parse)]
    pub classes: Vec<Class>,
    /// Rows of this event time or later
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub since: Option<Timestamp>,
    /// Rows before this event time
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub until: Option<Timestamp>,
    /// Messages of the streams from A to B
    #[arg(long, value_name = "A..B", value_parser = sequences)]
    pub sequences: Option<(u64, u64)>,
    /// Rows of this device; may be given more than once
    #[arg(long = "device", value_name = "NAME")]
    pub devices: Vec<String>,
    /// Raw data that may leave beside export.policy of the config: readings, samples, heads
    #[arg(long, value_name = "RAW,…", value_delimiter = ',', value_parser = Raw::parse, requires = "purpose")]
    pub allow: Vec<Raw>,
    /// What for
    #[arg(long, value_name = "WHY")]
    pub purpose: Option<String>,
    /// Read and count, and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print the summary as one line of JSON, and no progress bar
    #[arg(long)]
    pub json: bool,
    /// The table `export` of this file [default: that which the gateway in --dir runs with]
    #[arg(long, env = "EDDY_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Which gateway
    #[command(flatten)]
    pub gateway: GatewayArgs,
}

fn time(text: &str) -> Result<Timestamp, String> {
    time_of(text).ok_or_else(|| "expected a time like 2026-01-05T00:00:00Z".into())
}

fn sequences(text: &str) -> Result<(u64, u64), String> {
    let parse = || {
        let (first, last) = text.split_once("..")?;
        Some((first.parse().ok()?, last.parse().ok()?))
    };
    parse().filter(|(first, last)| first <= last && *first > 0).ok_or_else(|| "expected A..B, like 1..5000".into())
}

/// The whole `main` of the binary.
pub fn main() -> ExitCode {
    if std::env::args().nth(1).is_some_and(|first| OF_A_STAGE.contains(&first.as_str())) {
        return program::run::<Export>();
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nothing is left to do if that cannot be printed.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let ended = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        runtime.block_on(async {
            match &arguments.command {
                Some(Other::Receipts(args)) => receipts::run(args).await,
                None => run(&arguments.export).await,
            }
        })
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("eddy export: {error:#}");
            let is_usage = error.is::<ConfigError>() || error.is::<Refused>();
            ExitCode::from(if is_usage { EXIT_USAGE } else { 1 })
        }
    }
}

/// What was asked for may not leave, or nothing was asked for.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

/// The config of the gateway, with what the command line says of the policy.
///
/// # Errors
/// Every problem of the config.
pub fn config(args: &ExportArgs, gateway: &Gateway) -> anyhow::Result<Config> {
    let of_gateway = gateway.file.as_ref().and_then(|file| file.config_file.clone());
    let file = args.config.clone().or(of_gateway);
    // Other keys of the environment are those of other commands.
    let own = std::env::vars().filter(|(name, _)| name.starts_with("EDDY_EXPORT_"));
    let (_, mut config) = eddy_runtime::config::load::<Config>("export", config::DEFAULTS, file.as_deref(), own)?;
    if let (true, Some(file)) = (config.bundles.as_os_str().is_empty(), &gateway.file) {
        config.bundles = up::bundle::folder(&args.gateway.bus.dir);
        config.trusted_keys.extend(file.trusted_keys.iter().cloned());
    }
    config.policy.raw.extend(args.allow.iter().copied());
    if let Some(purpose) = &args.purpose {
        config.policy.purpose.clone_from(purpose);
    }
    if !args.classes.is_empty() {
        config.classes = args.classes.iter().copied().collect();
    }
    let problems = config.problems();
    if problems.is_empty() { Ok(config) } else { Err(ConfigError { problems }.into()) }
}

/// What an export did.
#[derive(Debug, Serialize)]
struct Summary {
    manifest: Option<String>,
    rows: u64,
    bytes: u64,
    files: u64,
    files_written: u64,
    bytes_written: u64,
    rows_held_max: usize,
    peak_rss_bytes: u64,
    seconds: f64,
    classes: Vec<OfClass>,
}

#[derive(Debug, Serialize)]
struct OfClass {
    class: &'static str,
    ranges: usize,
    messages: u64,
    rows: u64,
    files: usize,
    bytes: u64,
    gaps: usize,
    missing: u64,
    skipped: u64,
}

impl OfClass {
    fn of(class: Class, report: &Report) -> Self {
        let records = &report.records;
        let files = || records.iter().flat_map(|record| &record.files);
        let gaps = || records.iter().flat_map(|record| &record.gaps);
        Self {
            class: class.name(),
            ranges: records.len(),
            messages: records.iter().map(|record| record.messages).sum(),
            rows: records.iter().map(|record| record.rows).sum(),
            files: files().count(),
            bytes: files().map(|file| file.bytes).sum(),
            gaps: gaps().count(),
            missing: gaps().map(|gap| gap.last - gap.first + 1).sum(),
            skipped: records.iter().map(|record| record.skipped).sum(),
        }
    }

    fn line(&self, is_dry: bool) -> String {
        let mut line = format!("{:10} {:>12} rows of {} messages", self.class, self.rows, self.messages);
        if is_dry {
            line += &format!(", {} ranges", self.ranges);
        } else {
            line += &format!(", {} files, {} bytes", self.files, self.bytes);
        }
        if self.missing > 0 {
            line += &format!("; {} sequences are no longer in the stream ({} gaps)", self.missing, self.gaps);
        }
        if self.skipped > 0 {
            line += &format!("; {} messages could not be read", self.skipped);
        }
        line
    }
}

/// The command.
///
/// # Errors
/// What may not leave, what cannot be read or written.
pub async fn run(args: &ExportArgs) -> anyhow::Result<()> {
    let gateway = args.gateway.connect().await?;
    let config = config(args, &gateway)?;
    for class in &config.classes {
        config.policy.check(*class).map_err(Refused)?;
    }
    let heads = config.heads();
    let started = std::time::Instant::now();
    let store = Store::open(args.to.as_deref().unwrap_or_default()).await?;
    let selection = Selection {
        sequences: args.sequences,
        filter: Filter { since: args.since, until: args.until, devices: args.devices.iter().cloned().collect() },
    };
    let progress = if args.json { Progress::default() } else { Progress::bar() };
    let job = Job {
        client: &gateway.client,
        site: &gateway.site,
        store: &store,
        selection: &selection,
        cut: config.cut(false),
        policy: &config.policy,
        heads: &heads,
        dry_run: args.dry_run,
        only_complete_at: None,
        progress: &progress,
    };
    let (mut records, mut classes) = (Vec::new(), Vec::new());
    let (mut files_written, mut bytes_written, mut rows_held_max) = (0, 0, 0);
    for class in config.classes.iter().copied().collect::<BTreeSet<_>>() {
        let report = job.run(class).await?;
        let of_class = OfClass::of(class, &report);
        if !args.json {
            output::line(&of_class.line(args.dry_run));
        }
        classes.push(of_class);
        files_written += report.written;
        bytes_written += report.written_bytes;
        rows_held_max = rows_held_max.max(report.rows_held_max);
        records.extend(report.records);
    }
    let manifest = Manifest::new(&gateway.site, &selection.filter, records);
    let path = if args.dry_run { None } else { Some(manifest.write(&store).await?) };
    let summary = Summary {
        rows: manifest.rows,
        bytes: manifest.bytes,
        files: manifest.records.iter().map(|record| record.files.len() as u64).sum(),
        manifest: path,
        files_written,
        bytes_written,
        rows_held_max,
        peak_rss_bytes: peak_rss_bytes(),
        seconds: started.elapsed().as_secs_f64(),
        classes,
    };
    if args.json {
        output::line(&serde_json::to_string(&summary)?);
    } else {
        output::line(&summary.line());
    }
    Ok(())
}

/// The most memory that this process had, as Linux tells it; 0 elsewhere.
fn peak_rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.and_then(|kilobytes| kilobytes.trim_end_matches("kB").trim().parse::<u64>().ok()).unwrap_or(0) << 10
}

impl Summary {
    fn line(&self) -> String {
        match &self.manifest {
            None => format!("{} rows; nothing was written (--dry-run)", self.rows),
            Some(manifest) => format!(
                "{} rows in {} files of {} bytes, {} of them written now, in {:.2} s; manifest={manifest}",
                self.rows, self.files, self.bytes, self.files_written, self.seconds
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
        let line = |words: &str| Arguments::try_parse_from(words.split(' '));
        assert!(line("export --to x --class alerts,scores --sequences 1..5").is_ok());
        assert!(line("export receipts --to x").is_ok());
        for wrong in [
            "export",
            "export --to x --class alert",
            "export --to x --sequences 5..1",
            "export --to x --since yesterday",
            "export --to x --allow readings",
            "export --to x --allow alerts --purpose y",
        ] {
            assert!(line(wrong).is_err(), "{wrong}");
        }
    }
}
