//! What a store knows, in short: spheres that hold all of its windows, and whose windows lie in each.
//!
//! Whoever has a sketch can tell without asking that nothing in the store is near to a vector, as long as nothing was added since. It may ask in vain;
//! it never keeps quiet where something of the sketch lies near.

use std::{
    cmp::Ordering,
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    distance::squared,
    index::{Chunk, ChunkWindow, IndexError, Model, Searcher, WindowId},
    kmeans::{self, Centroids, Scratch},
    quantizer::int8,
};

/// Windows that are read at a time: a chunk's are all that is held beside the sample.
const CHUNK: usize = 8_192;
/// Of the clusters so many are kept for windows that lie far from all others: one of them in a cluster makes its radius useless.
const OUTLIERS: f64 = 0.25;
/// For each of these so many windows are looked at.
const CANDIDATES: usize = 16;
/// Sums of floats are off by some parts in a million.
const ROUNDING: f32 = 1.0001;

/// Bounds of making one.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Clusters at most.
    pub clusters: usize,
    /// Windows from which the clusters are learned, drawn by their numbers.
    pub sample: usize,
    /// Rounds of k-means over these at most.
    pub rounds: usize,
    /// No further round begins after so long. All windows are read three times, however long that takes.
    pub time: Duration,
    /// What random numbers come from.
    pub seed: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { clusters: 256, sample: 16_384, rounds: 20, time: Duration::from_secs(10), seed: 1 }
    }
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sketch {
    /// Components of a vector.
    pub dimensions: usize,
    /// The spheres.
    pub clusters: Vec<Cluster>,
    /// Names of sites, sorted.
    pub sites: Vec<String>,
    /// Windows that it stands for.
    pub windows: u64,
}

/// A sphere.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// Its centre: [`int8`] codes, and their scale.
    pub centroid: Vec<u8>,
    /// See there.
    pub scale: f32,
    /// Every window of it lies within, from the centre that the codes stand for.
    pub radius: f32,
    /// Whose windows are in it: into [`Sketch::sites`], ascending.
    pub sites: Vec<u32>,
    /// How many they are.
    pub windows: u32,
    /// How many of these carry a label.
    pub labelled: u32,
}

/// Sketches a model's windows as they are now. `site_of` tells the site of a series, by its canonical text; it is asked once for each.
/// The same windows under the same numbers make the same sketch, unless the time was over.
///
/// # Errors
/// If the store is damaged.
pub fn make(
    searcher: &Searcher,
    model: &Model,
    limits: &Limits,
    site_of: impl FnMut(&str) -> String,
) -> Result<Sketch, IndexError> {
    let started = Instant::now();
    let sample = sample(searcher, model, limits)?;
    let outliers = (limits.clusters as f64 * OUTLIERS) as usize;
    let wanted = kmeans::Wanted {
        clusters: limits.clusters.saturating_sub(outliers).max(1),
        rounds: limits.rounds,
        seed: limits.seed,
    };
    let found = kmeans::centroids(&sample, model.dimensions, &wanted, || started.elapsed() < limits.time);
    let mut centres: Vec<Centre> = (0..found.len()).map(|at| Centre::new(found.row(at).collect())).collect();
    let far = farthest(searcher, model, &centres, limits.clusters.saturating_sub(centres.len()).min(outliers))?;
    centres.extend(far);
    let mut spheres = Spheres::new(model.dimensions, centres, site_of);
    each_chunk(searcher, model, |chunk| spheres.add(chunk))?;
    Ok(spheres.sketch())
}

