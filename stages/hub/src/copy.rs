//! A copy of a shard, from opening its store to the end: everything that runs for it.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use eddy_runtime::{bus::Bus, clock::SystemClock, config::LimitsConfig, lease::Held, telemetry::Telemetry};
use eddy_vectors::{
    index::{IndexError, Limits, Store, Upkeep},
    sketch,
};
use tokio::{
    sync::watch,
    task::{JoinSet, block_in_place},
    time::timeout,
};

use crate::{
    audit_sink::AuditSink,
    follow::{Follower, Troubles},
    merge::Rules,
    news::Teller,
    shards::{Led, Shards},
    sketch::Sketcher,
    words::Words,
};

/// How often a store that another process has is tried again: it may die.
const RETRY: Duration = Duration::from_millis(500);
/// The note that names a copy.
const NAME: &str = "copy";

/// Stops upkeep, also where its copy's task is dropped.
struct Cancel(Arc<AtomicBool>);

impl Drop for Cancel {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What a copy is made of.
#[derive(Clone)]
pub struct Plan<B> {
    pub(crate) bus: B,
    pub(crate) shard: u32,
    pub(crate) folder: PathBuf,
    pub(crate) store: Limits,
    pub(crate) rules: Rules,
    pub(crate) limits: LimitsConfig,
    pub(crate) shards: Arc<Shards>,
    /// Whether this process leads the shard.
    pub(crate) held: Held,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) troubles: Arc<Troubles>,
    pub(crate) audit: Option<Arc<dyn AuditSink>>,
    /// The region's sites, as they become known.
    pub(crate) sites: watch::Receiver<Vec<String>>,
    /// How often sketches are made, and of what.
    pub(crate) sketch_every: Duration,
    pub(crate) sketch: sketch::Limits,
    /// Told once it is open.
    pub(crate) opened: watch::Sender<Option<Arc<Led>>>,
}

impl<B: Bus> Plan<B> {
    /// Runs until `stop` says true.
    ///
    /// # Errors
    /// What cannot be made good by trying again.
    pub async fn run(self, stop: watch::Receiver<bool>) -> Result<(), String> {
        let Some(copy) = self.open(stop.clone()).await? else { return Ok(()) };
        let durable = block_in_place(|| name(&copy)).map_err(|error| self.failed(&error))?;
        let durable = format!("hub-{durable}-{}", self.shard);
        self.shards.add(copy.clone());
        self.opened.send_replace(Some(copy.clone()));
        let cancel = Cancel(Arc::new(AtomicBool::new(false)));
        let (upkeep, cancelled) = (copy.clone(), cancel.0.clone());
        let building = std::thread::spawn(move || keep_up(&upkeep, &cancelled));
        let (bus, telemetry) = (self.bus.clone(), self.telemetry.clone());
        let teller = Teller { bus: bus.clone(), copy: copy.clone(), telemetry: telemetry.clone() };
        // Dropped, it ends: with this task, whatever ends that.
        let mut telling = JoinSet::new();
        telling.spawn(teller.run());
        let sketcher = Sketcher {
            bus: bus.clone(),
            copy: copy.clone(),
            clock: Arc::new(SystemClock),
            every: self.sketch_every,
            limits: self.sketch,
        };
        telling.spawn(sketcher.run());
        let follower = Follower {
            bus,
            copy,
            durable,
            rules: self.rules,
            limits: self.limits.clone(),
            telemetry,
            troubles: self.troubles.clone(),
            audit: self.audit.clone(),
        };
        let ended = follow(follower, self.sites.clone(), stop).await;
        // Nobody asks it any more, and it leads no more.
        self.opened.send_replace(None);
        telling.shutdown().await;
        drop(cancel);
        let _ = tokio::task::spawn_blocking(move || building.join()).await;
        ended
    }

    fn failed(&self, error: &IndexError) -> String {
        format!("shard {}: {error}", self.shard)
    }

    /// Opens the store, once no other process has it; `None`: it was told to stop before.
    async fn open(&self, mut stop: watch::Receiver<bool>) -> Result<Option<Arc<Led>>, String> {
        let mut waits = false;
        while !*stop.borrow() {
            match block_in_place(|| Store::open(&self.folder, self.store.clone())) {
                Ok(store) => {
                    let searcher = Arc::new(store.searcher().map_err(|error| self.failed(&error))?);
                    let words = Words::new(self.bus.clone());
                    let shards = (self.shard, self.shards.count());
                    let copy = Led::new(shards, Arc::new(store), searcher, self.held.clone(), words);
                    let (_, position) = copy.stored_position().map_err(|error| error.to_string())?;
                    copy.reached.send_replace(position);
                    return Ok(Some(Arc::new(copy)));
                }
                Err(IndexError::InUse { path }) => {
                    if !std::mem::replace(&mut waits, true) {
                        tracing::info!(folder = %path.display(), "another process has this copy; waiting for its end");
                    }
                }
                Err(error) => return Err(self.failed(&error)),
            }
            if timeout(RETRY, stop.wait_for(|stop| *stop)).await.is_ok() {
                break;
            }
        }
        Ok(None)
    }
}

/// Follows every site that becomes known.
async fn follow<B: Bus>(
    follower: Follower<B>,
    mut sites: watch::Receiver<Vec<String>>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), String> {
    let mut followed = BTreeSet::new();
    let mut tasks: JoinSet<Result<(), String>> = JoinSet::new();
    let mut ended = Ok(());
    while !*stop.borrow() && ended.is_ok() {
        for site in sites.borrow_and_update().iter() {
            if followed.insert(site.clone()) {
                tasks.spawn(follower.clone().run(site.clone(), stop.clone()));
            }
        }
        tokio::select! {
            changed = sites.changed() => if changed.is_err() { break },
            _ = stop.wait_for(|stop| *stop) => {}
            Some(done) = tasks.join_next() => ended = done.unwrap_or_else(|panic| Err(panic.to_string())),
        }
    }
    if ended.is_err() {
        tasks.abort_all();
    }
    while let Some(done) = tasks.join_next().await {
        ended = ended.and(done.unwrap_or(Ok(())));
    }
    ended
}

/// The name of a copy, drawn when it was made: what it has read of a stream is its own affair.
fn name(copy: &Led) -> Result<String, IndexError> {
    let _one = copy.lock();
    if let Some(name) = copy.store.note(NAME)? {
        return Ok(String::from_utf8_lossy(&name).into_owned());
    }
    let name = format!("{:08x}", rand::random::<u32>());
    let before = copy.store.position()?;
    let mut batch = copy.store.batch()?;
    batch.note(NAME, name.as_bytes())?;
    batch.commit(before.as_deref(), before.as_deref().unwrap_or_default())?;
    Ok(name)
}

fn keep_up(copy: &Led, stop: &AtomicBool) {
    let shard = copy.shard;
    copy.store.upkeep(stop, |done| match done {
        Upkeep::Built { windows, kind, took, used } => {
            let took_ms = took.as_millis() as u64;
            tracing::info!(shard, windows, kind, took_ms, used, "built a segment");
        }
        Upkeep::TookTooLong { windows, kind, again } => {
            tracing::warn!(shard, windows, kind, again, "a build took more of a processor than hub.build_time_max_s");
        }
        Upkeep::Aged(segments) => tracing::info!(shard, segments, "aged out"),
        Upkeep::Failed(error) => tracing::error!(shard, %error, "upkeep failed; trying again"),
    });
}
