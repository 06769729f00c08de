//! Brings wishes about: one of these runs for each gateway.

use std::{path::PathBuf, process::Stdio, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use eddy_runtime::{bundle::Library, client::ClientError, telemetry::Telemetry};
use eddy_schemas::{
    BundleAction, Control, ControlKind, Timestamp,
    models::{self, Desired, Phase, State},
};
use serde::Deserialize;
use tokio::process::Command;

use super::{
    Limits,
    decide::{Done, Next, Rehearsal, next},
    seen::{self, Seen},
    short,
};
use crate::{gateway::Gateway, handed};

/// How often it is looked what is wanted and what is there.
const EVERY: Duration = Duration::from_secs(1);
/// How often a phase that lasts is told again with newer words.
const WORDS_EVERY_NS: i64 = 10_000_000_000;
/// Rows on which it is tried whether a bundle runs at all.
const FIT_ROWS: u64 = 1000;
/// A rehearsal that takes longer is given up: the bundle is refused.
const REHEARSAL_MAX: Duration = Duration::from_secs(1800);

/// What brings wishes about.
pub struct Follower {
    /// The gateway.
    pub gateway: Gateway,
    /// Its bundles.
    pub library: Library,
    /// When a bundle is not taken.
    pub limits: Limits,
    /// The config file that its stages run with.
    pub config_file: Option<PathBuf>,
    /// Where outcomes are counted, if anywhere.
    pub telemetry: Option<Arc<Telemetry>>,
    /// The wish in hand, and what was done for it.
    hand: Option<(u64, Done)>,
    told: Option<State>,
    /// The bundle that a control of this process activated last: until readings come, scores still name the one before.
    activated: Option<String>,
}

/// What `eddy-eval rehearse` prints.
#[derive(Deserialize)]
struct Rehearsed {
    verdict: String,
    #[serde(default)]
    reasons: Vec<String>,
}

impl Follower {
    /// For a gateway, its bundles and its limits.
    pub fn new(gateway: Gateway, library: Library, limits: Limits, config_file: Option<PathBuf>) -> Self {
        Self { gateway, library, limits, config_file, telemetry: None, hand: None, told: None, activated: None }
    }

    /// Follows what is wanted until it is dropped; `tell` hears what happens.
    pub async fn follow(mut self, mut tell: impl FnMut(&str)) {
        let mut last_problem = String::new();
        loop {
            match self.turn(&mut tell).await {
                Ok(()) => last_problem.clear(),
                // The server may be restarting; said once, not every second.
                Err(problem) if last_problem != format!("{problem:#}") => {
                    last_problem = format!("{problem:#}");
                    tell(&last_problem);
                }
                Err(_) => {}
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    async fn turn(&mut self, tell: &mut impl FnMut(&str)) -> Result<()> {
        let Some((sequence, wish)) = seen::wish(&self.gateway).await? else { return Ok(()) };
        if self.told.is_none() {
            self.told = seen::state(&self.gateway).await?;
        }
        if self.hand.as_ref().is_none_or(|(known, _)| *known != sequence) {
            let refused = self.told.as_ref().filter(|told| told.wish == sequence && told.phase == Phase::Refused);
            let refused = refused.map(|told| told.reason.clone());
            self.hand = Some((sequence, Done { refused, ..Done::default() }));
        }
        let seen = Seen::ask(&self.gateway).await?;
        let done = self.hand.as_ref().map(|(_, done)| done.clone()).unwrap_or_default();
        let is_said = self.activated.as_ref().is_none_or(|last| *last == wish.digest);
        let is_active = is_said && seen.active.contains(&wish.digest);
        let is_here = self.library.has(&wish.digest);
        match next(&wish, is_here, is_active, seen.shadow_of(&wish.digest), &done, &self.limits) {
            Next::Rehearse { fit_only } => {
                self.stand(sequence, &wish, Phase::Rehearsing, "it is tried on the newest readings", tell).await?;
                let rehearsal = tokio::select! {
                    rehearsal = self.rehearse(&wish, &seen, fit_only) => Some(rehearsal),
                    // What is wanted now goes before; the rehearsal ends with this.
                    () = self.another(sequence) => None,
                };
                self.remember(|done| done.rehearsal = rehearsal);
            }
            Next::Say(action) => {
                self.say(sequence, &wish.digest, action).await?;
                tell(&format!("models: {} bundle {} was said", action.as_str(), short(&wish.digest)));
                if action == BundleAction::Activate {
                    self.activated = Some(wish.digest.clone());
                }
                self.remember(|done| done.said = Some(action));
            }
            Next::Stand(phase, words) => {
                if phase == Phase::Refused {
                    let reason = words.clone();
                    self.remember(|done| done.refused = Some(reason));
                }
                self.stand(sequence, &wish, phase, &words, tell).await?;
                self.retire(sequence, &wish, &seen).await?;
            }
        }
        Ok(())
    }

    /// Waits until something else is wanted.
    async fn another(&self, sequence: u64) {
        loop {
            tokio::time::sleep(EVERY).await;
            if matches!(seen::wish(&self.gateway).await, Ok(Some((newest, _))) if newest != sequence) {
                return;
            }
        }
    }

    fn remember(&mut self, change: impl FnOnce(&mut Done)) {
        if let Some((_, done)) = &mut self.hand {
            change(done);
        }
    }

    /// Tells how far the wish is, if that is news.
    async fn stand(
        &mut self,
        wish: u64,
        desired: &Desired,
        phase: Phase,
        reason: &str,
        tell: &mut impl FnMut(&str),
    ) -> Result<()> {
        let now = crate::now();
        let before = self.told.as_ref().filter(|told| told.wish == wish && told.phase == phase);
        if before.is_some_and(|told| told.reason == reason || now - told.time < WORDS_EVERY_NS) {
            return Ok(());
        }
        // The time is that of the phase.
        let time = before.map_or(now, |told| told.time);
        let state = State { wish, digest: desired.digest.clone(), phase, reason: reason.to_owned(), time };
        let subject = models::state_subject(&self.gateway.site_token());
        self.gateway.client.publish(&subject, &[], serde_json::to_vec(&state)?.into()).await?;
        if before.is_none() {
            self.count(phase);
            tell(&format!(
                "models: bundle {}, wanted by {}: {phase:?}: {reason}",
                short(&state.digest),
                desired.origin
            ));
        }
        self.told = Some(state);
        Ok(())
    }

    /// A wish has come to its end.
    fn count(&self, phase: Phase) {
        let outcome = match phase {
            Phase::Active => "active",
            Phase::Refused => "refused",
            _ => return,
        };
        self.telemetry.iter().for_each(|telemetry| telemetry.rollout(outcome, 1));
    }

    /// Ends what runs in the shadow though nobody wants it any more: a trial that was given up, at once; the one before, once the
    /// wished one has judged for long enough.
    async fn retire(&mut self, sequence: u64, wish: &Desired, seen: &Seen) -> Result<()> {
        let ended = |told: &&State| matches!(told.phase, Phase::Active | Phase::Refused);
        let Some(told) = self.told.as_ref().filter(ended) else { return Ok(()) };
        let after = (self.limits.retire_after_h * 3.6e12) as Timestamp;
        let is_due = told.phase == Phase::Active && after > 0 && crate::now() - told.time >= after;
        let retired = self.hand.as_ref().map(|(_, done)| done.retired.clone()).unwrap_or_default();
        for old in seen.shadow.iter().filter(|old| old.bundle != wish.digest && (is_due || !old.was_active)) {
            if !retired.contains(&old.bundle) {
                self.say(sequence, &old.bundle, BundleAction::Retire).await?;
                self.remember(|done| done.retired.push(old.bundle.clone()));
            }
        }
        Ok(())
    }

    async fn say(&self, wish: u64, digest: &str, action: BundleAction) -> Result<(), ClientError> {
        let time = crate::now();
        let kind = ControlKind::Bundle { digest: digest.to_owned(), action };
        // The same however often it is said for one wish.
        let id = format!("models-{wish}-{}-{}", action.as_str(), short(digest));
        let control = Control { id, origin: "models".into(), time, kind };
        self.gateway.say(&control).await.map(drop)
    }

    /// Verifies the bundle, and runs it beside the active one over the newest readings.
    async fn rehearse(&self, wish: &Desired, seen: &Seen, fit_only: bool) -> Rehearsal {
        match self.rehearsed(wish, seen, fit_only).await {
            Ok(rehearsal) => rehearsal,
            Err(problem) => Rehearsal::Refused(format!("{problem:#}")),
        }
    }

    async fn rehearsed(&self, wish: &Desired, seen: &Seen, fit_only: bool) -> Result<Rehearsal> {
        self.library.open(&wish.digest)?;
        let new = self.library.place(&wish.digest)?;
        // Where nothing was judged yet, or nobody wants to know, it is beside itself, and tried whether it runs.
        let active = seen.active.first().filter(|active| !fit_only && self.library.has(active));
        let old = self.library.place(active.unwrap_or(&wish.digest))?;
        let rows = if active.is_some() { self.limits.rehearsal_rows } else { FIT_ROWS };
        let mut command = Command::new(handed::binary(handed::EVAL)?);
        command.arg("rehearse").arg("--old").arg(old).arg("--new").arg(new).arg("--json");
        command.args(["--rows", &rows.to_string()]);
        command.args(["--alerts-factor", &self.limits.alerts_factor.to_string()]);
        command.args(["--budget-us", &self.limits.window_budget_us.to_string()]);
        command.args(["--url", self.gateway.client.url(), "--site", &self.gateway.site]);
        if let Some(config) = &self.config_file {
            command.arg("--config").arg(config);
        }
        let running = command.stdin(Stdio::null()).kill_on_drop(true).output();
        let ran = tokio::time::timeout(REHEARSAL_MAX, running).await;
        let ran =
            ran.with_context(|| format!("the rehearsal took longer than {REHEARSAL_MAX:?}"))?.context("eddy-eval")?;
        let last = ran.stdout.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty()).unwrap_or_default();
        let Ok(rehearsed) = serde_json::from_slice::<Rehearsed>(last) else {
            let said = String::from_utf8_lossy(&ran.stderr);
            let said = said.trim().lines().next_back().unwrap_or("nothing").to_owned();
            anyhow::bail!("the rehearsal failed: {said}");
        };
        let reasons = rehearsed.reasons.join("; ");
        Ok(match rehearsed.verdict.as_str() {
            "refused" => Rehearsal::Refused(format!("rehearsed: {reasons}")),
            verdict => Rehearsal::Passed(format!("{verdict}: {reasons}")),
        })
    }
}
