//! Three candidates over a bus that loses and delays answers, stores late what was sent, and a clock that is turned by hand.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::bus::{
    AckToken, Source, StreamState,
    memory::{Faults, MemoryBus, MemoryFeed},
};

fn terms() -> Terms {
    Terms {
        stream: "HUB".into(),
        subject: "hub.lead.0".into(),
        renew_every: Duration::from_millis(1_000),
        lapse_after: Duration::from_millis(2_500),
        takeover_after: Duration::from_millis(3_000),
    }
}

/// xorshift64*, shared: with one thread and a turned clock a seed repeats a run.
#[derive(Clone, Debug)]
struct Dice(Arc<AtomicU64>);

impl Dice {
    fn below(&self, most: u64) -> u64 {
        let mut x = self.0.load(Ordering::Relaxed);
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.0.store(x, Ordering::Relaxed);
        (x.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % most
    }

    /// Mostly short, sometimes longer than any patience.
    fn delay(&self, longest: u64) -> Duration {
        let most = if self.below(10) == 0 { longest.max(1) } else { 20 };
        Duration::from_millis(self.below(most))
    }
}

/// What was sent arrives, whether or not its sender still waits.
#[derive(Clone, Debug)]
struct SlowBus {
    inner: MemoryBus,
    dice: Dice,
    longest: Arc<AtomicU64>,
}

impl Bus for SlowBus {
    type Feed = MemoryFeed;

    async fn stream(&self, name: &str) -> Result<StreamState, BusError> {
        self.inner.stream(name).await
    }

    async fn last(&self, stream: &str, subject: &str) -> Result<Option<Stored>, BusError> {
        let longest = self.longest.load(Ordering::Relaxed);
        tokio::time::sleep(self.dice.delay(longest)).await;
        let last = self.inner.last(stream, subject).await;
        tokio::time::sleep(self.dice.delay(longest)).await;
        last
    }

    async fn publish(&self, messages: Vec<Publication>) -> Result<u64, PublishError> {
        let (bus, longest) = (self.clone(), self.longest.load(Ordering::Relaxed));
        let sent = tokio::spawn(async move {
            tokio::time::sleep(bus.dice.delay(longest)).await;
            let stored = bus.inner.publish(messages).await;
            tokio::time::sleep(bus.dice.delay(longest)).await;
            stored
        });
        sent.await.unwrap()
    }

    async fn open(&self, source: &Source, from: u64) -> Result<MemoryFeed, BusError> {
        self.inner.open(source, from).await
    }

    async fn ack(&self, token: &AckToken) -> Result<(), BusError> {
        self.inner.ack(token).await
    }

