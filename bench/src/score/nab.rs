//! The Numenta Anomaly Benchmark's score (version 1.1), by its own optimiser.
//!
//! The first 15% of a file, at most 750 rows, are not scored. A row is a detection where its score reaches the threshold.
//! Of the detections within a labelled window only the best placed counts, by a sigmoid that is worth 1 at the window's
//! left edge and 0 at its right one; a window without one costs `missed`; a detection outside costs up to `wrong`, less
//! shortly after a window. One threshold for all files is picked for each profile, so that the sum is largest, and the sum
//! is put on a scale where 0 is a detector that never speaks and 100 a perfect one.

use anyhow::{Context as _, Result, ensure};

/// What a hit is worth, and what misses and false detections cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Profile {
    /// Its name here.
    pub name: &'static str,
    hit: f64,
    missed: f64,
    wrong: f64,
}

/// Standard, low false positives, low false negatives.
pub const PROFILES: [Profile; 3] = [
    Profile { name: "standard", hit: 1.0, missed: 1.0, wrong: 0.11 },
    Profile { name: "low_fp", hit: 1.0, missed: 1.0, wrong: 0.22 },
    Profile { name: "low_fn", hit: 1.0, missed: 2.0, wrong: 0.11 },
];

/// Rows at a file's beginning that the protocol grants for learning: 15%, at most 750.
pub fn probation(rows: usize) -> usize {
    ((0.15 * rows as f64).floor() as usize).min(750)
}

/// A timestamp as files and labels write it: without `T`, without fractions.
pub fn stamp(text: &str) -> String {
    let text = text.trim().replace('T', " ");
    text.split_once('.').map_or(text.clone(), |(whole, _)| whole.to_owned())
}

/// Windows of a file as rows, both ends inside, from their timestamps.
///
/// # Errors
/// If the file has no row of that time.
pub fn windows(stamps: &[String], labels: &[[String; 2]]) -> Result<Vec<(usize, usize)>> {
    let row = |text: &str| {
        let wanted = stamp(text);
        stamps
            .iter()
            .position(|stamp| *stamp == wanted)
            .with_context(|| format!("no row at the window's edge {wanted}"))
    };
    labels.iter().map(|[from, to]| Ok((row(from)?, row(to)?))).collect()
}

/// A file's scores and labelled windows.
#[derive(Clone, Debug)]
pub struct Series {
    /// One per row; not a number: no detection.
    pub scores: Vec<f64>,
    /// First and last row of each window, ascending.
    pub windows: Vec<(usize, usize)>,
}

/// The files' scored rows, as the score sees them.
#[derive(Debug)]
pub struct Corpus {
    /// Per scored row its score, its window and its place's worth, unweighted.
    rows: Vec<(f64, Option<usize>, f64)>,
    windows: usize,
    /// Windows with at least one scored row.
    active: Vec<bool>,
}

/// What a profile gives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    /// On the scale of 0 to 100; below 0 where silence were better.
    pub score: f64,
    /// The threshold that gives it.
    pub threshold: f64,
    /// Windows with a detection.
    pub caught: usize,
    /// Detections outside.
    pub wrong: usize,
}

/// Worth of a detection `y` windows past a window's right edge (negative: inside).
fn sigmoid(y: f64) -> f64 {
    if y > 3.0 { -1.0 } else { 2.0 / (1.0 + (5.0 * y).min(700.0).exp()) - 1.0 }
}

impl Corpus {
    /// Places every row of every file.
    ///
    /// # Errors
    /// If windows overlap or end beyond their file.
    pub fn new(files: &[Series]) -> Result<Self> {
        let mut corpus = Self { rows: Vec::new(), windows: 0, active: Vec::new() };
        for file in files {
            corpus.place(file)?;
        }
        Ok(corpus)
    }

    fn place(&mut self, file: &Series) -> Result<()> {
        let rows = file.scores.len();
        let mut places: Vec<(Option<usize>, f64)> = vec![(None, -1.0); rows];
        let (mut before, mut free): (Option<(usize, f64)>, usize) = (None, 0);
        let past = |(right, width): (usize, f64), row: usize| sigmoid((row - right) as f64 / (width - 1.0));
        for (at, (left, right)) in file.windows.iter().copied().enumerate() {
            ensure!(left >= free && left <= right && right < rows, "window {at} is rows {left} to {right} of {rows}");
            let width = (right - left + 1) as f64;
            if let Some(before) = before {
                (free..left).for_each(|row| places[row].1 = past(before, row));
            }
            for (row, place) in places.iter_mut().enumerate().take(right + 1).skip(left) {
                *place = (Some(self.windows + at), sigmoid(-((right - row + 1) as f64) / width));
            }
            (before, free) = (Some((right, width)), right + 1);
        }
        if let Some(before) = before {
            (free..rows).for_each(|row| places[row].1 = past(before, row));
        }
        self.windows += file.windows.len();
        self.active.resize(self.windows, false);
        let scored = file.scores.iter().zip(places).skip(probation(rows));
        for (score, (window, worth)) in scored {
            if let Some(window) = window {
                self.active[window] = true;
            }
            self.rows.push((if score.is_nan() { f64::NEG_INFINITY } else { *score }, window, worth));
        }
        Ok(())
    }

