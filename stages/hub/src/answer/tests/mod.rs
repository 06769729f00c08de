pub(crate) mod fixture;

use std::{sync::mpsc, time::Duration};

use self::fixture::{BUNDLE, LONG, NOW, TestRegion, chain, clock};
use super::*;

fn call() -> Call {
    Call::new("alice", LONG)
}

fn near(x: f32) -> SearchRequest {
    SearchRequest { vector: vec![x, 0.0, 0.0], ..Default::default() }
}

/// A region of four shards, all led here, with `plant-<p>/pump-<d>` at `10 p + d`, each with an alert.
fn whole() -> (Arc<TestRegion>, Arc<Answers>) {
    let region = TestRegion::new(4, &[0, 1, 2, 3]);
    for plant in 0..3_u8 {
        for device in 0..10_u8 {
            let x = f32::from(10 * plant + device);
            region.add(&format!("plant-{plant}/pump-{device}"), x, &format!("a{plant}{device}"));
        }
    }
    for (_, led) in &region.led {
        *led.chains.lock().unwrap() = ["plant-0", "plant-1", "plant-2"].map(|site| chain(site, 1)).to_vec();
    }
    let answers = region.answers(Peers::new(None));
    (region, answers)
}

fn ends(answer: &SearchResponse) -> Vec<i64> {
    answer.neighbours.iter().map(|near| near.end / 100).collect()
}

#[tokio::test]
async fn the_nearest_of_all_shards_are_told_with_all_that_is_known() {
    let (_, answers) = whole();
    let found = answers.search(&call(), &SearchRequest { k: 4, ..near(11.2) }).await.unwrap();
    assert_eq!(ends(&found), [11, 12, 10, 13]);
    assert_eq!((found.bundle.as_str(), found.windows, found.missing_shards.len()), (BUNDLE, 30, 0));
    let first = &found.neighbours[0];
    let names = (first.site.as_str(), first.device.as_str(), first.channel.as_str(), first.alert.as_str());
    assert_eq!(names, ("plant-1", "pump-1", "t", "a11"));
    assert!((first.distance - 0.2).abs() < 1e-3 && first.filled == 8 && first.score == 0.5);
    let of = |change: fn(&mut SearchRequest)| {
        let mut request = SearchRequest { k: 3, ..near(11.2) };
        change(&mut request);
        let answers = answers.clone();
        async move { ends(&answers.search(&call(), &request).await.unwrap()) }
    };
    assert_eq!(of(|request| request.site = "plant-2".into()).await, [20, 21, 22]);
    assert_eq!(of(|request| request.other_than_site = "plant-1".into()).await, [9, 8, 7]);
    assert_eq!(of(|request| (request.site, request.device) = ("plant-0".into(), "pump-3".into())).await, [3]);
    assert_eq!(of(|request| request.until = 1_100).await, [10, 9, 8]);
    assert_eq!(of(|request| request.radius = 1.0).await, [11, 12]);
    assert_eq!(of(|request| request.channel = "v".into()).await, [0; 0]);
    assert_eq!(of(|request| request.bundle = "other".into()).await, [0; 0]);
    let shard = eddy_schemas::names::shard_of("pump-1", 4);
    let only = answers.search(&call(), &SearchRequest { shards: vec![shard], ..near(11.2) }).await.unwrap();
    assert!(only.neighbours.iter().all(|near| near.shard == shard) && ends(&only)[0] == 11, "{only:?}");
}

#[tokio::test]
async fn a_window_that_is_asked_about_is_told_and_not_its_own_neighbour() {
    let (_, answers) = whole();
    let request = SearchRequest { alert: "a11".into(), k: 3, other_than_site: "plant-1".into(), ..Default::default() };
    let found = answers.search(&call(), &request).await.unwrap();
    assert_eq!((found.like.as_ref().unwrap().device.as_str(), ends(&found)), ("pump-1", vec![9, 8, 7]));
    let found =
        answers.search(&call(), &SearchRequest { other_than_site: String::new(), ..request.clone() }).await.unwrap();
    // Two are equally near: the order of shards and numbers decides.
    let mut near = ends(&found);
    near.sort_unstable();
    assert_eq!((near.len(), near.contains(&11), near.contains(&10) && near.contains(&12)), (3, false, true));
    let refused = |request: SearchRequest| {
        let answers = answers.clone();
        async move { answers.search(&call(), &request).await.unwrap_err() }
    };
    let none = refused(SearchRequest { alert: "a99".into(), ..Default::default() }).await;
    assert_eq!((none.why, none.message.contains("alert a99")), (Why::Missing, true));
    let other = refused(SearchRequest { alert: "a11".into(), bundle: "b2".into(), ..Default::default() }).await;
    assert!(other.why == Why::Wrong && other.message.contains("bundle = b2"), "{other}");
    let long = refused(SearchRequest { vector: vec![0.0; 4], ..Default::default() }).await;
    assert!(long.why == Why::Wrong && long.message.contains("4 components"), "{long}");
}

