//! The store while it is written: one thread inserts, one builds, one searches, each as it would at a gateway.

use std::{
    sync::atomic::{AtomicBool, AtomicU8, Ordering},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use eddy_vectors::index::{Facts, Filter, Kind, Model, Query, Recall, Searcher, Store, Window};

use super::truth::COUNT;

/// Windows of a batch, each committed.
const BATCH: usize = 1_000;
/// Series that the windows are of.
const SERIES: usize = 3_000;
/// Between two searches: a hundred a second.
const SEARCH_EVERY: Duration = Duration::from_millis(10);
/// How long searching goes on when all is built, to have something to compare with.
const QUIET: Duration = Duration::from_secs(3);
/// Between two looks for something to build.
const BUILD_EVERY: Duration = Duration::from_millis(5);
/// What every search asks for.
pub(super) const RECALL: f32 = 0.95;

/// What is served: vectors and who made them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load<'a> {
    pub(super) model: &'a Model,
    pub(super) base: &'a [f32],
    pub(super) queries: &'a [f32],
    /// Windows a second; 0: as fast as they go.
    pub(super) insert_per_s: f64,
}

/// A search.
#[derive(Clone, Copy, Debug)]
pub(super) struct Search {
    /// Seconds since the first batch began.
    pub(super) at: f64,
    pub(super) us: f64,
    pub(super) inserting: bool,
    pub(super) building: Option<Kind>,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Served {
    /// Seconds in which a batch was open, all together.
    pub(super) inserting_s: f64,
    /// Seconds from the first batch's begin to the last one's commit, and until all was built.
    pub(super) inserted_after: f64,
    pub(super) built_after: f64,
    /// Milliseconds from the begin of a batch until its last window was found.
    pub(super) findable_ms: Vec<f64>,
    /// Batches whose last window was not found.
    pub(super) missed: usize,
    pub(super) searches: Vec<Search>,
    /// What was built: kind, windows, seconds.
    pub(super) builds: Vec<(Kind, u32, f64)>,
}

/// What the threads tell each other.
#[derive(Default)]
struct State {
    inserted: AtomicBool,
    built: AtomicBool,
    failed: AtomicBool,
    building: AtomicU8,
}

/// The question that all searches ask.
pub(super) fn query<'a>(model: &'a Model, vector: &'a [f32]) -> Query<'a> {
    let recall = Recall::AtLeast(RECALL);
    Query { model, vector, count: COUNT, radius: f32::INFINITY, recall, filter: Filter::default() }
}

/// Inserts, builds and searches until all is inserted and built.
pub(super) fn serve(store: &Store, searcher: &Searcher, load: Load<'_>) -> Result<Served> {
    let (state, began) = (State::default(), Instant::now());
    let all = std::thread::scope(|scope| {
        let threads = (
            scope.spawn(|| state.watched(|| insert(store, searcher, load, &state, began))),
            scope.spawn(|| state.watched(|| build(store, searcher, &state))),
            scope.spawn(|| state.watched(|| search(searcher, load, &state, began))),
        );
        // All are waited for, whichever fails.
        (threads.0.join(), threads.1.join(), threads.2.join())
    });
    let panicked = |_| anyhow!("a thread panicked");
    let mut served = all.0.map_err(panicked)?.context("inserting")?;
    (served.builds, served.built_after) =
        all.1.map_err(panicked)?.context("building").map(|(builds, end)| (builds, (end - began).as_secs_f64()))?;
    served.searches = all.2.map_err(panicked)?.context("searching")?;
    Ok(served)
}

impl State {
    /// Ends the others when one fails or panics.
    fn watched<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        struct Failing<'a>(&'a AtomicBool, bool);
        impl Drop for Failing<'_> {
            fn drop(&mut self) {
                self.0.fetch_or(self.1, Ordering::Relaxed);
            }
        }
        let mut failing = Failing(&self.failed, true);
        let result = work();
        failing.1 = result.is_err();
        result
    }

    fn has(&self, flag: &AtomicBool) -> bool {
        flag.load(Ordering::Acquire) || self.failed.load(Ordering::Relaxed)
    }
}

