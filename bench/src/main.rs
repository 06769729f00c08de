//! `eddy-bench`: quality of detection on recorded streams with labels, run by the pipeline's own code.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod chain;
mod fleet;
mod nab;
mod skab;
mod table;

#[derive(Debug, Parser)]
#[command(
    version,
    about,
    after_help = "Examples:
  eddy-bench eval DATA --out results      then: scorers/nab_score.py results/nab --labels DATA/nab/combined_windows.json
  eddy-bench fleet fixtures/fleet --set alerts_per_day=2.0"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the public benchmarks and writes result files for their scorers.
    Eval {
        /// Folder that holds `nab` and `skab`.
        data: PathBuf,
        /// Where results go.
        #[arg(long)]
        out: PathBuf,
        /// One of `nab`, `skab`; both if left out.
        #[arg(long)]
        only: Option<String>,
        #[command(flatten)]
        settings: chain::Settings,
    },
    /// Runs the recorded fleet and tells which of its faults are found.
    Fleet {
        /// Folder of the recording, with its truth.json.
        data: PathBuf,
        #[command(flatten)]
        settings: chain::Settings,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Eval { data, out, only, settings } => {
            let wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
            if wanted("nab") {
                nab::run(&settings, &data.join("nab"), &out)?;
            }
            if wanted("skab") {
                skab::run(&settings, &data.join("skab"), &out)?;
            }
            Ok(())
        }
        Command::Fleet { data, settings } => fleet::run(&settings, &data),
    }
}
