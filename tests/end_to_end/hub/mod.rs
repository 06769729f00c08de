//! The region: processes that share shards, and what they hold when any of them or the server dies.

mod site;

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use eddy_runtime::bus::nats::NatsBus;
use eddy_schemas::{
    alert::CloudEvent,
    region::wire::{ChainReceipt, ReceiptsRequest, ReceiptsResponse, SearchRequest, SearchResponse},
};
use eddy_vectors::index::{Filter, Limits, Store};
use prost::Message;

use self::site::{Site, connect};
use crate::{
    faults::{Dice, seed},
    region::grpc,
    server::Server,
    stage::StageProcess,
};

const SITES: [&str; 2] = ["plant", "plant.b 2"];
const SHARDS: u32 = 2;

fn start(folder: &Path, url: &str, name: &str) -> StageProcess {
    let own = folder.join(name);
    std::fs::create_dir_all(&own).unwrap();
    let environment = [
        ("EDDY_BUS_URL", url.to_owned()),
        ("EDDY_BUS_REQUEST_TIMEOUT_MS", "1000".into()),
        ("EDDY_STATE_DIR", own.join("state").display().to_string()),
        ("EDDY_HUB_NAME", name.to_owned()),
        ("EDDY_HUB_SHARDS", SHARDS.to_string()),
        ("EDDY_HUB_SITES", format!("{SITES:?}")),
        ("EDDY_HUB_SITE_MB", "64".into()),
        ("EDDY_HUB_MAP_MB", "256".into()),
    ];
    let mut environment: Vec<_> = environment.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    // One asks the other for what that leads.
    environment.extend(grpc(folder));
    StageProcess::start("hub", &own, &environment)
}

/// An answer by whichever process has it; `None`: none, or not a whole one.
async fn ask<A: Message + Default>(bus: &NatsBus, method: &str, request: &impl Message) -> Option<A> {
    let subject = format!("eddy.region.{method}");
    let answer = bus.request(&subject, request.encode_to_vec().into(), Duration::from_secs(2)).await.ok()?;
    Some(A::decode(answer).unwrap())
}

