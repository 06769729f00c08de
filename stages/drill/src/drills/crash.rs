//! `crash`: SIGKILL of stage processes at random moments, each of them at least once.

use std::collections::BTreeSet;

use anyhow::Result;
use nix::sys::signal::Signal;

use super::Disturb;
use crate::trial::Trial;

/// Between two kills.
const PAUSE_MS: (u64, u64) = (30, 400);

#[derive(Debug, Default)]
pub(super) struct Crash {
    killed: BTreeSet<String>,
}

impl Disturb for Crash {
    async fn act(&mut self, trial: &mut Trial<'_>) -> Result<()> {
        let stages = trial.sandbox.stages();
        while !trial.is_fed() || self.killed.len() < stages.len() {
            trial.pause_between(PAUSE_MS.0, PAUSE_MS.1).await?;
            let left: Vec<&String> = stages.iter().filter(|stage| !self.killed.contains(*stage)).collect();
            // Chance may leave one out: towards the end those have their turn.
            let stage = match left.as_slice() {
                [] => trial.dice.one_of(&stages).clone(),
                left if trial.share() > 0.5 => (*trial.dice.one_of(left)).clone(),
                _ => trial.dice.one_of(&stages).clone(),
            };
            if trial.sandbox.signal(&stage, Signal::SIGKILL) {
                trial.did(format!("{stage} killed"));
                self.killed.insert(stage);
            }
        }
        Ok(())
    }
}
