//! Up to the region: whatever happens to its server and to the way there, each entry is there once.

use std::time::Duration;

use eddy_runtime::bus::{Bus as _, PullBounds};
use eddy_schemas::sync::{Class, stream_of, subject_of};

use crate::{
    relay::Relay,
    server::Server,
    site::{SITE, Sending, Site, batches, connect, provide, until},
};

const MS: Duration = Duration::from_millis(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_of_server_and_sender_lose_and_double_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(&folder.path().join("hub"));
    provide(&connect(server.port).await, 64 << 20).await;
    let mut site = Site::new(folder.path());
    let mut sending = Sending::start(&site, server.port).await;
    for turn in 0..12 {
        site.give(2, 300);
        tokio::time::sleep(MS * (40 * turn % 170)).await;
        if turn % 3 == 0 {
            server.kill();
            site.give(1, 100);
            tokio::time::sleep(MS * 200).await;
            server.restart();
        }
        if turn % 4 == 1 {
            sending.kill().await;
            sending = Sending::start(&site, server.port).await;
        }
    }
    site.until_sent().await;
    sending.stop().await;
    site.check(&connect(server.port).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_that_comes_late_gets_everything() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(&folder.path().join("hub"));
    server.kill();
    let mut site = Site::new(folder.path());
    site.give(3, 1_000);
    let sending = Sending::start(&site, server.port).await;
    tokio::time::sleep(MS * 500).await;
    assert_eq!(sending.health.check(Duration::ZERO), Ok(()), "no region is no illness");
    server.restart();
    let bus = connect(server.port).await;
    // It is there, but not provisioned.
    let told =
        || async { sending.health.check(Duration::ZERO).is_err_and(|problem| problem.contains("SITE_plant%201")) };
    until("that the missing stream is told", told).await;
    provide(&bus, 64 << 20).await;
    site.until_sent().await;
    sending.stop().await;
    site.check(&bus).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_open_way_is_noticed_and_left() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("hub"));
    let bus = connect(server.port).await;
    provide(&bus, 64 << 20).await;
    let relay = Relay::to(server.port).await;
    let mut site = Site::new(folder.path());
    let sending = Sending::start(&site, relay.port).await;
    site.give(1, 100);
    site.until_sent().await;
    relay.block();
    site.give(2, 500);
    site.until_sent().await;
    sending.stop().await;
    site.check(&bus).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_stream_pushes_back_until_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("hub"));
    let bus = connect(server.port).await;
    provide(&bus, 30_000).await;
    let mut site = Site::new(folder.path());
    let sending = Sending::start(&site, server.port).await;
    let told = || sending.health.check(Duration::ZERO).is_err_and(|problem| problem.contains("full"));
    for _ in 0..1_000 {
        if told() {
            break;
        }
        site.give(1, 50);
        tokio::time::sleep(MS * 20).await;
    }
    assert!(told(), "a full stream is told");
    assert!(site.queue.depth(Class::Deltas).unwrap().entries > 0, "what has no room is kept");
    provide(&bus, 64 << 20).await;
    site.until_sent().await;
    sending.stop().await;
    site.check(&bus).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_senders_of_a_site_the_older_one_is_fenced_and_the_new_chain_names_the_old() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("hub"));
    let bus = connect(server.port).await;
    provide(&bus, 64 << 20).await;
    let (mut old, mut new) = (Site::new(&folder.path().join("old")), Site::new(&folder.path().join("new")));
    let older = Sending::start(&old, server.port).await;
    old.give(3, 10);
    old.until_sent().await;
    let newer = Sending::start(&new, server.port).await;
    new.give(1, 10);
    new.until_sent().await;
    old.give(1, 0);
    let problem = older.ended().await.unwrap_err();
    assert!(problem.contains("another gateway writes as site \"plant 1\""), "{problem}");
    new.give(1, 10);
    new.until_sent().await;
    newer.stop().await;
    for class in [Class::Alerts, Class::Deltas] {
        let batches = batches(&bus, class).await;
        let first = batches.iter().find(|(batch, _)| batch.chain == new.queue.chain().as_slice()).unwrap();
        assert_eq!((first.0.number, &first.0.previous[..]), (1, &[][..]));
        assert_eq!(first.0.replaces, old.queue.chain().as_slice(), "{class:?}");
        let is_new: Vec<_> = batches.iter().map(|(batch, _)| batch.chain == new.queue.chain().as_slice()).collect();
        assert!(is_new.is_sorted(), "{is_new:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_read_on_from_any_place_within_bounds() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("hub"));
    let bus = connect(server.port).await;
    let roomy = PullBounds { messages: 100, bytes: 1 << 20 };
    let stream = stream_of(SITE);
    let (alerts, deltas) = (subject_of(SITE, Class::Alerts), subject_of(SITE, Class::Deltas));
    assert!(bus.read_on(&stream, &alerts, 1, roomy).await.unwrap_err().to_string().contains("does not exist"));
    provide(&bus, 64 << 20).await;
    assert!(bus.read_on(&stream, &alerts, 1, roomy).await.unwrap().is_empty());
    let mut ears = bus.listen("sync.plant%201.*").await.unwrap();
    for number in 0..20_u8 {
        let message = eddy_runtime::bus::Publication {
            stream: stream.clone(),
            subject: if number % 2 == 0 { alerts.clone() } else { deltas.clone() },
            headers: Vec::new(),
            payload: vec![number; 1_000].into(),
            guard: None,
        };
        bus.publish(vec![message]).await.unwrap();
    }
    tokio::time::timeout(Duration::from_secs(60), ears.heard()).await.expect("nothing was heard");
    let some = bus.read_on(&stream, &alerts, 6, roomy).await.unwrap();
    let sequences: Vec<_> = some.iter().map(|read| (read.sequence, read.payload[0])).collect();
    assert_eq!(sequences, [(7, 6), (9, 8), (11, 10), (13, 12), (15, 14), (17, 16), (19, 18)]);
    assert!(some.iter().all(|read| read.subject == alerts));
    let few = bus.read_on(&stream, "sync.>", 1, PullBounds { messages: 3, ..roomy }).await.unwrap();
    assert_eq!(few.iter().map(|read| read.sequence).collect::<Vec<_>>(), [1, 2, 3]);
    let small = bus.read_on(&stream, "sync.>", 1, PullBounds { bytes: 2_500, ..roomy }).await.unwrap();
    assert!((1..=4).contains(&small.len()), "{}", small.len());
    assert!(bus.read_on(&stream, &alerts, 20, roomy).await.unwrap().is_empty());
}
