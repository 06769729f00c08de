//! `disk-full`: the file system of streams and state has no room, and then has again.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::Disturb;
use crate::{
    disk::{self, Tmpfs},
    trial::Trial,
};

/// When it fills up, as a share of the recording.
const FULL_AT: f64 = 0.3;
/// How long it stays full: longer than the supervisor needs to see that the server cannot write, with the shipped health_interval_ms.
const FULL_FOR: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct DiskFull(Option<Tmpfs>);

impl Disturb for DiskFull {
    async fn prepare(&mut self, trial: &mut Trial<'_>) -> Result<()> {
        let at = trial.sandbox.dir.join("disk");
        self.0 = Some(Tmpfs::mount(&at)?);
        disk::lay(&trial.sandbox.dir, &at)
    }

    async fn act(&mut self, trial: &mut Trial<'_>) -> Result<()> {
        let disk = self.0.as_ref().context("no disk")?;
        trial.until(FULL_AT).await?;
        disk.fill()?;
        trial.did("disk full");
        let full = Instant::now();
        while full.elapsed() < FULL_FOR {
            trial.pause(Duration::from_millis(100)).await?;
        }
        disk.make_room()?;
        let starts = trial.sandbox.journal_says("nats-server: well again");
        trial.did("room again");
        trial.until(1.0).await?;
        let again = trial.sandbox.journal_says("nats-server: well again") as u64;
        trial.figures.insert("server_restarts".to_owned(), again.into());
        trial.figures.insert("server_restarts_while_full".to_owned(), starts.into());
        if trial.sandbox.logs_say("No space left") + trial.sandbox.logs_say("no space left") == 0 {
            trial.problems.push("nothing that ran said that the disk was full".to_owned());
        }
        Ok(())
    }

    async fn clean(&mut self, _keep: bool) {
        self.0 = None;
    }
}
