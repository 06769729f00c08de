//! The region's shards: which of them this process has a copy of, which of those it leads, and who leads the others.
//!
//! A copy is a function of the sites' streams: every process that has one reads all of them and holds the same. Who leads a
//! shard answers for it, and tells its news; leading decides nothing about what is stored.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use eddy_runtime::{lease::Held, position::Position};
use eddy_vectors::index::{Searcher, Store};
use tokio::sync::{Notify, watch};

use crate::words::Words;

/// Who leads a shard, as far as this process has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leader {
    /// The shard.
    pub shard: u32,
    /// The process; `None`: nobody now.
    pub name: Option<String>,
    /// Where it answers by gRPC; `None`: nowhere, or nobody leads.
    pub address: Option<String>,
    /// How far its copy has come in each site's stream.
    pub positions: Position,
    /// Whether it is this process.
    pub here: bool,
}

/// Who leads what, and what this process has copies of.
#[derive(Debug)]
pub struct Shards {
    count: u32,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    leaders: BTreeMap<u32, Leader>,
    copies: BTreeMap<u32, Arc<Led>>,
}

impl Shards {
    /// Of a region cut into `count` shards.
    pub fn new(count: u32) -> Self {
        Self { count, seen: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many shards the region has.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The shards that this process leads now.
    pub fn led(&self) -> Vec<(u32, Arc<Led>)> {
        let seen = self.lock();
        let led = seen.copies.iter().filter(|(_, copy)| copy.is_led());
        led.map(|(shard, copy)| (*shard, copy.clone())).collect()
    }

    /// Every shard's leader, by shard; one that nobody leads has no name.
    pub fn leaders(&self) -> Vec<Leader> {
        let seen = self.lock();
        let nobody = |shard| Leader { shard, ..Leader::default() };
        (0..self.count).map(|shard| seen.leaders.get(&shard).cloned().unwrap_or_else(|| nobody(shard))).collect()
    }

    /// How many shards this process leads now.
    pub(crate) fn led_count(&self) -> u32 {
        // There are fewer than 2^32 shards.
        self.lock().copies.values().filter(|copy| copy.is_led()).count() as u32
    }

    pub(crate) fn saw(&self, leader: Leader) {
        self.lock().leaders.insert(leader.shard, leader);
    }

    pub(crate) fn add(&self, copy: Arc<Led>) {
        self.lock().copies.insert(copy.shard, copy);
    }
}

/// This process's copy of a shard. It may lead it or not, from one moment to the next.
#[derive(Debug)]
pub struct Led {
    /// The shard.
    pub shard: u32,
    /// How many there are.
    pub shards: u32,
    /// Its windows, its ledger, and what else its devices' gateways sent.
    pub store: Arc<Store>,
    /// To ask it. It sees all that is committed.
    pub searcher: Arc<Searcher>,
    pub(crate) held: Held,
    /// One writer at a time: whoever reads the store's position and commits what follows it.
    pub(crate) writing: Mutex<()>,
    /// The store's position, after each commit.
    pub(crate) reached: watch::Sender<Position>,
    /// Something is to go out.
    pub(crate) news: Notify,
    /// Where an operator's words go.
    pub(crate) words: Words,
    lag: Mutex<BTreeMap<String, u64>>,
}

impl Led {
    pub(crate) fn new(
        (shard, shards): (u32, u32),
        store: Arc<Store>,
        searcher: Arc<Searcher>,
        held: Held,
        words: Words,
    ) -> Self {
        let (writing, news, lag) = (Mutex::default(), Notify::new(), Mutex::default());
        let reached = watch::Sender::new(Position::default());
        Self { shard, shards, store, searcher, held, writing, reached, news, words, lag }
    }

    /// Whether this process leads the shard now: nobody else's answer counts, and nobody else tells its news.
    pub fn is_led(&self) -> bool {
        self.held.is_held()
    }

    /// How far it has come in each site's stream.
    pub fn position(&self) -> Position {
        self.reached.borrow().clone()
    }

    /// Messages of all sites that it has not read yet, as of the last ones that it read.
    pub fn lag(&self) -> u64 {
        self.lag.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }

    pub(crate) fn lags(&self, site: &str, messages: u64) {
        self.lag.lock().unwrap_or_else(PoisonError::into_inner).insert(site.to_owned(), messages);
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
