//! What is done to a gateway that runs: one thing after the other, at random.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use async_nats::jetstream;
use eddy_cli::up::bundle;
use eddy_fixtures::link::State;
use eddy_runtime::dead_letter::DeadLetter;
use nix::sys::signal::Signal;

use crate::{
    drills::{
        Disturb as _,
        bad_model::{BAD, BadModel},
        poison::Poison,
        throttle::starve,
    },
    feed,
    judge::Run,
    region::Region,
    sandbox::{SERVER, config::Config},
    trial::{Kit, Trial},
};

/// Between two of them.
const PAUSE: (Duration, Duration) = (Duration::from_secs(4), Duration::from_secs(16));
/// How long the link is away.
const WITHOUT_LINK: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));
/// Pieces of rubbish at a time.
const PIECES: u32 = 5;

#[derive(Clone, Copy, Debug)]
enum Strike {
    Crash,
    ServerKill,
    Throttle,
    Poison,
    LinkCut,
    BadModel,
}

const ALL: [Strike; 6] =
    [Strike::Crash, Strike::ServerKill, Strike::Throttle, Strike::Poison, Strike::LinkCut, Strike::BadModel];

/// All that strikes.
pub(super) struct Strikes {
    region: Option<Region>,
    models: BadModel,
    poison: Poison,
    context: Option<jetstream::Context>,
    due: Instant,
    link_back: Option<Instant>,
    offered: usize,
}

impl Strikes {
    /// Before there is a sandbox: what is other in its config.
    pub(super) async fn before(kit: &Kit, config: &mut Config) -> Result<Self> {
        let mut models = BadModel::new(kit.dir.join("soak-bundles"));
        models.before(kit, config).await?;
        let region = Region::start(kit, &kit.dir.join("soak-region"), config).await?;
        Ok(Self {
            region: Some(region),
            models,
            poison: Poison::default(),
            context: None,
            due: Instant::now() + PAUSE.0,
            link_back: None,
            offered: 0,
        })
    }

    /// The region's memory counts too.
    pub(super) fn join(&self, trial: &mut Trial<'_>) -> Result<()> {
        trial.machines.push(self.region()?.machine());
        Ok(())
    }

    /// When the sandbox runs.
    pub(super) async fn ready(&mut self, trial: &Trial<'_>) -> Result<()> {
        self.models.make(&bundle::default_place(&trial.sandbox.dir)).await?;
        self.context = Some(feed::connect(&trial.sandbox.url()).await?);
        Ok(())
    }

    fn region(&self) -> Result<&Region> {
        self.region.as_ref().context("the region does not run")
    }

    /// Strikes, and mends what was struck, each in its time.
    pub(super) async fn strike_if_due(&mut self, trial: &mut Trial<'_>) -> Result<()> {
        if self.link_back.is_some_and(|back| back <= Instant::now()) {
            self.mend();
        }
        if self.due > Instant::now() {
            return Ok(());
        }
        match *trial.dice.one_of(&ALL) {
            Strike::Crash => {
                let stages = trial.sandbox.stages();
                if !stages.is_empty() {
                    let stage = trial.dice.one_of(&stages).clone();
                    kill(trial, &stage);
                }
            }
            Strike::ServerKill => kill(trial, SERVER),
            Strike::Throttle => {
                let names: Vec<String> = trial.sandbox.pids().into_keys().collect();
                if !names.is_empty() {
                    let name = trial.dice.one_of(&names).clone();
                    starve(trial, &name).await?;
                }
            }
            Strike::Poison => self.poison(trial).await?,
            Strike::LinkCut => self.cut(trial)?,
            Strike::BadModel => {
                self.offered += 1;
                self.models.offer(trial, BAD[self.offered % BAD.len()]).await?;
            }
        }
        self.due = Instant::now() + trial.dice.between(PAUSE.0, PAUSE.1);
        Ok(())
    }

    async fn poison(&mut self, trial: &mut Trial<'_>) -> Result<()> {
        let context = self.context.clone().context("no connection")?;
        for _ in 0..PIECES {
            // A server that was just killed is back in a moment.
            if self.poison.one(&context, trial).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    fn cut(&mut self, trial: &mut Trial<'_>) -> Result<()> {
        let state = *trial.dice.one_of(&[State::Cut, State::HalfOpen]);
        self.region()?.link.change(|now| now.state = state);
        self.link_back = Some(Instant::now() + trial.dice.between(WITHOUT_LINK.0, WITHOUT_LINK.1));
        trial.did("link away for a while");
        Ok(())
    }

    /// The link is there again.
    pub(super) fn mend(&mut self) {
        self.link_back = None;
        if let Some(region) = &self.region {
            region.link.change(|now| now.state = State::Through);
            region.link.reset();
        }
    }

    /// Keeps what the region is to have, before the gateway's streams drop it.
    pub(super) async fn remember(&self, trial: &Trial<'_>) -> Result<()> {
        self.region()?.remember(trial).await;
        Ok(())
    }

    /// Whether the region has all of it; what is wrong goes to the trial's problems.
    pub(super) async fn judge_region(&self, trial: &mut Trial<'_>) -> Result<()> {
        self.region()?.judge(trial).await.map(drop)
    }

    /// When the sandbox is stopped.
    pub(super) async fn after(&mut self) {
        if let Some(region) = self.region.take() {
            region.stop().await;
        }
    }

    /// When all is read.
    pub(super) fn check(&mut self, trial: &mut Trial<'_>, run: &Run, letters: &[DeadLetter]) {
        self.poison.check(trial, run, letters);
    }
}

fn kill(trial: &mut Trial<'_>, name: &str) {
    if trial.sandbox.signal(name, Signal::SIGKILL) {
        trial.did(format!("{name} killed"));
    }
}
