//! Two processes and more are one region.

use std::{sync::mpsc, time::Duration};

use eddy_schemas::region::wire::{GetWindowRequest, LabelRequest, ReceiptsRequest, SearchRequest, StatsRequest};
use tokio::net::TcpListener;
use tonic::{Code, Request};

use super::{certificates::Ca, hub::Hub};
use crate::answer::{
    Leader,
    tests::fixture::{NOW, TestRegion, chain},
};

/// Two processes that lead two shards each, with twenty devices of two sites.
async fn two(ca: &Ca) -> [Hub; 2] {
    let regions = [TestRegion::new(4, &[0, 2]), TestRegion::new(4, &[1, 3])];
    for number in 0..20_u8 {
        let device = format!("plant-{}/pump-{number}", number % 2);
        regions.iter().for_each(|region| region.add(&device, f32::from(number), &format!("a{number}")));
    }
    for (region, last) in regions.iter().zip([9, 7]) {
        for (_, led) in &region.led {
            *led.chains.lock().unwrap() = vec![chain("plant-0", last), chain("plant-1", 5)];
        }
    }
    let [one, other] = regions;
    let hubs = [Hub::start(ca, one).await, Hub::start(ca, other).await];
    Hub::introduce(&[&hubs[0], &hubs[1]]);
    hubs
}

