//! What drills with a region have in common.

use anyhow::{Context as _, Result};

use crate::{
    region::Region,
    sandbox::config::Config,
    trial::{Kit, Trial},
};

/// A region, once it runs.
#[derive(Debug, Default)]
pub(super) struct Linked(Option<Region>);

impl Linked {
    /// Starts it in a folder of this name.
    pub(super) async fn start(&mut self, kit: &Kit, name: &str, config: &mut Config) -> Result<()> {
        self.0 = Some(Region::start(kit, &kit.dir.join(name), config).await?);
        Ok(())
    }

    /// Its processes count too.
    pub(super) fn joins(&self, trial: &mut Trial<'_>) -> Result<()> {
        trial.machines.push(self.region()?.machine());
        Ok(())
    }

    /// The region.
    pub(super) fn region(&self) -> Result<&Region> {
        self.0.as_ref().context("the region does not run")
    }

    /// Stops it.
    pub(super) async fn stop(&mut self) {
        if let Some(region) = self.0.take() {
            region.stop().await;
        }
    }
}
