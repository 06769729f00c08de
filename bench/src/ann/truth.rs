//! The true nearest ones, and how many of them an engine found. One judge for all engines.

use eddy_vectors::distance::squared;
use rayon::prelude::*;

/// Neighbours that are asked for.
pub(super) const COUNT: usize = 10;
/// What stands where an engine found fewer.
pub(super) const NONE: u32 = u32::MAX;

/// The ten nearest of each query, nearest first.
pub(super) fn nearest(base: &[f32], queries: &[f32], dimensions: usize) -> Vec<u32> {
    let one = |query: &[f32]| {
        let mut near: Vec<(f32, u32)> = Vec::with_capacity(COUNT + 1);
        for (id, vector) in base.chunks_exact(dimensions).enumerate() {
            let far = squared(query, vector);
            if near.len() < COUNT || near.last().is_some_and(|worst| far < worst.0) {
                near.insert(near.partition_point(|known| known.0 <= far), (far, id as u32));
                near.truncate(COUNT);
            }
        }
        near.resize(COUNT, (f32::INFINITY, NONE));
        near.into_iter().map(|(_, id)| id)
    };
    queries.par_chunks_exact(dimensions).flat_map_iter(one).collect()
}

/// Shares of the nearest one and of the ten nearest that were found, by distance: of equally near ones any will do.
pub(super) fn recall(base: &[f32], queries: &[f32], dimensions: usize, truth: &[u32], found: &[u32]) -> [f64; 2] {
    let (mut first, mut all, mut wanted) = (0, 0, 0);
    let rows = truth.chunks_exact(COUNT).zip(found.chunks_exact(COUNT));
    for (query, (truth, found)) in queries.chunks_exact(dimensions).zip(rows) {
        let far =
            |id: &u32| base.chunks_exact(dimensions).nth(*id as usize).map_or(f32::INFINITY, |v| squared(query, v));
        let (best, worst) = (far(&truth[0]), truth.iter().filter(|id| **id != NONE).map(far).fold(0.0, f32::max));
        let mut found: Vec<u32> = found.iter().copied().filter(|id| *id != NONE).collect();
        found.sort_unstable();
        found.dedup();
        first += usize::from(found.iter().any(|id| far(id) <= best));
        all += found.iter().filter(|id| far(id) <= worst).count();
        wanted += truth.iter().filter(|id| **id != NONE).count();
    }
    let queries = (queries.len() / dimensions).max(1);
    [first as f64 / queries as f64, all as f64 / wanted.max(1) as f64]
}