/// Whether a window of another site than `own_site` could lie within `radius` of a vector. Where the sketch is not about such vectors, nothing of it does; what cannot be read could.
pub fn could_know(sketch: &Sketch, vector: &[f32], radius: f32, own_site: &str) -> bool {
    if vector.len() != sketch.dimensions {
        return false;
    }
    let is_others = |cluster: &Cluster| {
        let name = |site: &u32| sketch.sites.get(*site as usize).map(String::as_str);
        cluster.sites.iter().any(|site| name(site) != Some(own_site))
    };
    let could = |cluster: &Cluster| match int8::decode(cluster.scale, &cluster.centroid) {
        Ok(centre) if centre.len() == vector.len() => {
            let least = squared(&centre, vector).sqrt() / ROUNDING - cluster.radius * ROUNDING;
            // What is no number is no reason to keep quiet.
            least.partial_cmp(&(radius * ROUNDING)) != Some(Ordering::Greater)
        }
        _ => true,
    };
    sketch.clusters.iter().filter(|cluster| is_others(cluster)).any(could)
}

/// Every window of a model, chunk by chunk.
fn each_chunk(searcher: &Searcher, model: &Model, mut each: impl FnMut(&Chunk)) -> Result<(), IndexError> {
    let mut next = Some(0);
    while let Some(from) = next {
        let chunk = searcher.chunk(model, from, CHUNK)?;
        each(&chunk);
        next = chunk.next;
    }
    Ok(())
}

/// Vectors of about as many windows as are wanted, drawn by the hashes of their numbers: a fair draw that does not depend on where they lie.
fn sample(searcher: &Searcher, model: &Model, limits: &Limits) -> Result<Vec<f32>, IndexError> {
    let share = limits.sample as f64 / searcher.count(model).max(1) as f64;
    // Half as many again at most, whatever the hashes.
    let most = (limits.sample + limits.sample / 2) * model.dimensions;
    let below = (share.min(1.0) * u64::MAX as f64) as u64;
    let mut sample = Vec::new();
    each_chunk(searcher, model, |chunk| {
        for (window, vector) in chunk.windows.iter().zip(chunk.vectors.chunks_exact(model.dimensions)) {
            if sample.len() < most && (share >= 1.0 || mixed(window.window ^ limits.seed) <= below) {
                sample.extend(vector);
            }
        }
    })?;
    Ok(sample)
}

