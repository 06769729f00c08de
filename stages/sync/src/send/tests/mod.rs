//! The sender over a region in memory. Time is simulated: it passes when everybody waits.

mod faults;
mod identity;
mod link;
mod region;

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use eddy_runtime::{
    position::{Place, Position},
    telemetry::Telemetry,
};
use eddy_schemas::sync::{Class, receipt, wire};
use prost::Message as _;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep},
};

use self::region::Region;
use super::{Health, Outside, SendConfig, run};
use crate::queue::{Bounds, Queue, Write};

const SITE: &str = "plant 1";
const MS: Duration = Duration::from_millis(1);

fn queue(folder: &Path) -> Arc<Queue> {
    let bounds = Bounds { bytes: [16 << 20; 7], entries_max: 100_000, map_bytes: 256 << 20 };
    Arc::new(Queue::open(folder, &bounds).unwrap())
}

/// As a collector does, with a position that goes on.
fn commit(queue: &Queue, write: Write<'_>) {
    let before = queue.position("test").unwrap();
    let next = before.as_ref().map_or(1, |position| position.place("TEST").unwrap().sequence + 1);
    let position = Position([("TEST".to_owned(), Place::whole(1, next))].into());
    write.commit("test", before.as_ref(), &position).unwrap();
}

fn config() -> SendConfig {
    SendConfig {
        target_latency: 100 * MS,
        congested_after: 2_000 * MS,
        linger: Duration::from_secs(30),
        metered_bytes: 0,
    }
}

/// A running sender. Dropped without a word, it dies as by SIGKILL.
struct Running {
    task: JoinHandle<Result<(), String>>,
    stop: watch::Sender<bool>,
    telemetry: Arc<Telemetry>,
    health: Arc<Health>,
}

impl Running {
    fn start(queue: &Arc<Queue>, region: &Region, config: SendConfig) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (telemetry, health) =
            (Arc::new(Telemetry::new("test", 0, Duration::from_secs(30))), Arc::new(Health::default()));
        let outside = Outside {
            queue: queue.clone(),
            uplink: region.clone(),
            site: SITE.into(),
            config,
            telemetry: telemetry.clone(),
            health: health.clone(),
        };
        Self { task: tokio::spawn(run(outside, stopped)), stop, telemetry, health }
    }

    async fn stop(mut self) -> Result<(), String> {
        self.stop.send_replace(true);
        (&mut self.task).await.unwrap()
    }

    /// Waits until it ends by itself.
    async fn ended(mut self) -> Result<(), String> {
        (&mut self.task).await.unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What an entry of a class says in these tests: its text, and noise that no compression makes smaller.
fn entry(class: Class, text: &str, noise: &mut StdRng, bytes: usize) -> wire::Entries {
    use wire::entry::What;
    let mut body = format!("{text} ").into_bytes();
    body.extend((0..bytes).map(|_| noise.random::<u8>()));
    let body = Bytes::from(body);
    let series = vec![format!("pump/{}", text.len() % 3)];
    let (what, series, bundles) = match class {
        Class::Alerts => (What::Alert(body), Vec::new(), Vec::new()),
        Class::Contexts => (What::Context(body), Vec::new(), Vec::new()),
        Class::Health => (What::Health(body), Vec::new(), Vec::new()),
        _ => {
            let delta = wire::VectorDelta { series: 1, bundle: 1, vector: body, ..Default::default() };
            (What::Delta(delta), series, vec![Bytes::from_static(&[3; 32])])
        }
    };
    wire::Entries { entries: vec![wire::Entry { id: 0, what: Some(what) }], series, bundles }
}

/// What was put in, by class and number: what the region must have in the end.
#[derive(Default)]
struct Oracle(BTreeMap<(Class, u64), Bytes>);

fn body(entry: &wire::Entry) -> Bytes {
    use wire::entry::What;
    match entry.what.clone().unwrap() {
        What::Alert(body) | What::Context(body) | What::Health(body) => body,
        What::Delta(delta) => delta.vector,
        other => panic!("{other:?}"),
    }
}

impl Oracle {
    fn push(&mut self, queue: &Queue, class: Class, entry: wire::Entries) -> u64 {
        let said = body(&entry.entries[0]);
        let mut write = queue.write().unwrap();
        let number = write.push(class, entry).unwrap();
        commit(queue, write);
        self.0.insert((class, number), said);
        number
    }

    /// The region's chains hold, and it has each entry once, in order, and as it was.
    fn check(&self, region: &Region) {
        let mut found = BTreeMap::new();
        for class in Class::ALL {
            let (mut number, mut last, mut previous) = (0, 0, Vec::new());
            for (batch, entries) in region.state().batches(SITE, class) {
                assert_eq!((batch.number, batch.first), (number + 1, last + 1), "{class:?}");
                assert_eq!(*batch.previous, previous, "{class:?} {}", batch.number);
                (number, last) = (batch.number, batch.last);
                previous = receipt(&previous, &batch.encode_to_vec()).to_vec();
                for entry in entries.entries {
                    if let Some(wire::entry::What::Delta(delta)) = &entry.what {
                        assert!(entries.series[delta.series as usize - 1].starts_with("pump/"));
                        assert_eq!(*entries.bundles[delta.bundle as usize - 1], [3; 32]);
                    }
                    assert_eq!(found.insert((class, entry.id), body(&entry)), None, "{class:?} {} twice", entry.id);
                }
            }
        }
        assert!(found == self.0, "{} entries at the region, {} were given", found.len(), self.0.len());
    }
}

/// Until the queue holds nothing.
async fn until_sent(queue: &Queue) {
    let deadline = Instant::now() + Duration::from_secs(3_600);
    while Class::ALL.into_iter().any(|class| {
        let depth = queue.depth(class).unwrap();
        depth.oldest < depth.next
    }) {
        assert!(Instant::now() < deadline, "not sent within a simulated hour");
        sleep(100 * MS).await;
    }
}

fn noise(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}
