//! The index of windows: what is filed, and a search of a built graph.

use std::{path::Path, sync::atomic::AtomicBool};

use anyhow::{Result, ensure};
use eddy_vectors::index::{Facts, Filter, Limits, Model, Query, Recall, Store, Window};

use crate::{
    counted::counted,
    made::{Dice, SECOND, START, series},
};

const DIMENSIONS: usize = 16;
/// Windows of the graph: more than would simply be measured all.
const BUILT: usize = 20_000;
const FILED: usize = 1_000;
const QUERIES: usize = 100;
const GROUPS: usize = 200;

fn model() -> Model {
    Model { digest: "smoke".into(), head: "learned".into(), dimensions: DIMENSIONS }
}

fn store(folder: &Path) -> Result<Store> {
    Ok(Store::open(&folder.join("index"), Limits { map_bytes: 64 << 20, graph_after: 0, ..Limits::default() })?)
}

fn windows(count: usize) -> Vec<Window> {
    let vectors = Dice::new(10).vectors(count, DIMENSIONS, GROUPS);
    let window = |(number, vector): (usize, &[f32])| {
        let end = START + number as i64 * SECOND;
        let facts =
            Facts { start: end - 64 * SECOND, end, sequence: number as u64 + 1, filled: 64, flags: 0, score: 0.1 };
        Window { series: series(number % 300), facts, vector: vector.to_vec() }
    };
    vectors.chunks_exact(DIMENSIONS).enumerate().map(window).collect()
}

fn add(store: &Store, windows: &[Window]) -> Result<()> {
    let mut batch = store.batch()?;
    for window in windows {
        batch.add(&model(), window)?;
    }
    Ok(batch.commit(None, "1")?)
}

/// A batch of new windows, committed.
pub fn file(folder: &Path) -> Result<u64> {
    let (store, windows) = (store(folder)?, windows(FILED));
    counted(|| add(&store, &windows))?;
    ensure!(store.stats()?.windows == FILED as u64, "{:?}", store.stats()?);
    Ok(FILED as u64)
}

/// The graph that [`search`] walks through.
pub fn build(folder: &Path) -> Result<()> {
    let store = store(folder)?;
    let mut batch = store.batch()?;
    for window in &windows(BUILT) {
        batch.add(&model(), window)?;
    }
    batch.seal()?;
    batch.commit(None, "1")?;
    while let Some(build) = store.next_build()? {
        ensure!(store.publish(build.run(&AtomicBool::new(false))?)?, "what was built is not wanted");
    }
    Ok(())
}

/// The ten nearest, nine and a half of which are to be the true ones.
pub fn search(folder: &Path) -> Result<u64> {
    let store = store(folder)?;
    let (searcher, model) = (store.searcher()?, model());
    ensure!(store.stats()?.segments == 1, "{:?}", store.stats()?);
    let queries = Dice::new(11).vectors(QUERIES, DIMENSIONS, GROUPS);
    let found = counted(|| -> Result<usize> {
        let mut found = 0;
        for vector in queries.chunks_exact(DIMENSIONS) {
            let (recall, filter) = (Recall::AtLeast(0.95), Filter::default());
            let query = Query { model: &model, vector, count: 10, radius: f32::INFINITY, recall, filter };
            found += searcher.search(&query)?.len();
        }
        Ok(found)
    })?;
    ensure!(found == QUERIES * 10, "{found} found");
    Ok(QUERIES as u64)
}
