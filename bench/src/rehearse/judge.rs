//! Whether a new bundle may take an old one's place, by what both did with the same rows.
//!
//! - **Too noisy**: it opens more alerts than `a + 2 * sqrt(a + 1)`, `a` being the old one's alerts times `alerts_factor`. The root is
//!   twice the spread of a count about `a`, so that chance is no reason: against none two alerts may open, against ten (and a factor of
//!   2) 29.
//! - **Too slow**: it takes more than `budget_us`, or more than `slower_factor` times what the old one takes. Not asked of fewer than
//!   [`WINDOWS_TIMED_MIN`] windows.
//! - **It fails**: it refuses more rows than the old one, or scores none where the old one scores some.
//! - **Too short**: nothing speaks against it, but either side judged fewer than `windows_min` windows past commissioning. What speaks
//!   against a bundle does so however short the tail is.

use serde::Serialize;

/// Fewer windows say nothing of the time that one takes.
pub const WINDOWS_TIMED_MIN: u64 = 1_000;

/// What is borne.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, clap::Args)]
pub struct Limits {
    /// Refused if it opens more than so many times the old one's alerts, and what chance allows
    #[arg(long, value_name = "FACTOR", default_value_t = 2.0, value_parser = above_zero)]
    pub alerts_factor: f64,
    /// Refused if embed and detect take more microseconds of CPU a window
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 50.0, value_parser = above_zero)]
    pub budget_us: f64,
    /// Refused if they take more than so many times what the old one takes
    #[arg(long, value_name = "FACTOR", default_value_t = 2.0, value_parser = above_zero)]
    pub slower_factor: f64,
    /// Windows past commissioning below which a tail is too short to judge by
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    pub windows_min: u64,
}

fn above_zero(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| "expected a number above 0".into())
}

/// What one bundle did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Measured {
    /// Windows of series, commissioning included.
    pub windows: u64,
    /// Those past commissioning: only they can alert.
    pub windows_judged: u64,
    /// Alerts that opened.
    pub alerts: u64,
    /// Microseconds of CPU that embed and detect took for a window.
    pub us_per_window: f64,
    /// Rows that they refused.
    pub rejected: u64,
}

/// What is said of the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It may.
    Accepted,
    /// It may not.
    Refused,
    /// Nobody knows.
    TooShort,
}

/// The most alerts that may open where the old bundle opened `alerts`.
pub fn alerts_max(alerts: u64, factor: f64) -> f64 {
    let expected = alerts as f64 * factor;
    expected + 2.0 * (expected + 1.0).sqrt()
}

