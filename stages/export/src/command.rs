//! `eddy export`: the command line.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use eddy_cli::{
    gateway::{BusArgs, Gateway, GatewayFile},
    hub, output, up,
};
use eddy_runtime::{client::Client, config::ConfigError, program};
use eddy_schemas::{Timestamp, names, sync, time_of};

use crate::{
    class::Class,
    config::{self, Config},
    job::{ExportError, Job},
    manifest::Manifest,
    policy::Raw,
    progress::Progress,
    receipts::{self, ReceiptsArgs},
    select::{Filter, Selection},
    source::Source,
    stage::Export,
    store::Store,
    summary::{OfClass, Summary},
};

/// Bad config or a bad command line (sysexits' EX_USAGE).
const EXIT_USAGE: u8 = 64;
/// The commands that every stage has, which `eddy up` gives.
const OF_A_STAGE: [&str; 5] = ["run", "health", "check", "print-config", "recover"];

const AFTER: &str = "\
Examples:
  eddy export --to out                                  embeddings, scores, alerts, contexts and labels, as Parquet
  eddy export --to s3://bucket/plant --class alerts     S3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL …
  eddy export --to out --class readings --allow readings --purpose 'retraining the encoder'
  eddy export --to out --since 2026-01-05T00:00:00Z --device 'pump 1' --dry-run
  eddy export --to region --hub .hub                    alerts, contexts and labels of all sites, as a region's hub has them
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

/// Brings streams out as Parquet, to a folder or S3.
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
    /// Print the summary as one line of JSON (with --hub one for each site), and no progress bar
    #[arg(long)]
    pub json: bool,
    /// The table `export` of this file [default: that which the gateway in --dir runs with]
    #[arg(long, env = "EDDY_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// From a region's hub instead: the folder that `eddy hub up` was started with, or its bus's URL
    #[arg(long, value_name = "DIR|URL")]
    pub hub: Option<String>,
    /// The site [default: that of the gateway in --dir, else site; with --hub, where it may be repeated, all]
    #[arg(long = "site", env = "EDDY_SITE_NAME", value_name = "NAME")]
    pub sites: Vec<String>,
    /// Which gateway
    #[command(flatten)]
    pub bus: BusArgs,
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

/// The config of the gateway, if that is known, with what the command line says of the policy.
///
/// # Errors
/// Every problem of the config.
pub fn config(args: &ExportArgs, gateway: Option<&GatewayFile>) -> anyhow::Result<Config> {
    let of_gateway = gateway.and_then(|file| file.config_file.clone());
    let file = args.config.clone().or(of_gateway);
    // Other keys of the environment are those of other commands.
    let own = std::env::vars().filter(|(name, _)| name.starts_with("EDDY_EXPORT_"));
    let (_, mut config) = eddy_runtime::config::load::<Config>("export", config::DEFAULTS, file.as_deref(), own)?;
    if let (true, Some(file)) = (config.bundles.as_os_str().is_empty(), gateway) {
        config.bundles = up::bundle::folder(&args.bus.dir);
        config.trusted_keys.extend(file.trusted_keys.iter().cloned());
    }
    config.policy.raw.extend(args.allow.iter().copied());
    if let Some(purpose) = &args.purpose {
        config.policy.purpose.clone_from(purpose);
    }
    if !args.classes.is_empty() {
        config.classes = args.classes.iter().copied().collect();
    } else if args.hub.is_some() {
        config.classes.retain(|class| Class::OF_HUB.contains(class));
    }
    let problems = config.problems();
    if problems.is_empty() { Ok(config) } else { Err(ConfigError { problems }.into()) }
}

/// What is exported from.
struct Connected {
    client: Client,
    source: Source,
    sites: Vec<String>,
    /// What is known of how a gateway runs, if it runs on this machine.
    file: Option<GatewayFile>,
}

async fn connect(args: &ExportArgs) -> anyhow::Result<Connected> {
    let Some(place) = &args.hub else {
        anyhow::ensure!(args.sites.len() <= 1, Refused("a gateway has one site; with --hub there may be more".into()));
        let Gateway { client, site, file } = args.bus.connect(args.sites.first().cloned()).await?;
        return Ok(Connected { client, source: Source::Gateway, sites: vec![site], file });
    };
    let client = hub::connect(place).await?;
    let streams = client.streams(sync::STREAM_PREFIX).await?;
    let known: Vec<_> = streams.iter().map(|stream| names::decode(&stream[sync::STREAM_PREFIX.len()..])).collect();
    anyhow::ensure!(!known.is_empty(), "the hub {place} has no stream of a site");
    for site in &args.sites {
        let none = || format!("the hub {place} has no stream of site {site:?}; it has {known:?}");
        anyhow::ensure!(known.contains(site), none());
    }
    let sites = if args.sites.is_empty() { known } else { args.sites.clone() };
    Ok(Connected { client, source: Source::Hub, sites, file: None })
}

/// The command.
///
/// # Errors
/// What may not leave, what cannot be read or written.
pub async fn run(args: &ExportArgs) -> anyhow::Result<()> {
    let from = connect(args).await?;
    let config = config(args, from.file.as_ref())?;
    if config.classes.is_empty() {
        return Err(Refused("a hub has none of export.classes of the config: name some by --class".into()).into());
    }
    for class in &config.classes {
        from.source.check(*class).and_then(|()| config.policy.check(*class)).map_err(Refused)?;
    }
    let store = Store::open(args.to.as_deref().unwrap_or_default()).await?;
    for site in &from.sites {
        if from.source == Source::Hub && !args.json {
            output::line(&format!("site {}", output::printable(site)));
        }
        let summary = export(args, &config, &from, site, &store).await?;
        let line = if args.json { serde_json::to_string(&summary)? } else { summary.line() };
        output::line(&line);
    }
    Ok(())
}

/// One site.
async fn export(
    args: &ExportArgs,
    config: &Config,
    from: &Connected,
    site: &str,
    store: &Store,
) -> Result<Summary, ExportError> {
    let started = std::time::Instant::now();
    let heads = config.heads();
    let selection = Selection {
        sequences: args.sequences,
        filter: Filter { since: args.since, until: args.until, devices: args.devices.iter().cloned().collect() },
    };
    let progress = if args.json { Progress::default() } else { Progress::bar() };
    let job = Job {
        client: &from.client,
        source: from.source,
        site,
        store,
        selection: &selection,
        cut: config.cut(false),
        policy: &config.policy,
        heads: &heads,
        dry_run: args.dry_run,
        only_complete_at: None,
        progress: &progress,
    };
    let (mut records, mut classes) = (Vec::new(), Vec::new());
    let mut lost = None;
    for class in &config.classes {
        let report = match job.run(*class).await {
            // The other classes are none the worse.
            Err(error @ ExportError::Lost { .. }) => {
                lost = lost.or(Some(error));
                continue;
            }
            report => report?,
        };
        let of_class = OfClass::of(*class, &report);
        if !args.json {
            output::line(&of_class.line(args.dry_run));
        }
        classes.push(of_class);
        records.extend(report.records);
    }
    if let Some(error) = lost {
        return Err(error);
    }
    let manifest = Manifest::new(site, &selection.filter, records);
    let path = if args.dry_run { None } else { Some(manifest.write(store).await?) };
    Ok(Summary::new(&manifest, path, classes, started))
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
        assert!(line("export --to x --hub .hub --site a --site b --class alerts").is_ok());
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
