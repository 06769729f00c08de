//! How far a figure holds on files that had no part in it: each group of files by itself.
//!
//! A group is a folder of NAB or SKAB, or a spacecraft of the telemetry. What a score takes from all files, NAB's one threshold, is
//! taken from the other groups. Settings are not chosen anew for each: how they were is told in bench/quality/README.md.

use std::{collections::BTreeMap, fmt};

use anyhow::Result;
use serde::Serialize;

use super::{Labelled, SKAB_MULT, SKAB_QUANTILE, nab, skab, volume};

/// One figure by group.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Grouped {
    /// Per group.
    pub groups: BTreeMap<String, f64>,
    /// Over the groups, each counting as one.
    pub mean: f64,
    /// Their standard deviation, of the sample.
    pub deviation: f64,
}

impl Grouped {
    fn new(groups: BTreeMap<String, f64>) -> Self {
        let count = groups.len() as f64;
        let mean = groups.values().sum::<f64>() / count.max(1.0);
        let squares = groups.values().map(|x| (x - mean) * (x - mean)).sum::<f64>();
        Self { groups, mean, deviation: (squares / (count - 1.0).max(1.0)).sqrt() }
    }
}

impl fmt::Display for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.4} +- {:.4}:", self.mean, self.deviation)?;
        self.groups.iter().try_for_each(|(group, figure)| write!(f, " {group} {figure:.4}"))
    }
}

/// The group of a file: its folder, or what stands before `_` in its name.
pub(super) fn group(name: &str) -> &str {
    name.split_once(['/', '_']).map_or(name, |(group, _)| group)
}

fn by_group<T: Clone>(files: &[(String, T)]) -> BTreeMap<String, Vec<T>> {
    let mut groups: BTreeMap<String, Vec<T>> = BTreeMap::new();
    for (name, file) in files {
        groups.entry(group(name).to_owned()).or_default().push(file.clone());
    }
    groups
}

/// NAB's standard score of each group with labelled windows, at the threshold that is best for all others.
pub(super) fn nab(files: &[(String, nab::Series)]) -> Result<Grouped> {
    let mut found = BTreeMap::new();
    for (name, inside) in by_group(files) {
        let others: Vec<nab::Series> =
            files.iter().filter(|(file, _)| group(file) != name).map(|(_, series)| series.clone()).collect();
        let (inside, others) = (nab::Corpus::new(&inside)?, nab::Corpus::new(&others)?);
        if inside.windows() > 0 && others.windows() > 0 {
            let [standard, ..] = nab::PROFILES;
            found.insert(name, inside.at(&standard, others.best(&standard).threshold).score);
        }
    }
    Ok(Grouped::new(found))
}

/// SKAB's F1 of each group, with the carried threshold.
pub(super) fn skab(runs: &[(String, skab::Run)]) -> Grouped {
    let f1 = |runs: Vec<skab::Run>| skab::calibrated(&runs, SKAB_QUANTILE, SKAB_MULT).f1();
    Grouped::new(by_group(runs).into_iter().map(|(group, runs)| (group, f1(runs))).collect())
}

/// Mean VUS-PR of each group that has any.
pub(super) fn volumes(files: &[(String, Labelled)]) -> Grouped {
    let of = |(group, files): (String, Vec<Labelled>)| {
        let volume = volume(&files);
        (volume.files > 0).then_some((group, volume.vus_pr))
    };
    Grouped::new(by_group(files).into_iter().filter_map(of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_a_folder_or_a_spacecraft() {
        assert_eq!(
            ["realTweets/Twitter_volume_IBM.csv", "MSL_C-2.csv.gz", "a.csv"].map(group),
            ["realTweets", "MSL", "a.csv"]
        );
    }

    #[test]
    fn mean_and_deviation_are_of_the_groups() {
        let grouped = Grouped::new([("a", 1.0), ("b", 2.0), ("c", 6.0)].map(|(at, x)| (at.to_owned(), x)).into());
        assert_eq!((grouped.mean, grouped.deviation), (3.0, 7f64.sqrt()));
        assert_eq!(Grouped::new(BTreeMap::new()).mean, 0.0);
    }

    /// The one alarm of group `b` is at the height of group `a`'s threshold, not at its own.
    #[test]
    fn the_threshold_of_a_group_is_that_of_the_others() {
        let series = |peak: f64| {
            let mut scores = vec![0.0; 1000];
            scores[500] = peak;
            nab::Series { scores, windows: vec![(480, 600)] }
        };
        let files = [("a/1".to_owned(), series(5.0)), ("b/1".to_owned(), series(4.0)), ("c/1".to_owned(), series(5.0))];
        let grouped = nab(&files).unwrap();
        assert_eq!(grouped.groups["b"], 0.0, "its peak is below the others' threshold");
        assert!(grouped.groups["a"] > 90.0, "{grouped:?}");
    }
}
