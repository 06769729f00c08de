//! Puts out a reading that is the next sample of its series: what is missing before it, its flags, its conditions.

use eddy_runtime::stage::Outbox;
use eddy_schemas::{
    SamplesBuilder, SeriesName, Timestamp,
    bursts::Spectrum,
    health::{Condition, Health},
    names, quality,
};

use crate::{
    config::{Gap, Rule},
    fleet::Series,
    grid, pace,
};

/// A learned period below this stands for it where rows are counted to tell how long something lasts.
const SECOND: i64 = 1_000_000_000;

/// A reading that is the next sample of its series.
pub struct New<'a> {
    pub time: Timestamp,
    pub value: f64,
    /// The flags that it came with.
    pub quality: u16,
    /// Of a burst.
    pub spectrum: Option<&'a Spectrum>,
}

/// Puts out a reading, after what is missing before it.
pub fn emit(series: &mut Series, rule: &Rule, new: &New<'_>, out: &mut Outbox<SamplesBuilder>) {
    let New { time, value, quality: given, spectrum } = *new;
    let last = series.recent.last();
    series.recent.push(time);
    if rule.learns
        && let Some(shown) = series.pace.observe(&series.recent)
    {
        out.count(shown.kind(), 1);
    }
    let period = if rule.learns { series.pace.period() } else { rule.period };
    let is_broken = last.is_some_and(|last| fill_gap(series, rule, period, (last, time, value), out));
    let (was_range, was_stuck) = (series.checks.range, series.checks.stuck);
    let flags = series.checks.observe(value, is_broken, rule, stuck_after(rule, period));
    let broken = if is_broken { quality::BREAK } else { 0 };
    out.main[0].push(&series.name, time, value, given | flags | broken, period);
    if let Some(spectrum) = spectrum {
        out.main[0].spectrum(spectrum);
    }
    for (flag, kind) in [(quality::SPIKE, "spike"), (quality::RANGE, "range"), (quality::STUCK, "stuck")] {
        if flags & flag != 0 {
            out.count(kind, 1);
        }
    }
    for (before, now, condition) in
        [(was_range, series.checks.range, Condition::Range), (was_stuck, series.checks.stuck, Condition::Stuck)]
    {
        if before != now {
            out.health.push(channel_condition(series, condition, now, time, value));
        }
    }
}

/// Equal values from which on a channel is stuck: as many as are configured, or at a learned period of less than a second
/// so many seconds of them.
fn stuck_after(rule: &Rule, period: i64) -> u32 {
    if !rule.learns || period == 0 || period >= SECOND {
        return rule.stuck_after;
    }
    let rows_a_second = (SECOND + period - 1) / period;
    u32::try_from(i64::from(rule.stuck_after) * rows_a_second).unwrap_or(u32::MAX)
}

/// Fills what is missing between the last sample and a reading; says whether it is left unfilled instead.
fn fill_gap(
    series: &Series,
    rule: &Rule,
    period: i64,
    (last, time, value): (Timestamp, Timestamp, f64),
    out: &mut Outbox<SamplesBuilder>,
) -> bool {
    let missing = if rule.learns { pace::missing(period, last, time) } else { grid::missing(period, last, time) };
    if missing == 0 {
        return false;
    }
    if rule.gap == Gap::Break || missing > rule.gap_limit {
        out.count("break", 1);
        return true;
    }
    let before = series.checks.last();
    for number in 1..=missing {
        let at = if rule.learns {
            pace::between(last, time, number, missing)
        } else {
            (grid::point(period, last) + number) * period
        };
        let (value, flag) = if rule.gap == Gap::Hold {
            (before, quality::HELD)
        } else {
            (grid::interpolate((last, before), (time, value), at), quality::INTERPOLATED)
        };
        out.main[0].push(&series.name, at, value, flag, period);
    }
    // At most 64.
    out.count(if rule.gap == Gap::Hold { "held" } else { "interpolated" }, missing as u64);
    false
}

/// A channel's condition that began or ended.
pub fn channel_condition(series: &Series, condition: Condition, active: bool, since: Timestamp, value: f64) -> Health {
    let device = names::decode(SeriesName::device_token(&series.name));
    Health { device, channel: Some(names::decode(series.channel())), condition, active, since, value }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Settings, config::tests::config};

    #[test]
    fn a_channel_that_is_read_a_thousand_times_a_second_is_stuck_after_seconds_not_rows() {
        let rule = |overrides: &str| {
            let settings = Settings::new(&config(overrides).unwrap()).unwrap();
            settings.rule(settings.rule_of("d", "t")).clone()
        };
        for (overrides, period, expected) in [
            ("", 0, 600),
            ("", SECOND, 600),
            ("", 300 * SECOND, 600),
            ("", SECOND / 1_000, 600_000),
            ("", SECOND / 3, 2_400),
            ("stuck_after_rows = 0", 1_000, 0),
            ("stuck_after_rows = 1000000", 1_000, u32::MAX),
            ("period_s = 0.001", SECOND / 1_000, 600),
        ] {
            assert_eq!(stuck_after(&rule(overrides), period), expected, "{overrides:?} at {period}");
        }
    }
}
