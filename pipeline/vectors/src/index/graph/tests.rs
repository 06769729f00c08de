//! The graph by itself: in an environment of its own, against a plain scan.

use std::path::Path;

use heed::{EnvFlags, EnvOpenOptions};
use proptest::prelude::*;

use super::*;
use crate::{distance, index::kind::SegmentKind};

const DIMENSIONS: usize = 12;

fn never() -> bool {
    false
}

fn bounds(seed: u64) -> Bounds<'static> {
    Bounds { seed, trees: 1, memory: 1 << 20, cancelled: &never }
}

fn env(folder: &Path) -> Env<WithoutTls> {
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.max_dbs(2).map_size(256 << 20);
    // SAFETY: the folder is the test's own.
    unsafe { options.flags(EnvFlags::NO_SYNC | EnvFlags::NO_LOCK).open(folder) }.unwrap()
}

/// Numbers from 0 to 1 that are always the same.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1 << 24) as f32
    }
}

/// Clusters of different density, some far apart, some of equal vectors.
fn clustered(count: usize, clusters: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut random = Random(seed);
    let centres: Vec<Vec<f32>> = (0..clusters)
        .map(|at| {
            let reach = if at.is_multiple_of(7) { 60_000.0 } else { 10.0 };
            (0..DIMENSIONS).map(|_| (random.next() - 0.5) * reach).collect()
        })
        .collect();
    let mut vectors = Vec::new();
    for at in 0..count {
        let cluster = at % clusters;
        let spread = [0.0, 0.01, 0.3, 2.0][cluster % 4];
        let vector = centres[cluster].iter().map(|x| x + (random.next() - 0.5) * spread);
        vectors.push(vector.map(|x| half::f16::from_f32(x).to_f32()).collect());
    }
    vectors
}

/// A graph of vectors, some of which are left out.
fn built(folder: &Path, vectors: &[Vec<f32>], left_out: &[u32], seed: u64) -> (Graph, Reached) {
    let env = env(folder);
    let mut graph = Graph::open(&env, vectors[0].len(), vectors.len(), true).unwrap();
    for (item, vector) in vectors.iter().enumerate().filter(|(item, _)| !left_out.contains(&(*item as u32))) {
        graph.put(item as u32, vector).unwrap();
    }
    let reached = graph.build(&bounds(seed)).unwrap();
    (graph, reached)
}

/// Squared distances of the true nearest.
fn truth(vectors: &[Vec<f32>], query: &[f32], count: usize, is_asked: impl Fn(u32) -> bool) -> Vec<f32> {
    let asked = vectors.iter().enumerate().filter(|(item, _)| is_asked(*item as u32));
    let mut far: Vec<f32> = asked.map(|(_, vector)| distance::squared(query, vector)).collect();
    far.sort_unstable_by(f32::total_cmp);
    far.truncate(count);
    far
}

/// How many of the true nearest are found.
fn recall(graph: &Graph, vectors: &[Vec<f32>], effort: u32, among: Option<&RoaringBitmap>) -> f32 {
    let txn = graph.env.read_txn().unwrap();
    let (mut right, mut wanted) = (0, 0);
    for at in 0..60 {
        let mut query = vectors[at * 131 % vectors.len()].clone();
        query.iter_mut().enumerate().for_each(|(at, x)| *x += (at % 3) as f32 * 0.02);
        let truth = truth(vectors, &query, 10, |item| among.is_none_or(|among| among.contains(item)));
        let found = graph.nearest(&txn, &query, 10, effort, among).unwrap();
        assert!(found.iter().all(|item| among.is_none_or(|among| among.contains(*item))));
        assert_eq!(found.len(), found.iter().collect::<std::collections::BTreeSet<_>>().len(), "nothing twice");
        let far = |item: &u32| distance::squared(&query, &vectors[*item as usize]);
        right += found.iter().filter(|item| truth.last().is_some_and(|worst| far(item) <= *worst)).count();
        wanted += truth.len();
    }
    right as f32 / wanted as f32
}

