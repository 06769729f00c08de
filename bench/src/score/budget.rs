//! Whether the alert budget holds: how many alerts were opened where nothing is labelled.
//!
//! A series spends its budget by the day, so what is counted is alerts against days of event time, of the rows that the
//! benchmark scores and does not label. An alert is of a device, which may spend the budgets of all its channels.

use std::{fmt, path::Path};

use anyhow::{Result, ensure};
use eddy_schemas::Timestamp;
use serde::Serialize;

use super::files;
use crate::inputs::{self, Input, Set};

const DAY_NS: f64 = 86_400e9;
/// Gaps count for that many usual distances between rows at most.
const GAP_ROWS: i64 = 3;

/// What was opened on normal stretches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spent {
    /// Alerts.
    pub alerts: u32,
    /// Days of event time, added up over series.
    pub series_days: f64,
    /// Alerts that the budget allows in that time.
    pub allowed: f64,
}

impl Spent {
    /// Alerts over what is allowed.
    pub fn ratio(&self) -> f64 {
        f64::from(self.alerts) / self.allowed.max(f64::MIN_POSITIVE)
    }
}

impl fmt::Display for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { alerts, series_days, allowed } = self;
        write!(
            f,
            "budget: {alerts} alerts on normal stretches of {series_days:.1} series-days, {allowed:.1} allowed: {:.2} of it",
            self.ratio()
        )
    }
}

/// Sums up a benchmark's results in `out`; `budget` is that of a series and day.
///
/// # Errors
/// If data or a result cannot be read, or do not fit together.
pub fn spent(set: Set, data: &Path, out: &Path, budget: f64) -> Result<Spent> {
    let mut all = Spent::default();
    for input in inputs::list(data, &[set])? {
        let result = out.join(set.folder()).join(&input.name);
        if !result.is_file() {
            continue;
        }
        let (alerts, series_days) = of_stream(data, &input, &result)?;
        all.alerts += alerts;
        all.series_days += series_days;
    }
    all.allowed = all.series_days * budget;
    Ok(all)
}

fn of_stream(data: &Path, input: &Input, result: &Path) -> Result<(u32, f64)> {
    let stream = inputs::read(input)?;
    let (normal, alerts) = (files::normal_rows(data, input)?, files::alerts(result)?);
    ensure!(
        normal.len() == stream.times.len() && alerts.len() == normal.len(),
        "{}: {} rows, the data has {}",
        result.display(),
        alerts.len(),
        stream.times.len()
    );
    let opened = alerts.iter().zip(&normal).filter(|(_, normal)| **normal).map(|(alerts, _)| *alerts as u32).sum();
    Ok((opened, days(&stream.times, &normal) * stream.channels.len() as f64))
}

/// Days that the rows which are `normal` last: each since the row before.
fn days(times: &[Timestamp], normal: &[bool]) -> f64 {
    let mut steps: Vec<i64> = times.windows(2).map(|pair| pair[1] - pair[0]).filter(|step| *step > 0).collect();
    steps.sort_unstable();
    let most = GAP_ROWS * steps.get(steps.len() / 2).copied().unwrap_or(0);
    let rows = times.windows(2).zip(&normal[1..]).filter(|(_, normal)| **normal);
    rows.map(|(pair, _)| (pair[1] - pair[0]).clamp(0, most) as f64 / DAY_NS).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_normal_rows_and_gaps_count_little() {
        let day = 86_400_000_000_000;
        let times = [0, 1, 2, 3, 103, 104].map(|at| at * day);
        assert_eq!(days(&times, &[true; 6]), 7.0);
        assert_eq!(days(&times, &[true, false, true, true, false, true]), 3.0);
        assert_eq!(days(&[5], &[true]), 0.0);
    }

    #[test]
    fn the_ratio_is_to_what_is_allowed() {
        assert_eq!(Spent { alerts: 6, series_days: 21.0, allowed: 3.0 }.ratio(), 2.0);
    }
}
