//! The bus in memory and the real one obey the same rules: what the contract tests prove on one holds on the other.

use std::time::Duration;

use eddy_runtime::{
    bus::{
        Bus, BusError, Feed, Publication, PublishError, PullBounds, Source,
        memory::{Faults, MemoryBus},
        nats::NatsBus,
    },
    config,
};

use crate::gateway::{Gateway, ROOMY, SITE};

fn publication(subject: &str, guard: Option<u64>, payload: &str) -> Publication {
    Publication {
        stream: "READINGS".into(),
        subject: format!("readings.{SITE}.{subject}"),
        headers: vec![("Eddy-Reaches".into(), payload.into())],
        payload: payload.to_owned().into(),
        guard,
    }
}

async fn obeys_the_rules<B: Bus>(bus: B) {
    let subject = format!("readings.{SITE}.0");
    assert!(bus.last("READINGS", &subject).await.unwrap().is_none());

    // One guarded publish.
    let first = bus.publish(vec![publication("0", Some(0), "a")]).await.unwrap();
    let refused = bus.publish(vec![publication("0", Some(0), "twin")]).await;
    assert!(matches!(refused, Err(PublishError::Refused { .. })), "{refused:?}");
    let last = bus.last("READINGS", &subject).await.unwrap().unwrap();
    assert_eq!((last.sequence, last.header("Eddy-Reaches")), (first, Some("a")));

    // A batch: all or nothing, each guard checked, on several subjects.
    let batch = |guard_0, guard_1| {
        vec![publication("x", None, "p"), publication("1", Some(guard_1), "c"), publication("0", Some(guard_0), "b")]
    };
    for (guard_0, guard_1) in [(0, 0), (first, 7)] {
        let refused = bus.publish(batch(guard_0, guard_1)).await;
        assert!(matches!(refused, Err(PublishError::Refused { .. })), "{refused:?}");
    }
    assert_eq!(bus.stream("READINGS").await.unwrap().last_sequence, first, "nothing of a refused batch is there");
    let second = bus.publish(batch(first, 0)).await.unwrap();
    assert_eq!(second, first + 3, "the answer is the last one's sequence");
    assert_eq!(bus.last("READINGS", &format!("readings.{SITE}.1")).await.unwrap().unwrap().sequence, second - 1);

    // A feed begins where it is told, is contiguous, and gives way to the next one.
    let source = Source {
        stream: "READINGS".into(),
        durable: "preprocess-0".into(),
        filter: subject.clone(),
        ack_pending_max: 100,
        ack_wait: Duration::from_secs(30),
    };
    let bounds = PullBounds { messages: 10, bytes: 1_000_000 };
    let mut feed = bus.open(&source, 1).await.unwrap();
    let mut sequences = Vec::new();
    while sequences.len() < 2 {
        sequences.extend(feed.pull(bounds, Duration::from_secs(1)).await.unwrap().iter().map(|d| d.sequence));
    }
    assert_eq!(sequences, [first, second]);
    drop(feed);
    let mut again = bus.open(&source, second).await.unwrap();
    let delivered = again.pull(bounds, Duration::from_secs(1)).await.unwrap();
    assert_eq!((delivered[0].sequence, &delivered[0].payload[..]), (second, &b"b"[..]), "reset goes back");
    bus.ack(&delivered[0].token).await.unwrap();
    drop(again);
    // Past the end: what comes next is the first.
    let mut ahead = bus.open(&source, second + 1).await.unwrap();
    let third = bus.publish(vec![publication("0", Some(second), "d")]).await.unwrap();
    assert_eq!(ahead.pull(bounds, Duration::from_secs(1)).await.unwrap()[0].sequence, third);
    drop(ahead);
    // Another instance resets it to elsewhere: the first delivery is delivery 1, as expected, but of another message.
    for elsewhere in [third + 2, first] {
        let last = bus.last("READINGS", &subject).await.unwrap().unwrap().sequence;
        let mut one = bus.open(&source, last + 1).await.unwrap();
        let _other = bus.open(&source, elsewhere).await.unwrap();
        let fourth = bus.publish(vec![publication("0", Some(last), "e")]).await.unwrap();
        bus.publish(vec![publication("0", Some(fourth), "f")]).await.unwrap();
        let lost = pull_until_something(&mut one).await;
        assert!(matches!(lost, Err(BusError::LostPlace { .. })), "{elsewhere}: {lost:?}");
    }
}

/// The sequences of the next messages, waited for as long as a quiet feed takes to see that it lost its place.
async fn pull_until_something<F: Feed>(feed: &mut F) -> Result<Vec<u64>, BusError> {
    let bounds = PullBounds { messages: 10, bytes: 1_000_000 };
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while std::time::Instant::now() < deadline {
        let deliveries = feed.pull(bounds, Duration::from_millis(200)).await?;
        if !deliveries.is_empty() {
            return Ok(deliveries.iter().map(|delivery| delivery.sequence).collect());
        }
    }
    panic!("neither a message nor the loss was noticed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_real_bus_obeys_the_rules() {
    let gateway = Gateway::without_stages(&ROOMY).await;
    let defaults = config::load::<serde_json::Value>("tests", "[tests]", None, []).unwrap().0;
    let config = config::BusConfig { url: gateway.server.url(), ..defaults.bus };
    obeys_the_rules(NatsBus::connect(&config, "test").await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bus_in_memory_obeys_the_rules() {
    let bus = MemoryBus::new(1, Faults::default());
    bus.create("READINGS", 1);
    obeys_the_rules(bus).await;
}
