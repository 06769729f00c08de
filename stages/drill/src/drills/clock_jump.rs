//! `clock-jump`: the wall clock of the gateway's processes jumps, forward and back.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use eddy_runtime::clock::DRILL_FILE;
use eddy_schemas::Readings;

use super::Disturb;
use crate::{feed, trial::Trial, witness};

/// Between two jumps.
const PAUSE_MS: (u64, u64) = (200, 900);
/// How wrong it may be, in seconds.
const WRONG_S: u64 = 26 * 3_600;
/// What is no delay.
const SEEN_NS: i64 = 600 * 1_000_000_000;

#[derive(Debug, Default)]
pub(super) struct ClockJump {
    file: PathBuf,
    furthest_s: i64,
}

impl ClockJump {
    fn turn(&mut self, seconds: i64) -> Result<()> {
        self.furthest_s = self.furthest_s.max(seconds.abs());
        // In one step: a process that looks now reads the one or the other.
        let draft = self.file.with_extension("draft");
        std::fs::write(&draft, seconds.to_string()).with_context(|| draft.display().to_string())?;
        std::fs::rename(draft, &self.file).with_context(|| self.file.display().to_string())
    }
}

impl Disturb for ClockJump {
    async fn prepare(&mut self, trial: &mut Trial<'_>) -> Result<()> {
        self.file = trial.sandbox.dir.join("clock");
        trial.sandbox.plan.environment.push((DRILL_FILE.to_owned(), self.file.clone().into()));
        self.turn(0)
    }

    async fn act(&mut self, trial: &mut Trial<'_>) -> Result<()> {
        let mut forward = true;
        while !trial.is_fed() {
            trial.pause_between(PAUSE_MS.0, PAUSE_MS.1).await?;
            let wrong = i64::try_from(trial.dice.below(WRONG_S)).unwrap_or(0);
            self.turn(if forward { wrong } else { -wrong })?;
            trial.did(if forward { "jumps forward" } else { "jumps back" });
            forward = !forward;
        }
        trial.figures.insert("clock_wrong_s_max".to_owned(), self.furthest_s.into());
        self.turn(0)
    }

    /// Arrivals are by the wall clock: those of some messages have to be far from when the server stored them.
    async fn after(&mut self, trial: &mut Trial<'_>) -> Result<()> {
        let context = feed::connect(&trial.sandbox.url()).await?;
        let (mut next, mut wrong) = (1, 0_u64);
        let taken = witness::read(&context, "READINGS", &mut next, |_, _, payload, stored| {
            let batch = Readings::decode(payload)?;
            wrong += u64::from(batch.arrival.first().is_some_and(|arrival| (arrival - stored).abs() > SEEN_NS));
            Ok(())
        });
        taken.await?;
        trial.figures.insert("messages_stamped_wrong".to_owned(), wrong.into());
        if wrong == 0 {
            trial.problems.push("no reading was stamped with a wrong time: the clock was not turned".to_owned());
        }
        Ok(())
    }
}
