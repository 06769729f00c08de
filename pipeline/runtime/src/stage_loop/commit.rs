//! State to disk, then acks.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{sync::mpsc, task::JoinHandle};

use super::*;
use crate::{
    config::StateConfig,
    state::{Coverage, Pieces, Records},
};

/// Pieces that wait for the disk. At the bound the stage is asked for no more.
const PIECES_MAX: usize = 2;
/// Until what could not be written is tried again.
const WRITE_AGAIN: Duration = Duration::from_secs(1);

/// A snapshot of the stage's state, told by the stage and written while the loop goes on.
pub(super) struct Saving {
    /// Where the stage was when it began: all of the snapshot reflects what came before.
    position: Position,
    /// Per input what it will allow to acknowledge.
    tokens: Vec<Option<AckToken>>,
    started: Instant,
    /// What the stage has told and the writer has not taken; full but for the last.
    told: Pieces,
    /// Where the stage was when it had told all, if it has: none of the snapshot reflects more.
    told_at: Option<Position>,
    collected_at: Instant,
    /// To the writer; none once it has the last piece.
    pieces: Option<mpsc::Sender<Piece>>,
    writer: JoinHandle<Result<(), StoreError>>,
    gives_up: Arc<AtomicBool>,
}

/// A piece on its way to the writer.
struct Piece {
    records: Records,
    /// The last one has it.
    coverage: Option<Coverage>,
}

impl Saving {
    /// The next piece that the writer may have: a full one, or the last, once what it reflects is out.
    fn next(&mut self, checkpoint: &Position) -> Option<Piece> {
        match self.told_at.as_ref().filter(|_| self.told.len() <= 1) {
            None => self.told.pop_full().map(|records| Piece { records, coverage: None }),
            Some(told_at) if told_at.is_ahead_of(checkpoint) => None,
            Some(told_at) => {
                let coverage = Coverage { all: self.position.clone(), some: told_at.clone() };
                Some(Piece { records: self.told.pop().unwrap_or_default(), coverage: Some(coverage) })
            }
        }
    }

    /// How long the loop may wait for input: while there is something to tell, until the next part of it.
    pub(super) fn wait(&self, config: &StateConfig) -> Duration {
        match &self.told_at {
            None => Duration::from_millis(config.collect_every_ms.max(1)).min(PULL_WAIT),
            Some(_) => PULL_WAIT,
        }
    }

    /// Hands over what the writer has room for; whether all that is full went out.
    fn hand_over(&mut self, checkpoint: &Position) -> bool {
        while let Some(pieces) = self.pieces.clone() {
            let Ok(place) = pieces.try_reserve() else { return false };
            let Some(piece) = self.next(checkpoint) else { return true };
            if piece.coverage.is_some() {
                self.pieces = None;
            }
            place.send(piece);
        }
        true
    }

    /// The same of everything, which is out by now, waiting for room, and then for the writer's end.
    async fn written(&mut self, checkpoint: &Position) -> Result<(), StoreError> {
        while let Some(pieces) = self.pieces.clone() {
            // No more room at all: the writer has ended, and says why.
            let (Ok(place), Some(piece)) = (pieces.reserve().await, self.next(checkpoint)) else { break };
            if piece.coverage.is_some() {
                self.pieces = None;
            }
            place.send(piece);
        }
        // It waits for no more.
        self.pieces = None;
        (&mut self.writer).await.unwrap_or_else(|panic| {
            let source = std::io::Error::other(format!("writing state panicked: {panic}"));
            Err(StoreError::Io { path: "".into(), source })
        })
    }
}

