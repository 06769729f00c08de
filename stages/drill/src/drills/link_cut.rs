//! `link-cut`: the link to the region is cut (connections are reset) and frozen (nothing moves), for a while each time.

use anyhow::Result;
use eddy_fixtures::link::State;

use super::{Disturb, linked::Linked};
use crate::{
    sandbox::config::Config,
    trial::{Kit, Trial},
};

/// With and without a link.
const WITH_MS: (u64, u64) = (200, 900);
const WITHOUT_MS: (u64, u64) = (500, 2_500);

#[derive(Debug, Default)]
pub(super) struct LinkCut(Linked);

impl Disturb for LinkCut {
    async fn before(&mut self, kit: &Kit, config: &mut Config) -> Result<()> {
        self.0.start(kit, "link-cut-region", config).await
    }

    async fn prepare(&mut self, trial: &mut Trial<'_>) -> Result<()> {
        self.0.joins(trial)
    }

    async fn act(&mut self, trial: &mut Trial<'_>) -> Result<()> {
        while !trial.is_fed() {
            trial.pause_between(WITH_MS.0, WITH_MS.1).await?;
            let state = *trial.dice.one_of(&[State::Cut, State::HalfOpen]);
            let link = &self.0.region()?.link;
            link.change(|now| now.state = state);
            let without = trial.pause_between(WITHOUT_MS.0, WITHOUT_MS.1).await;
            if state == State::HalfOpen {
                // A provider that comes back has forgotten its connections.
                link.reset();
            }
            link.change(|now| now.state = State::Through);
            trial.did(if state == State::Cut { "link cut" } else { "link frozen" });
            without?;
        }
        Ok(())
    }

    async fn after(&mut self, trial: &mut Trial<'_>) -> Result<()> {
        self.0.region()?.judge(trial).await.map(drop)
    }

    async fn clean(&mut self, _keep: bool) {
        self.0.stop().await;
    }
}
