//! The regular grid: points are multiples of the period since 1970. All in integers, so that no reading changes its
//! point by rounding.
//!
//! A period of 0 means no grid: every time is a point of its own.

use eddy_schemas::Timestamp;

/// The nearest grid point of `time`, as a count of periods (> 0) since 1970; halfway between two it is the earlier.
pub fn point(period: i64, time: Timestamp) -> i64 {
    let (quotient, remainder) = (time.div_euclid(period), time.rem_euclid(period));
    if remainder <= period / 2 { quotient } else { quotient + 1 }
}

/// The first and last time whose nearest grid point is that of `time`.
pub fn span(period: i64, time: Timestamp) -> (Timestamp, Timestamp) {
    if period == 0 {
        return (time, time);
    }
    let centre = point(period, time).saturating_mul(period);
    // Half an odd period rounds down: the earlier point takes the times up to and with its half.
    (centre.saturating_sub(period - period / 2 - 1), centre.saturating_add(period / 2))
}

/// How many grid points lie between those of two readings, `before` being the earlier. 0 without a grid.
pub fn missing(period: i64, before: Timestamp, after: Timestamp) -> i64 {
    if period == 0 {
        return 0;
    }
    point(period, after).saturating_sub(point(period, before)).saturating_sub(1).max(0)
}

/// The value at `time` on the straight line between two readings, `before` < `time` < `after`.
pub fn interpolate(before: (Timestamp, f64), after: (Timestamp, f64), time: Timestamp) -> f64 {
    let share = (time - before.0) as f64 / (after.0 - before.0) as f64;
    // Not before + share * (after - before): that difference of two finite values may be infinite.
    before.1 * (1.0 - share) + after.1 * share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_point_and_halfway_the_earlier() {
        for (period, time, expected) in [
            (10, 0, 0),
            (10, 5, 0),
            (10, 6, 1),
            (10, 15, 1),
            (10, -5, -1),
            (10, -4, 0),
            (10, -15, -2),
            (7, 3, 0),
            (7, 4, 1),
            (7, -4, -1),
            (1, 42, 42),
        ] {
            assert_eq!(point(period, time), expected, "{time} by {period}");
        }
    }

    #[test]
    fn a_span_is_exactly_the_times_of_one_point() {
        for period in 1..=9 {
            for time in -40..40 {
                let (first, last) = span(period, time);
                let same: Vec<i64> = (-60..60).filter(|t| point(period, *t) == point(period, time)).collect();
                assert_eq!((first, last), (same[0], same[same.len() - 1]), "{time} by {period}");
            }
        }
        assert_eq!(span(0, 5), (5, 5));
    }

    #[test]
    fn the_ends_of_time_do_not_overflow() {
        for time in [i64::MIN, i64::MIN + 1, -1, i64::MAX - 1, i64::MAX] {
            for period in [1, 2, 3, 1_000_000_007, 31_622_400_000_000_000] {
                let (first, last) = span(period, time);
                assert!(first <= last, "{time} by {period}");
                assert!(missing(period, i64::MIN, time) >= 0);
            }
        }
    }

    #[test]
    fn a_line_between_the_largest_values_stays_finite() {
        assert_eq!(interpolate((0, -f64::MAX), (10, f64::MAX), 5), 0.0);
        assert_eq!(interpolate((0, 1.0), (10, 2.0), 5), 1.5);
    }
}