/// Asks until the region holds so many windows in all its shards, and says how long that took.
async fn knows(bus: &NatsBus, windows: usize) -> Duration {
    let began = Instant::now();
    loop {
        let request = SearchRequest { vector: vec![1.0; 4], k: 1_000, recall: 1.0, ..Default::default() };
        let answer: Option<SearchResponse> = ask(bus, "search", &request).await;
        let whole = answer.filter(|answer| answer.missing_shards.is_empty());
        if whole.as_ref().is_some_and(|answer| answer.windows == windows as u64 && answer.neighbours.len() == windows) {
            return began.elapsed();
        }
        let told = whole.map(|answer| answer.windows);
        assert!(began.elapsed() < Duration::from_secs(60), "the region knows {told:?} of {windows} windows");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn receipts(bus: &NatsBus) -> Vec<ChainReceipt> {
    loop {
        let answer: Option<ReceiptsResponse> = ask(bus, "receipts", &ReceiptsRequest::default()).await;
        match answer.filter(|answer| answer.missing_shards.is_empty()) {
            Some(answer) => return answer.chains,
            None => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

fn are_complete(receipts: &[ChainReceipt], sites: &[Site]) {
    for site in sites {
        for class in ["alerts", "deltas"] {
            let of = |receipt: &&ChainReceipt| receipt.site == site.name && receipt.class == class;
            let found: Vec<_> = receipts.iter().filter(of).collect();
            let [receipt] = found.as_slice() else { panic!("{} {class}: {found:?}", site.name) };
            let last = site.last(class);
            assert_eq!((receipt.first, receipt.last, receipt.entries), (1, last, last), "{receipt:?}");
            assert!(receipt.missing.is_empty() && receipt.current, "{receipt:?}");
        }
    }
}

/// That the copies in a process's folder hold what was sent, once, by id and content.
fn holds(folder: &Path, sites: &[Site]) {
    let stores: Vec<Store> = (0..SHARDS)
        .map(|shard| {
            let limits = Limits { map_bytes: 256 << 20, ..Limits::default() };
            Store::open(&folder.join("state/hub").join(shard.to_string()), limits).unwrap()
        })
        .collect();
    for site in sites {
        let (mut alerts, mut windows) = (BTreeMap::new(), BTreeMap::new());
        let token = eddy_schemas::names::encode(&site.name);
        for store in &stores {
            for (_, json) in eddy_hub::kept::list(store, &format!("alert/{token}/"), usize::MAX).unwrap() {
                let event: CloudEvent = serde_json::from_slice(&json).unwrap();
                assert_eq!(alerts.insert(event.id, json.into()), None);
            }
            let searcher = store.searcher().unwrap();
            let filter = Filter { site: Some(token.clone()), ..Filter::default() };
            for window in searcher.matching(&filter).unwrap() {
                let (own, vector, _) = searcher.window(window).unwrap().unwrap();
                let (_, device, channel) = eddy_hub::filed::parts(&own.series).unwrap();
                assert_eq!(windows.insert((device, channel, own.facts.end), vector), None);
            }
        }
        assert_eq!((alerts.len(), windows.len()), (site.alerts.len(), site.windows.len()), "{}", site.name);
        assert_eq!(alerts, site.alerts);
        assert_eq!(windows, site.windows);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_leader_dies_another_process_answers_with_all_it_knew() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), "");
    let bus = connect(&server.url()).await;
    let mut sites = SITES.map(|site| Site::new(site, &bus));
    let mut first = start(folder.path(), &server.url(), "first");
    for site in &mut sites {
        site.send(10).await;
    }
    println!("the first one answers after {:?}", knows(&bus, 20).await);
    let mut second = start(folder.path(), &server.url(), "second");
    for site in &mut sites {
        site.send(10).await;
    }
    knows(&bus, 40).await;
    // It leads all, or the second one would answer for a part that the first one misses.
    first.kill();
    println!("killed: the second one answers for all after {:?}", knows(&bus, 40).await);
    are_complete(&receipts(&bus).await, &sites);
    for site in &mut sites {
        site.send(10).await;
    }
    knows(&bus, 60).await;
    // It comes back with its old copy, catches up, and takes over from one that stops in good order.
    first.restart();
    assert!(second.stop().success(), "{}", second.log());
    println!("stopped: the first one answers for all after {:?}", knows(&bus, 60).await);
    are_complete(&receipts(&bus).await, &sites);
    assert!(first.stop().success(), "{}", first.log());
    holds(&folder.path().join("first"), &sites);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hub_and_server_killed_at_random_moments_change_nothing_of_what_is_held() {
    let mut dice = Dice(seed());
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(folder.path(), "");
    let bus = connect(&server.url()).await;
    let mut hubs = ["a", "b"].map(|name| start(folder.path(), &server.url(), name));
    let mut sites = SITES.map(|site| Site::new(site, &bus));
    for round in 0..12 {
        for site in &mut sites {
            site.send(1 + dice.below(8) as usize).await;
        }
        tokio::time::sleep(Duration::from_millis(dice.below(400))).await;
        match dice.below(4) {
            0 => server.kill_and_restart(),
            1 => {}
            _ => hubs[round % 2].kill_and_restart(),
        }
    }
    let windows = sites.iter().map(|site| site.windows.len()).sum();
    println!("{windows} windows; complete after {:?}", knows(&bus, windows).await);
    are_complete(&receipts(&bus).await, &sites);
    // Each copy by itself: whoever is left alone answers for all.
    for (stops, name) in [(0, "b"), (1, "a")] {
        assert!(hubs[stops].stop().success(), "{}", hubs[stops].log());
        println!("{name} alone: complete after {:?}", knows(&bus, windows).await);
        are_complete(&receipts(&bus).await, &sites);
        hubs[stops].restart();
    }
    for hub in &mut hubs {
        assert!(hub.stop().success(), "{}", hub.log());
    }
    for name in ["a", "b"] {
        holds(&folder.path().join(name), &sites);
    }
}
