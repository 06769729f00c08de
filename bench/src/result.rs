//! What stands in a result file: detect's own score, one rule for every benchmark.
//!
//! A stream of one channel has the scores of its series; a stream of several those of all channels together, for what is
//! judged is the device. A row has the newest score up to its time, or up to the newest time before it where its own
//! runs back (a clock that was put back: preprocess put such a row aside). Before the first joint score, which comes
//! once all channels are commissioned, a row has 1: the joint score's unit is the 0.99 quantile of commissioning.

use anyhow::{Result, ensure};
use eddy_schemas::Timestamp;

use crate::chain::Row;

/// What the joint score is before there is one.
const JOINT_BEFORE: f64 = 1.0;

/// One score per row of `times`, of a stream of so many channels.
///
/// # Errors
/// If nothing was scored: the stream is shorter than its commissioning, or its channels never spoke together.
pub fn scores(times: &[Timestamp], channels: usize, rows: &[Row]) -> Result<Vec<f64>> {
    let is_device = channels > 1;
    let mut told = rows.iter().filter(|row| row.is_joint() == is_device).peekable();
    ensure!(
        told.peek().is_some(),
        "nothing was scored: {} rows of {channels} channels do not end their commissioning",
        times.len()
    );
    let (mut newest, mut score) = (Timestamp::MIN, if is_device { JOINT_BEFORE } else { 0.0 });
    Ok(times
        .iter()
        .map(|time| {
            newest = newest.max(*time);
            while let Some(row) = told.next_if(|row| row.time <= newest) {
                score = row.score;
            }
            score
        })
        .collect())
}

/// Per row of `times` how many of the alerts that were opened at `opened`, ascending, were opened at it; one of a time between rows
/// counts at the next.
pub fn alerts(times: &[Timestamp], opened: &[Timestamp]) -> Vec<u32> {
    let mut counts = vec![0; times.len()];
    let (mut newest, mut told) = (Timestamp::MIN, opened.iter().peekable());
    for (time, count) in times.iter().zip(&mut counts) {
        newest = newest.max(*time);
        while told.next_if(|opened| **opened <= newest).is_some() {
            *count += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use eddy_schemas::flags;

    use super::*;

    fn row(time: Timestamp, score: f64, flags: u16) -> Row {
        Row { time, score, tail: 1.0, flags }
    }

    #[test]
    fn a_row_has_the_newest_score_up_to_its_time() {
        let rows = [row(10, 0.1, 0), row(20, 0.2, 0), row(25, 0.25, 0), row(40, 0.4, 0)];
        let times = [10, 20, 30, 20, 40];
        assert_eq!(scores(&times, 1, &rows).unwrap(), [0.1, 0.2, 0.25, 0.25, 0.4]);
    }

    #[test]
    fn a_device_has_its_joint_score_and_its_unit_before() {
        let rows = [row(1, 9.0, 0), row(2, 9.0, 0), row(2, 0.5, flags::JOINT), row(3, 1.5, flags::JOINT)];
        assert_eq!(scores(&[1, 2, 3], 2, &rows).unwrap(), [1.0, 0.5, 1.5]);
    }

    #[test]
    fn an_alert_counts_at_its_row_or_the_next() {
        assert_eq!(alerts(&[10, 20, 30, 20, 40], &[10, 15, 20, 31]), [1, 2, 0, 0, 1]);
    }

    #[test]
    fn silence_is_an_error() {
        assert!(scores(&[1, 2], 2, &[row(1, 9.0, 0)]).unwrap_err().to_string().contains("commissioning"));
    }
}
