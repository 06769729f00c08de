//! How fast the region answers a gateway: `eddy-bench hub`.
//!
//! A hub and three gateways run as `eddy hub up` and `eddy up` run them, with TLS; [`fill`] brings recorded windows to the hub as
//! their syncs would; [`ask`] asks a gateway for the nearest ones, whose sync passes the question on over a link that takes its time.

mod ask;
mod fill;

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;

use crate::{
    ann::RecordedWindows,
    load::{binaries::Binaries, figures::rounded, unless_stopped},
    sync::sites::Sites,
};
use ask::Asked;

/// Hub's part of the command line.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct HubArgs {
    /// Windows that the region holds
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1_000..=10_000_000))]
    n: u64,
    /// How many others are asked for
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(10..=100_000))]
    queries: u64,
    /// What the link takes each way, in milliseconds
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(0..=2_000))]
    delay_ms: u64,
    /// How long the hub may build segments before it is asked, in seconds
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(0..=36_000))]
    settle_s: u64,
    #[command(flatten)]
    windows: RecordedWindows,
    /// Print one JSON object in place of a table
    #[arg(long)]
    json: bool,
}

/// Measures, and prints the figures.
///
/// # Errors
/// Whatever keeps it from measuring.
pub(crate) fn run(args: &HubArgs) -> Result<()> {
    // The supervisor finds them beside this binary.
    Binaries::find()?;
    let (n, queries) = (args.n as usize, args.queries as usize);
    let split = args.windows.split(n, queries)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let figures = runtime.block_on(unless_stopped(async {
        let sites = Sites::start(&eddy_bench::quantized::fleet(), [""; 3]).await?;
        let measured = async {
            say(&format!("{n} windows of {} sites to the region", sites.sites.len()));
            let began = Instant::now();
            fill::fill(&sites, &split).await?;
            ask::until_merged(&sites, &split, n as u64).await?;
            let merged_per_s = n as f64 / began.elapsed().as_secs_f64();
            say(&format!("merged; {} s to build", args.settle_s));
            tokio::time::sleep(Duration::from_secs(args.settle_s)).await;
            say(&format!("{queries} questions over a link of {} ms each way", args.delay_ms));
            let asked = ask::measure(&sites, &split, args.delay_ms).await?;
            anyhow::Ok((merged_per_s, asked))
        };
        let measured = measured.await;
        sites.stop().await;
        let (merged_per_s, Asked { searched, exact, recall }) = measured?;
        Ok(json!({
            "n": n,
            "sites": 3,
            "dimensions": split.dimensions,
            "delay_ms": args.delay_ms,
            "merged_per_s": rounded(merged_per_s),
            "p50_ms": rounded(searched.quantile(0.5)),
            "p99_ms": rounded(searched.quantile(0.99)),
            "exact_p50_ms": rounded(exact.quantile(0.5)),
            "exact_p99_ms": rounded(exact.quantile(0.99)),
            "recall_at_10": rounded(recall),
        }))
    }))?;
    if args.json {
        println!("{figures}")
    } else {
        print!("{}", crate::sync::text(&figures))
    }
    Ok(())
}

/// Progress.
fn say(text: &str) {
    eprintln!("eddy-bench: {text}");
}
