//! The gateway's pulse, once a second: streams and consumers by asking the bus, stages by their `/metrics`, the partition.

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    time::{Duration, Instant},
};

use eddy_runtime::client::ClientError;
use nix::sys::statvfs::statvfs;

use super::{
    scrape::{Recent, Scrape},
    view::{Disk, StageState, StageView, View},
};
use crate::{
    gateway::{Gateway, GatewayFile},
    rollout::{self, seen::Seen},
    status::{Reader, gather},
    supervise::http,
};

/// Over which the bus's rates are measured; also the pause between two looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// A stage that does not answer by then is away.
const PATIENCE: Duration = Duration::from_millis(500);
/// Bytes of an answer.
const METRICS_BYTES_MAX: u64 = 1 << 20;
/// The pace at which a partition fills up is measured over so many looks.
const DISK_LOOKS: usize = 1_200;
/// The stages in the order of the path, for those that are listed.
const ORDER: [&str; 8] = ["capture", "preprocess", "embed", "detect", "index", "notify", "sync", "export"];

/// What is remembered from look to look.
pub struct Pulse {
    gateway: Gateway,
    dir: PathBuf,
    recent: BTreeMap<String, Recent>,
    disk: VecDeque<(Instant, u64)>,
}

impl Pulse {
    /// Of a gateway; its folder is `dir`, if it is on this machine.
    pub fn new(gateway: Gateway, dir: PathBuf) -> Self {
        Self { gateway, dir, recent: BTreeMap::new(), disk: VecDeque::new() }
    }

    /// Looks; takes about [`INTERVAL`]. All but what is folded from streams.
    ///
    /// # Errors
    /// That the bus does not answer.
    pub async fn look(&mut self) -> Result<View, ClientError> {
        // Processes that were started anew have other addresses.
        let file = self.gateway.file.is_some().then(|| GatewayFile::read(&self.dir)).flatten();
        self.gateway.file = file.or(self.gateway.file.take());
        let unwell = self.scrape().await;
        let gateway = &self.gateway;
        let (readers, streams) = gather::rates(gateway, INTERVAL).await?;
        let (link, index) = (gather::region(gateway).await, gather::index(gateway).await);
        let (bundles, wish) = (Seen::ask(gateway).await?, rollout::seen::state(gateway).await.unwrap_or_default());
        Ok(View {
            site: gateway.site.clone(),
            url: gateway.client.url().to_owned(),
            at: crate::now(),
            stages: self.stages(&readers, &unwell),
            disk: self.disk(),
            streams,
            link,
            index,
            bundles,
            wish,
            ..View::default()
        })
    }

    /// Asks every stage for its metrics and its health; what is wrong, by name.
    async fn scrape(&mut self) -> BTreeMap<String, String> {
        let addresses = self.gateway.file.as_ref().map(|file| file.machine.http.clone()).unwrap_or_default();
        let mut unwell = BTreeMap::new();
        let asked = addresses.into_iter().map(|(name, address)| async move {
            let address = address.trim_start_matches("http://").to_owned();
            let metrics = http::get(&address, "/metrics", METRICS_BYTES_MAX, PATIENCE).await;
            (name, metrics, http::health(&address, PATIENCE).await)
        });
        for (name, metrics, health) in futures_util::future::join_all(asked).await {
            match (metrics, health) {
                (Ok((200, text)), Ok((200, _))) => self.push(&name, &text),
                (Ok((200, text)), Ok((_, said))) => {
                    self.push(&name, &text);
                    unwell.insert(name, problem(&said));
                }
                _ => drop(self.recent.remove(&name)),
            }
        }
        unwell
    }

    fn push(&mut self, name: &str, text: &str) {
        self.recent.entry(name.to_owned()).or_default().push(Instant::now(), Scrape::parse(text));
    }

