//! What the region knows, in short: the sketches that sync mirrors into the gateway's stream REGION, kept in memory.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use eddy_runtime::bus::{BusError, nats::NatsBus};
use eddy_schemas::{
    names,
    region::{GATEWAY_STREAM, wire},
};
use eddy_vectors::sketch::{Cluster, Sketch};
use prost::Message as _;
use tokio::sync::watch;

/// How often it is looked for new ones.
const LOOK: Duration = Duration::from_secs(5);
/// Clusters and components of a sketch at most: what is larger is none that a hub made.
const CLUSTERS_MAX: usize = 65_536;
const DIMENSIONS_MAX: u32 = 65_536;

/// All sketches, by the digest of their bundle, a shard of the region each; `None`: this gateway is of no region.
#[derive(Clone, Debug, Default)]
pub struct Sketches(Arc<RwLock<Option<ByBundle>>>);

type ByBundle = HashMap<String, Vec<Arc<Sketch>>>;

impl Sketches {
    /// Those of a bundle: none where the region has not made one yet; `None` where there is no region.
    pub fn of(&self, bundle: &str) -> Option<Vec<Arc<Sketch>>> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().map(|known| known.get(bundle).cloned().unwrap_or_default())
    }

    /// Takes what lies on REGION's subjects in place of what was known.
    pub fn take(&self, messages: &BTreeMap<String, bytes::Bytes>) {
        let mut found = ByBundle::new();
        for (subject, payload) in messages {
            match read(payload) {
                Ok((bundle, sketch)) => found.entry(bundle).or_default().push(Arc::new(sketch)),
                Err(problem) => tracing::warn!(subject, problem, "a sketch of the region is passed over"),
            }
        }
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(found);
    }

    fn forget(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Keeps them as they are on the bus until `stop` says true.
    pub async fn follow(self, bus: NatsBus, site: String, mut stop: watch::Receiver<bool>) {
        let filter = format!("region.{}.sketch.>", names::encode(&site));
        let mut seen = None;
        loop {
            match self.look(&bus, &filter, &mut seen).await {
                Ok(()) => {}
                Err(BusError::Missing(_)) => {
                    seen = None;
                    self.forget();
                }
                // What is known stays known.
                Err(error) => tracing::debug!(%error, "REGION was not looked at; trying again"),
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    async fn look(&self, bus: &NatsBus, filter: &str, seen: &mut Option<(i64, u64)>) -> Result<(), BusError> {
        use eddy_runtime::bus::Bus as _;
        let state = bus.stream(GATEWAY_STREAM).await?;
        let now = Some((state.incarnation, state.last_sequence));
        if *seen != now {
            let last = bus.last_of_each(GATEWAY_STREAM, filter).await?;
            self.take(&last.into_iter().map(|(subject, stored)| (subject, stored.payload)).collect());
            *seen = now;
        }
        Ok(())
    }
}

/// The digest of its bundle, and a sketch.
fn read(payload: &[u8]) -> Result<(String, Sketch), String> {
    let told = wire::Sketch::decode(payload).map_err(|error| format!("not a sketch: {error}"))?;
    let dimensions = told.dimensions as usize;
    if told.dimensions == 0 || told.dimensions > DIMENSIONS_MAX || told.clusters.len() > CLUSTERS_MAX {
        let clusters = told.clusters.len();
        return Err(format!(
            "{clusters} clusters of {dimensions} components: at most {CLUSTERS_MAX} of 1 to {DIMENSIONS_MAX} are taken"
        ));
    }
    for (at, cluster) in told.clusters.iter().enumerate() {
        let is_length = |x: f32| x.is_finite() && x >= 0.0;
        if cluster.centroid.len() != dimensions || !is_length(cluster.scale) || !is_length(cluster.radius) {
            let found = cluster.centroid.len();
            return Err(format!(
                "cluster {at}: {found} components of {dimensions}, scale {}, radius {}",
                cluster.scale, cluster.radius
            ));
        }
        if let Some(site) = cluster.sites.iter().find(|site| **site as usize >= told.sites.len()) {
            return Err(format!("cluster {at}: site {site} of {}", told.sites.len()));
        }
    }
    let clusters = told.clusters.into_iter().map(|cluster| Cluster {
        centroid: cluster.centroid.to_vec(),
        scale: cluster.scale,
        radius: cluster.radius,
        sites: cluster.sites,
        windows: cluster.windows,
        labelled: cluster.labelled,
    });
    let sketch = Sketch { dimensions, clusters: clusters.collect(), sites: told.sites, windows: told.windows };
    Ok((told.bundle, sketch))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told() -> wire::Sketch {
        wire::Sketch {
            bundle: "b".into(),
            dimensions: 2,
            clusters: vec![wire::Cluster {
                centroid: vec![127, 0].into(),
                scale: 0.1,
                radius: 1.0,
                sites: vec![1],
                windows: 3,
                labelled: 1,
            }],
            sites: vec!["a".into(), "s".into()],
            windows: 3,
            made: 5,
        }
    }

    #[test]
    fn shards_of_a_bundle_are_kept_together_and_what_contradicts_itself_is_passed_over() {
        let sketches = Sketches::default();
        assert_eq!(sketches.of("b"), None, "no region");
        let wrong = |change: &dyn Fn(&mut wire::Sketch)| {
            let mut sketch = told();
            change(&mut sketch);
            sketch.encode_to_vec().into()
        };
        let mut messages = BTreeMap::from([
            ("region.s.sketch.b.0".to_owned(), told().encode_to_vec().into()),
            ("region.s.sketch.b.1".to_owned(), wrong(&|sketch| sketch.sites[0] = "c".into())),
            ("region.s.sketch.c".to_owned(), wrong(&|sketch| sketch.bundle = "c".into())),
        ]);
        let changes: [&dyn Fn(&mut wire::Sketch); 6] = [
            &|sketch| sketch.dimensions = 3,
            &|sketch| sketch.dimensions = 0,
            &|sketch| sketch.dimensions = u32::MAX,
            &|sketch| sketch.clusters[0].radius = f32::NAN,
            &|sketch| sketch.clusters[0].scale = -1.0,
            &|sketch| sketch.clusters[0].sites.push(2),
        ];
        for (at, change) in changes.into_iter().enumerate() {
            messages.insert(format!("region.s.sketch.b.9{at}"), wrong(change));
        }
        messages.insert("region.s.sketch.d".into(), bytes::Bytes::from_static(b"rubbish"));
        sketches.take(&messages);
        let of_b = sketches.of("b").unwrap();
        assert_eq!((of_b.len(), of_b[0].clusters[0].sites[0], of_b[1].sites[0].as_str()), (2, 1, "c"));
        assert_eq!((sketches.of("c").unwrap().len(), sketches.of("d").unwrap().len()), (1, 0));
        sketches.take(&BTreeMap::new());
        assert_eq!(sketches.of("b"), Some(vec![]), "a region without sketches");
    }
}