impl Drop for Saving {
    fn drop(&mut self) {
        self.gives_up.store(true, Ordering::Relaxed);
    }
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
        self.collect_in_turn();
        self.finish_commit(None).await?;
        let due = self.committed_at.elapsed() >= Duration::from_millis(self.config.state.commit_interval_ms);
        if due && self.saving.is_none() && self.saved.as_ref() != Some(&self.reached) {
            self.start_commit(stop).await?;
        } else if self.on_its_way.is_none() && self.reached.is_ahead_of(&self.checkpoint) {
            self.flush(false, stop).await?;
        }
        Ok(())
    }

    /// Begins a snapshot of the stage's changed records, told and written beside the loop. The checkpoint comes first: state is never
    /// ahead of it. While conditions of devices wait to go out there is none: a replay would not report them again.
    pub(super) async fn start_commit(&mut self, stop: &watch::Receiver<bool>) -> Result<(), Interrupt> {
        self.flush(true, stop).await?;
        let Some(store) = self.store.clone().filter(|_| self.health.is_empty()) else { return Ok(()) };
        process::blocking(|| self.stage.begin_save());
        let (pieces, taken) = mpsc::channel(PIECES_MAX);
        let gives_up: Arc<AtomicBool> = Arc::default();
        let (before, give_up) = (self.saved.clone(), gives_up.clone());
        self.saving = Some(Saving {
            position: self.reached.clone(),
            tokens: self.tokens.clone(),
            started: Instant::now(),
            told: Pieces::of(self.config.state.piece_kb << 10),
            told_at: None,
            collected_at: Instant::now(),
            pieces: Some(pieces),
            writer: tokio::task::spawn_blocking(move || write(&store, before.as_ref(), taken, &give_up)),
            gives_up,
        });
        self.committed_at = Instant::now();
        self.collect(self.config.state.collect_devices_max);
        Ok(())
    }

    /// Goes on with a snapshot that the stage is telling, as far as the writer keeps up.
    fn collect(&mut self, at_most: usize) {
        let Some(saving) = self.saving.as_mut().filter(|saving| saving.told_at.is_none()) else { return };
        if saving.hand_over(&self.checkpoint) {
            let stage = &mut self.stage;
            let all = process::blocking(|| stage.save_some(at_most, &mut |key, value| saving.told.push(key, value)));
            saving.collected_at = Instant::now();
            saving.told_at = all.then(|| furthest(&self.reached, self.seen.as_ref()));
        }
    }

    /// The same, if the last part was long enough ago.
    pub(super) fn collect_in_turn(&mut self) {
        let every = Duration::from_millis(self.config.state.collect_every_ms);
        if self.saving.as_ref().is_some_and(|saving| saving.collected_at.elapsed() >= every) {
            self.collect(self.config.state.collect_devices_max);
        }
    }

    /// Tells all that is left of a snapshot, and publishes what it reflects.
    async fn tell_rest(&mut self, stop: &watch::Receiver<bool>) -> Result<(), Interrupt> {
        if let Some(saving) = self.saving.as_mut().filter(|saving| saving.told_at.is_none()) {
            let stage = &mut self.stage;
            process::blocking(|| while !stage.save_some(usize::MAX, &mut |key, value| saving.told.push(key, value)) {});
            saving.told_at = Some(furthest(&self.reached, self.seen.as_ref()));
        }
        let told_at = self.saving.as_ref().and_then(|saving| saving.told_at.as_ref());
        if told_at.is_some_and(|told_at| told_at.is_ahead_of(&self.checkpoint)) {
            self.flush(true, stop).await?;
        }
        Ok(())
    }

    /// Finishes the snapshot in flight if all of it is on disk, and acknowledges what it covers. With `wait` nothing is left to tell or
    /// to write afterwards: what cannot be written is tried again until it is, or until the process is told to stop. Then the loop ends
    /// with it, for nothing may be written behind a snapshot that is missing: the stage does not tell its records twice.
    pub(super) async fn finish_commit(&mut self, wait: Option<&watch::Receiver<bool>>) -> Result<(), Interrupt> {
        if let Some(stop) = wait {
            self.tell_rest(stop).await?;
        }
        let Some(saving) = &mut self.saving else { return Ok(()) };
        saving.hand_over(&self.checkpoint);
        if wait.is_none() && !saving.writer.is_finished() {
            return Ok(());
        }
        let gives_up = saving.gives_up.clone();
        let written = tokio::select! {
            written = saving.written(&self.checkpoint) => written,
            never = give_up_at(wait, &gives_up) => match never {},
        };
        let Some(saving) = self.saving.take() else { return Ok(()) };
        match written {
            Ok(()) => {
                self.telemetry.commit_seconds(saving.started.elapsed());
                self.telemetry.progress();
                self.saved = Some(saving.position.clone());
                self.seen = saving.told_at.clone();
                for token in saving.tokens.iter().flatten() {
                    self.acknowledge(token).await;
                }
                Ok(())
            }
            Err(StoreError::Fenced { .. }) => Err(self.refused()),
            // The state on disk is whole, and a restart replays what it lacks.
            Err(_) if wait.is_some_and(|stop| *stop.borrow()) => Err(Interrupt::Stop),
            Err(error) => Err(Interrupt::Recover(error.to_string())),
        }
    }

    /// Forgets the snapshot in flight, but lets its writer come to its end: the store must be at rest before it is read.
    pub(super) async fn abandon_commit(&mut self) {
        if let Some(mut saving) = self.saving.take() {
            saving.gives_up.store(true, Ordering::Relaxed);
            saving.pieces = None;
            let _ = (&mut saving.writer).await;
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

/// Of where the stage is and what some records have seen the one that is further: while it replays, those that are not told again have
/// seen more.
fn furthest(reached: &Position, seen: Option<&Position>) -> Position {
    seen.filter(|seen| seen.is_ahead_of(reached)).unwrap_or(reached).clone()
}

/// Lets a writer give up once `stop` says so.
async fn give_up_at(stop: Option<&watch::Receiver<bool>>, gives_up: &AtomicBool) -> Infallible {
    if let Some(stop) = stop
        && stop.clone().wait_for(|stop| *stop).await.is_ok()
    {
        gives_up.store(true, Ordering::Relaxed);
    }
    std::future::pending().await
}

/// Writes a snapshot as its pieces come. What cannot be written (a full disk) is kept and written again; inputs stay unacknowledged
/// meanwhile, and the consumer's bound on those pushes back. A snapshot whose last piece does not come stays unfinished.
fn write(
    store: &StateStore,
    before: Option<&Position>,
    mut pieces: mpsc::Receiver<Piece>,
    gives_up: &AtomicBool,
) -> Result<(), StoreError> {
    let mut snapshot = store.begin(before);
    while let Some(Piece { records, coverage }) = pieces.blocking_recv() {
        let mut is_last_try = false;
        loop {
            let written = match &coverage {
                Some(coverage) => store.finish(&mut snapshot, &records, coverage),
                None => store.write(&mut snapshot, &records),
            };
            match written {
                Ok(()) => break,
                Err(error @ StoreError::Fenced { .. }) => return Err(error),
                Err(error) if is_last_try => return Err(error),
                Err(error) => {
                    tracing::error!(%error, "state could not be written; trying again");
                    // Once more, and no further.
                    is_last_try = gives_up.load(Ordering::Relaxed);
                    std::thread::sleep(WRITE_AGAIN);
                }
            }
        }
        if coverage.is_some() {
            return Ok(());
        }
    }
    let source = std::io::Error::other("its last piece did not come");
    Err(StoreError::Io { path: "".into(), source })
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

#[cfg(test)]
mod tests {
    use super::furthest;
    use crate::position::{Place, Position};

    #[test]
    fn what_some_records_have_seen_is_never_forgotten() {
        let at = |sequence| Position([("S".to_owned(), Place::whole(1, sequence))].into());
        assert_eq!(furthest(&at(2), Some(&at(3))), at(3), "while it replays");
        assert_eq!((furthest(&at(4), Some(&at(3))), furthest(&at(4), None)), (at(4), at(4)));
    }
}
