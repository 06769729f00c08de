//! SKAB's outlier score (version 0.9): F1 over the rows of all runs, with false and missed alarm rates.
//!
//! The first 400 rows of a run are its training part and are not scored. The threshold is either carried ("calib": a
//! multiple of a quantile of the run's own training scores, as the published methods do it), or the one that is best for
//! all runs together, which knows the labels.

/// Rows of a run that are its training part.
pub const TRAINING_ROWS: usize = 400;

/// A run: one score and one label a row.
#[derive(Clone, Debug)]
pub struct Run {
    /// Not a number: never alarms.
    pub scores: Vec<f64>,
    /// Whether the row is anomalous.
    pub labels: Vec<bool>,
}

/// Counts of alarms against labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    right: usize,
    wrong: usize,
    missed: usize,
    quiet: usize,
}

impl Counts {
    fn add(&mut self, alarm: bool, label: bool) {
        *match (alarm, label) {
            (true, true) => &mut self.right,
            (true, false) => &mut self.wrong,
            (false, true) => &mut self.missed,
            (false, false) => &mut self.quiet,
        } += 1;
    }

    /// Harmonic mean of precision and recall, 0 to 1.
    pub fn f1(&self) -> f64 {
        if self.right == 0 {
            return 0.0;
        }
        self.right as f64 / (self.right as f64 + (self.missed + self.wrong) as f64 / 2.0)
    }

    /// Alarms among ordinary rows, in percent.
    pub fn false_alarm_percent(&self) -> f64 {
        100.0 * self.wrong as f64 / (self.wrong + self.quiet).max(1) as f64
    }

    /// Anomalous rows without alarm, in percent.
    pub fn missed_alarm_percent(&self) -> f64 {
        100.0 * self.missed as f64 / (self.missed + self.right).max(1) as f64
    }
}

/// A score that can be compared: what is not finite never alarms.
fn comparable(score: f64) -> f64 {
    if score.is_finite() { score } else { f64::NEG_INFINITY }
}

/// Alarms above `mult` times the `q` quantile of each run's own training scores.
pub fn calibrated(runs: &[Run], q: f64, mult: f64) -> Counts {
    let mut counts = Counts::default();
    for run in runs {
        let training = &run.scores[..TRAINING_ROWS.min(run.scores.len())];
        let training: Vec<f64> = training.iter().copied().filter(|score| score.is_finite()).collect();
        let threshold = quantile(training, q).map_or(f64::INFINITY, |value| mult * value);
        for (score, label) in run.scores.iter().zip(&run.labels).skip(TRAINING_ROWS) {
            counts.add(comparable(*score) > threshold, *label);
        }
    }
    counts
}

/// Alarms from the one threshold on that gives the largest F1.
pub fn best(runs: &[Run]) -> Counts {
    let mut rows: Vec<(f64, bool)> = Vec::new();
    for run in runs {
        let scored = run.scores.iter().zip(&run.labels).skip(TRAINING_ROWS);
        rows.extend(scored.map(|(score, label)| (comparable(*score), *label)));
    }
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    let positives = rows.iter().filter(|(_, label)| *label).count();
    let (mut right, mut best) = (0, (f64::NEG_INFINITY, f64::INFINITY));
    for (at, (score, label)) in rows.iter().enumerate() {
        right += usize::from(*label);
        if rows.get(at + 1).is_none_or(|next| next.0 != *score) {
            let f1 = 2.0 * right as f64 / (at + 1 + positives) as f64;
            if f1 > best.0 {
                best = (f1, *score);
            }
        }
    }
    let mut counts = Counts::default();
    rows.iter().for_each(|(score, label)| counts.add(*score >= best.1, *label));
    counts
}

/// The `q` quantile with a straight line between neighbours; none of nothing.
fn quantile(mut values: Vec<f64>, q: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let at = q * values.len().checked_sub(1)? as f64;
    let (low, part) = (at.floor() as usize, at - at.floor());
    let (low, high) = (values[low], values[(low + 1).min(values.len() - 1)]);
    Some(low + (high - low) * part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(training: f64, scores: &[f64], labels: &[bool]) -> Run {
        let quiet = |value| std::iter::repeat_n(value, TRAINING_ROWS);
        Run {
            scores: quiet(training).chain(scores.iter().copied()).collect(),
            labels: std::iter::repeat_n(true, TRAINING_ROWS).chain(labels.iter().copied()).collect(),
        }
    }

    #[test]
    fn the_carried_threshold_is_each_runs_own() {
        let labels = [true, true, false, false];
        let runs = [run(1.0, &[1.6, 1.5, 1.6, 0.0], &labels), run(10.0, &[15.1, 15.0, 15.0, f64::NAN], &labels)];
        let counts = calibrated(&runs, 0.99, 1.5);
        assert_eq!(counts, Counts { right: 2, wrong: 1, missed: 2, quiet: 3 });
        assert!((counts.f1() - 2.0 / 3.5).abs() < 1e-12);
        assert_eq!((counts.false_alarm_percent(), counts.missed_alarm_percent()), (25.0, 50.0));
    }

    #[test]
    fn the_best_threshold_is_one_for_all() {
        let runs = [run(0.0, &[3.0, 2.0, 2.0, 1.0], &[true, true, false, false])];
        assert!((best(&runs).f1() - 0.8).abs() < 1e-12);
    }

    #[test]
    fn quantiles_lie_on_the_line_between_neighbours() {
        assert_eq!(quantile(vec![3.0, 1.0, 2.0], 0.75), Some(2.5));
        assert_eq!(quantile(vec![7.0], 0.99), Some(7.0));
        assert_eq!(quantile(Vec::new(), 0.99), None);
    }
}
