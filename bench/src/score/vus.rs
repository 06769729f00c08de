//! The volume under the precision-recall surface (VUS-PR; Paparrizos et al. 2022, in the form that TSB-AD uses).
//!
//! Labels get sloping shoulders of `w / 2` rows, the area under the resulting precision-recall curve is taken at 250
//! thresholds, and the mean over all `w` from 0 to `w_max` is the volume: a detection near an anomaly counts in part.

/// Thresholds of a curve.
const THRESHOLDS: usize = 250;
/// Lags of the autocorrelation that are looked at.
const LAGS: std::ops::Range<usize> = 3..401;
/// The shoulder where no period is found.
const PERIOD_DEFAULT: usize = 125;
/// Rows that the period is looked for in.
const PERIOD_ROWS_MAX: usize = 20_000;

/// A series' dominant period in rows, by the highest peak of its autocorrelation; 125 where there is none up to 300.
pub fn period(values: &[f64]) -> usize {
    let rows = &values[..values.len().min(PERIOD_ROWS_MAX)];
    let finite: Vec<f64> = rows.iter().copied().filter(|x| x.is_finite()).collect();
    let mean = finite.iter().sum::<f64>() / finite.len().max(1) as f64;
    let centered: Vec<f64> = rows.iter().map(|x| if x.is_finite() { x - mean } else { 0.0 }).collect();
    let at_lag = |lag: usize| -> f64 { centered[lag..].iter().zip(&centered).map(|(a, b)| a * b).sum() };
    let whole = if centered.is_empty() { 0.0 } else { at_lag(0) };
    if whole == 0.0 {
        return PERIOD_DEFAULT;
    }
    let correlation: Vec<f64> = (LAGS.start..LAGS.end.min(rows.len())).map(|lag| at_lag(lag) / whole).collect();
    let mut peak: Option<usize> = None;
    for at in 1..correlation.len().saturating_sub(1) {
        let is_peak = correlation[at] > correlation[at - 1] && correlation[at] > correlation[at + 1];
        if is_peak && peak.is_none_or(|peak| correlation[at] > correlation[peak]) {
            peak = Some(at);
        }
    }
    match peak {
        Some(at) if (3..=300).contains(&at) => at + LAGS.start,
        _ => PERIOD_DEFAULT,
    }
}

/// Scores without gaps: what is no number is as low as the lowest.
pub fn finite(scores: &[f64]) -> Vec<f64> {
    let least = scores.iter().copied().filter(|score| score.is_finite()).fold(f64::INFINITY, f64::min);
    let least = if least.is_finite() { least } else { 0.0 };
    scores.iter().map(|score| if score.is_finite() { *score } else { least }).collect()
}

/// First and last row of each labelled stretch.
pub fn segments(labels: &[bool]) -> Vec<(usize, usize)> {
    let mut segments: Vec<(usize, usize)> = Vec::new();
    for row in (0..labels.len()).filter(|row| labels[*row]) {
        match segments.last_mut() {
            Some((_, last)) if *last + 1 == row => *last = row,
            _ => segments.push((row, row)),
        }
    }
    segments
}

/// Whether the highest score lies within 100 rows of a labelled stretch (UCR's measure); the first of equals counts.
pub fn is_top_hit(labels: &[bool], scores: &[f64]) -> bool {
    let top = (0..scores.len()).reduce(|best, row| if scores[row] > scores[best] { row } else { best });
    top.is_some_and(|top| segments(labels).iter().any(|(from, to)| top + 100 >= *from && top <= to + 100))
}

/// VUS-PR of finite scores with shoulders up to `w_max` rows; none where no row is labelled, or all are.
pub fn vus_pr(labels: &[bool], scores: &[f64], w_max: usize) -> Option<f64> {
    let segments = segments(labels);
    let positives = labels.iter().filter(|label| **label).count();
    if positives == 0 || positives == labels.len() {
        return None;
    }
    let curve = Curve::new(labels, scores, segments, positives as f64);
    Some((0..=w_max).map(|w| curve.area(w)).sum::<f64>() / (w_max + 1) as f64)
}

struct Curve<'a> {
    labels: &'a [bool],
    scores: &'a [f64],
    segments: Vec<(usize, usize)>,
    positives: f64,
    /// Rows by falling score.
    order: Vec<usize>,
    /// Falling thresholds, each with how many rows reach it.
    thresholds: Vec<(f64, usize)>,
}