    async fn in_progress(&self, token: &AckToken) -> Result<(), BusError> {
        self.inner.in_progress(token).await
    }
}

fn bus(seed: u64) -> SlowBus {
    let inner = MemoryBus::new(seed, Faults::default());
    inner.create("HUB", 1);
    SlowBus { inner, dice: Dice(Arc::new(AtomicU64::new(seed + 1))), longest: Arc::default() }
}

/// Steps as a process would, with a pause now and then; dies when it is dropped.
async fn candidate(bus: SlowBus, me: String, held: Arc<Mutex<Vec<(String, Held)>>>, patience: Duration) {
    let mut lease = Lease::new(bus.clone(), terms(), me.clone());
    held.lock().unwrap().push((me, lease.held()));
    loop {
        let standing = lease.step(Bytes::from_static(b"here"), patience).await;
        let is_held = standing.is_ok_and(|standing| standing.held);
        let wait = if is_held { lease.terms().renew_every } else { Duration::from_millis(250) };
        let paused = if bus.longest.load(Ordering::Relaxed) > 0 && bus.dice.below(40) == 0 { 7_000 } else { 1 };
        tokio::time::sleep(wait + Duration::from_millis(bus.dice.below(paused))).await;
    }
}

fn believers(held: &Mutex<Vec<(String, Held)>>) -> Vec<String> {
    let held = held.lock().unwrap();
    held.iter().filter(|(_, held)| held.is_held()).map(|(name, _)| name.clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn never_two_believe_and_somebody_takes_over_whatever_is_lost_or_late() {
    let mut changes = 0;
    for seed in 0..60 {
        let bus = bus(seed);
        let held: Arc<Mutex<Vec<(String, Held)>>> = Arc::default();
        let start = |name: usize, run: usize| {
            let patience = Duration::from_millis(300 * name as u64);
            tokio::spawn(candidate(bus.clone(), format!("{name}-{run}"), held.clone(), patience))
        };
        let mut running: Vec<_> = (0..3).map(|name| start(name, 0)).collect();
        bus.longest.store(6_000, Ordering::Relaxed);
        bus.inner.set_faults(Faults { answer_lost: 150, publish_lost: 150, full: 50, ..Faults::default() });
        let mut last = None;
        for tick in 0..12_000_u64 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let now = believers(&held);
            assert!(now.len() <= 1, "seed {seed}, tick {tick}: {now:?} believe at once");
            if !now.is_empty() && now.first() != last.as_ref() {
                changes += usize::from(last.is_some());
                last = now.into_iter().next();
            }
            // SIGKILL of somebody now and then; it comes back as somebody new.
            if bus.dice.below(1_000) == 0 {
                let name = bus.dice.below(3) as usize;
                running[name].abort();
                held.lock().unwrap().retain(|(known, _)| !known.starts_with(&format!("{name}-")));
                running[name] = start(name, tick as usize + 1);
            }
        }
        // All is well again: somebody has it, and the same one keeps it.
        bus.longest.store(0, Ordering::Relaxed);
        bus.inner.set_faults(Faults::default());
        tokio::time::sleep(Duration::from_secs(20)).await;
        let keeps = believers(&held);
        assert_eq!(keeps.len(), 1, "seed {seed}: nobody took over");
        for _ in 0..1_000 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            assert_eq!(believers(&held), keeps, "seed {seed}");
        }
        running.iter().for_each(tokio::task::JoinHandle::abort);
    }
    assert!(changes > 60, "the faults never made anybody lose it ({changes} changes)");
}

#[tokio::test(start_paused = true)]
async fn a_dead_holder_is_waited_for_and_one_that_gives_it_back_is_not() {
    let bus = bus(5);
    let (mut first, mut second) =
        (Lease::new(bus.clone(), terms(), "a".into()), Lease::new(bus.clone(), terms(), "b".into()));
    let none = Duration::ZERO;
    assert!(first.step(Bytes::from_static(b"1"), none).await.unwrap().held);
    let seen = second.step(Bytes::from_static(b"2"), none).await.unwrap();
    let holder = Some(Holder { name: "a".into(), payload: Bytes::from_static(b"1") });
    assert_eq!(seen, Standing { held: false, holder: holder.clone(), stale: false });
    // It dies. Two and a half seconds later it would not believe in itself, three seconds later it is replaced.
    let before = Instant::now();
    loop {
        tokio::time::sleep(Duration::from_millis(250)).await;
        if second.step(Bytes::from_static(b"2"), none).await.unwrap().held {
            break;
        }
    }
    assert!(!first.held().is_held() && before.elapsed() >= Duration::from_millis(2_750));
    let told = first.step(Bytes::from_static(b"1"), none).await.unwrap();
    assert_eq!((told.held, told.holder.map(|holder| holder.name)), (false, Some("b".into())));
    second.release().await;
    assert!(!second.held().is_held());
    let told = first.watch().await.unwrap();
    assert_eq!((told.held, told.holder), (false, None), "watching takes no part");
    assert!(first.step(Bytes::from_static(b"1"), none).await.unwrap().held, "it need not wait");
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_that_is_refused_ends_it_at_once() {
    let bus = bus(5);
    let mut lease = Lease::new(bus.clone(), terms(), "a".into());
    assert!(lease.step(Bytes::new(), Duration::ZERO).await.unwrap().held);
    // Somebody who did not wait.
    let headers = vec![(HOLDER.to_owned(), "b".to_owned())];
    let (stream, subject) = ("HUB".to_owned(), "hub.lead.0".to_owned());
    let foreign = Publication { stream, subject, headers, payload: Bytes::new(), guard: None };
    bus.inner.publish(vec![foreign]).await.unwrap();
    assert!(!lease.step(Bytes::new(), Duration::ZERO).await.unwrap().held);
    assert!(!lease.held().is_held());
    assert_eq!(lease.step(Bytes::new(), Duration::ZERO).await.unwrap().holder.unwrap().name, "b");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_lost_costs_nothing() {
    let bus = bus(9);
    let mut lease = Lease::new(bus.clone(), terms(), "a".into());
    assert!(lease.step(Bytes::new(), Duration::ZERO).await.unwrap().held);
    for round in 0..20 {
        tokio::time::sleep(Duration::from_millis(1_000)).await;
        let faults =
            if round % 2 == 0 { Faults { answer_lost: 1_000, ..Faults::default() } } else { Faults::default() };
        bus.inner.set_faults(faults);
        assert!(lease.step(Bytes::new(), Duration::ZERO).await.unwrap().held, "round {round}");
    }
}