#[test]
fn the_nearest_are_found_in_clusters_of_any_kind() {
    for (count, clusters) in [(6_000, 300), (6_000, 8), (6_000, 1_500), (3_000, 1)] {
        let folder = tempfile::tempdir().unwrap();
        let vectors = clustered(count, clusters, 5);
        let (graph, reached) = built(folder.path(), &vectors, &[], 1);
        let (effort, told) = reached[reached.len() - 1];
        assert!(told >= 0.97, "{clusters} clusters: {reached:?}");
        let recall = recall(&graph, &vectors, effort.max(32), None);
        assert!(recall >= 0.95, "{clusters} clusters: {recall} where {told} was told of effort {effort}");
    }
}

#[test]
fn a_filter_is_held_to_whether_it_leaves_many_few_or_none() {
    let folder = tempfile::tempdir().unwrap();
    let vectors = clustered(5_000, 40, 3);
    let (graph, _) = built(folder.path(), &vectors, &[], 1);
    type IsAsked = fn(u32) -> bool;
    let filters: [(&str, IsAsked); 5] = [
        ("all but one", |item| item != 17),
        ("half", |item| item.is_multiple_of(2)),
        ("whole clusters", |item| item % 40 < 3),
        ("a few", |item| item.is_multiple_of(500)),
        ("none", |_| false),
    ];
    for (name, is_asked) in filters {
        let among: RoaringBitmap = (0..5_000).filter(|item| is_asked(*item)).collect();
        if among.is_empty() {
            let txn = graph.env.read_txn().unwrap();
            assert!(graph.nearest(&txn, &vectors[0], 10, 64, Some(&among)).unwrap().is_empty());
            continue;
        }
        let recall = recall(&graph, &vectors, 64, Some(&among));
        assert!(recall >= 0.95, "{name}: {recall}");
    }
}

#[test]
fn what_was_left_out_is_no_vector_and_is_never_found() {
    let folder = tempfile::tempdir().unwrap();
    let vectors = clustered(900, 20, 9);
    let left_out: Vec<u32> = (0..900).filter(|item| *item < 5 || item % 3 == 1 || *item > 890).collect();
    let (graph, _) = built(folder.path(), &vectors, &left_out, 1);
    let txn = graph.env.read_txn().unwrap();
    for (item, vector) in vectors.iter().enumerate() {
        let is_there = !left_out.contains(&(item as u32));
        assert_eq!(graph.vector(&txn, item as u32).unwrap(), is_there.then(|| vector.clone()));
        let found = graph.nearest(&txn, vector, 5, 32, None).unwrap();
        let scanned = graph.scanned(&txn, vector, 900, None).unwrap().unwrap();
        assert!(found.len() == 5 && found.iter().all(|item| !left_out.contains(item)));
        assert!(scanned.len() == 900 - left_out.len() && scanned.iter().all(|item| !left_out.contains(item)));
    }
    drop(txn);
    drop(graph);
    let folder = tempfile::tempdir().unwrap();
    let (graph, reached) = built(folder.path(), &vectors, &(0..900).collect::<Vec<_>>(), 1);
    let txn = graph.env.read_txn().unwrap();
    assert!(graph.nearest(&txn, &vectors[0], 5, 32, None).unwrap().is_empty());
    assert!(reached.iter().all(|(_, recall)| *recall == 0.0), "nothing was asked for: {reached:?}");
}

fn bytes(graph: &Graph) -> Vec<(u32, Vec<u8>)> {
    let txn = graph.env.read_txn().unwrap();
    let all = graph.blobs.iter(&txn).unwrap();
    all.map(|item| item.map(|(key, bytes)| (key, bytes.to_vec())).unwrap()).collect()
}

#[test]
fn the_same_vectors_make_the_same_graph_byte_for_byte() {
    let vectors = clustered(2_000, 50, 2);
    let make = |seed| {
        let folder = tempfile::tempdir().unwrap();
        let (graph, reached) = built(folder.path(), &vectors, &[4], seed);
        (bytes(&graph), reached)
    };
    let (first, second, other) = (make(1), make(1), make(2));
    assert!(first == second && first.0 != other.0);
    assert!(first.0.iter().any(|(key, _)| *key == ABOVE), "it has a layer above the ground");
}

