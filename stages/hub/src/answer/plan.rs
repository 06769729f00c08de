//! Who is asked: this process for what it leads, the others' leaders for the rest.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    task::spawn_blocking,
    time::Instant,
};

use super::{
    refusal::{Refusal, Why},
    region::{Leader, Region, Shard},
};

/// Who is asked for what.
pub(super) struct Plan {
    /// Shards that this process leads.
    pub(super) here: Vec<(u32, Arc<dyn Shard>)>,
    /// Other processes, with the shards that each leads.
    pub(super) there: Vec<(Leader, Vec<u32>)>,
    /// Shards that nobody can be asked for.
    pub(super) nowhere: Vec<u32>,
    /// All who lead.
    pub(super) leaders: Vec<Leader>,
}

impl Plan {
    /// Who is asked for `shards` (all, if there are none).
    pub(super) fn new(region: &dyn Region, shards: Option<&BTreeSet<u32>>, own_only: bool) -> Self {
        let wanted = |shard: &u32| shards.is_none_or(|shards| shards.contains(shard));
        let mut here = region.led();
        here.retain(|(shard, _)| wanted(shard));
        let leaders = region.leaders();
        let mut there: BTreeMap<&str, (Leader, Vec<u32>)> = BTreeMap::new();
        let mut nowhere = Vec::new();
        for shard in (0..region.count()).filter(wanted) {
            if here.iter().any(|(led, _)| *led == shard) {
                continue;
            }
            match leaders.iter().find(|leader| leader.shard == shard) {
                Some(leader) if !own_only => {
                    // One without an address is asked under its name, which fails with the reason.
                    let key = if leader.address.is_empty() { &leader.name } else { &leader.address };
                    there.entry(key).or_insert_with(|| (leader.clone(), Vec::new())).1.push(shard);
                }
                // With `own_only` it was passed on to here, as this process led it then.
                _ => nowhere.push(shard),
            }
        }
        let there = there.into_values().collect();
        Self { here, there, nowhere, leaders }
    }
}

/// Room for calls, and for their work that blocks.
pub(super) struct Room {
    calls: Semaphore,
    at_once: Arc<Semaphore>,
}

/// Says to work that nobody waits for it any more.
struct Waits(Arc<AtomicBool>);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Room {
    pub(super) fn new(calls: usize, at_once: usize) -> Self {
        Self { calls: Semaphore::new(calls), at_once: Arc::new(Semaphore::new(at_once)) }
    }

    /// A place for a call, as long as it is held.
    pub(super) fn call(&self) -> Result<SemaphorePermit<'_>, Refusal> {
        let busy = "too many calls at once: ask again later, or raise hub.grpc.calls_max";
        self.calls.try_acquire().map_err(|_| Refusal::new(Why::Busy, busy))
    }

    /// Does `work` on a thread where it may block; it is told when its time is over, or nobody waits for it any more.
    pub(super) async fn work<T: Send + 'static>(
        &self,
        deadline: Instant,
        work: impl FnOnce(&dyn Fn() -> bool) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        // The semaphore is never closed.
        let place = tokio::time::timeout_at(deadline, self.at_once.clone().acquire_owned()).await;
        let Ok(Ok(place)) = place else { return Err(Refusal::too_late()) };
        if Instant::now() >= deadline {
            return Err(Refusal::too_late());
        }
        let over = Arc::new(AtomicBool::new(false));
        let _waits = Waits(over.clone());
        let working = spawn_blocking(move || {
            let _place = place;
            work(&|| over.load(Ordering::Relaxed) || Instant::now() >= deadline)
        });
        match tokio::time::timeout_at(deadline, working).await {
            Err(_) => Err(Refusal::too_late()),
            Ok(Ok(done)) => done,
            Ok(Err(panic)) => {
                tracing::error!(%panic, "an answer panicked");
                Err(Refusal::new(Why::Failed, "it could not be answered: the hub's log says why"))
            }
        }
    }
}