impl<'a> Curve<'a> {
    fn new(labels: &'a [bool], scores: &'a [f64], segments: Vec<(usize, usize)>, positives: f64) -> Self {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        let last = scores.len() - 1;
        let step = last as f64 / (THRESHOLDS - 1) as f64;
        let at = |k: usize| if k + 1 == THRESHOLDS { last } else { (k as f64 * step) as usize };
        let thresholds = (0..THRESHOLDS).map(|k| {
            let threshold = scores[order[at(k)]];
            (threshold, order.partition_point(|row| scores[*row] >= threshold))
        });
        let thresholds = thresholds.collect();
        Self { labels, scores, segments, positives, order, thresholds }
    }

    /// Labels with shoulders: 1 inside, falling outside over `w / 2` rows.
    fn extended(&self, w: usize) -> Vec<f64> {
        let (rows, half) = (self.labels.len(), w / 2);
        let mut extended: Vec<f64> = self.labels.iter().map(|label| f64::from(u8::from(*label))).collect();
        let slope = |away: usize| (1.0 - away as f64 / w as f64).sqrt();
        for (from, to) in &self.segments {
            (to + 1..(to + half + 1).min(rows)).for_each(|row| extended[row] += slope(row - to));
            (from.saturating_sub(half)..*from).for_each(|row| extended[row] += slope(from - row));
        }
        extended.iter_mut().for_each(|x| *x = x.min(1.0));
        extended
    }

    /// The highest score of each stretch with its shoulders; stretches whose shoulders touch are one.
    fn highest(&self, w: usize) -> Vec<f64> {
        let (last_row, half) = (self.labels.len() - 1, w / 2);
        let mut stretches: Vec<(usize, usize)> = Vec::new();
        for (from, to) in &self.segments {
            let (from_wide, to_wide) = (from.saturating_sub(half), (to + half).min(last_row));
            match stretches.last_mut() {
                Some((_, end)) if *end + half >= *from => *end = to_wide,
                _ => stretches.push((from_wide, to_wide)),
            }
        }
        let highest = |(from, to): &(usize, usize)| self.scores[*from..=*to].iter().copied().fold(f64::MIN, f64::max);
        stretches.iter().map(highest).collect()
    }

    fn area(&self, w: usize) -> f64 {
        let (extended, highest) = (self.extended(w), self.highest(w));
        let (mut covered, mut buffered) = (0.0, 0.0);
        let (mut taken, mut area, mut recall) = (0, 0.0, 0.0);
        for (threshold, reach) in &self.thresholds {
            for row in &self.order[taken..*reach] {
                covered += extended[*row];
                buffered += if self.labels[*row] { 0.0 } else { extended[*row] };
            }
            taken = *reach;
            let found = highest.iter().filter(|score| *score >= threshold).count() as f64 / highest.len() as f64;
            let wanted = (self.positives + self.positives + buffered) / 2.0;
            let reached = (covered / wanted).min(1.0) * found;
            area += (reached - recall) * covered / taken as f64;
            recall = reached;
        }
        area
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_perfect_score_beats_a_late_one_beats_a_wrong_one() {
        let labels: Vec<bool> = (0..1000).map(|row| (500..600).contains(&row)).collect();
        let of = |from: usize, to: usize| -> Vec<f64> {
            (0..1000).map(|row| f64::from(u8::from((from..to).contains(&row)))).collect()
        };
        let [perfect, late, wrong] =
            [(500, 600), (560, 660), (800, 900)].map(|(from, to)| vus_pr(&labels, &of(from, to), 20).unwrap());
        assert!(perfect > 0.9 && perfect > late && late > wrong, "{perfect} {late} {wrong}");
        assert_eq!(vus_pr(&[false; 10], &[0.0; 10], 5), None);
        assert_eq!(vus_pr(&[true; 10], &[0.0; 10], 5), None);
    }

    #[test]
    fn the_period_of_a_wave_is_found_and_noise_has_none() {
        let wave: Vec<f64> = (0..2000).map(|row| (f64::from(row) * std::f64::consts::TAU / 48.0).sin()).collect();
        assert_eq!(period(&wave), 48);
        assert_eq!(period(&[3.0; 500]), PERIOD_DEFAULT);
        assert_eq!(period(&[]), PERIOD_DEFAULT);
    }

    #[test]
    fn the_top_row_hits_within_100_rows() {
        let labels: Vec<bool> = (0..1000).map(|row| row == 500).collect();
        let at = |top: usize| (0..1000).map(|row| f64::from(u8::from(row == top))).collect::<Vec<_>>();
        let hits = [399, 400, 600, 601].map(|top| is_top_hit(&labels, &at(top)));
        assert_eq!(hits, [false, true, true, false]);
    }

    #[test]
    fn gaps_are_as_low_as_the_lowest() {
        assert_eq!(finite(&[1.0, f64::NAN, -2.0, f64::INFINITY]), [1.0, -2.0, -2.0, -2.0]);
        assert_eq!(finite(&[f64::NAN]), [0.0]);
    }
}
