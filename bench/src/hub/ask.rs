//! Questions of a gateway to its region.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use eddy_cli::region;
use eddy_fixtures::link::Conditions;
use eddy_schemas::region::{
    SEARCH,
    wire::{SearchRequest, SearchResponse},
};

use super::fill::BUNDLE;
use crate::{
    ann::Queried,
    sync::sites::{Site, Sites},
};

/// Neighbours.
const K: u32 = 10;
/// How long the region may merge nothing.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How long questions took, milliseconds.
pub(super) struct Took(Vec<f64>);

impl Took {
    pub(super) fn quantile(&self, part: f64) -> f64 {
        let at = (part * self.0.len() as f64).ceil() as usize;
        self.0[at.clamp(1, self.0.len()) - 1]
    }
}

/// What was measured.
pub(super) struct Asked {
    /// With the recall that is the default.
    pub(super) searched: Took,
    /// With every window measured.
    pub(super) exact: Took,
    /// Of the ten nearest, how many the first kind found.
    pub(super) recall: f64,
}

/// Waits until the region has merged all.
pub(super) async fn until_merged(sites: &Sites, split: &Queried, n: u64) -> Result<()> {
    let site = &sites.sites[0];
    let (mut last, mut moved_at) = (0, Instant::now());
    loop {
        let answer = ask(site, &split.queries[..split.dimensions], 0.0).await;
        let windows = answer.map_or(0, |answer| answer.windows);
        if windows >= n {
            return Ok(());
        }
        if windows != last {
            (last, moved_at) = (windows, Instant::now());
        }
        ensure!(moved_at.elapsed() < PATIENCE, "the region has merged {windows} of {n} windows, and no more");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Asks over a link that takes `delay_ms` each way, one question after the other.
pub(super) async fn measure(sites: &Sites, split: &Queried, delay_ms: u64) -> Result<Asked> {
    let site = &sites.sites[0];
    let delay = Duration::from_millis(delay_ms);
    site.link.change(|now| *now = Conditions { delay, ..Conditions::default() });
    let (searched, found) = all(site, split, 0.0).await?;
    let (exact, nearest) = all(site, split, 1.0).await?;
    let hits: usize = found.iter().zip(&nearest).map(|(found, nearest)| found.intersection(nearest).count()).sum();
    let wanted: usize = nearest.iter().map(HashSet::len).sum();
    Ok(Asked { searched, exact, recall: hits as f64 / wanted.max(1) as f64 })
}

/// Shard and number of a window.
type Found = HashSet<(u32, u64)>;

async fn all(site: &Site, split: &Queried, recall: f32) -> Result<(Took, Vec<Found>)> {
    let (mut took, mut found) = (Vec::new(), Vec::new());
    for vector in split.queries.chunks_exact(split.dimensions) {
        let began = Instant::now();
        let answer = ask(site, vector, recall).await?;
        took.push(began.elapsed().as_secs_f64() * 1e3);
        ensure!(answer.missing_shards.is_empty(), "shards {:?} did not answer in time", answer.missing_shards);
        found.push(answer.neighbours.iter().map(|window| (window.shard, window.number)).collect());
    }
    took.sort_by(f64::total_cmp);
    ensure!(!took.is_empty(), "nothing was asked");
    Ok((Took(took), found))
}

async fn ask(site: &Site, vector: &[f32], recall: f32) -> Result<SearchResponse> {
    let bundle = BUNDLE.iter().map(|byte| format!("{byte:02x}")).collect();
    let request = SearchRequest { vector: vector.to_vec(), bundle, k: K, recall, ..Default::default() };
    region::ask(&site.running.gateway, SEARCH, &request).await.context("the region was asked")
}