/// Each number another one, all bits of which depend on all of its (the finalizer of SplitMix64).
fn mixed(number: u64) -> u64 {
    let mut x = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// A centre as it is told: rounded to its codes.
struct Centre {
    codes: Vec<u8>,
    scale: f32,
    vector: Vec<f32>,
}

impl Centre {
    fn new(vector: Vec<f32>) -> Self {
        // The store holds no vectors that cannot be encoded, and means lie between them.
        let (scale, codes) = int8::encode(&vector).unwrap_or_default();
        let vector = int8::decode(scale, &codes).ok().filter(|told| told.len() == vector.len()).unwrap_or(vector);
        Self { codes, scale, vector }
    }
}

fn centroids(dimensions: usize, centres: &[Centre]) -> Centroids {
    let rows: Vec<f32> = centres.iter().flat_map(|centre| &centre.vector).copied().collect();
    Centroids::new(dimensions, &rows)
}

/// A window that lies far from every centre.
struct Far {
    squared: f32,
    window: WindowId,
    vector: Vec<f32>,
}

/// Centres for windows that lie far from those that there are, and from each other.
fn farthest(searcher: &Searcher, model: &Model, centres: &[Centre], wanted: usize) -> Result<Vec<Centre>, IndexError> {
    let known = centroids(model.dimensions, centres);
    let (mut scratch, most) = (Scratch::default(), wanted * CANDIDATES);
    let (mut far, mut beyond): (Vec<Far>, f32) = (Vec::new(), 0.0);
    let farthest_first = |a: &Far, b: &Far| b.squared.total_cmp(&a.squared).then(a.window.cmp(&b.window));
    each_chunk(searcher, model, |chunk| {
        for (window, vector) in chunk.windows.iter().zip(chunk.vectors.chunks_exact(model.dimensions)) {
            let (_, squared) = known.nearest(vector, &mut scratch);
            if squared > beyond {
                far.push(Far { squared, window: window.window, vector: vector.to_vec() });
            }
        }
        if far.len() > most {
            far.sort_unstable_by(farthest_first);
            far.truncate(most);
            beyond = far.last().map_or(0.0, |last| last.squared);
        }
    })?;
    let mut chosen = Vec::new();
    while chosen.len() < wanted {
        far.sort_unstable_by(farthest_first);
        if far.first().is_none_or(|first| first.squared <= 0.0) {
            break;
        }
        let centre = Centre::new(far.swap_remove(0).vector);
        far.iter_mut().for_each(|one| one.squared = one.squared.min(squared(&one.vector, &centre.vector)));
        chosen.push(centre);
    }
    Ok(chosen)
}

/// What lies about one centre.
#[derive(Clone, Default)]
struct Members {
    radius: f32,
    sites: BTreeSet<u32>,
    windows: u32,
    labelled: u32,
}

/// Centres that are given their windows.
struct Spheres<F> {
    dimensions: usize,
    centres: Vec<Centre>,
    centroids: Centroids,
    members: Vec<Members>,
    site_of: F,
    /// In the order in which they came.
    sites: Vec<String>,
    site_of_series: HashMap<Arc<str>, u32>,
    scratch: Scratch,
}

impl<F: FnMut(&str) -> String> Spheres<F> {
    fn new(dimensions: usize, centres: Vec<Centre>, site_of: F) -> Self {
        Self {
            dimensions,
            centroids: centroids(dimensions, &centres),
            members: vec![Members::default(); centres.len()],
            centres,
            site_of,
            sites: Vec::new(),
            site_of_series: HashMap::new(),
            scratch: Scratch::default(),
        }
    }

    fn add(&mut self, chunk: &Chunk) {
        for (window, vector) in chunk.windows.iter().zip(chunk.vectors.chunks_exact(self.dimensions)) {
            let (at, _) = self.centroids.nearest(vector, &mut self.scratch);
            let site = self.site(window);
            let (Some(members), Some(centre)) = (self.members.get_mut(at), self.centres.get(at)) else { return };
            // Measured as whoever asks measures it.
            members.radius = members.radius.max(squared(&centre.vector, vector).sqrt());
            members.sites.insert(site);
            members.windows += 1;
            members.labelled += u32::from(window.labelled);
        }
    }

    fn site(&mut self, window: &ChunkWindow) -> u32 {
        if let Some(site) = self.site_of_series.get(&window.series) {
            return *site;
        }
        let name = (self.site_of)(&window.series);
        let known = self.sites.iter().position(|site| *site == name);
        let at = known.unwrap_or_else(|| {
            self.sites.push(name);
            self.sites.len() - 1
        }) as u32;
        self.site_of_series.insert(window.series.clone(), at);
        at
    }

    fn sketch(self) -> Sketch {
        let mut sorted: Vec<u32> = (0..self.sites.len() as u32).collect();
        sorted.sort_by_key(|at| &self.sites[*at as usize]);
        let rank = |at: &u32| sorted.iter().position(|other| other == at).unwrap_or_default() as u32;
        let cluster = |(centre, members): (Centre, Members)| Cluster {
            centroid: centre.codes,
            scale: centre.scale,
            radius: members.radius * ROUNDING,
            sites: members.sites.iter().map(rank).collect::<BTreeSet<u32>>().into_iter().collect(),
            windows: members.windows,
            labelled: members.labelled,
        };
        let filled = self.centres.into_iter().zip(self.members).filter(|(_, members)| members.windows > 0);
        Sketch {
            dimensions: self.dimensions,
            windows: 0,
            clusters: filled.map(cluster).collect(),
            sites: sorted.iter().map(|at| self.sites[*at as usize].clone()).collect(),
        }
        .counted()
    }
}

impl Sketch {
    fn counted(mut self) -> Self {
        self.windows = self.clusters.iter().map(|cluster| u64::from(cluster.windows)).sum();
        self
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use proptest::prelude::*;

    use super::*;
    use crate::index::{Facts, Label, Store, Window};

    fn model() -> Model {
        Model { digest: "d".into(), head: "learned".into(), dimensions: 4 }
    }

    fn limits() -> crate::index::Limits {
        let segment_windows = 100;
        crate::index::Limits {
            map_bytes: 64 << 20,
            segment_windows,
            graph_after: 0,
            graph_windows: 0,
            ..Default::default()
        }
    }

    /// The `n`-th window: of one of three sites, near one of some places.
    fn vector(n: u64) -> Vec<f32> {
        let noise = |at: u64| (mixed(n * 7 + at) >> 40) as f32 / (1 << 24) as f32;
        (0..4).map(|at| ((n % 11) * (at + 1) % 7) as f32 * 3.0 + noise(at)).collect()
    }

    fn series(n: u64) -> String {
        format!("site%20{}%2Fd{}/t", n % 3, n % 5)
    }

    fn site_of(series: &str) -> String {
        series.split_once("%2F").unwrap().0.replace("%20", " ")
    }

    fn filled(store: &Store, windows: std::ops::Range<u64>, vector: &dyn Fn(u64) -> Vec<f32>) {
        let before = store.position().unwrap();
        let mut batch = store.batch().unwrap();
        for n in windows.clone() {
            let facts = Facts { start: 0, end: n as i64, sequence: n, filled: 1, flags: 0, score: 0.0 };
            batch.add(&model(), &Window { series: series(n), facts, vector: vector(n) }).unwrap();
        }
        batch.commit(before.as_deref(), &windows.end.to_string()).unwrap();
    }

    fn sketched(store: &Store, clusters: usize) -> Sketch {
        let limits = Limits { clusters, sample: 200, ..Limits::default() };
        make(&store.searcher().unwrap(), &model(), &limits, site_of).unwrap()
    }

    #[test]
    fn every_window_lies_in_a_sphere_that_knows_its_site_wherever_it_is_stored() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), limits()).unwrap();
        filled(&store, 0..450, &vector);
        let mut batch = store.batch().unwrap();
        for n in [3, 7, 200] {
            batch.label(n, &Label { name: "leak".into(), origin: "cli".into(), time: 1 }).unwrap();
        }
        (0..450).step_by(9).for_each(|n| assert!(batch.delete(n).unwrap()));
        batch.commit(Some("450"), "a").unwrap();
        let tail = sketched(&store, 24);
        assert_eq!((tail.windows, tail.dimensions), (400, 4));
        assert!(tail.clusters.len() > 12 && tail.clusters.len() <= 24, "{}", tail.clusters.len());
        assert_eq!(tail.sites, ["site 0", "site 1", "site 2"]);
        let labelled: u32 = tail.clusters.iter().map(|cluster| cluster.labelled).sum();
        assert_eq!(labelled, 3);
        while let Some(build) = store.next_build().unwrap() {
            assert!(store.publish(build.run(&AtomicBool::new(false)).unwrap()).unwrap());
        }
        assert_eq!(sketched(&store, 24), tail, "the same from built segments");
        let searcher = store.searcher().unwrap();
        for n in (0..450).filter(|n| n % 9 != 0) {
            let (_, stored, _) = searcher.window(n).unwrap().unwrap();
            let site = tail.sites.iter().position(|site| *site == site_of(&series(n))).unwrap() as u32;
            let holds = |cluster: &&Cluster| {
                let centre = int8::decode(cluster.scale, &cluster.centroid).unwrap();
                squared(&centre, &stored).sqrt() <= cluster.radius && cluster.sites.contains(&site)
            };
            assert!(tail.clusters.iter().any(|cluster| holds(&cluster)), "{n}");
            assert!(could_know(&tail, &stored, 0.0, "elsewhere"));
        }
        assert!(
            !could_know(&tail, &[-90.0; 4], 60.0, "elsewhere") && could_know(&tail, &[-90.0; 4], 240.0, "elsewhere")
        );
        assert!(!could_know(&tail, &[0.0; 3], 1e9, "elsewhere"), "vectors of another length");
    }

    #[test]
    fn few_windows_are_told_apart_and_none_makes_an_empty_sketch() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), limits()).unwrap();
        assert_eq!(sketched(&store, 24), Sketch { dimensions: 4, ..Sketch::default() });
        filled(&store, 0..6, &|n| vec![n as f32 * 8.0, 0.0, 0.0, 0.0]);
        let sketch = sketched(&store, 24);
        assert_eq!(sketch.clusters.len(), 6);
        assert!(sketch.clusters.iter().all(|cluster| cluster.radius < 0.05 && cluster.windows == 1));
        // Windows 0 and 3 are of site 0.
        let near = |n: u64, own: &str| could_know(&sketch, &[n as f32 * 8.0, 0.0, 0.0, 0.0], 1.0, own);
        assert!(near(3, "site 1") && !near(3, "site 0") && near(4, "site 0") && !near(4, "site 1"));
    }

    #[test]
    fn one_window_far_from_all_others_has_a_sphere_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), limits()).unwrap();
        // It is not in the sample.
        let far = (0..2_000).find(|n| mixed(n ^ 1) > u64::MAX / 2).unwrap();
        filled(&store, 0..2_000, &|n| if n == far { vec![4_000.0; 4] } else { vector(n) });
        let sketch = sketched(&store, 24);
        assert!(sketch.clusters.iter().all(|cluster| cluster.radius < 20.0));
        assert!(!could_know(&sketch, &[2_000.0; 4], 1_000.0, "") && could_know(&sketch, &[3_999.0; 4], 3.0, ""));
    }

    #[test]
    fn what_cannot_be_read_could_know() {
        let cluster =
            Cluster { centroid: vec![0; 4], scale: 1.0, radius: 1.0, sites: vec![0], windows: 1, labelled: 0 };
        let with = |change: &dyn Fn(&mut Cluster)| {
            let mut sketch =
                Sketch { dimensions: 4, clusters: vec![cluster.clone()], sites: vec!["a".into()], windows: 1 };
            change(&mut sketch.clusters[0]);
            could_know(&sketch, &[50.0; 4], 1.0, "b")
        };
        assert!(!with(&|_| {}));
        assert!(with(&|cluster| cluster.radius = f32::NAN) && with(&|cluster| cluster.scale = f32::NAN));
        assert!(with(&|cluster| cluster.centroid.clear()) && with(&|cluster| cluster.radius = 200.0));
        assert!(!with(&|cluster| cluster.sites.clear()) && !with(&|cluster| cluster.sites = vec![7]));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        #[test]
        fn it_never_keeps_quiet_where_a_window_lies_near(
            values in prop::collection::vec((-8i8..8, -12i32..12), 12..240),
            clusters in 1usize..20,
            asked in prop::collection::vec(-300f32..300.0, 4),
            radius in 0f32..200.0,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(folder.path(), limits()).unwrap();
            let rows: Vec<Vec<f32>> = values
                .chunks_exact(4)
                .map(|row| row.iter().map(|(x, power)| f32::from(*x) * 2f32.powi(*power)).collect())
                .collect();
            filled(&store, 0..rows.len() as u64, &|n| rows[n as usize].clone());
            let sketch = sketched(&store, clusters);
            prop_assert_eq!((sketch.windows, sketch.clusters.len() <= clusters), (rows.len() as u64, true));
            for own in ["site 0", "site 1"] {
                let is_near = |(n, row): (usize, &Vec<f32>)| {
                    site_of(&series(n as u64)) != own && squared(row, &asked).sqrt() <= radius
                };
                if rows.iter().enumerate().any(is_near) {
                    prop_assert!(could_know(&sketch, &asked, radius, own));
                }
            }
        }
    }
}
