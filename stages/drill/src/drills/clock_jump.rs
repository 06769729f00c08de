//! `clock-jump`: the wall clock of the gateway's processes jumps, forward and back.
//!
//! What comes by INGEST is stamped by the server, whose clock is not turned. A probe comes to capture directly, which stamps it by the
//! clock that is: so it is seen that it was.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use async_nats::jetstream;
use eddy_runtime::clock::DRILL_FILE;
use eddy_schemas::{Readings, names, rfc3339};

use super::Disturb;
use crate::{feed, trial::Trial, witness};

/// Between two jumps.
const PAUSE_MS: (u64, u64) = (200, 900);
/// How wrong it may be, in seconds.
const WRONG_S: u64 = 26 * 3_600;
/// What is no delay.
const SEEN_NS: i64 = 600 * 1_000_000_000;

/// Who comes to capture directly.
const PROBE: &str = "clock-probe";

#[derive(Debug, Default)]
pub(super) struct ClockJump {
    probes: i64,
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

    /// A reading that capture stamps. It stands in no books: a series is scored from its commissioning's last row on, and has too few.
    async fn probe(&mut self, trial: &mut Trial<'_>, context: &jetstream::Context) -> Result<()> {
        self.probes += 1;
        let time = trial.kit.recording.span().0 + self.probes * 1_000_000_000;
        let subject = format!("direct.{}.{PROBE}", names::encode(&trial.sandbox.plan.site));
        let payload = format!(r#"{{"time":"{}","level":1}}"#, rfc3339(time));
        let answer = context.client().request(subject, payload.into()).await.context("capture does not answer")?;
        let is_refused = answer.headers.is_some_and(|headers| headers.get("Nats-Service-Error-Code").is_some());
        ensure!(!is_refused, "capture refuses a probe: {}", String::from_utf8_lossy(&answer.payload));
        Ok(())
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
        let context = feed::connect(&trial.sandbox.url()).await?;
        while !trial.is_fed() {
            trial.pause_between(PAUSE_MS.0, PAUSE_MS.1).await?;
            let wrong = i64::try_from(trial.dice.below(WRONG_S)).unwrap_or(0);
            self.turn(if forward { wrong } else { -wrong })?;
            trial.did(if forward { "jumps forward" } else { "jumps back" });
            forward = !forward;
            self.probe(trial, &context).await?;
        }
        trial.figures.insert("clock_wrong_s_max".to_owned(), self.furthest_s.into());
        self.turn(0)
    }

    /// The probes' arrivals have to be far from when the server stored them.
    async fn after(&mut self, trial: &mut Trial<'_>) -> Result<()> {
        let context = feed::connect(&trial.sandbox.url()).await?;
        let (mut next, mut wrong) = (1, 0_u64);
        let taken = witness::read(&context, "READINGS", &mut next, |_, _, payload, stored| {
            let batch = Readings::decode(payload)?;
            let is_wrong = |arrival: &&i64| (**arrival - stored).abs() > SEEN_NS;
            wrong += batch.arrival.iter().filter(is_wrong).count() as u64;
            Ok(())
        });
        taken.await?;
        trial.figures.insert("readings_stamped_wrong".to_owned(), wrong.into());
        if wrong == 0 {
            trial.problems.push("no reading was stamped with a wrong time: the clock was not turned".to_owned());
        }
        Ok(())
    }
}
