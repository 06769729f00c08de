//! `eddy-bench`: load on a real gateway, quality of detection on the made-up fleet, the index of windows beside others, and the way to the
//! region. The public benchmarks are `eddy eval`'s.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};
use eddy_bench::{
    episodes::{self, EpisodesArgs},
    fleet,
    pipeline::Settings,
};

mod all;
mod ann;
mod checkout;
mod compare;
mod curves;
mod export;
mod heap;
mod hub;
mod load;
mod runner;
mod sync;

#[derive(Debug, Parser)]
#[command(
    version,
    about,
    after_help = "Examples:
  eddy-bench all
  eddy-bench compare HEAD~1
  eddy-bench curves --draw
  eddy-bench latency --json
  eddy-bench throughput
  eddy-bench footprint --series 30000
  eddy-bench recover --series 30000
  eddy-bench heap --series 999
  eddy-bench ann --n 10000,100000
  eddy-bench sync --json
  eddy-bench hub --n 1000000
  eddy-bench export --json
  eddy-bench fleet fixtures/fleet --set detect.alerts_per_day=2.0
  eddy-bench fleet fixtures/fleet --episodes --seeds 101,102,103 --json"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measures every figure that is to be reached, and prints one table.
    All(all::AllArgs),
    /// Measures this build and another commit in turn, and tells what differs beyond the noise.
    Compare(compare::CompareArgs),
    /// Measures how figures change with series, history, uptime and shards, and draws that.
    Curves(curves::CurvesArgs),
    /// Runs the recorded fleet and tells which of its faults are found.
    Fleet {
        /// Folder of the recording, with its truth.json.
        data: PathBuf,
        /// Tells instead how many faults' alerts find an earlier one of the same fault on another device first
        #[command(flatten)]
        episodes: EpisodesArgs,
        #[command(flatten)]
        settings: Settings,
    },
    /// Measures sensor to alert on a whole gateway, beside a bare four-hop floor.
    Latency(load::LatencyArgs),
    /// Measures readings made durable and windows scored a second, beside the same design in Python.
    Throughput(load::ThroughputArgs),
    /// Measures memory, idle and loaded, and the cost of a window over a day of event time.
    Footprint(load::FootprintArgs),
    /// Measures how many bytes of the heap a series costs in embed and detect.
    Heap(heap::HeapArgs),
    /// Measures how long it takes until the first alert: from an empty folder, after kills, after an hour's backlog.
    Recover(load::RecoverArgs),
    /// Measures what traces cost: the same rows with and without them, in turns.
    Traces(load::TracesArgs),
    /// Measures the index of windows while it is written and when it is built, beside other libraries.
    Ann(ann::AnnArgs),
    /// Measures what a gateway costs its uplink, and how fast alerts are on one that bulk has filled.
    Sync(sync::SyncArgs),
    /// Measures how fast the region answers a gateway over a slow link.
    Hub(hub::HubArgs),
    /// Measures how fast and how small streams become Parquet, beside the same job in Python.
    Export(export::ExportArgs),
    /// The index under measurement, in a process of its own; `ann` starts it.
    #[command(hide = true)]
    AnnStore(ann::StoreArgs),
    /// A process of the floor; `latency` starts it.
    #[command(hide = true)]
    FloorHop(load::HopArgs),
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::All(args) => all::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Curves(args) => curves::run(&args),
        Command::Fleet { data, episodes, settings } if episodes.episodes => episodes::run(&settings, &data, &episodes),
        Command::Fleet { data, settings, .. } => fleet::run(&settings, &data),
        Command::Latency(args) => load::run(load::Load::Latency(args)),
        Command::Throughput(args) => load::run(load::Load::Throughput(args)),
        Command::Footprint(args) => load::run(load::Load::Footprint(args)),
        Command::Heap(args) => heap::run(&args),
        Command::Recover(args) => load::run(load::Load::Recover(args)),
        Command::Traces(args) => load::run(load::Load::Traces(args)),
        Command::Ann(args) => ann::run(&args),
        Command::Hub(args) => hub::run(&args),
        Command::Sync(args) => sync::run(&args),
        Command::Export(args) => export::run(&args),
        Command::AnnStore(args) => ann::run_store(&args),
        Command::FloorHop(args) => load::run(load::Load::Hop(args)),
    }
}
