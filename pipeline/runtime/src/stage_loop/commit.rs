//! State to disk, then acks.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::task::JoinHandle;

use super::*;
use crate::state::Record;

/// A snapshot of the stage's state whose records are being collected while the loop goes on.
pub(super) struct Collecting {
    before: Option<Position>,
    position: Position,
    records: Vec<Record>,
    /// Per input what the commit will allow to acknowledge.
    tokens: Vec<Option<AckToken>>,
    started: Instant,
}

/// A commit that is being written while the loop goes on.
pub(super) struct Commit {
    before: Option<Position>,
    position: Position,
    records: Arc<Vec<Record>>,
    /// Per input what the commit allows to acknowledge.
    tokens: Vec<Option<AckToken>>,
    started: Instant,
    task: JoinHandle<Result<(), StoreError>>,
}

impl<S: Stage, B: Bus> Runner<S, B> {
    /// After each pull: collects a finished commit, starts one that is due.
    pub(super) async fn settle(&mut self, stop: &watch::Receiver<bool>) -> Result<(), Interrupt> {
        if self.store.is_none() {
            if self.reached.is_ahead_of(&self.checkpoint) || !self.waiting.is_empty() {
                self.flush(false, stop).await?;
            }
            return Ok(());
        }
        self.collect(self.config.state.collect_devices_max);
        self.finish_commit(None).await?;
        let due = self.committed_at.elapsed() >= Duration::from_millis(self.config.state.commit_interval_ms);
        if due && self.collecting.is_none() && self.commit.is_none() && self.saved.as_ref() != Some(&self.reached) {
            self.start_commit(stop).await?;
        } else if self.reached.is_ahead_of(&self.checkpoint) || !self.waiting.is_empty() {
            self.flush(false, stop).await?;
        }
        Ok(())
    }

    /// Begins a snapshot of the stage's changed records, to be written beside the loop. The checkpoint comes first: state is never
    /// ahead of it. While conditions of devices wait to go out there is none: a replay would not report them again.
    pub(super) async fn start_commit(&mut self, stop: &watch::Receiver<bool>) -> Result<(), Interrupt> {
        self.flush(true, stop).await?;
        if !self.health.is_empty() {
            return Ok(());
        }
        self.stage.begin_save();
        self.collecting = Some(Collecting {
            before: self.saved.clone(),
            position: self.reached.clone(),
            records: Vec::new(),
            tokens: self.tokens.clone(),
            started: Instant::now(),
        });
        self.committed_at = Instant::now();
        self.collect(self.config.state.collect_devices_max);
        Ok(())
    }

    /// Goes on with a snapshot that is being collected; once it is whole it is written beside the loop.
    fn collect(&mut self, at_most: usize) {
        let (Some(collecting), Some(store)) = (&mut self.collecting, &self.store) else { return };
        let (stage, records) = (&mut self.stage, &mut collecting.records);
        let mut tell = |key: &[u8], value: Option<&[u8]>| records.push((key.to_vec(), value.map(<[u8]>::to_vec)));
        if !process::blocking(|| stage.save_some(at_most, &mut tell)) {
            return;
        }
        let store = store.clone();
        let Some(Collecting { before, position, records, tokens, started }) = self.collecting.take() else { return };
        let records = Arc::new(records);
        let task = write(store, before.clone(), position.clone(), records.clone());
        self.commit = Some(Commit { task, before, position, records, tokens, started });
    }

