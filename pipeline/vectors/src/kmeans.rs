//! k-means: as many centroids as are asked for, each the mean of the rows that lie nearest to it.
//!
//! The start is drawn by k-means++ (Arthur & Vassilvitskii 2007) from a seed, and sums run in the order of the rows, so the same rows give the same
//! bits.

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Most centroids; of fewer distinct rows there are fewer.
    pub clusters: usize,
    /// Most rounds.
    pub rounds: usize,
    /// What the random numbers come from.
    pub seed: u64,
}

/// Centroids of equal length, kept component by component, so that the distances to all of them are summed side by side.
#[derive(Clone, Debug, PartialEq)]
pub struct Centroids {
    dimensions: usize,
    len: usize,
    /// The first components of all, then the second ones, and so on.
    columns: Vec<f32>,
}

/// Room for the distances to all centroids, to be used again.
#[derive(Clone, Debug, Default)]
pub struct Scratch(Vec<f32>);

impl Centroids {
    /// Of rows of `dimensions` (at least 1) components, one behind the other.
    pub fn new(dimensions: usize, rows: &[f32]) -> Self {
        let len = rows.len() / dimensions;
        let component = |at: usize| rows[at % len * dimensions + at / len];
        Self { dimensions, len, columns: (0..len * dimensions).map(component).collect() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// One of them.
    pub fn row(&self, at: usize) -> impl Iterator<Item = f32> + '_ {
        self.columns.iter().skip(at).step_by(self.len.max(1)).copied()
    }

    fn set(&mut self, at: usize, row: impl Iterator<Item = f32>) {
        for (dimension, component) in row.take(self.dimensions).enumerate() {
            self.columns[dimension * self.len + at] = component;
        }
    }

    /// The nearest centroid and the squared distance to it; of equally near ones the first. 0 and infinity if there is none.
    pub fn nearest(&self, row: &[f32], scratch: &mut Scratch) -> (usize, f32) {
        let distances = &mut scratch.0;
        distances.clear();
        distances.resize(self.len, 0.0);
        for (x, column) in row.iter().zip(self.columns.chunks_exact(self.len.max(1))) {
            for (distance, component) in distances.iter_mut().zip(column) {
                let difference = x - component;
                *distance += difference * difference;
            }
        }
        let mut best = (0, f32::INFINITY);
        for (at, distance) in distances.iter().enumerate() {
            if *distance < best.1 {
                best = (at, *distance);
            }
        }
        best
    }
}

/// The centroids of `rows`, finite ones of `dimensions` components, one behind the other. Between rounds `goes_on` is asked whether
/// there is time for another one.
pub fn centroids(rows: &[f32], dimensions: usize, wanted: &Wanted, goes_on: impl Fn() -> bool) -> Centroids {
    let mut found = Centroids::new(dimensions, &start(rows, dimensions, wanted));
    let (mut scratch, mut before) = (Scratch::default(), Vec::new());
    for _ in 0..wanted.rounds {
        let near: Vec<(usize, f32)> =
            rows.chunks_exact(dimensions).map(|row| found.nearest(row, &mut scratch)).collect();
        let of: Vec<usize> = near.iter().map(|(at, _)| *at).collect();
        if of == before || !goes_on() {
            break;
        }
        move_to_means(&mut found, rows, &near);
        before = of;
    }
    found
}

/// Rows that lie far from each other, drawn with a probability that grows with the squared distance to the nearest drawn before.
fn start(rows: &[f32], dimensions: usize, wanted: &Wanted) -> Vec<f32> {
    let count = rows.len() / dimensions;
    let row = |at: usize| &rows[at * dimensions..][..dimensions];
    let mut drawn: Vec<f32> = Vec::new();
    if count == 0 {
        return drawn;
    }
    let mut random = StdRng::seed_from_u64(wanted.seed);
    let mut next = random.random_range(0..count);
    let mut far: Vec<f32> = vec![f32::INFINITY; count];
    while drawn.len() < wanted.clusters * dimensions {
        drawn.extend(row(next));
        let mut sum = 0.0;
        for (at, far) in far.iter_mut().enumerate() {
            *far = far.min(crate::distance::squared(row(next), row(at)));
            sum += f64::from(*far);
        }
        if sum <= 0.0 {
            break; // Every row is one of them.
        }
        let mut left = random.random::<f64>() * sum;
        let passed = |far: &f32| {
            left -= f64::from(*far);
            left < 0.0
        };
        // Where rounding leaves a little over, the farthest will do.
        let last =
            || far.iter().enumerate().fold((0, -1.0), |most, (at, far)| if *far > most.1 { (at, *far) } else { most });
        next = far.iter().position(passed).unwrap_or_else(|| last().0);
    }
    drawn
}

/// Each centroid to the mean of its rows; one without any to the row that is farthest from its own.
fn move_to_means(found: &mut Centroids, rows: &[f32], near: &[(usize, f32)]) {
    let dimensions = found.dimensions;
    let (mut sums, mut counts) = (vec![0.0f64; found.len * dimensions], vec![0u64; found.len]);
    for (row, (at, _)) in rows.chunks_exact(dimensions).zip(near) {
        counts[*at] += 1;
        let sums = &mut sums[at * dimensions..][..dimensions];
        sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
    }
    let mut farthest: Vec<usize> = Vec::new();
    if counts.contains(&0) {
        farthest.extend(0..near.len());
        farthest.sort_by(|a, b| near[*b].1.total_cmp(&near[*a].1));
    }
    let mut farthest = farthest.into_iter();
    for (at, count) in counts.into_iter().enumerate() {
        if count > 0 {
            let sums = &sums[at * dimensions..][..dimensions];
            found.set(at, sums.iter().map(|sum| (sum / count as f64) as f32));
        } else if let Some(row) = farthest.next() {
            found.set(at, rows[row * dimensions..][..dimensions].iter().copied());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wanted(clusters: usize) -> Wanted {
        Wanted { clusters, rounds: 30, seed: 7 }
    }

    fn cost(found: &Centroids, rows: &[f32], dimensions: usize) -> f64 {
        let mut scratch = Scratch::default();
        rows.chunks_exact(dimensions).map(|row| f64::from(found.nearest(row, &mut scratch).1)).sum()
    }

    #[test]
    fn clusters_that_lie_apart_are_found() {
        let rows: Vec<f32> = (0..400)
            .flat_map(|n| {
                let (centre, off) = ((n % 4) as f32 * 100.0, (n * 7919 % 101) as f32 / 101.0 - 0.5);
                [centre + off, -centre + off * off]
            })
            .collect();
        let found = centroids(&rows, 2, &wanted(4), || true);
        let mut firsts: Vec<f32> = (0..4).filter_map(|at| found.row(at).next()).collect();
        firsts.sort_by(f32::total_cmp);
        for (first, centre) in firsts.iter().zip([0.0, 100.0, 200.0, 300.0]) {
            assert!((first - centre).abs() < 0.1, "{firsts:?}");
        }
        assert_eq!(found, centroids(&rows, 2, &wanted(4), || true), "the same bits again");
    }

    #[test]
    fn fewer_distinct_rows_make_fewer_centroids_and_none_none() {
        let rows: Vec<f32> = (0..90).flat_map(|n| [(n % 3) as f32, 5.0]).collect();
        let found = centroids(&rows, 2, &wanted(8), || true);
        assert_eq!((found.len(), cost(&found, &rows, 2)), (3, 0.0));
        let none = centroids(&[], 2, &wanted(8), || true);
        assert!(none.is_empty());
        assert_eq!(none.nearest(&[1.0, 2.0], &mut Scratch::default()), (0, f32::INFINITY));
    }

    #[test]
    fn it_ends_when_there_is_no_time() {
        let rows: Vec<f32> = (0..1_000).map(|n| (n * 7919 % 1013) as f32).collect();
        let asked = std::cell::Cell::new(0);
        let time = || {
            asked.set(asked.get() + 1);
            asked.get() < 3
        };
        let early = centroids(&rows, 1, &wanted(16), time);
        assert_eq!(asked.get(), 3);
        assert!(cost(&early, &rows, 1) >= cost(&centroids(&rows, 1, &wanted(16), || true), &rows, 1));
    }

    proptest! {
        #[test]
        fn rounds_never_make_it_worse_and_one_that_lost_its_rows_gets_others(
            values in prop::collection::vec(-50i8..50, 3..240),
            clusters in 1usize..12,
            seed: u64,
        ) {
            let rows: Vec<f32> = values.chunks_exact(3).flatten().map(|x| f32::from(*x)).collect();
            let wanted = |rounds| Wanted { clusters, rounds, seed };
            let costs: Vec<f64> =
                [0, 1, 3, 20].map(|rounds| cost(&centroids(&rows, 3, &wanted(rounds), || true), &rows, 3)).into();
            // Means are rounded to f32.
            prop_assert!(costs.is_sorted_by(|a, b| *b <= a * (1.0 + 1e-5) + 1e-3), "{:?}", costs);
            let found = centroids(&rows, 3, &wanted(20), || true);
            prop_assert!(found.len() <= clusters && found.columns.iter().all(|x| x.is_finite()));
        }
    }
}
