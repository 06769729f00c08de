//! One run of a recording through a sandbox, and what is done to it meanwhile.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use eddy_runtime::dead_letter::DeadLetter;
use serde_json::Value;

use crate::{
    dice::Dice,
    feed::{Books, Feeding},
    judge::Run,
    ledger::Ledger,
    recording::Recording,
    report::Progress,
    sandbox::{Sandbox, config::Config},
    witness::{Watching, Witness},
};

/// A drill that cannot run on this machine, and why.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CannotRun(pub String);

/// What all runs share.
#[derive(Debug)]
pub struct Kit {
    /// The installed config, without what leads outside.
    pub config: Config,
    /// What is fed.
    pub recording: Arc<Recording>,
    /// How long that takes where it is disturbed.
    pub over: Duration,
    /// What is on time.
    pub on_time: Duration,
    /// What is random follows from it.
    pub seed: u64,
    /// Where the sandboxes lie.
    pub dir: PathBuf,
    /// Whether their folders stay.
    pub keep: bool,
    /// For people who wait.
    pub progress: Progress,
}

/// A run.
#[derive(Debug)]
pub struct Trial<'a> {
    /// What all runs share.
    pub kit: &'a Kit,
    /// Where it goes through.
    pub sandbox: Sandbox,
    /// What was offered, and became of it.
    pub books: Books,
    /// Chance.
    pub dice: Dice,
    /// What was done, how often.
    pub done: BTreeMap<String, u64>,
    /// What else was measured.
    pub figures: serde_json::Map<String, Value>,
    /// What is wrong beside the judgement.
    pub problems: Vec<String>,
    /// Folders and files of further machines, whose memory counts.
    pub machines: Vec<(PathBuf, &'static str)>,
    watching: Option<Watching>,
    feeding: Option<Feeding>,
}

impl<'a> Trial<'a> {
    /// A run called `name`, with this config.
    ///
    /// # Errors
    /// If the sandbox cannot be made.
    pub fn new(kit: &'a Kit, name: &str, config: &Config) -> Result<Self> {
        let dir = kit.dir.join(name);
        let ledger = Ledger::new(i64::try_from(kit.on_time.as_nanos()).unwrap_or(i64::MAX));
        Ok(Self {
            kit,
            sandbox: Sandbox::new(&dir, config)?,
            books: Arc::new(Mutex::new(ledger)),
            dice: Dice::new(kit.seed),
            done: BTreeMap::new(),
            figures: serde_json::Map::new(),
            problems: Vec::new(),
            machines: Vec::new(),
            watching: None,
            feeding: None,
        })
    }

    /// Starts sandbox and witness.
    ///
    /// # Errors
    /// If they do not start.
    pub async fn start(&mut self) -> Result<()> {
        self.sandbox.start().await?;
        let (url, site) = (self.sandbox.url(), self.sandbox.plan.site.clone());
        let witness = Witness::new(&url, &site, &self.kit.recording.devices, self.books.clone()).await?;
        let machines = std::iter::once(self.sandbox.machine()).chain(self.machines.clone()).collect();
        self.watching = Some(Watching::start(witness, machines));
        Ok(())
    }

    /// Begins to feed the recording: evenly over so long, or as fast as it is taken.
    pub fn feed(&mut self, over: Option<Duration>) {
        self.feed_later(over, 0);
    }

    /// The same, all times later by so many nanoseconds.
    pub fn feed_later(&mut self, over: Option<Duration>, shift: i64) {
        let (url, site) = (self.sandbox.url(), &self.sandbox.plan.site);
        let recording = self.kit.recording.clone();
        self.feeding = Some(Feeding::start(&url, site, recording, over, shift, self.books.clone()));
    }

    /// Whether the recording is still on its way.
    pub fn is_fed(&self) -> bool {
        self.feeding.as_ref().is_none_or(Feeding::is_over)
    }

    /// The share of it that is sent.
    pub fn share(&self) -> f64 {
        self.feeding.as_ref().map_or(1.0, Feeding::share)
    }

    /// Something was done.
    pub fn did(&mut self, what: impl Into<String>) {
        *self.done.entry(what.into()).or_default() += 1;
    }

    /// Waits, and shows how far the recording is.
    ///
    /// # Errors
    /// That a process of the sandbox was given up.
    pub async fn pause(&mut self, time: Duration) -> Result<()> {
        self.kit.progress.at(self.share(), self.done.values().sum());
        if let Some(all) = self.sandbox.given_up() {
            bail!("{}: {}; it said:\n  {}", all.name, all.ending, all.said.join("\n  "));
        }
        tokio::time::sleep(time).await;
        Ok(())
    }

    /// Waits for a random while.
    ///
    /// # Errors
    /// As [`Self::pause`].
    pub async fn pause_between(&mut self, least_ms: u64, most_ms: u64) -> Result<()> {
        let time = self.dice.between(Duration::from_millis(least_ms), Duration::from_millis(most_ms));
        self.pause(time).await
    }

    /// Waits until so much of the recording is sent.
    ///
    /// # Errors
    /// As [`Self::pause`].
    pub async fn until(&mut self, share: f64) -> Result<()> {
        while !self.is_fed() && self.share() < share {
            self.pause(Duration::from_millis(50)).await?;
        }
        Ok(())
    }

    /// Waits until all of the recording is sent.
    ///
    /// # Errors
    /// If the gateway takes nothing for long, or gives a process up.
    pub async fn fed(&mut self) -> Result<()> {
        while !self.is_fed() {
            self.pause(Duration::from_millis(50)).await?;
        }
        if let Some(mut feeding) = self.feeding.take() {
            let again = feeding.end().await?;
            *self.done.entry("messages sent again".to_owned()).or_default() += again;
        }
        Ok(())
    }

    /// The witness looks away, and forgets what it has seen: the streams may lose it.
    pub async fn look_away(&mut self) {
        if let Some(watching) = &mut self.watching {
            watching.rest().await;
        }
    }

    /// And looks again, from their beginning.
    pub async fn look_again(&mut self) {
        if let Some(watching) = &mut self.watching {
            watching.resume().await;
        }
    }

    /// The end: the stages are stopped, the rest is read, all is stopped.
    ///
    /// # Errors
    /// If what came out cannot be read.
    pub async fn end(&mut self) -> Result<(Run, Vec<DeadLetter>)> {
        self.feeding = None;
        self.sandbox.stop_stages().await;
        let seen = match self.watching.take() {
            Some(watching) => watching.end().await,
            None => Err(anyhow::anyhow!("it did not start")),
        };
        self.sandbox.stop().await;
        seen
    }

    /// Removes its folder, unless it is to stay.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn clean(&self) -> Result<()> {
        if self.kit.keep {
            return Ok(());
        }
        std::fs::remove_dir_all(&self.sandbox.dir).with_context(|| self.sandbox.dir.display().to_string())
    }
}

/// The recording, undisturbed.
///
/// # Errors
/// If it does not come through, or raises no alert by which runs could be compared.
pub async fn baseline(kit: &Kit) -> Result<Run> {
    kit.progress.begin("undisturbed");
    let mut trial = Trial::new(kit, "undisturbed", &kit.config)?;
    let came = async {
        trial.start().await?;
        trial.feed(None);
        trial.fed().await?;
        trial.sandbox.through().await
    };
    let came = came.await;
    let seen = trial.end().await;
    came.context("undisturbed")?;
    let (run, _) = seen.context("undisturbed")?;
    trial.clean()?;
    if run.outcome.alerts.is_empty() {
        return Err(
            CannotRun("the recording raises no alert with this config, so there is nothing to compare".into()).into()
        );
    }
    Ok(run)
}
