//! What the region knows of, in short, for its gateways: each shard's leader puts a sketch of each bundle's windows into the bucket
//! SKETCHES, under `<digest>.<shard>`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use eddy_runtime::{
    bus::{Bus, Publication, PublishError},
    clock::Clock,
};
use eddy_schemas::region::{
    SKETCH_BUCKET,
    wire::{Cluster, Sketch},
};
use eddy_vectors::{
    index::{IndexError, Model, Stats},
    sketch::{self, Limits},
};
use prost::Message as _;
use tokio::{
    task::block_in_place,
    time::{Instant, sleep},
};

use crate::{filed, shards::Led, streams};

/// How often it looks whether it leads.
const LOOK: Duration = Duration::from_secs(1);

/// Makes a copy's sketches while it leads.
pub struct Sketcher<B> {
    pub(crate) bus: B,
    pub(crate) copy: Arc<Led>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) every: Duration,
    pub(crate) limits: Limits,
}

/// Why there is no sketch.
#[derive(Debug, thiserror::Error)]
pub enum SketchError {
    /// The store's.
    #[error(transparent)]
    Store(#[from] IndexError),
    /// The stream's.
    #[error("{0}")]
    Publish(#[from] PublishError),
}

/// What a sketch was made of, as far as it shows.
type Seen = (u64, u64, u64);

fn seen(stats: &Stats) -> Seen {
    (stats.windows, stats.deleted, stats.labels)
}

impl<B: Bus> Sketcher<B> {
    /// Runs until it is dropped.
    pub async fn run(self) {
        let mut last: Option<(Instant, Seen)> = None;
        loop {
            sleep(LOOK).await;
            if !self.copy.is_led() {
                // Another one's sketches lie there now.
                last = None;
                continue;
            }
            if last.is_some_and(|(made, _)| made.elapsed() < self.every) {
                continue;
            }
            match self.sketch(last.map(|(_, seen)| seen)).await {
                Ok(seen) => last = Some((Instant::now(), seen)),
                Err(error) => {
                    tracing::warn!(%error, shard = self.copy.shard, "no sketch; trying again");
                    last = last.map(|(_, seen)| (Instant::now(), seen));
                    sleep(self.every.min(10 * LOOK)).await;
                }
            }
        }
    }

    /// Sketches every model's windows, if they are others than they were.
    ///
    /// # Errors
    /// What should be tried again.
    pub async fn sketch(&self, before: Option<Seen>) -> Result<Seen, SketchError> {
        let now = seen(&block_in_place(|| self.copy.store.stats())?);
        if before == Some(now) {
            return Ok(now);
        }
        self.copy.searcher.refresh()?;
        // Of one digest the newest: what differs in its dimensions is no other bundle's.
        let models: BTreeMap<String, Model> =
            self.copy.searcher.models().into_iter().map(|model| (model.digest.clone(), model)).collect();
        for (digest, model) in models {
            let copy = self.copy.clone();
            let limits = self.limits;
            let made = tokio::task::spawn_blocking(move || {
                let site = |series: &str| filed::parts(series).map(|(site, ..)| site).unwrap_or_default();
                sketch::make(&copy.searcher, &model, &limits, site)
            });
            let made = made.await.map_err(|panic| IndexError::Query(panic.to_string()))??;
            let message = Publication {
                stream: streams::sketches(),
                subject: format!("$KV.{SKETCH_BUCKET}.{digest}.{}", self.copy.shard),
                headers: vec![],
                payload: self.told(&digest, made).encode_to_vec().into(),
                guard: None,
            };
            self.bus.publish(vec![message]).await?;
        }
        Ok(now)
    }

    fn told(&self, digest: &str, made: sketch::Sketch) -> Sketch {
        let cluster = |cluster: sketch::Cluster| Cluster {
            centroid: cluster.centroid.into(),
            scale: cluster.scale,
            radius: cluster.radius,
            sites: cluster.sites,
            windows: cluster.windows,
            labelled: cluster.labelled,
        };
        Sketch {
            bundle: digest.to_owned(),
            // A vector has at most some thousand components.
            dimensions: made.dimensions as u32,
            clusters: made.clusters.into_iter().map(cluster).collect(),
            sites: made.sites,
            windows: made.windows,
            made: self.clock.now(),
        }
    }
}

#[cfg(test)]
mod tests {
    use eddy_runtime::{
        bus::memory::{Faults, MemoryBus},
        clock::ManualClock,
        lease::Held,
    };
    use eddy_vectors::index::{Facts, Label, Store, Window};

    use super::*;
    use crate::words::Words;

    fn sketcher(folder: &std::path::Path, bus: &MemoryBus, held: Held) -> Sketcher<MemoryBus> {
        let store = Arc::new(Store::open(folder, eddy_vectors::index::Limits::default()).unwrap());
        let searcher = Arc::new(store.searcher().unwrap());
        let copy = Led::new((1, 2), store, searcher, held, Words::new(bus.clone()));
        let (copy, clock) = (Arc::new(copy), Arc::new(ManualClock::new(77)));
        Sketcher { bus: bus.clone(), copy, clock, every: Duration::ZERO, limits: Limits::default() }
    }

    fn add(sketcher: &Sketcher<MemoryBus>, site: &str, x: f32) -> u64 {
        let store = &sketcher.copy.store;
        let mut batch = store.batch().unwrap();
        let model = Model { digest: "ab".into(), head: "learned".into(), dimensions: 2 };
        let facts = Facts { start: 0, end: 1, sequence: 1, filled: 1, flags: 0, score: 0.5 };
        let id = batch.add(&model, &Window { series: filed::series(site, "d", "t"), facts, vector: vec![x, 0.0] });
        let before = store.position().unwrap();
        batch.commit(before.as_deref(), "S@1:1").unwrap();
        id.unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_shard_tells_what_it_knows_and_again_only_where_something_changed() {
        let bus = MemoryBus::new(1, Faults::default());
        bus.create("KV_SKETCHES", 7);
        let folder = tempfile::tempdir().unwrap();
        let sketcher = sketcher(folder.path(), &bus, Held::for_ever());
        let first = add(&sketcher, "plant 1", 1.0);
        add(&sketcher, "plant 2", -1.0);
        let seen = sketcher.sketch(None).await.unwrap();
        assert_eq!(sketcher.sketch(Some(seen)).await.unwrap(), seen);
        let messages = bus.messages("KV_SKETCHES", "");
        let [(subject, payload)] = messages.as_slice() else { panic!("{messages:?}") };
        assert_eq!(subject, "$KV.SKETCHES.ab.1");
        let told = Sketch::decode(payload.clone()).unwrap();
        assert_eq!((told.bundle.as_str(), told.dimensions, told.windows, told.made), ("ab", 2, 2, 77));
        assert_eq!(told.sites, ["plant 1", "plant 2"]);
        assert_eq!(told.clusters.iter().map(|cluster| cluster.windows).sum::<u32>(), 2);
        // A label is a change too.
        let store = &sketcher.copy.store;
        let mut batch = store.batch().unwrap();
        batch.label(first, &Label { name: "leak".into(), origin: "s/cli".into(), time: 1 }).unwrap();
        batch.commit(Some("S@1:1"), "S@1:2").unwrap();
        sketcher.sketch(Some(seen)).await.unwrap();
        let payloads = bus.payloads("KV_SKETCHES", "");
        let labelled: u32 = Sketch::decode(payloads[1].clone()).unwrap().clusters.iter().map(|c| c.labelled).sum();
        assert_eq!((payloads.len(), labelled), (2, 1));
    }
}
