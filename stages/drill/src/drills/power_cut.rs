//! `power-cut`: at random moments everything dies at once, and all that was written and not synced is gone.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};

use super::Disturb;
use crate::{
    disk,
    lost_write::{LostWrites, Options, Survive},
    trial::{CannotRun, Trial},
};

/// Between two cuts, from when the gateway is up again.
const PAUSE_MS: (u64, u64) = (600, 2_500);

/// As a disk's: cuts come in the middle of syncs too.
const SYNC_TAKES: Duration = Duration::from_millis(3);

#[derive(Debug, Default)]
pub(super) struct PowerCut {
    disk: Option<LostWrites>,
    backing: PathBuf,
    at: PathBuf,
    lost_bytes: u64,
    lost_files: u64,
}

impl PowerCut {
    /// Mounts the disk: with each other cut nothing that is not synced survives, and at the next one what chance lets survive.
    fn mount(&mut self, trial: &mut Trial<'_>, nth: u64) -> Result<()> {
        let survive = if nth.is_multiple_of(2) { Survive::None } else { Survive::Random(trial.dice.below(u64::MAX)) };
        let options = Options { survive, sync_takes: SYNC_TAKES, ..Options::default() };
        let disk = LostWrites::mount_with(&self.backing, &self.at, options).map_err(|problem| {
            if problem.is_unavailable() {
                anyhow::Error::new(CannotRun(format!("a file system that loses writes cannot be mounted: {problem}")))
            } else {
                problem.into()
            }
        })?;
        self.disk = Some(disk);
        Ok(())
    }

    /// Power fails, and is back.
    async fn cut(&mut self, trial: &mut Trial<'_>, nth: u64) -> Result<()> {
        trial.look_away().await;
        let disk = self.disk.take().context("no disk")?;
        // First the disk: a process that is killed ends its sync, and there would be nothing to lose.
        disk.power_off();
        trial.sandbox.kill().await;
        let cut = tokio::task::spawn_blocking(move || disk.cut()).await??;
        self.lost_bytes += cut.bytes;
        self.lost_files += cut.files;
        trial.did("power cut");
        self.mount(trial, nth)?;
        trial.sandbox.start().await.context("after a power cut")?;
        trial.look_again().await;
        Ok(())
    }
}

impl Disturb for PowerCut {
    async fn prepare(&mut self, trial: &mut Trial<'_>) -> Result<()> {
        (self.backing, self.at) = (trial.sandbox.dir.join("disk-backing"), trial.sandbox.dir.join("disk"));
        for folder in [&self.backing, &self.at] {
            std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        self.mount(trial, 0)?;
        disk::lay(&trial.sandbox.dir, &self.at)
    }

    async fn act(&mut self, trial: &mut Trial<'_>) -> Result<()> {
        let mut nth = 0;
        while !trial.is_fed() {
            trial.pause_between(PAUSE_MS.0, PAUSE_MS.1).await?;
            nth += 1;
            self.cut(trial, nth).await?;
        }
        trial.figures.insert("unsynced_bytes_lost".to_owned(), self.lost_bytes.into());
        trial.figures.insert("unsynced_files_lost".to_owned(), self.lost_files.into());
        if self.lost_bytes == 0 {
            trial.problems.push("no cut lost anything: the drill proves nothing".to_owned());
        }
        Ok(())
    }

    async fn clean(&mut self, _keep: bool) {
        let Some(disk) = self.disk.take() else { return };
        // A mount that is busy is detached all the same.
        let _ = tokio::task::spawn_blocking(move || disk.unmount()).await;
    }
}