#[test]
fn more_windows_than_a_part_holds_are_found_in_each() {
    let folder = tempfile::tempdir().unwrap();
    let count = PART + 1_000;
    let vectors: Vec<Vec<f32>> =
        (0..count).map(|at| vec![(at % 256) as f32, (at / 256 % 256) as f32, (at / 65_536) as f32]).collect();
    let (graph, _) = built(folder.path(), &vectors, &[], 1);
    let txn = graph.env.read_txn().unwrap();
    for item in [0, 1, 999, PART - 1, PART, PART + 999] {
        assert_eq!(graph.vector(&txn, item as u32).unwrap().as_ref(), Some(&vectors[item]));
        assert_eq!(graph.nearest(&txn, &vectors[item], 1, 16, None).unwrap(), [item as u32]);
        assert_eq!(graph.scanned(&txn, &vectors[item], 1, None).unwrap().unwrap(), [item as u32]);
    }
}

#[test]
fn a_build_ends_when_it_is_cancelled() {
    let folder = tempfile::tempdir().unwrap();
    let env = env(folder.path());
    let vectors = clustered(500, 5, 1);
    let mut graph = Graph::open(&env, DIMENSIONS, 500, true).unwrap();
    vectors.iter().enumerate().for_each(|(item, vector)| graph.put(item as u32, vector).unwrap());
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let cancelled = || asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) >= 100;
    let stopped = graph.build(&Bounds { cancelled: &cancelled, ..bounds(1) });
    assert!(matches!(stopped, Err(KindError::Cancelled)));
    assert!(asked.into_inner() <= 101, "at once");
}

/// What a damaged graph may say: an error, or windows that there are, each with the vector that was written.
fn check_damaged(graph: &Graph, vectors: &[Vec<f32>]) -> bool {
    let txn = graph.env.read_txn().unwrap();
    let mut is_told = false;
    for query in vectors.iter().step_by(37) {
        for found in [graph.nearest(&txn, query, 5, 24, None), graph.scanned(&txn, query, 5, None).map(Option::unwrap)]
        {
            let Ok(found) = found else {
                is_told = true;
                continue;
            };
            for item in found {
                match graph.vector(&txn, item) {
                    Ok(vector) => assert_eq!(vector.as_ref(), Some(&vectors[item as usize])),
                    Err(_) => is_told = true,
                }
            }
        }
    }
    is_told
}

#[test]
fn a_blob_that_is_cut_off_is_told_by_every_search() {
    let folder = tempfile::tempdir().unwrap();
    let vectors = clustered(2_000, 13, 8);
    let (graph, _) = built(folder.path(), &vectors, &[1_999], 1);
    let whole = bytes(&graph);
    assert!(whole.iter().any(|(key, _)| *key == ABOVE), "it has a layer above the ground");
    for (key, bytes) in &whole {
        for left in [0, bytes.len() / 2, bytes.len() - 1] {
            graph.write(|blobs, txn| blobs.put(txn, key, &bytes[..left])).unwrap();
            let txn = graph.env.read_txn().unwrap();
            assert!(graph.nearest(&txn, &vectors[0], 5, 24, None).is_err(), "{left} bytes of blob {key:x}");
            let scanned = graph.scanned(&txn, &vectors[0], 5, None);
            let is_row = [ROWS, SUMS].contains(key);
            assert!(scanned.is_err() || !is_row, "{left} bytes of blob {key:x}");
        }
        graph.write(|blobs, txn| blobs.put(txn, key, bytes)).unwrap();
    }
    let txn = graph.env.read_txn().unwrap();
    assert_eq!(graph.nearest(&txn, &vectors[0], 1, 24, None).unwrap(), [0]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn damaged_bytes_are_told_or_harmless(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..40),
        cut in prop::option::of((any::<prop::sample::Index>(), any::<prop::sample::Index>())),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let vectors = clustered(400, 13, 8);
        let (graph, _) = built(folder.path(), &vectors, &[], 1);
        let mut all = bytes(&graph);
        for (blob, at, byte) in damage {
            let blobs = all.len();
            let (_, bytes) = &mut all[blob.index(blobs)];
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some((blob, at)) = cut {
            let blobs = all.len();
            let (_, bytes) = &mut all[blob.index(blobs)];
            let at = at.index(bytes.len());
            bytes.truncate(at);
        }
        for (key, bytes) in &all {
            graph.write(|blobs, txn| blobs.put(txn, key, bytes)).unwrap();
        }
        let is_told = check_damaged(&graph, &vectors);
        if cut.is_some() {
            prop_assert!(is_told);
        }
    }
}
