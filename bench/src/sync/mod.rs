//! What a gateway costs its uplink, and how fast alerts are that share it with bulk: `eddy-bench sync`.
//!
//! A region and its gateways run as `eddy hub up` and `eddy up` would run them, with TLS, on links of
//! [`eddy_fixtures::link`]; what goes over a link is counted there, payloads of TCP in both directions. [`recorded`] is what a
//! gateway's detect says of a recorded fleet; [`cost`] brings it to a region period by period, as it would have come in time;
//! [`full`] fills a slow link and sends alerts past what fills it; [`sites`] is what they run on. How well windows are found that
//! were told in few bytes is computed without any of it ([`eddy_bench::quantized`]).

mod cost;
mod full;
mod recorded;
pub(crate) mod sites;

use std::path::PathBuf;

use anyhow::Result;
use eddy_bench::quantized;
use serde_json::{Value, json};

use crate::load::{binaries::Binaries, unless_stopped};
use cost::Cost;
use full::Full;
use recorded::Recorded;
use sites::Sites;

/// Whose link carries the recording, whose carries nothing, and whose is filled: their places.
const RECORDED: usize = 0;
const IDLE: usize = 1;
const FULL: usize = 2;
/// A period of five minutes takes milliseconds here, and so must what is waited for, so that batches are as they would be.
const COST_CONFIG: &str = "linger_s = 0.005\ncommit_interval_ms = 10";

/// Sync's part of the command line.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct SyncArgs {
    /// A recorded fleet: a folder of .csv.gz files [default: fixtures/fleet of the source]
    #[arg(long, value_name = "DIR")]
    recording: Option<PathBuf>,
    /// How long the slow link is kept full, in seconds
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(10..=3600))]
    seconds: u64,
    /// What the slow link carries each way, in bytes a second
    #[arg(long, default_value_t = 65_536, value_parser = clap::value_parser!(u64).range(1_000..=100_000_000))]
    bytes_per_s: u64,
    /// What the slow link takes each way, in milliseconds
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=2_000))]
    delay_ms: u64,
    /// Only one of the two [default: both]
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Print one JSON object in place of a table
    #[arg(long)]
    json: bool,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Bytes of the recording
    Cost,
    /// Alerts on a full link
    Link,
}

/// Measures, and prints the figures.
///
/// # Errors
/// Whatever keeps it from measuring.
pub(crate) fn run(args: &SyncArgs) -> Result<()> {
    // The supervisor finds them beside this binary.
    Binaries::find()?;
    let recording = args.recording.clone().unwrap_or_else(quantized::fleet);
    say("windows told in few bytes");
    let recalls = quantized::recalls(&recording)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let wants = |part| args.only.is_none_or(|only| only == part);
    let (cost, full) = runtime.block_on(unless_stopped(async {
        let recorded = match wants(Part::Cost) {
            true => {
                say("the recording through a gateway");
                Some(recorded::record(&recording).await?)
            }
            false => None,
        };
        let sites = Sites::start(&recording, [COST_CONFIG, "", ""]).await?;
        let measured = measure(args, &sites, recorded, wants(Part::Link)).await;
        sites.stop().await;
        measured
    }))?;
    let figures = json!({
        "alert_p50_ms": full.as_ref().map(|full| full.alert_ms(0.5)),
        "alert_p99_ms": full.as_ref().map(|full| full.alert_ms(0.99)),
        "alerts": full.as_ref().map(Full::alerts),
        "link_use": full.as_ref().map(|full| full.link_use),
        "link_bytes_per_s": args.bytes_per_s,
        "link_delay_ms": args.delay_ms,
        "bytes_per_device_5min_quiet": cost.map(|cost| cost.quiet),
        "bytes_per_device_5min_mean": cost.map(|cost| cost.mean),
        "bytes_per_device_5min_worst": cost.map(|cost| cost.worst),
        "bytes_per_gateway_5min_idle": cost.map(|cost| cost.idle),
        "devices": cost.map(|cost| cost.devices),
        "periods": cost.map(|cost| cost.periods),
        "reduction_ratio": cost.map(|cost| cost.reduction),
        "recall_ratio_int8": recalls.int8,
        "recall_ratio_pq": recalls.product,
        "vectors": recalls.stored,
    });
    if args.json {
        println!("{figures}")
    } else {
        print!("{}", text(&figures))
    }
    Ok(())
}

async fn measure(
    args: &SyncArgs,
    sites: &Sites,
    recorded: Option<Recorded>,
    link: bool,
) -> Result<(Option<Cost>, Option<Full>)> {
    let (mut cost, mut full) = (None, None);
    if let Some(recorded) = recorded {
        say(&format!("{} periods of it to a region", recorded.periods.len()));
        cost = Some(cost::measure(sites, &recorded).await?);
    }
    if link {
        say(&format!("a link of {} bytes a second, full for {} s", args.bytes_per_s, args.seconds));
        full = Some(full::measure(sites, args).await?);
    }
    Ok((cost, full))
}

/// For people: a figure a line.
pub(crate) fn text(figures: &Value) -> String {
    let lines = figures.as_object().into_iter().flatten().map(|(name, value)| match value.as_f64() {
        Some(number) if !value.is_u64() => format!("{name:<28} {number:>10.3}\n"),
        _ => format!("{name:<28} {value:>10}\n"),
    });
    lines.collect()
}

/// Progress.
fn say(text: &str) {
    eprintln!("eddy-bench: {text}");
}
