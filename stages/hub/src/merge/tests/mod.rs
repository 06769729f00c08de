//! Made-up gateways into copies that are killed and begun again; at the end every copy holds what was sent, once.

mod gateway;
mod refused;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use eddy_runtime::{
    bus::{
        Bus as _,
        memory::{Faults, MemoryBus},
    },
    config::CommonConfig,
    lease::Held,
    telemetry::Telemetry,
};
use eddy_schemas::{alert::CloudEvent, region::LabelNews, sync::stream_of};
use eddy_vectors::index::{Filter, Limits};
use tokio::{sync::watch, task::JoinHandle};

use self::gateway::{Dice, Gateway};
use super::*;
use crate::{about, audit_sink::MemoryAudit, copy::Plan, filed, follow::Troubles, kept, ledger, shards::Shards};

const SHARDS: u32 = 3;

/// One process's copies of all shards.
struct Region {
    bus: MemoryBus,
    folder: tempfile::TempDir,
    leads: bool,
    audit: Arc<MemoryAudit>,
    sites: watch::Sender<Vec<String>>,
    running: Vec<Option<Running>>,
}

struct Running {
    task: JoinHandle<Result<(), String>>,
    copy: watch::Receiver<Option<Arc<Led>>>,
    stop: watch::Sender<bool>,
}

impl Region {
    fn start(bus: &MemoryBus, sites: &[&str], leads: bool) -> Self {
        let sites = watch::Sender::new(sites.iter().map(|site| (*site).to_owned()).collect());
        let (folder, audit) = (tempfile::tempdir().unwrap(), Arc::new(MemoryAudit::default()));
        let mut region = Self { bus: bus.clone(), folder, leads, audit, sites, running: Vec::new() };
        region.running = (0..SHARDS).map(|shard| Some(region.begin(shard))).collect();
        region
    }

    fn begin(&self, shard: u32) -> Running {
        let (opened, copy) = watch::channel(None);
        let (stop, stopped) = watch::channel(false);
        let mut limits = CommonConfig::for_tests(Path::new("unused")).limits;
        limits.pull_messages_max = 5;
        let audit: Arc<dyn AuditSink> = self.audit.clone();
        let plan = Plan {
            bus: self.bus.clone(),
            shard,
            folder: self.folder.path().join(shard.to_string()),
            store: Limits { map_bytes: 64 << 20, segment_windows: 100, ..Limits::default() },
            rules: Rules { notes: kept::Bounds { count: 1_000_000, bytes: 1 << 30, age: i64::MAX }, summaries: 10 },
            limits,
            shards: Arc::new(Shards::new(SHARDS)),
            held: if self.leads { Held::for_ever() } else { Held::default() },
            telemetry: Arc::new(Telemetry::for_tests()),
            troubles: Arc::new(Troubles::default()),
            audit: (shard == 0).then_some(audit),
            sites: self.sites.subscribe(),
            sketch_every: Duration::from_secs(1),
            sketch: eddy_vectors::sketch::Limits::default(),
            opened,
        };
        Running { task: tokio::spawn(plan.run(stopped)), copy, stop }
    }

    /// Drops one copy's task wherever it is, and begins it again.
    async fn kill(&mut self, shard: u32) {
        let Some(old) = self.running[shard as usize].take() else { return };
        old.task.abort();
        let _ = old.task.await;
        drop(old.copy);
        self.running[shard as usize] = Some(self.begin(shard));
    }

    async fn stop(&mut self) {
        for running in self.running.drain(..).flatten() {
            running.stop.send_replace(true);
            running.task.await.unwrap().unwrap();
        }
    }

    fn copy(&self, shard: u32) -> Option<Arc<Led>> {
        self.running[shard as usize].as_ref().and_then(|running| running.copy.borrow().clone())
    }