fn near(x: f32) -> SearchRequest {
    SearchRequest { vector: vec![x, 0.0, 0.0], k: 5, ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_process_is_asked_the_whole_region_answers() {
    let ca = Ca::new();
    let hubs = two(&ca).await;
    for hub in &hubs {
        let mut reader = hub.client(&ca, "console").await;
        let found = reader.search(near(7.1)).await.unwrap().into_inner();
        let devices: Vec<_> = found.neighbours.iter().map(|near| near.device.as_str()).collect();
        assert_eq!(devices, ["pump-7", "pump-8", "pump-6", "pump-9", "pump-5"]);
        assert_eq!((found.windows, found.missing_shards.len()), (20, 0));
        for number in 0..20 {
            let by_alert = SearchRequest { alert: format!("a{number}"), k: 1, ..Default::default() };
            let found = reader.search(by_alert).await.unwrap().into_inner();
            assert_eq!(found.like.unwrap().device, format!("pump-{number}"));
            assert!((found.neighbours[0].distance - 1.0).abs() < 1e-3, "{:?}", found.neighbours);
            let own = GetWindowRequest { alert: format!("a{number}"), ..Default::default() };
            let own = reader.get_window(own).await.unwrap().into_inner().window.unwrap();
            let again = GetWindowRequest { shard: own.shard, number: own.number, ..Default::default() };
            assert_eq!(reader.get_window(again).await.unwrap().into_inner().window.unwrap(), own);
        }
        let receipts = reader.receipts(ReceiptsRequest::default()).await.unwrap().into_inner();
        let told: Vec<_> = receipts.chains.iter().map(|chain| (chain.site.as_str(), chain.last)).collect();
        assert_eq!((told, receipts.missing_shards), (vec![("plant-0", 7), ("plant-1", 5)], vec![]));
        let stats = hub.client(&ca, "bob").await.stats(StatsRequest {}).await.unwrap().into_inner();
        assert_eq!(stats.shards.iter().map(|shard| shard.windows).sum::<u64>(), 20);
        let leaders: Vec<_> = stats.shards.iter().map(|shard| shard.address.as_str()).collect();
        let [one, other] = [hubs[0].address.as_str(), hubs[1].address.as_str()];
        assert_eq!(leaders, [one, other, one, other]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_word_reaches_the_shards_leader_with_its_speaker() {
    let ca = Ca::new();
    let hubs = two(&ca).await;
    for number in 0..4 {
        let device = format!("pump-{number}");
        let [site, label] = [format!("plant-{}", number % 2), "bearing".into()];
        let said = LabelRequest { site, device: device.clone(), alert: format!("a{number}"), label, time: 0 };
        let mut labeler = hubs[0].client(&ca, "alice").await;
        assert!(labeler.label(said).await.unwrap().into_inner().holds);
        let shard = hubs[0].shard_of(&device);
        let leader = &hubs[(shard % 2) as usize];
        let said = leader.region.shard(shard).said.lock().unwrap().pop().unwrap();
        assert_eq!((said.origin.as_str(), said.time, said.device.as_str()), ("hub/alice", NOW, device.as_str()));
    }
    let at_other: Vec<_> = hubs[1].logged().into_iter().filter(|[_, what, ..]| what == "Label").collect();
    assert!(at_other.iter().any(|[who, _, ended, _]| (&**who, &**ended) == ("hub for alice", "ok")), "{at_other:?}");
    // Whoever may not is not passed on.
    let said = LabelRequest {
        site: "plant-1".into(),
        device: "pump-1".into(),
        alert: "a1".into(),
        label: "x".into(),
        time: 0,
    };
    for hub in &hubs {
        let refused = hub.client(&ca, "console").await.label(said.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_gone_or_does_not_answer_is_named() {
    let ca = Ca::new();
    let hubs = two(&ca).await;
    let mut reader = hubs[0].client(&ca, "console").await;
    assert!(reader.search(near(7.1)).await.unwrap().into_inner().missing_shards.is_empty());
    // It is held up.
    let (release, held_up) = mpsc::sync_channel(1);
    *hubs[1].region.shard(3).held_up.lock().unwrap() = Some(held_up);
    let within = |time| {
        let mut asked = Request::new(ReceiptsRequest::default());
        asked.set_timeout(time);
        asked
    };
    let receipts = reader.receipts(within(Duration::from_millis(500))).await.unwrap().into_inner();
    assert_eq!(receipts.missing_shards, [3], "shard 1 of the same process answered");
    drop(release);
    // It takes connections, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent_at = silent.local_addr().unwrap().to_string();
    let leads = |address: &str| {
        let leader = |shard| Leader { shard, name: "hub-b".into(), address: address.to_owned() };
        *hubs[0].region.leaders.lock().unwrap() = vec![leader(1), leader(3)];
    };
    leads(&silent_at);
    let search = |x| {
        let mut asked = Request::new(near(x));
        asked.set_timeout(Duration::from_millis(500));
        asked
    };
    let found = reader.search(search(7.1)).await.unwrap().into_inner();
    assert_eq!(found.missing_shards, [1, 3]);
    assert!(!found.neighbours.is_empty() && found.windows < 20);
    // Nobody is there.
    drop(silent);
    leads(&silent_at);
    let found = reader.search(near(7.1)).await.unwrap().into_inner();
    assert_eq!(found.missing_shards, [1, 3]);
    let device = (0..20).map(|number| format!("pump-{number}")).find(|it| hubs[0].shard_of(it) == 1).unwrap();
    let said = LabelRequest { site: "plant-1".into(), device, alert: "a".into(), label: "x".into(), time: 0 };
    let refused = hubs[0].client(&ca, "alice").await.label(said).await.unwrap_err();
    assert!(matches!(refused.code(), Code::Unavailable | Code::DeadlineExceeded), "{refused}");
    let detail = hubs[0].logs("console", "Search", "ok").await;
    assert!(!detail.contains("without shards"));
    let partial = hubs[0]
        .logged()
        .into_iter()
        .filter(|[_, what, _, detail]| what == "Search" && detail.contains("without shards [1, 3]"));
    assert_eq!(partial.count(), 2);
    // It is back, and its shards with it.
    leads(&hubs[1].address);
    assert!(reader.search(near(7.1)).await.unwrap().into_inner().missing_shards.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_lost_a_shard_says_so_and_asks_nobody() {
    let ca = Ca::new();
    let hubs = two(&ca).await;
    // Each believes that the other one leads shards 0 and 1.
    let mut wrong = hubs[0].region.leaders.lock().unwrap().clone();
    wrong.iter_mut().for_each(|leader| leader.shard ^= 1);
    let regions = [&hubs[0].region, &hubs[1].region];
    regions.iter().for_each(|region| region.leaders.lock().unwrap().clone_from(&wrong));
    let mut reader = hubs[0].client(&ca, "console").await;
    // What is led here is answered, whatever is believed; for shards 1 and 3 it asks itself, and does not ask on.
    let found = reader.search(near(7.1)).await.unwrap().into_inner();
    assert_eq!(found.missing_shards, [1, 3]);
    let receipts = reader.receipts(ReceiptsRequest::default()).await.unwrap().into_inner();
    assert_eq!(receipts.missing_shards, [1, 3]);
    assert!(hubs[1].logged().is_empty(), "{:?}", hubs[1].logged());
    let refused = reader.get_window(GetWindowRequest { shard: 1, ..Default::default() }).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
}