    fn stages(&self, readers: &[Reader], unwell: &BTreeMap<String, String>) -> Vec<StageView> {
        let machine = self.gateway.file.as_ref().map(|file| &file.machine);
        let mut stages: BTreeMap<String, StageView> = BTreeMap::new();
        let named = |name: &str| StageView { name: name.to_owned(), ..StageView::default() };
        // A consumer has its shard in its name, its process only where there are several.
        let is_alone = self.gateway.file.as_ref().is_some_and(|file| file.shards == 1);
        for reader in readers {
            let name = reader.name.strip_suffix("-0").filter(|_| is_alone).unwrap_or(&reader.name);
            let stage = stages.entry(name.to_owned()).or_insert_with(|| named(name));
            stage.lag_messages += reader.lag_messages;
            stage.messages_per_s += reader.messages_per_s;
            if reader.connected {
                stage.state = StageState::Reading;
            }
        }
        for (name, recent) in &self.recent {
            let stage = stages.entry(name.clone()).or_insert_with(|| named(name));
            let ms = |name: &str| recent.quantiles(name).map(|(median, high)| (median * 1e3, high * 1e3));
            stage.rows_per_s = recent.rate("eddy_received_rows_total");
            (stage.batch_ms, stage.age_ms) = (ms("eddy_batch_seconds"), ms("eddy_age_seconds"));
            if stage.state == StageState::Away {
                stage.state = StageState::Reading;
            }
            if let Some(problem) = unwell.get(name) {
                (stage.state, stage.problem) = (StageState::Unwell, Some(problem.clone()));
            }
        }
        for (name, pid) in machine.iter().flat_map(|machine| &machine.pids) {
            let memory = resident(*pid);
            match stages.get_mut(name) {
                Some(stage) => stage.memory_bytes = memory,
                None if name != "eddy" => {
                    let state = if memory.is_some() { StageState::Reading } else { StageState::Away };
                    stages.insert(name.clone(), StageView { state, memory_bytes: memory, ..named(name) });
                }
                None => {}
            }
        }
        for (name, ending) in machine.iter().flat_map(|machine| &machine.given_up) {
            let stage = stages.entry(name.clone()).or_insert_with(|| named(name));
            (stage.state, stage.problem) = (StageState::GivenUp, Some(ending.clone()));
        }
        let mut stages: Vec<StageView> = stages.into_values().collect();
        let place = |name: &str| ORDER.iter().position(|stage| name.starts_with(stage)).unwrap_or(ORDER.len());
        stages.sort_by(|a, b| (place(&a.name), &a.name).cmp(&(place(&b.name), &b.name)));
        stages
    }

    fn disk(&mut self) -> Option<Disk> {
        self.gateway.file.as_ref()?;
        let stat = statvfs(&self.dir).ok()?;
        let bytes = |blocks: u64| blocks * stat.fragment_size() as u64;
        let (free, total) = (bytes(stat.blocks_available()), bytes(stat.blocks()));
        self.disk.push_back((Instant::now(), free));
        if self.disk.len() > DISK_LOOKS {
            self.disk.pop_front();
        }
        let first = self.disk.front().copied();
        let full_in_s = first.and_then(|(at, before)| full_in(before, free, at.elapsed()));
        Some(Disk { free, total, full_in_s })
    }
}

/// Seconds until nothing is free, where `before` became `free` in `elapsed`; a few minutes say nothing yet.
fn full_in(before: u64, free: u64, elapsed: Duration) -> Option<f64> {
    let taken = before.checked_sub(free).filter(|taken| *taken > 0)?;
    (elapsed >= Duration::from_secs(600)).then(|| free as f64 / (taken as f64 / elapsed.as_secs_f64()))
}

/// What `/healthz` says, without its JSON.
fn problem(said: &str) -> String {
    let json: Option<serde_json::Value> = serde_json::from_str(said).ok();
    json.and_then(|json| json["problem"].as_str().map(str::to_owned)).unwrap_or_else(|| said.to_owned())
}

/// Resident memory of a process of this machine.
fn resident(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kb = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    kb.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kb| kb << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_that_fills_up_is_full_at_some_time() {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        assert_eq!(full_in(1_000, 900, minutes(10)), Some(5_400.0));
        assert_eq!(full_in(1_000, 1_100, minutes(10)), None, "it empties");
        assert_eq!(full_in(1_000, 900, minutes(9)), None, "too early to tell");
    }

    #[test]
    fn health_is_told_in_words() {
        assert_eq!(problem(r#"{"status":"stalled","problem":"nothing moved"}"#), "nothing moved");
        assert_eq!(problem("bare"), "bare");
        assert!(resident(std::process::id()).unwrap() > 1 << 20);
    }
}