    /// Waits until every copy has merged all there is, and nothing waits to go out.
    async fn caught_up(&self, sites: &[&str]) -> Vec<Arc<Led>> {
        let mut waited = 0;
        loop {
            let mut copies = Vec::new();
            for shard in 0..SHARDS {
                let Some(copy) = self.copy(shard) else { break };
                let mut through = copy.store.outbox().unwrap().is_empty();
                for site in sites {
                    let last = self.bus.stream(&stream_of(site)).await.unwrap().last_sequence;
                    let place = copy.position().place(&stream_of(site)).map_or(0, |place| place.sequence);
                    through &= place == last;
                }
                copies.extend(through.then_some(copy));
            }
            if copies.len() == SHARDS as usize {
                return copies;
            }
            waited += 1;
            let failed = self.running.iter().flatten().any(|running| running.task.is_finished());
            assert!(!failed && waited < 3_000, "copies do not catch up: {:?}", self.audit.notes());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// That these copies together hold what a gateway sent, once, and can prove it.
fn holds(copies: &[Arc<Led>], gateway: &Gateway) {
    for receipt in copies.iter().flat_map(|copy| ledger::read_site(&copy.store, &gateway.site).unwrap()) {
        let (batches, ..) = &gateway.sent.classes[receipt.class.as_str()];
        assert!(!receipt.current || receipt.batches == *batches, "{receipt:?}");
    }
    holds_entries(copies, gateway);
}

/// The same where a chain has begun again: its numbers are others than its batches.
fn holds_entries(copies: &[Arc<Led>], gateway: &Gateway) {
    let site = gateway.site.as_str();
    let token = eddy_schemas::names::encode(site);
    let (mut alerts, mut windows) = (BTreeMap::new(), BTreeMap::new());
    for copy in copies {
        for (_, json) in kept::list(&copy.store, &format!("alert/{token}/"), usize::MAX).unwrap() {
            let event: CloudEvent = serde_json::from_slice(&json).unwrap();
            assert_eq!(alerts.insert(event.id.clone(), json.into()), None, "{} twice", event.id);
        }
        let filter = Filter { site: Some(token.clone()), ..Filter::default() };
        for window in copy.searcher.matching(&filter).unwrap() {
            let (own, vector, _) = copy.searcher.window(window).unwrap().unwrap();
            let key = (own.series, own.facts.end);
            assert_eq!(windows.insert(key.clone(), vector), None, "{key:?} twice");
            let alert = copy.searcher.tag(window).unwrap().and_then(|tag| filed::tagged(&tag));
            let word = alert.as_ref().and_then(|(_, alert)| gateway.sent.words.get(alert));
            let word = word.map(|(time, origin, name)| (*time, origin.as_str(), name.as_str()));
            let label = own.label.as_ref().map(|label| (label.time, label.origin.as_str(), label.name.as_str()));
            assert_eq!(label, word, "the window of {alert:?}");
        }
        for receipt in ledger::read_site(&copy.store, site).unwrap() {
            let (_, last, hex) = &gateway.sent.classes[receipt.class.as_str()];
            if receipt.current {
                assert_eq!((receipt.last, &receipt.receipt), (*last, hex), "{}", receipt.class);
            }
            let named: u64 = receipt.missing.iter().map(|range| range.count).sum();
            assert_eq!(receipt.entries + named, receipt.last, "each entry is here or named");
            assert!(receipt.missing.iter().all(|range| range.cause == "budget"), "{:?}", receipt.missing);
        }
    }
    assert_eq!(alerts, gateway.sent.alerts);
    assert_eq!(windows, gateway.sent.windows);
    for (alert, (time, origin, name)) in &gateway.sent.words {
        let words: Vec<_> = copies.iter().filter_map(|copy| about::read(&copy.store, &token, alert).unwrap()).collect();
        let [about] = words.as_slice() else { panic!("{alert}: {words:?}") };
        let word = about.word.as_ref().unwrap();
        assert_eq!((word.time, &word.origin, &word.name), (*time, origin, name), "{alert}");
    }
}

/// That gateways heard of each word that holds, and of none twice.
fn told(bus: &MemoryBus, gateway: &Gateway) {
    let payloads = bus.payloads("REGION", &format!("region.label.{}", eddy_schemas::names::encode(&gateway.site)));
    let news: Vec<LabelNews> = payloads.iter().map(|payload| serde_json::from_slice(payload).unwrap()).collect();
    let mut seen = BTreeSet::new();
    let mut last = BTreeMap::new();
    for item in &news {
        assert!(seen.insert((&item.alert, &item.label, &item.origin, item.time)), "{item:?} twice");
        last.insert(item.alert.clone(), (item.time, item.origin.clone(), item.label.clone()));
        let series = filed::series(&item.site, &item.device, &item.channel);
        if let Some(vector) = gateway.sent.windows.get(&(series, item.end)) {
            assert_eq!(&item.vector, vector);
        }
    }
    for (alert, word) in &gateway.sent.words {
        let opener = gateway.sent.opened.get(alert);
        let is_there = opener.is_some_and(|opener| gateway.sent.windows.contains_key(opener));
        // A window that was forgotten may have been so before anybody heard of it.
        let told = last.get(alert);
        assert!(
            told == Some(word) || (!is_there && told.is_none_or(|_| opener.is_some())),
            "{alert}: {told:?}, not {word:?}"
        );
    }
    assert!(!last.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn killed_at_any_moment_every_copy_holds_what_was_sent_once() {
    let seed = std::env::var("EDDY_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_128);
    println!("EDDY_SEED={seed}");
    let mut dice = Dice(seed);
    let bus = MemoryBus::new(seed, Faults::default());
    bus.create("REGION", 9);
    let sites = ["plant 1", "b"];
    let mut gateways = sites.map(|site| Gateway::new(site, &bus));
    let mut regions = [true, false].map(|leads| Region::start(&bus, &sites, leads));
    for round in 0..30 {
        bus.set_faults(Faults::default());
        for gateway in &mut gateways {
            for _ in 0..dice.below(4) {
                if dice.below(2) == 0 { gateway.alerts(&mut dice).await } else { gateway.deltas(&mut dice).await }
            }
        }
        bus.set_faults(Faults { feed_lost: 50, answer_lost: 100, publish_lost: 100, ..Faults::default() });
        tokio::time::sleep(Duration::from_millis(dice.below(30))).await;
        if dice.below(2) == 0 {
            regions[(round % 2) as usize].kill(dice.below(u64::from(SHARDS)) as u32).await;
        }
    }
    bus.set_faults(Faults::default());
    let mut contents = Vec::new();
    for region in &regions {
        let copies = region.caught_up(&sites).await;
        gateways.iter().for_each(|gateway| holds(&copies, gateway));
        contents.push(copies.iter().map(|copy| copy.store.stats().unwrap().labels).collect::<Vec<_>>());
        assert_eq!(region.audit.notes(), Vec::<[String; 4]>::new(), "nothing was wrong");
    }
    assert_eq!(contents[0], contents[1], "copies are alike, whoever leads");
    gateways.iter().for_each(|gateway| told(&bus, gateway));
    let windows: usize = gateways.iter().map(|gateway| gateway.sent.windows.len()).sum();
    let alerts: usize = gateways.iter().map(|gateway| gateway.sent.alerts.len()).sum();
    println!("{windows} windows, {alerts} alerts");
    for region in &mut regions {
        region.stop().await;
    }
}
