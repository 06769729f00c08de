//! A gateway's queue and sender, and what the region has of it.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use eddy_runtime::{
    bus::{
        PullBounds,
        nats::{NatsBus, PlannedStream},
    },
    config::BusConfig,
    position::{Place, Position},
    telemetry::Telemetry,
};
use eddy_schemas::sync::{Class, receipt, stream_of, subject_of, wire};
use eddy_sync::{
    queue::{Bounds, Queue},
    send::{self, Health, Outside, SendConfig},
};
use prost::Message as _;
use tokio::{sync::watch, task::JoinHandle};

pub const SITE: &str = "plant 1";

pub fn bus_config(port: u16) -> BusConfig {
    BusConfig {
        url: format!("nats://127.0.0.1:{port}"),
        credentials_file: "".into(),
        nkey_file: "".into(),
        tls_ca_file: "".into(),
        tls_cert_file: "".into(),
        tls_key_file: "".into(),
        connect_timeout_ms: 2_000,
        inbox_prefix: String::new(),
        api_prefix: String::new(),
        request_timeout_ms: 2_000,
    }
}

pub async fn connect(port: u16) -> NatsBus {
    let bus = NatsBus::connect(&bus_config(port), "test").await.unwrap();
    until("a connection", || async { bus.is_connected() }).await;
    bus
}

/// The region's stream of the site.
pub async fn provide(bus: &NatsBus, bytes_max: u64) {
    let planned = PlannedStream {
        name: stream_of(SITE),
        subjects: vec!["sync.plant%201.*".into()],
        bytes_max,
        per_subject_max: None,
        drops_oldest: false,
        replicas: 1,
    };
    bus.provide(&planned).await.unwrap();
}

/// Waits until it is so.
pub async fn until<F: Future<Output = bool>>(what: &str, so: impl Fn() -> F) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !so().await {
        assert!(Instant::now() < deadline, "{what} does not come");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub struct Site {
    pub queue: Arc<Queue>,
    given: BTreeMap<(Class, u64), Bytes>,
}

impl Site {
    pub fn new(folder: &Path) -> Self {
        let bounds = Bounds { bytes: [16 << 20; 7], entries_max: 100_000, map_bytes: 256 << 20 };
        Self { queue: Arc::new(Queue::open(folder, &bounds).unwrap()), given: BTreeMap::new() }
    }

    /// Alerts and deltas come in.
    pub fn give(&mut self, alerts: usize, deltas: usize) {
        use wire::entry::What;
        let plain = |what, series: &[&str]| wire::Entries {
            entries: vec![wire::Entry { id: 0, what: Some(what) }],
            series: series.iter().map(|name| (*name).to_owned()).collect(),
            ..Default::default()
        };
        let mut write = self.queue.write().unwrap();
        for _ in 0..alerts {
            let body = Bytes::from(format!("alert {}", self.given.len()));
            let number = write.push(Class::Alerts, plain(What::Alert(body.clone()), &[])).unwrap();
            self.given.insert((Class::Alerts, number), body);
        }
        for _ in 0..deltas {
            let body: Bytes = blake3::hash(&self.given.len().to_le_bytes()).as_bytes().repeat(3).into();
            let delta = wire::VectorDelta { series: 1, vector: body.clone(), ..Default::default() };
            let number = write.push(Class::Deltas, plain(What::Delta(delta), &["pump/t"])).unwrap();
            self.given.insert((Class::Deltas, number), body);
        }
        let before = self.queue.position("test").unwrap();
        let next = before.as_ref().map_or(1, |position| position.place("TEST").unwrap().sequence + 1);
        let position = Position([("TEST".to_owned(), Place::whole(1, next))].into());
        write.commit("test", before.as_ref(), &position).unwrap();
    }

    pub async fn until_sent(&self) {
        let is_empty = |class| self.queue.depth(class).is_ok_and(|depth| depth.oldest == depth.next);
        until("that all is sent", || async { Class::ALL.into_iter().all(is_empty) }).await;
    }

    /// The region has each entry once, as it was, and the chains hold.
    pub async fn check(&self, bus: &NatsBus) {
        let mut found = BTreeMap::new();
        for class in [Class::Alerts, Class::Deltas] {
            let (mut number, mut last, mut previous) = (0, 0, Vec::new());
            for (batch, entries) in batches(bus, class).await {
                assert_eq!((batch.number, batch.first), (number + 1, last + 1), "{class:?}");
                assert_eq!(*batch.previous, previous, "{class:?}");
                previous = receipt(&previous, &batch.encode_to_vec()).to_vec();
                (number, last) = (batch.number, batch.last);
                for entry in entries.entries {
                    let body = match entry.what.unwrap() {
                        wire::entry::What::Alert(body) => body,
                        wire::entry::What::Delta(delta) => delta.vector,
                        other => panic!("{other:?}"),
                    };
                    assert_eq!(found.insert((class, entry.id), body), None, "{class:?} {} twice", entry.id);
                }
            }
        }
        assert!(found == self.given, "{} entries at the region, {} were given", found.len(), self.given.len());
    }
}

/// All batches of a class that the region has.
pub async fn batches(bus: &NatsBus, class: Class) -> Vec<(wire::Batch, wire::Entries)> {
    let bounds = PullBounds { messages: 100, bytes: 1 << 20 };
    let (mut all, mut from) = (Vec::new(), 1);
    loop {
        let some = bus.read_on(&stream_of(SITE), &subject_of(SITE, class), from, bounds).await.unwrap();
        let Some(last) = some.last() else { return all };
        from = last.sequence + 1;
        all.extend(some.iter().map(|message| wire::Batch::read(&message.payload).unwrap()));
    }
}

pub struct Sending {
    task: JoinHandle<Result<(), String>>,
    stop: watch::Sender<bool>,
    pub health: Arc<Health>,
}

impl Sending {
    pub async fn start(site: &Site, port: u16) -> Self {
        let uplink = NatsBus::connect(&bus_config(port), "sync").await.unwrap();
        let (stop, stopped) = watch::channel(false);
        let health = Arc::new(Health::default());
        let outside = Outside {
            queue: site.queue.clone(),
            uplink,
            site: SITE.into(),
            config: SendConfig {
                target_latency: Duration::from_millis(100),
                congested_after: Duration::from_secs(2),
                linger: Duration::from_millis(50),
                metered_bytes: 0,
            },
            telemetry: Arc::new(Telemetry::new("sync", 0, Duration::from_secs(30))),
            health: health.clone(),
        };
        Self { task: tokio::spawn(send::run(outside, stopped)), stop, health }
    }

    /// Stops it in good order.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        self.task.await.unwrap().unwrap();
    }

    /// Ends it as SIGKILL does.
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    /// Waits until it ends by itself.
    pub async fn ended(self) -> Result<(), String> {
        tokio::time::timeout(Duration::from_secs(120), self.task).await.expect("it does not end").unwrap()
    }
}