#[tokio::test]
async fn vectors_of_two_bundles_are_never_compared() {
    let region = TestRegion::new(2, &[0, 1]);
    for (shard, bundle, x) in [(0, "old", 1.0), (1, "old", 2.0), (0, "new", 3.0)] {
        region.shard(shard).add(bundle, "plant/pump", x, "");
    }
    let answers = region.answers(Peers::new(None));
    // The newest of shard 0 is `new`, of shard 1 `old`.
    let found = answers.search(&call(), &near(0.0)).await.unwrap();
    assert_eq!((found.bundle.as_str(), ends(&found)), ("new", vec![3]));
    let found = answers.search(&call(), &SearchRequest { bundle: "old".into(), ..near(0.0) }).await.unwrap();
    assert_eq!((found.bundle.as_str(), ends(&found)), ("old", vec![1, 2]));
}

#[tokio::test]
async fn a_word_is_kept_with_the_window_and_its_history() {
    let (region, answers) = whole();
    let say = |label: &str, time: i64| {
        let request = LabelRequest {
            site: "plant-1".into(),
            device: "pump-1".into(),
            alert: "a11".into(),
            label: label.into(),
            time,
        };
        let answers = answers.clone();
        async move { answers.label(&call(), &request).await.map(|answer| answer.holds) }
    };
    assert_eq!(say("bearing", 0).await, Ok(true));
    assert_eq!(say("normal", 5).await, Ok(false), "an earlier word");
    let shard = eddy_schemas::names::shard_of("pump-1", 4);
    let said = region.shard(shard).said.lock().unwrap()[0].clone();
    assert_eq!((said.origin.as_str(), said.time), ("hub/alice", NOW));
    let by_alert = GetWindowRequest { alert: "a11".into(), ..Default::default() };
    let window = answers.window(&call(), &by_alert).await.unwrap();
    let own = window.window.unwrap();
    assert_eq!((own.label.as_str(), own.label_origin.as_str(), own.label_time), ("bearing", "hub/alice", NOW));
    assert_eq!((window.vector, window.bundle.as_str(), window.history.len()), (vec![11.0, 0.0, 0.0], BUNDLE, 2));
    let by_number = GetWindowRequest { shard: own.shard, number: own.number, ..Default::default() };
    assert_eq!(answers.window(&call(), &by_number).await.unwrap().window.unwrap().alert, "a11");
    let labelled = SearchRequest { label: "*".into(), ..near(0.0) };
    assert_eq!(ends(&answers.search(&call(), &labelled).await.unwrap()), [11]);
    for (request, part) in [
        (GetWindowRequest { shard: own.shard, number: 999, ..Default::default() }, "no window 999"),
        (GetWindowRequest { shard: 4, ..Default::default() }, "shard = 4"),
        (GetWindowRequest { alert: "a99".into(), ..Default::default() }, "alert a99"),
    ] {
        let refused = answers.window(&call(), &request).await.unwrap_err();
        assert!(refused.message.contains(part), "{refused}");
    }
    let unknown = LabelRequest { site: "s".into(), device: "d".into(), alert: "a".into(), label: "x".into(), time: 0 };
    assert_eq!(answers.label(&call(), &unknown).await.unwrap_err().why, Why::Missing);
}

#[tokio::test]
async fn of_two_sites_with_an_alert_of_one_name_the_one_that_is_named_counts() {
    let region = TestRegion::new(4, &[0, 1, 2, 3]);
    for (device, x) in [("plant-1/pump-1", 1.0), ("plant-2/pump-2", 2.0), ("plant-3/pump-1", 3.0)] {
        region.add(device, x, "same");
        region.led.iter().for_each(|(_, led)| {
            *led.chains.lock().unwrap() = ["plant-1", "plant-2", "plant-3"].map(|site| chain(site, 1)).to_vec();
        });
    }
    let answers = region.answers(Peers::new(None));
    for site in ["plant-1", "plant-2", "plant-3"] {
        let request = GetWindowRequest { alert: "same".into(), site: site.into(), ..Default::default() };
        assert_eq!(answers.window(&call(), &request).await.unwrap().window.unwrap().site, site);
    }
}

