//! How fast and how small an export is, and what it takes: `eddy-bench export`.
//!
//! READINGS of a gateway, whose stages stand still, are filled by hand; `eddy-export` brings a tenth of them and then all of them to
//! Parquet; and the same job in Python, with nats-py and pyarrow, does it beside, from the same server to the same disk.

mod fill;

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use eddy_cli::{handed, up};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::load::{binaries::Binaries, figures::rounded, peer, unless_stopped};

/// The site of the measurement.
const SITE: &str = "bench";
/// How long the peer may take.
const PEER_TIMEOUT: Duration = Duration::from_secs(1_200);

/// Export's part of the command line.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ExportArgs {
    /// Rows of the larger range; the other one has a tenth
    #[arg(long, default_value_t = 5_000_000, value_parser = clap::value_parser!(u64).range(20_000..=100_000_000))]
    rows: u64,
    /// Leave the Python peer out
    #[arg(long)]
    no_peer: bool,
    /// Print one JSON object in place of a table
    #[arg(long)]
    json: bool,
}

/// What an export says of itself, eddy's or the peer's.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Ran {
    rows: u64,
    bytes: u64,
    seconds: f64,
    peak_rss_bytes: u64,
}

/// Measures, and prints the figures.
///
/// # Errors
/// Whatever keeps it from measuring.
pub(crate) fn run(args: &ExportArgs) -> Result<()> {
    Binaries::find()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let figures = runtime.block_on(unless_stopped(measure(args)))?;
    if args.json {
        println!("{figures}")
    } else {
        print!("{}", crate::sync::text(&figures))
    }
    Ok(())
}

async fn measure(args: &ExportArgs) -> Result<Value> {
    let folder = tempfile::Builder::new().prefix("eddy-bench-export-").tempdir()?;
    let config = folder.path().join("bench.toml");
    std::fs::write(&config, "[gateway]\nstore_mb_max = 16384\n[gateway.streams]\nreadings_mb = 8192\n")?;
    let mut plan = up::Plan::load(&folder.path().join("gateway"), Some(&config))?;
    SITE.clone_into(&mut plan.site);
    plan.config.machine.listen_on(0);
    plan.loud = false;
    let mut running = up::Running::start(&plan).await?;
    running.stop_stages().await;
    let measured = with(args, &running, folder.path()).await;
    running.stop().await;
    measured
}

async fn with(args: &ExportArgs, running: &up::Running, folder: &Path) -> Result<Value> {
    let url = running.machine.file().url;
    say(&format!("{} rows into READINGS", args.rows));
    let filled = fill::fill(&running.gateway.client, SITE, args.rows).await?;
    say("a tenth of them to Parquet");
    let tenth = export(&url, folder, filled.messages / 10).await?;
    say("all of them");
    let all = export(&url, folder, filled.messages).await?;
    ensure!(all.rows == filled.rows, "{} of {} rows were exported", all.rows, filled.rows);
    let peer = if args.no_peer { None } else { Some(peer(&url, folder, filled.messages).await?) };
    ensure!(peer.is_none_or(|peer| peer.rows == all.rows), "the peer exported other rows: {peer:?}");
    let per_s = |ran: Ran| ran.rows as f64 / ran.seconds;
    Ok(json!({
        "rows": all.rows,
        "rows_per_s": rounded(per_s(all)),
        "mb_per_s": rounded(filled.stream_bytes as f64 / 1e6 / all.seconds),
        "parquet_mb": rounded(all.bytes as f64 / 1e6),
        "stream_mb": rounded(filled.stream_bytes as f64 / 1e6),
        "bytes_per_row": rounded(all.bytes as f64 / all.rows as f64),
        "ratio_to_json": rounded(filled.json_bytes as f64 / all.bytes as f64),
        "peak_rss_mb": rounded(tenth.peak_rss_bytes as f64 / 1e6),
        "peak_rss_mb_10x": rounded(all.peak_rss_bytes as f64 / 1e6),
        "peer_rows_per_s": peer.map(|peer| rounded(per_s(peer))),
        "peer_parquet_mb": peer.map(|peer| rounded(peer.bytes as f64 / 1e6)),
        "peer_peak_rss_mb": peer.map(|peer| rounded(peer.peak_rss_bytes as f64 / 1e6)),
    }))
}

/// The first messages, as an operator would export them.
async fn export(url: &str, folder: &Path, messages: u64) -> Result<Ran> {
    let to = tempfile::tempdir_in(folder)?;
    let mut command = Command::new(handed::binary(handed::EXPORT)?);
    command.arg("--to").arg(to.path()).args(["--json", "--url", url, "--site", SITE, "--class", "readings"]);
    command.args(["--allow", "readings", "--purpose", "a measurement", "--sequences", &format!("1..{messages}")]);
    peer::figures(command.stderr(Stdio::inherit()), PEER_TIMEOUT, folder).await.context("eddy-export")
}

async fn peer(url: &str, folder: &Path, messages: u64) -> Result<Ran> {
    let environment = peer::environment("py-peer", "requirements.txt", peer::Install::All).await?;
    say("the same in Python");
    let to = tempfile::tempdir_in(folder)?;
    let mut command = Command::new(environment.python);
    command.arg(peer::folder().join("export.py")).args(["--url", url, "--subject", &format!("readings.{SITE}.0")]);
    command.args(["--last", &messages.to_string(), "--site", SITE, "--to"]).arg(to.path());
    peer::figures(&mut command, PEER_TIMEOUT, folder).await.context("the peer")
}

/// Progress.
fn say(text: &str) {
    eprintln!("eddy-bench: {text}");
}
