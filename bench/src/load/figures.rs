//! Quantiles of what was measured.

/// Measured values, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Figures(Vec<f64>);

impl Figures {
    /// Takes values in any order; NaN counts as the largest.
    pub(crate) fn new(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The least value that at least the part `share` (0 to 1) of all do not exceed; `None` of nothing.
    pub(crate) fn quantile(&self, share: f64) -> Option<f64> {
        // A cast of a float saturates.
        let rank = (share.clamp(0.0, 1.0) * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.saturating_sub(1)).copied()
    }

    /// `{"p50": …, "p99": …, "max": …, "count": …}`, rounded to three decimals; null where there is nothing.
    pub(crate) fn json(&self) -> serde_json::Value {
        let at = |share| self.quantile(share).map(rounded);
        serde_json::json!({ "p50": at(0.5), "p99": at(0.99), "max": at(1.0), "count": self.len() })
    }
}

/// Three decimals: what is measured here is worth no more.
pub(crate) fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// Nanoseconds as milliseconds.
pub(crate) fn ms(nanoseconds: i64) -> f64 {
    nanoseconds as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let figures = Figures::new((1..=100).rev().map(f64::from).collect());
        let at = |share| figures.quantile(share);
        assert_eq!((at(0.5), at(0.99), at(0.991), at(1.0)), (Some(50.0), Some(99.0), Some(100.0), Some(100.0)));
        assert_eq!((at(0.0), at(7.0)), (Some(1.0), Some(100.0)));
        assert_eq!(Figures::new(vec![3.0]).quantile(0.5), Some(3.0));
        assert_eq!(Figures::default().quantile(0.5), None);
    }

    #[test]
    fn json_rounds_and_says_null_for_nothing() {
        let json = Figures::new(vec![1.23456, 2.0]).json();
        assert_eq!(json, serde_json::json!({"p50": 1.235, "p99": 2.0, "max": 2.0, "count": 2}));
        assert!(Figures::default().json()["p99"].is_null());
    }
}