fn insert(store: &Store, searcher: &Searcher, load: Load<'_>, state: &State, began: Instant) -> Result<Served> {
    let dimensions = load.model.dimensions;
    let mut served = Served::default();
    for (number, vectors) in load.base.chunks(BATCH * dimensions).enumerate() {
        if state.failed.load(Ordering::Relaxed) {
            break;
        }
        let first = number * BATCH;
        if load.insert_per_s > 0.0 {
            let due = began + Duration::from_secs_f64(first as f64 / load.insert_per_s);
            sleep(due.saturating_duration_since(Instant::now()));
        }
        let batch_began = Instant::now();
        let before = store.position()?;
        let mut batch = store.batch()?;
        let mut last = 0;
        for (at, vector) in vectors.chunks_exact(dimensions).enumerate() {
            last = batch.add(load.model, &window(first + at, vector))?;
        }
        if (number + 1) * BATCH * dimensions >= load.base.len() {
            batch.seal()?;
        }
        batch.commit(before.as_deref(), &last.to_string())?;
        served.inserting_s += batch_began.elapsed().as_secs_f64();
        served.inserted_after = began.elapsed().as_secs_f64();
        searcher.refresh()?;
        let newest = vectors.chunks_exact(dimensions).next_back().unwrap_or_default();
        let found = searcher.search(&query(load.model, newest))?;
        served.findable_ms.push(batch_began.elapsed().as_secs_f64() * 1e3);
        served.missed += usize::from(!found.iter().any(|neighbour| neighbour.window == last));
    }
    state.inserted.store(true, Ordering::Release);
    Ok(served)
}

fn window(row: usize, vector: &[f32]) -> Window {
    let time = row as i64 * 1_000_000_000;
    let facts = Facts { start: time, end: time + 1, sequence: row as u64, filled: 64, flags: 0, score: 0.5 };
    let (device, channel) = (row % SERIES / 3, row % 3);
    Window { series: format!("device-{device}/channel-{channel}"), facts, vector: vector.to_vec() }
}

type Builds = (Vec<(Kind, u32, f64)>, Instant);

fn build(store: &Store, searcher: &Searcher, state: &State) -> Result<Builds> {
    let mut builds = Vec::new();
    while !state.failed.load(Ordering::Relaxed) {
        // Asked before, so that nothing is sealed between the two questions.
        let is_last = state.has(&state.inserted);
        let Some(build) = store.next_build()? else {
            if is_last {
                break;
            }
            sleep(BUILD_EVERY);
            continue;
        };
        let (kind, windows, began) = (build.kind(), build.windows(), Instant::now());
        state.building.store(kind as u8, Ordering::Relaxed);
        if store.publish(build.run(&state.failed)?)? {
            searcher.refresh()?;
        }
        state.building.store(Kind::Exact as u8, Ordering::Relaxed);
        builds.push((kind, windows, began.elapsed().as_secs_f64()));
    }
    state.built.store(true, Ordering::Release);
    Ok((builds, Instant::now()))
}

fn search(searcher: &Searcher, load: Load<'_>, state: &State, began: Instant) -> Result<Vec<Search>> {
    let mut searches = Vec::new();
    let mut quiet_since: Option<Instant> = None;
    let mut due = began;
    for vector in load.queries.chunks_exact(load.model.dimensions).cycle() {
        if quiet_since.is_some_and(|since| since.elapsed() >= QUIET) {
            break;
        }
        sleep(due.saturating_duration_since(Instant::now()));
        let inserting = !state.has(&state.inserted);
        let building = match state.building.load(Ordering::Relaxed) {
            forest if forest == Kind::Forest as u8 => Some(Kind::Forest),
            graph if graph == Kind::Graph as u8 => Some(Kind::Graph),
            _ => None,
        };
        let started = Instant::now();
        searcher.search(&query(load.model, vector))?;
        let us = started.elapsed().as_secs_f64() * 1e6;
        searches.push(Search { at: (started - began).as_secs_f64(), us, inserting, building });
        // A search that took longer than that leaves out those that were due meanwhile.
        due = (due + SEARCH_EVERY).max(Instant::now());
        if quiet_since.is_none() && state.has(&state.built) {
            quiet_since = Some(Instant::now());
        }
    }
    Ok(searches)
}
