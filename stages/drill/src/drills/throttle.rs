//! `throttle`: SIGSTOP and SIGCONT, over every process in turn: each has a small share of the CPU for a while.

use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::Signal;

use super::Disturb;
use crate::trial::Trial;

/// A process stands for so long, runs for so long, and so many times before the next one has its turn.
const STANDS_MS: (u64, u64) = (80, 300);
const RUNS: Duration = Duration::from_millis(20);
const TIMES: u32 = 3;

#[derive(Debug)]
pub(super) struct Throttle;

impl Disturb for Throttle {
    async fn act(&mut self, trial: &mut Trial<'_>) -> Result<()> {
        let mut turn = 0;
        while !trial.is_fed() || turn < trial.sandbox.pids().len() {
            let names: Vec<String> = trial.sandbox.pids().into_keys().collect();
            let Some(name) = names.get(turn % names.len().max(1)) else {
                trial.pause(RUNS).await?;
                continue;
            };
            turn += 1;
            starve(trial, name).await?;
        }
        Ok(())
    }
}

/// Lets a process stand and run in turn, a few times.
///
/// # Errors
/// As [`Trial::pause`].
pub(crate) async fn starve(trial: &mut Trial<'_>, name: &str) -> Result<()> {
    for _ in 0..TIMES {
        if !trial.sandbox.signal(name, Signal::SIGSTOP) {
            break;
        }
        let stood = trial.pause_between(STANDS_MS.0, STANDS_MS.1).await;
        // It goes on whatever happened.
        trial.sandbox.signal(name, Signal::SIGCONT);
        trial.did(format!("{name} stopped for a while"));
        stood?;
        trial.pause(RUNS).await?;
    }
    Ok(())
}