    /// Collects the commit in flight if it is done, and acknowledges what it covers. With `wait` nothing is left to collect or to write
    /// afterwards: what cannot be written is tried again until it is, or until the process is told to stop. Then the loop ends with
    /// it, for nothing may be written behind a snapshot that is missing: the stage does not tell its records twice.
    pub(super) async fn finish_commit(&mut self, wait: Option<&watch::Receiver<bool>>) -> Result<(), Interrupt> {
        if wait.is_some() {
            self.collect(usize::MAX);
        }
        loop {
            let Some(commit) = &mut self.commit else { return Ok(()) };
            if wait.is_none() && !commit.task.is_finished() {
                return Ok(());
            }
            let result = (&mut commit.task).await;
            let Some(commit) = self.commit.take() else { return Ok(()) };
            match result.unwrap_or_else(|panic| {
                let source = std::io::Error::other(format!("writing state panicked: {panic}"));
                Err(StoreError::Io { path: self.config.state.dir.clone(), source })
            }) {
                Ok(()) => {
                    self.telemetry.commit_seconds(commit.started.elapsed());
                    self.telemetry.progress();
                    self.saved = Some(commit.position);
                    for token in commit.tokens.into_iter().flatten() {
                        self.acknowledge(&token).await;
                    }
                    return Ok(());
                }
                Err(StoreError::Fenced { .. }) => return Err(self.refused()),
                // A full disk: the records are kept and written again; inputs stay unacknowledged meanwhile, and the
                // consumer's bound on those pushes back.
                Err(error) => {
                    tracing::error!(%error, "state could not be written; trying again");
                    let Some(store) = self.store.clone() else { return Ok(()) };
                    let Commit { before, position, records, .. } = &commit;
                    let (before, position, records) = (before.clone(), position.clone(), records.clone());
                    let task = async move {
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        write(store, before, position, records).await.unwrap_or_else(|panic| {
                            Err(StoreError::Io { path: "".into(), source: std::io::Error::other(panic.to_string()) })
                        })
                    };
                    self.commit = Some(Commit { task: tokio::spawn(task), ..commit });
                    if wait.is_some_and(|stop| *stop.borrow()) {
                        // Once more, and no further: the state on disk is whole, and a restart replays what it lacks.
                        self.abandon_commit().await;
                        return Err(Interrupt::Stop);
                    }
                }
            }
        }
    }

    /// Forgets the commit in flight, but lets it come to its end: the store must be at rest before it is read.
    pub(super) async fn abandon_commit(&mut self) {
        self.collecting = None;
        if let Some(commit) = self.commit.take() {
            let _ = commit.task.await;
        }
    }

    /// A stage without state acknowledges what its checkpoint covers.
    pub(super) async fn ack_stateless(&mut self) {
        if self.store.is_some() || self.reached.is_ahead_of(&self.checkpoint) {
            return;
        }
        for input in 0..self.tokens.len() {
            if let Some(token) = self.tokens[input].take() {
                self.acknowledge(&token).await;
            }
        }
    }

    async fn acknowledge(&mut self, token: &AckToken) {
        if !self.in_flight.release(token) {
            // Its feed was opened anew since: the new one has its own tokens.
            return;
        }
        if let Err(error) = self.bus.ack(token).await {
            tracing::debug!(%error, "an ack was lost; the next one covers it");
        }
    }
}

fn write(
    store: StateStore,
    before: Option<Position>,
    position: Position,
    records: Arc<Vec<Record>>,
) -> JoinHandle<Result<(), StoreError>> {
    tokio::task::spawn_blocking(move || store.commit(before.as_ref(), &position, &records))
}

/// A delivery that is not acknowledged yet. A task of its own says for old ones that work goes on, so that a
/// batch that takes longer than `ack_wait` is not delivered again.
struct Unacked {
    input: usize,
    since: Instant,
    token: AckToken,
}

/// See [`Unacked`].
pub(super) struct InFlight {
    tokens: Arc<Mutex<VecDeque<Unacked>>>,
    task: JoinHandle<()>,
}

fn lock(tokens: &Mutex<VecDeque<Unacked>>) -> MutexGuard<'_, VecDeque<Unacked>> {
    tokens.lock().unwrap_or_else(PoisonError::into_inner)
}

impl InFlight {
    pub(super) fn new<B: Bus>(bus: B, ack_wait: Duration) -> Self {
        let tokens: Arc<Mutex<VecDeque<Unacked>>> = Arc::default();
        let shared = tokens.clone();
        let third = (ack_wait / 3).max(Duration::from_millis(10));
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(third).await;
                let old: Vec<AckToken> = {
                    let tokens = lock(&shared);
                    tokens.iter().filter(|one| one.since.elapsed() >= third).map(|one| one.token.clone()).collect()
                };
                for token in old {
                    if bus.in_progress(&token).await.is_err() {
                        break;
                    }
                }
            }
        });
        Self { tokens, task }
    }

    pub(super) fn push(&self, input: usize, token: AckToken) {
        lock(&self.tokens).push_back(Unacked { input, since: Instant::now(), token });
    }

    /// Removes `token` and all before it on its input; false if it is not there.
    fn release(&self, token: &AckToken) -> bool {
        let mut tokens = lock(&self.tokens);
        let Some(index) = tokens.iter().position(|one| one.token == *token) else { return false };
        let input = tokens[index].input;
        let mut at = 0;
        tokens.retain(|one| {
            at += 1;
            one.input != input || at > index + 1
        });
        true
    }

    pub(super) fn clear(&self) {
        lock(&self.tokens).clear();
    }

    pub(super) fn len(&self) -> usize {
        lock(&self.tokens).len()
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.task.abort();
    }
}
