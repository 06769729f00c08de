//! `eddy-bench`: quality of detection on the made-up fleet. The public benchmarks are `eddy eval`'s.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};
use eddy_bench::{fleet, pipeline::Settings};

#[derive(Debug, Parser)]
#[command(
    version,
    about,
    after_help = "Examples:
  eddy-bench fleet fixtures/fleet --set detect.alerts_per_day=2.0"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the recorded fleet and tells which of its faults are found.
    Fleet {
        /// Folder of the recording, with its truth.json.
        data: PathBuf,
        #[command(flatten)]
        settings: Settings,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Fleet { data, settings } => fleet::run(&settings, &data),
    }
}