#[tokio::test]
async fn shards_without_a_leader_are_named() {
    let region = TestRegion::new(4, &[1]);
    region.shard(1).add(BUNDLE, "plant/pump", 1.0, "");
    *region.shard(1).chains.lock().unwrap() = vec![chain("plant", 9), chain("other", 9)];
    // Of shard 2 the leader cannot be asked.
    region.leaders.lock().unwrap().push(Leader { shard: 2, name: "hub-b".into(), address: String::new() });
    let answers = region.answers(Peers::new(None));
    let found = answers.search(&call(), &near(0.0)).await.unwrap();
    assert_eq!((ends(&found), found.missing_shards), (vec![1], vec![0, 2, 3]));
    let receipts = answers.receipts(&call(), &ReceiptsRequest { site: "plant".into() }).await.unwrap();
    assert_eq!((receipts.chains.len(), receipts.chains[0].last, receipts.missing_shards), (1, 9, vec![0, 2, 3]));
    let stats = answers.stats(&call(), &StatsRequest {}).await.unwrap();
    let told: Vec<_> =
        stats.shards.iter().map(|it| (it.shard, it.windows, it.lag_messages, it.position.as_str())).collect();
    assert_eq!(told, [(0, 0, 0, "no answer"), (1, 1, 7, "at 0"), (2, 0, 0, "no answer"), (3, 0, 0, "no answer")]);
    assert_eq!(stats.shards[2].leader, "hub-b");
    let unavailable = |shard| GetWindowRequest { shard, ..Default::default() };
    for (shard, part) in [(0, "shard 0 has no leader"), (2, "hub.grpc.listen")] {
        let refused = answers.window(&call(), &unavailable(shard)).await.unwrap_err();
        assert!(refused.why == Why::Unavailable && refused.message.contains(part), "{refused}");
    }
    let alert = answers.search(&call(), &SearchRequest { alert: "a".into(), ..Default::default() }).await.unwrap_err();
    assert!(alert.why == Why::Unavailable && alert.message.contains("[0, 2, 3]"), "{alert}");
    let nobody = TestRegion::new(2, &[]).answers(Peers::new(None));
    assert_eq!(nobody.search(&call(), &near(0.0)).await.unwrap_err().why, Why::Unavailable);
}

#[tokio::test]
async fn receipts_are_what_every_shard_holds() {
    let region = TestRegion::new(2, &[0, 1]);
    *region.shard(0).chains.lock().unwrap() = vec![chain("plant", 9)];
    *region.shard(1).chains.lock().unwrap() = vec![chain("plant", 7), chain("other", 1)];
    let answers = region.answers(Peers::new(None));
    let receipts = answers.receipts(&call(), &ReceiptsRequest::default()).await.unwrap();
    let told: Vec<_> = receipts.chains.iter().map(|chain| (chain.site.as_str(), chain.last)).collect();
    assert_eq!((told, receipts.missing_shards), (vec![("other", 0), ("plant", 7)], vec![]));
    let long = ReceiptsRequest { site: "x".repeat(200) };
    assert_eq!(answers.receipts(&call(), &long).await.unwrap_err().why, Why::Wrong);
}

#[tokio::test]
async fn a_shard_that_is_late_is_missing_and_its_work_is_told_that_it_is_over() {
    let region = TestRegion::new(2, &[0, 1]);
    region.led.iter().for_each(|(_, led)| *led.chains.lock().unwrap() = vec![chain("plant", 9)]);
    let (release, held_up) = mpsc::sync_channel(1);
    *region.shard(1).held_up.lock().unwrap() = Some(held_up);
    let answers = region.answers(Peers::new(None));
    let late = Call::new("alice", Duration::from_millis(50));
    let receipts = answers.receipts(&late, &ReceiptsRequest::default()).await.unwrap();
    assert_eq!((receipts.chains.len(), receipts.missing_shards), (1, vec![1]));
    assert!(late.detail().contains("without shards [1]"), "{}", late.detail());
    drop(release);

    let room = Room::new(1, 1);
    let (over, told) = mpsc::sync_channel(1);
    let work = room.work(Instant::now(), |_| Ok(()));
    assert_eq!(work.await.unwrap_err().why, Why::TooLate, "nothing begins after the deadline");
    let work = room.work(Instant::now() + LONG, move |is_over| {
        while !is_over() {
            std::thread::sleep(Duration::from_millis(1));
        }
        over.send(()).map_err(|_| Refusal::too_late())
    });
    // Nobody waits for it any more.
    assert!(tokio::time::timeout(Duration::from_millis(20), work).await.is_err());
    assert_eq!(told.recv_timeout(LONG), Ok(()));
}

#[tokio::test]
async fn more_calls_than_there_is_room_for_are_refused() {
    let region = TestRegion::new(1, &[0]);
    region.shard(0).add(BUNDLE, "plant/pump", 1.0, "");
    let (release, held_up) = mpsc::sync_channel(1);
    *region.shard(0).held_up.lock().unwrap() = Some(held_up);
    let answers =
        Arc::new(Answers::new(region, Peers::new(None), clock(), Bounds { calls: 2, at_once: 1, recall: 1.0 }));
    let (first, second) = (answers.clone(), answers.clone());
    let working = tokio::spawn(async move { first.receipts(&call(), &ReceiptsRequest::default()).await });
    // On a runtime of one thread each task goes on as far as it can.
    tokio::task::yield_now().await;
    let waiting = tokio::spawn(async move { second.search(&call(), &near(0.0)).await });
    tokio::task::yield_now().await;
    let busy = answers.search(&call(), &near(0.0)).await.unwrap_err();
    assert!(busy.why == Why::Busy && busy.message.contains("hub.grpc.calls_max"), "{busy}");
    drop(release);
    assert!(working.await.unwrap().is_ok());
    assert_eq!(ends(&waiting.await.unwrap().unwrap()), [1]);
    assert!(answers.search(&call(), &near(0.0)).await.is_ok());
    let room = Room::new(1, 1);
    let panicked = room.work(call().deadline, |_| -> Result<(), Refusal> { panic!("broken") }).await.unwrap_err();
    assert_eq!(panicked.why, Why::Failed);
}
