//! `server-kill`: SIGKILL of nats-server at random moments.

use anyhow::Result;
use nix::sys::signal::Signal;

use super::Disturb;
use crate::{sandbox::SERVER, trial::Trial};

/// Between two kills.
const PAUSE_MS: (u64, u64) = (300, 2_500);

#[derive(Debug)]
pub(super) struct ServerKill;

impl Disturb for ServerKill {
    async fn act(&mut self, trial: &mut Trial<'_>) -> Result<()> {
        while !trial.is_fed() {
            trial.pause_between(PAUSE_MS.0, PAUSE_MS.1).await?;
            if trial.sandbox.signal(SERVER, Signal::SIGKILL) {
                trial.did("server killed");
            }
        }
        Ok(())
    }
}
