//! Recorded windows for measurements other than `ann`.

use std::path::PathBuf;

use anyhow::Result;
use eddy_bench::{
    embedded::Wanted,
    pipeline::{Pipeline, Settings},
};

use super::{cache, recorded::Recorded, windows::Windows};

/// Where windows come from.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct RecordedWindows {
    /// Components of a vector; past those of the bundle's learned head, that of windows one behind another, joined
    #[arg(long, default_value_t = 16)]
    dimensions: usize,
    /// Folder that holds any of nab, skab, gecco, telemetry, ucr; where it has none, the made-up fleet is taken
    #[arg(long, env = "EDDY_DATA", default_value = "../shared/data")]
    data: PathBuf,
    /// Bundle and configuration.
    #[command(flatten)]
    settings: Settings,
}

/// Vectors to store, and others to ask for, one behind the other.
pub(crate) struct Queried {
    pub(crate) dimensions: usize,
    pub(crate) queries: Vec<f32>,
    pub(crate) base: Vec<f32>,
}

impl RecordedWindows {
    /// `n` to store, with noisy copies where there are too few, and `queries` to ask for.
    pub(crate) fn split(&self, n: usize, queries: usize) -> Result<Queried> {
        let wanted = Wanted { head: "learned".into(), dimensions: self.dimensions };
        let pipeline = Pipeline::new(&self.settings)?;
        let recorded = Recorded::find(&self.data)?;
        let windows = Windows::get(&pipeline, &wanted, &recorded, n + queries, &cache())?;
        let split = windows.split(n, queries);
        Ok(Queried { dimensions: self.dimensions, queries: split.queries, base: split.base })
    }
}
