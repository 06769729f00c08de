//! What does not follow is refused, told, and changes nothing; what is lost is named.

use bytes::Bytes;
use eddy_runtime::bus::Publication;
use eddy_schemas::{
    names,
    sync::{Class, subject_of, wire},
};
use prost::Message as _;

use super::*;

const SITE: [&str; 1] = ["plant 1"];

async fn setup() -> (MemoryBus, Gateway, Region, Dice) {
    let bus = MemoryBus::new(3, Faults::default());
    bus.create("REGION", 9);
    let gateway = Gateway::new(SITE[0], &bus);
    let region = Region::start(&bus, &SITE, true);
    (bus, gateway, region, Dice(77))
}

fn told_of(region: &Region) -> Vec<(String, String)> {
    region.audit.notes().into_iter().map(|[what, _, outcome, detail]| (format!("{what}: {outcome}"), detail)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_follow_changes_nothing_and_is_told() {
    let (bus, mut gateway, mut region, mut dice) = setup().await;
    for _ in 0..4 {
        gateway.alerts(&mut dice).await;
        gateway.deltas(&mut dice).await;
    }
    let copies = region.caught_up(&SITE).await;
    holds(&copies, &gateway);
    let good = gateway.batch(Class::Alerts, vec![], vec![], vec![gap(&gateway)]);
    let wrong = [
        wire::Batch { site: "plant 2".into(), ..good.clone() },
        wire::Batch { class: Class::Deltas.into(), ..good.clone() },
        wire::Batch { number: good.number + 1, ..good.clone() },
        wire::Batch { previous: Bytes::from(vec![1; 32]), ..good.clone() },
        wire::Batch { chain: Bytes::from(vec![9; 16]), ..good.clone() },
        wire::Batch { first: good.first + 1, ..good.clone() },
    ];
    for batch in wrong {
        gateway.publish(Class::Alerts, batch.encode_to_vec().into()).await;
    }
    gateway.publish(Class::Alerts, Bytes::from_static(b"rubbish")).await;
    let stranger = Publication {
        stream: stream_of(SITE[0]),
        subject: format!("sync.{}.nonsense", names::encode(SITE[0])),
        headers: vec![],
        payload: Bytes::new(),
        guard: None,
    };
    bus.publish(vec![stranger]).await.unwrap();
    // A message that was taken before, again.
    let first = bus.messages(&stream_of(SITE[0]), &subject_of(SITE[0], Class::Alerts))[0].1.clone();
    gateway.publish(Class::Alerts, first).await;
    let copies = region.caught_up(&SITE).await;
    holds(&copies, &gateway);
    let told = told_of(&region);
    let count = |how: &str| {
        let of = |(what, detail): &&(String, String)| what.ends_with(how) && !detail.is_empty();
        let more = |detail: &str| {
            detail.rsplit_once("(and ").map_or(0, |(_, more)| more[..more.find(' ').unwrap()].parse().unwrap())
        };
        told.iter().filter(of).map(|(_, detail)| 1 + more(detail)).sum::<usize>()
    };
    assert_eq!((count("refused"), count("replayed")), (8, 1), "{told:?}");
    // The chain goes on where it was.
    gateway.alerts(&mut dice).await;
    let copies = region.caught_up(&SITE).await;
    holds(&copies, &gateway);
    region.stop().await;
}

fn gap(gateway: &Gateway) -> wire::Gap {
    let first = gateway.sent.classes["alerts"].1 + 1;
    wire::Gap { first, last: first, count: 1, cause: wire::Cause::Operator.into(), detail: String::new() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_replaced_begins_a_chain_that_shows() {
    let (_, mut gateway, mut region, mut dice) = setup().await;
    for _ in 0..3 {
        gateway.alerts(&mut dice).await;
    }
    gateway.replace();
    for _ in 0..3 {
        gateway.alerts(&mut dice).await;
    }
    let copies = region.caught_up(&SITE).await;
    holds(&copies, &gateway);
    let receipts = ledger::read(&copies[0].store).unwrap();
    let chains: Vec<_> = receipts.iter().map(|chain| (&chain.chain[..2], &chain.replaces[..], chain.current)).collect();
    assert_eq!(chains, [("01", "", false), ("02", "01".repeat(16).as_str(), true)]);
    let told = told_of(&region);
    assert!(matches!(told.as_slice(), [(what, _)] if what == "chain of alerts: replaced"), "{told:?}");
    region.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_is_made_late_names_what_the_streams_no_longer_hold() {
    let (bus, mut gateway, mut region, mut dice) = setup().await;
    for _ in 0..6 {
        gateway.alerts(&mut dice).await;
        gateway.deltas(&mut dice).await;
    }
    region.caught_up(&SITE).await;
    // The janitor: all but the last of the deltas, and some alerts.
    let stream = stream_of(SITE[0]);
    bus.purge_subject(&stream, &subject_of(SITE[0], Class::Deltas), 12);
    bus.purge_subject(&stream, &subject_of(SITE[0], Class::Alerts), 6);
    let mut late = Region::start(&bus, &SITE, false);
    let copies = late.caught_up(&SITE).await;
    for copy in &copies {
        let receipts = ledger::read(&copy.store).unwrap();
        for receipt in &receipts {
            let (_, last, hex) = &gateway.sent.classes[receipt.class.as_str()];
            assert_eq!((receipt.first, receipt.last, &receipt.receipt), (1, *last, hex));
            let lost: Vec<_> = receipt.missing.iter().filter(|range| range.cause == "region").collect();
            assert!(matches!(lost.as_slice(), [range] if range.first == 1), "{receipt:?}");
            let named: u64 = receipt.missing.iter().map(|range| range.count).sum();
            assert_eq!(receipt.entries + named, receipt.last);
        }
        assert_eq!(receipts.len(), 2);
    }
    let told = told_of(&late);
    assert_eq!(told.iter().filter(|(what, _)| what.ends_with("gap")).count(), 2, "{told:?}");
    // From here on it follows like any other.
    gateway.alerts(&mut dice).await;
    late.caught_up(&SITE).await;
    assert_eq!(told_of(&late).len(), told.len());
    late.stop().await;
    region.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_lagged_while_its_class_was_purged_goes_on_behind_it() {
    let (bus, mut gateway, mut region, mut dice) = setup().await;
    gateway.alerts(&mut dice).await;
    gateway.deltas(&mut dice).await;
    region.caught_up(&SITE).await;
    region.stop().await;
    for _ in 0..4 {
        gateway.deltas(&mut dice).await;
    }
    // The alerts' only message stays, so that the stream begins where it did.
    bus.purge_subject(&stream_of(SITE[0]), &subject_of(SITE[0], Class::Deltas), 6);
    region.running = (0..SHARDS).map(|shard| Some(region.begin(shard))).collect();
    let copies = region.caught_up(&SITE).await;
    let receipts = ledger::read(&copies[0].store).unwrap();
    let deltas = receipts.iter().find(|receipt| receipt.class == "deltas").unwrap();
    assert_eq!((deltas.batches, deltas.last), (2, gateway.sent.classes["deltas"].1));
    assert!(deltas.missing.iter().any(|range| range.cause == "region"), "{deltas:?}");
    let named: u64 = deltas.missing.iter().map(|range| range.count).sum();
    assert_eq!(deltas.entries + named, deltas.last);
    region.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_was_made_anew_is_read_from_its_beginning_and_the_chain_still_counts() {
    let (bus, mut gateway, mut region, mut dice) = setup().await;
    for _ in 0..3 {
        gateway.alerts(&mut dice).await;
    }
    let copies = region.caught_up(&SITE).await;
    holds(&copies, &gateway);
    drop(copies);
    bus.create(&stream_of(SITE[0]), 8);
    gateway.forget_stream();
    // What it sent before, and then more.
    gateway.alerts(&mut dice).await;
    let copies = region.caught_up(&SITE).await;
    holds(&copies, &gateway);
    let told = told_of(&region);
    assert!(told.iter().any(|(what, detail)| what == "stream: anew" && detail.contains("created anew")), "{told:?}");
    drop(copies);
    // Lost again; the gateway finds no checkpoint there, and begins its chain again with what it still has.
    bus.create(&stream_of(SITE[0]), 9);
    gateway.forget_stream();
    gateway.begin_again().await;
    for _ in 0..2 {
        gateway.alerts(&mut dice).await;
    }
    let copies = region.caught_up(&SITE).await;
    holds_entries(&copies, &gateway);
    let refusals =
        told_of(&region).into_iter().filter(|(what, _)| what.ends_with("refused") || what.ends_with("replayed"));
    assert_eq!(refusals.count(), 0, "{:?}", told_of(&region));
    region.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operators_word_is_merged_in_its_place_and_goes_out() {
    let (bus, mut gateway, mut region, mut dice) = setup().await;
    while gateway.sent.opened.len() < 3 {
        gateway.alerts(&mut dice).await;
        gateway.deltas(&mut dice).await;
    }
    let copies = region.caught_up(&SITE).await;
    let there = |(_, window): &(&String, &(String, i64))| gateway.sent.windows.contains_key(*window);
    let (alert, _) = gateway.sent.opened.iter().find(there).unwrap();
    let alert = alert.clone();
    let event = gateway.sent.alerts.values().map(|json| serde_json::from_slice::<CloudEvent>(json).unwrap());
    let device = event.into_iter().find(|event| event.data.alert == alert).unwrap().data.device;
    let shard = names::shard_of(&device, SHARDS);
    let copy = &copies[shard as usize];
    assert!(copy.label(SITE[0], &device, &alert, "wear", "hub/alice", 5_000).await.unwrap());
    assert!(!copy.label(SITE[0], &device, &alert, "leak", "hub/bob", 4_000).await.unwrap(), "an earlier word");
    assert!(copy.label(SITE[0], &device, &alert, "wear", "hub/alice", 5_000).await.unwrap(), "the same again");
    let unknown = copy.label(SITE[0], &device, "nothing", "wear", "hub/alice", 1).await.unwrap_err();
    assert!(unknown.to_string().contains("no alert nothing"), "{unknown}");
    let other = &copies[(shard as usize + 1) % SHARDS as usize];
    assert!(other.label(SITE[0], &device, &alert, "wear", "hub/alice", 1).await.is_err(), "another shard's");
    assert!(copy.label(SITE[0], &device, &alert, "", "hub/alice", 1).await.is_err());
    let said: Vec<_> = about::history(&copy.store, "plant%201", &alert).unwrap();
    let hub: Vec<_> = said.iter().filter(|label| label.origin.starts_with("hub/")).map(|label| &label.name).collect();
    assert_eq!(hub, ["leak", "wear"], "the history has both, by their clocks");
    gateway.sent.words.insert(alert.clone(), (5_000, "hub/alice".into(), "wear".into()));
    let copies = region.caught_up(&SITE).await;
    holds(&copies, &gateway);
    told(&bus, &gateway);
    region.stop().await;
}