    /// How many windows there are.
    pub fn windows(&self) -> usize {
        self.windows
    }

    /// The best threshold for a profile, and what it gives.
    pub fn best(&self, profile: &Profile) -> Scored {
        self.at(profile, self.threshold(profile))
    }

    /// Goes down the scores and keeps the first threshold with the largest sum.
    fn threshold(&self, profile: &Profile) -> f64 {
        let mut order: Vec<usize> = (0..self.rows.len()).collect();
        order.sort_by(|a, b| self.rows[*b].0.total_cmp(&self.rows[*a].0));
        let mut held = vec![-profile.missed; self.windows];
        let (mut sum, mut best) = (self.silent(profile), (self.silent(profile), f64::INFINITY));
        for (at, row) in order.iter().enumerate() {
            let (score, window, worth) = self.rows[*row];
            sum += match window {
                Some(window) => {
                    let before = held[window];
                    held[window] = before.max(self.inside(profile, worth));
                    held[window] - before
                }
                None => worth * profile.wrong,
            };
            let is_last_of_its_score = order.get(at + 1).is_none_or(|next| self.rows[*next].0 != score);
            if is_last_of_its_score && score.is_finite() && sum > best.0 {
                best = (sum, score);
            }
        }
        best.1
    }

    fn inside(&self, profile: &Profile, worth: f64) -> f64 {
        worth * profile.hit / sigmoid(-1.0)
    }

    /// What a detector gets that never speaks.
    fn silent(&self, profile: &Profile) -> f64 {
        -profile.missed * self.active.iter().filter(|active| **active).count() as f64
    }

    /// What a threshold gives.
    pub fn at(&self, profile: &Profile, threshold: f64) -> Scored {
        let mut held = vec![None; self.windows];
        let (mut sum, mut wrong) = (0.0, 0);
        for (_, window, worth) in self.rows.iter().filter(|(score, ..)| *score >= threshold) {
            match window {
                Some(window) => {
                    let worth = self.inside(profile, *worth);
                    held[*window] = Some(held[*window].map_or(worth, |held: f64| held.max(worth)).max(-profile.missed));
                }
                None => (sum, wrong) = (sum + worth * profile.wrong, wrong + 1),
            }
        }
        let active = held.iter().zip(&self.active).filter(|(_, active)| **active);
        sum += active.map(|(held, _)| held.unwrap_or(-profile.missed)).sum::<f64>();
        let (silent, perfect) = (self.silent(profile), profile.hit * self.windows as f64);
        let score = 100.0 * (sum - silent) / (perfect - silent);
        Scored { score, threshold, caught: held.iter().flatten().count(), wrong }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(rows: usize, detections: &[usize]) -> Series {
        let scores = (0..rows).map(|row| f64::from(u8::from(detections.contains(&row)))).collect();
        Series { scores, windows: vec![(200, 219), (400, 419)] }
    }

    fn standard(detections: &[usize]) -> Scored {
        Corpus::new(&[file(1000, detections)]).unwrap().at(&PROFILES[0], 0.5)
    }

    #[test]
    fn silence_is_0_and_left_edges_are_100() {
        assert!(standard(&[]).score.abs() < 1e-9);
        let perfect = standard(&[200, 400]);
        assert!((perfect.score - 100.0).abs() < 1e-9);
        assert_eq!((perfect.caught, perfect.wrong), (2, 0));
    }

    #[test]
    fn only_the_best_placed_detection_of_a_window_counts_and_false_ones_cost() {
        assert_eq!(standard(&[205, 210, 219]).score, standard(&[205]).score);
        assert!(standard(&[205]).score > standard(&[210]).score);
        assert!(standard(&[205, 800]).score < standard(&[205]).score);
        assert!(standard(&[205, 225]).score > standard(&[205, 800]).score, "just past a window is nearly right");
        assert_eq!(standard(&[10, 149]).wrong, 0, "the first 15% are not scored");
    }

    #[test]
    fn the_optimiser_finds_the_score_that_pays() {
        let mut series = file(1000, &[]);
        for (row, score) in [(200, 0.9), (400, 0.7), (600, 0.5), (601, f64::NAN)] {
            series.scores[row] = score;
        }
        let best = Corpus::new(&[series]).unwrap().best(&PROFILES[0]);
        assert_eq!((best.threshold, best.caught, best.wrong), (0.7, 2, 0));
    }

    #[test]
    fn windows_are_found_by_their_stamps() {
        let stamps: Vec<String> = ["2014-04-10 07:15:00", "2014-04-10 07:20:00"].map(str::to_owned).into();
        let label = ["2014-04-10T07:15:00.000000".to_owned(), "2014-04-10 07:20:00.000000".to_owned()];
        assert_eq!(windows(&stamps, &[label]).unwrap(), [(0, 1)]);
        let error = windows(&stamps, &[["2015-01-01".into(), "2015-01-02".into()]]).unwrap_err();
        assert!(error.to_string().contains("2015-01-01"));
    }
}
