//! Whether two sides differ: their runs ranked together, and how often chance alone would part them so far.

use serde::Serialize;

/// Most runs of a side: all ways to part two times so many are counted.
pub(super) const PAIRS_MAX: u8 = 10;
/// A difference that chance makes at most so often is beyond the noise. Five pairs are the fewest that can be: once in 126.
const CHANCE_MAX: f64 = 0.01;

/// What is said of one figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// Within the noise, or too little to matter.
    NoDifference,
    /// Beyond it.
    Better,
    /// Beyond it.
    Worse,
}

/// One figure of two sides.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Judged {
    /// The medians of the sides' runs.
    pub(super) base: f64,
    pub(super) head: f64,
    /// Head over base: the median of the pairs' ratios, the least and the largest.
    pub(super) ratio: f64,
    pub(super) ratio_min: f64,
    pub(super) ratio_max: f64,
    /// How often chance alone parts the runs so far, 0 to 1.
    pub(super) chance: f64,
    pub(super) verdict: Verdict,
}

/// Judges the runs of two sides, made in turn: `base[i]` just before `head[i]`. `least` is the part by which medians must differ to matter.
/// None if there are no pairs, or more than [`PAIRS_MAX`], or a figure that has no ratio.
pub(super) fn judge(base: &[f64], head: &[f64], is_more_better: bool, least: f64) -> Option<Judged> {
    let ratios: Vec<f64> = base.iter().zip(head).map(|(base, head)| head / base).collect();
    let is_countable = base.len() == head.len() && base.len() <= usize::from(PAIRS_MAX);
    if !is_countable || ratios.is_empty() || !ratios.iter().all(|ratio| ratio.is_finite() && *ratio > 0.0) {
        return None;
    }
    let (ratio, chance) = (median(&ratios), chance(base, head));
    let verdict = match chance <= CHANCE_MAX && (ratio - 1.0).abs() >= least {
        false => Verdict::NoDifference,
        true if (ratio > 1.0) == is_more_better => Verdict::Better,
        true => Verdict::Worse,
    };
    Some(Judged {
        base: median(base),
        head: median(head),
        ratio,
        ratio_min: ratios.iter().copied().fold(f64::INFINITY, f64::min),
        ratio_max: ratios.iter().copied().fold(0.0, f64::max),
        chance,
        verdict,
    })
}

/// The middle value, or the mean of the two middle ones; NaN of nothing.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

/// Mann and Whitney's test, exact and two-sided: of all ways to call half of the runs "base", the part in which the ranks of these
/// lie at least as far from the middle as they do.
fn chance(base: &[f64], head: &[f64]) -> f64 {
    let ranks = ranks(&[base, head].concat());
    let middle: u32 = ranks.iter().sum::<u32>() / 2;
    let observed = ranks[..base.len()].iter().sum::<u32>().abs_diff(middle);
    // How many ways there are to take so many ranks with that sum.
    let total: usize = ranks.iter().map(|rank| *rank as usize).sum();
    let mut ways = vec![vec![0_u64; total + 1]; base.len() + 1];
    ways[0][0] = 1;
    for rank in ranks.iter().map(|rank| *rank as usize) {
        for taken in (1..=base.len()).rev() {
            for sum in (rank..=total).rev() {
                ways[taken][sum] += ways[taken - 1][sum - rank];
            }
        }
    }
    let all: u64 = ways[base.len()].iter().sum();
    let as_far = |sum: usize| u32::try_from(sum).is_ok_and(|sum| sum.abs_diff(middle) >= observed);
    let far: u64 = ways[base.len()].iter().enumerate().filter(|(sum, _)| as_far(*sum)).map(|(_, ways)| ways).sum();
    far as f64 / all as f64
}

/// Twice the rank of each value among all, from 1 on; equal values share the mean of theirs. Twice, so that they are whole; their sum over
/// two sides of one size is even.
fn ranks(values: &[f64]) -> Vec<u32> {
    let rank = |value: &f64| {
        let below = values.iter().filter(|other| *other < value).count();
        let equal = values.iter().filter(|other| *other == value).count();
        (2 * below + equal + 1) as u32
    };
    values.iter().map(rank).collect()
}

#[cfg(test)]
mod tests {
    use rand::{RngExt as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const LEAST: f64 = 0.01;

    fn verdict(base: &[f64], head: &[f64]) -> Verdict {
        judge(base, head, true, LEAST).unwrap().verdict
    }

    #[test]
    fn runs_that_do_not_overlap_differ_and_more_is_better_or_worse() {
        let (base, head) = ([100.0, 104.0, 97.0, 101.0, 99.0], [90.0, 93.0, 88.0, 95.0, 91.0]);
        assert_eq!(verdict(&base, &head), Verdict::Worse);
        assert_eq!(verdict(&head, &base), Verdict::Better);
        assert_eq!(judge(&base, &head, false, LEAST).unwrap().verdict, Verdict::Better);
        let judged = judge(&base, &head, true, LEAST).unwrap();
        assert_eq!((judged.base, judged.head, judged.chance), (100.0, 91.0, 2.0 / 252.0));
        assert!(judged.ratio_min <= judged.ratio && judged.ratio <= judged.ratio_max && judged.ratio_max < 1.0);
    }

    #[test]
    fn the_same_the_overlapping_the_few_and_the_tiny_do_not() {
        let base = [100.0, 104.0, 97.0, 101.0, 99.0];
        assert_eq!(verdict(&base, &base), Verdict::NoDifference);
        assert_eq!(judge(&[5.0; 5], &[5.0; 5], true, LEAST).unwrap().chance, 1.0);
        assert_eq!(verdict(&base, &[98.0, 100.0, 103.0, 96.0, 102.0]), Verdict::NoDifference);
        assert_eq!(verdict(&[100.0; 4], &[50.0, 51.0, 52.0, 53.0]), Verdict::NoDifference);
        assert_eq!(
            verdict(&[100.0, 100.1, 100.2, 100.3, 100.4], &[100.5, 100.6, 100.7, 100.8, 100.9]),
            Verdict::NoDifference
        );
    }

    #[test]
    fn what_has_no_ratio_is_not_judged() {
        assert_eq!(judge(&[], &[], true, LEAST), None);
        assert_eq!(judge(&[0.0], &[1.0], true, LEAST), None);
        assert_eq!(judge(&[1.0], &[f64::NAN], true, LEAST), None);
        assert_eq!(judge(&[1.0; 11], &[1.0; 11], true, LEAST), None);
    }

    #[test]
    fn of_two_equal_sides_about_one_in_a_hundred_is_called_different_and_of_a_tenth_slower_most() {
        let mut random = ChaCha8Rng::seed_from_u64(11);
        let mut noisy = |speed: f64| -> Vec<f64> { (0..6).map(|_| speed * random.random_range(0.95..1.05)).collect() };
        let mut differing = |speed: f64| {
            let is_seen = |_: &u32| verdict(&noisy(1.0), &noisy(speed)) != Verdict::NoDifference;
            (0..2_000).filter(is_seen).count()
        };
        assert!(differing(1.0) < 40);
        assert!(differing(0.9) > 1_600);
    }
}