/// The verdict, and every reason for it; none if the new bundle is accepted.
pub fn judge(old: &Measured, new: &Measured, limits: &Limits) -> (Verdict, Vec<String>) {
    let mut reasons = Vec::new();
    let most = alerts_max(old.alerts, limits.alerts_factor);
    if new.alerts as f64 > most {
        reasons.push(format!(
            "too noisy: {} alerts where the old bundle opens {}; at most {} are borne ({} times as many, and what chance allows)",
            new.alerts,
            old.alerts,
            most.floor(),
            limits.alerts_factor
        ));
    }
    let is_timed = old.windows.min(new.windows) >= WINDOWS_TIMED_MIN;
    if is_timed && new.us_per_window > limits.budget_us {
        let (took, budget) = (new.us_per_window, limits.budget_us);
        reasons.push(format!("too slow: {took:.1} us of CPU a window, the budget is {budget}"));
    }
    if is_timed && new.us_per_window > limits.slower_factor * old.us_per_window {
        reasons.push(format!(
            "too slow: {:.1} us of CPU a window, more than {} times the old bundle's {:.1}",
            new.us_per_window, limits.slower_factor, old.us_per_window
        ));
    }
    if new.rejected > old.rejected {
        reasons.push(format!("it fails: {} rows are refused, of the old bundle's {}", new.rejected, old.rejected));
    }
    if new.windows == 0 && old.windows > 0 {
        reasons.push(format!("it fails: it scores no window, the old bundle {}", old.windows));
    }
    if !reasons.is_empty() {
        return (Verdict::Refused, reasons);
    }
    let judged = old.windows_judged.min(new.windows_judged);
    if judged < limits.windows_min {
        let least = limits.windows_min;
        let problem =
            format!("too short to judge by: {judged} windows past commissioning, at least {least} are needed");
        return (Verdict::TooShort, vec![problem]);
    }
    (Verdict::Accepted, reasons)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { alerts_factor: 2.0, budget_us: 50.0, slower_factor: 2.0, windows_min: 2_000 };

    fn measured(alerts: u64, us_per_window: f64) -> Measured {
        Measured { windows: 10_000, windows_judged: 9_000, alerts, us_per_window, rejected: 0 }
    }

    /// The verdict, and the beginnings of the reasons.
    fn said(old: Measured, new: Measured) -> (Verdict, Vec<String>) {
        let (verdict, reasons) = judge(&old, &new, &LIMITS);
        (verdict, reasons.iter().map(|reason| reason.split(':').next().unwrap().to_owned()).collect())
    }

    #[test]
    fn twice_the_alerts_and_what_chance_allows_are_borne() {
        for (old, most) in [(0, 2), (1, 5), (10, 29), (1_000, 2_089)] {
            assert_eq!(said(measured(old, 5.0), measured(most, 5.0)), (Verdict::Accepted, vec![]), "{old}");
            let (verdict, reasons) = judge(&measured(old, 5.0), &measured(most + 1, 5.0), &LIMITS);
            assert_eq!(verdict, Verdict::Refused, "{old}");
            assert!(reasons[0].contains(&format!("at most {most} are borne")), "{reasons:?}");
        }
        assert_eq!(said(measured(100, 5.0), measured(0, 5.0)).0, Verdict::Accepted);
    }

    #[test]
    fn time_has_a_budget_and_a_factor() {
        assert_eq!(said(measured(1, 5.0), measured(1, 10.0)).0, Verdict::Accepted);
        assert_eq!(said(measured(1, 5.0), measured(1, 10.1)), (Verdict::Refused, vec!["too slow".into()]));
        assert_eq!(said(measured(1, 40.0), measured(1, 50.1)), (Verdict::Refused, vec!["too slow".into()]));
        let both = (Verdict::Refused, vec!["too noisy".into(), "too slow".into(), "too slow".into()]);
        assert_eq!(said(measured(0, 5.0), measured(99, 99.0)), both);
    }

    #[test]
    fn a_bundle_that_refuses_rows_or_scores_nothing_fails() {
        let new = Measured { rejected: 1, ..measured(1, 5.0) };
        assert_eq!(said(measured(1, 5.0), new), (Verdict::Refused, vec!["it fails".into()]));
        assert_eq!(said(new, new).0, Verdict::Accepted);
        assert_eq!(said(measured(1, 5.0), Measured::default()), (Verdict::Refused, vec!["it fails".into()]));
    }

    #[test]
    fn a_short_tail_accepts_nothing_and_times_nothing_but_noise_is_noise() {
        let short = |alerts, us| Measured { windows: 999, windows_judged: 500, ..measured(alerts, us) };
        let too_short = (Verdict::TooShort, vec!["too short to judge by".into()]);
        assert_eq!(said(short(0, 5.0), short(0, 500.0)), too_short);
        assert_eq!(said(short(0, 5.0), short(3, 5.0)), (Verdict::Refused, vec!["too noisy".into()]));
        // A bundle that commissions itself for longer than the tail lasts shows nothing.
        let learning = Measured { windows_judged: 0, ..measured(0, 5.0) };
        assert_eq!(said(measured(0, 5.0), learning), too_short);
        assert_eq!(said(Measured::default(), Measured::default()), too_short);
    }
}
