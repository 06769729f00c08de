//! `[preprocess]`: as it is written, and as it is used once it has been checked.

use std::cmp::Ordering::{Equal, Less};

use serde::Deserialize;

use crate::pattern;

/// The longest gap that may be filled, in grid points: with it, what one reading can put out is bounded.
pub const GAP_LIMIT_ROWS_MAX: u32 = 64;
/// Most readings of one device that wait.
pub const REORDER_ROWS_MAX: usize = 512;
const SERIES_MAX: usize = 10_000_000;
const RULES_MAX: usize = 256;
const PATTERN_BYTES_MAX: usize = 512;
/// A leap year, in seconds.
const DURATION_S_MAX: f64 = 31_622_400.0;
const PERIOD_S_MIN: f64 = 1e-6;
const STUCK_AFTER_ROWS_MAX: u32 = 1_000_000;

/// What stands at grid points without a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gap {
    /// The last value.
    Hold,
    /// A straight line.
    Interpolate,
    /// Nothing: windows start afresh.
    Break,
}

/// `[preprocess]` as it is written; `default.toml` says what each key means.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Seconds of event time.
    pub lateness_s: f64,
    /// Readings of one device that wait.
    pub reorder_rows: usize,
    /// Series that are kept track of.
    pub series_max: usize,
    /// Seconds between grid points; 0 for no grid.
    pub period_s: f64,
    /// Whether the period of a series without a grid is learned.
    pub learn_period: bool,
    /// What stands at grid points without a reading.
    pub gap: Gap,
    /// Longest gap that is filled, in grid points.
    pub gap_limit_rows: u32,
    /// Least value in range; minus infinity for no limit.
    pub min: f64,
    /// Largest value in range; infinity for no limit.
    pub max: f64,
    /// Robust standard deviations from which on a value is a spike; 0 for never.
    pub spike_sigmas: f64,
    /// Equal values from which on a channel is stuck; 0 for never.
    pub stuck_after_rows: u32,
    /// Seconds without a reading after which a device is silent; 0 for never.
    pub silence_after_s: f64,
    /// Rules for some series; the first that matches counts.
    pub series: Vec<SeriesConfig>,
}

/// A rule: what differs from `[preprocess]` for the series whose name matches.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeriesConfig {
    /// Matched against `device/channel`, both as their operator calls them.
    #[serde(rename = "match")]
    pub pattern: String,
    /// See [`Config::period_s`].
    pub period_s: Option<f64>,
    /// See [`Config::learn_period`].
    pub learn_period: Option<bool>,
    /// See [`Config::gap`].
    pub gap: Option<Gap>,
    /// See [`Config::gap_limit_rows`].
    pub gap_limit_rows: Option<u32>,
    /// See [`Config::min`].
    pub min: Option<f64>,
    /// See [`Config::max`].
    pub max: Option<f64>,
    /// See [`Config::spike_sigmas`].
    pub spike_sigmas: Option<f64>,
    /// See [`Config::stuck_after_rows`].
    pub stuck_after_rows: Option<u32>,
    /// See [`Config::silence_after_s`].
    pub silence_after_s: Option<f64>,
}

/// What holds for a series. Durations in nanoseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// 0 for no grid.
    pub period: i64,
    /// There is no grid, and the period is learned.
    pub learns: bool,
    /// What stands at grid points without a reading.
    pub gap: Gap,
    /// Longest gap that is filled, in grid points.
    pub gap_limit: i64,
    /// Minus infinity for no limit.
    pub min: f64,
    /// Infinity for no limit.
    pub max: f64,
    /// 0 for off.
    pub spike_sigmas: f64,
    /// 0 for off.
    pub stuck_after: u32,
    /// `i64::MAX` for off.
    pub silence_after: i64,
}

/// `[preprocess]`, checked.
#[derive(Debug)]
pub struct Settings {
    /// Nanoseconds.
    pub lateness: i64,
    /// Readings of one device that wait.
    pub reorder_rows: usize,
    /// Series that are kept track of.
    pub series_max: usize,
    patterns: Vec<String>,
    /// One for each pattern, then the one for everything else.
    rules: Vec<Rule>,
}

impl Settings {
    /// Checks a config.
    ///
    /// # Errors
    /// All of its problems.
    pub fn new(config: &Config) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let mut within = |what: &str, value: usize, max: usize| {
            if !(1..=max).contains(&value) {
                problems.push(format!("preprocess.{what} = {value}: 1 to {max} is taken"));
            }
        };
        within("reorder_rows", config.reorder_rows, REORDER_ROWS_MAX);
        within("series_max", config.series_max, SERIES_MAX);
        check_seconds("preprocess.lateness_s", Some(config.lateness_s), 0.0, &mut problems);
        if config.series.len() > RULES_MAX {
            problems
                .push(format!("preprocess.series has {} rules: at most {RULES_MAX} are taken", config.series.len()));
        }
        let everything = SeriesConfig::of_all(config);
        everything.check("preprocess", &mut problems);
        let mut rules = Vec::new();
        for (index, own) in config.series.iter().enumerate() {
            own.check(&format!("preprocess.series[{index}]"), &mut problems);
            rules.push(own.rule(config));
        }
        rules.push(everything.rule(config));
        for (index, rule) in rules.iter().enumerate() {
            let own = config.series.get(index).unwrap_or(&everything);
            // NaN leaves none either.
            if (own.min.is_some() || own.max.is_some())
                && !matches!(rule.min.partial_cmp(&rule.max), Some(Less | Equal))
            {
                let at = if index < config.series.len() {
                    format!("preprocess.series[{index}]")
                } else {
                    "preprocess".into()
                };
                problems.push(format!("{at}: min = {} and max = {} leave no value in range", rule.min, rule.max));
            }
        }
        let patterns = config.series.iter().map(|rule| rule.pattern.clone()).collect();
        let lateness = nanoseconds(config.lateness_s);
        let settings =
            Self { lateness, reorder_rows: config.reorder_rows, series_max: config.series_max, patterns, rules };
        if problems.is_empty() { Ok(settings) } else { Err(problems) }
    }

    /// Which rule holds for a series, by its names in clear.
    pub fn rule_of(&self, device: &str, channel: &str) -> usize {
        let name = format!("{device}/{channel}");
        let found = self.patterns.iter().position(|pattern| pattern::matches(pattern, &name));
        found.unwrap_or(self.patterns.len())
    }

    /// A rule that [`Self::rule_of`] told.
    pub fn rule(&self, index: usize) -> &Rule {
        &self.rules[index]
    }
}

impl SeriesConfig {
    /// What `[preprocess]` itself says of all series.
    fn of_all(config: &Config) -> Self {
        Self {
            pattern: "*".into(),
            period_s: Some(config.period_s),
            learn_period: Some(config.learn_period),
            gap: Some(config.gap),
            gap_limit_rows: Some(config.gap_limit_rows),
            min: Some(config.min),
            max: Some(config.max),
            spike_sigmas: Some(config.spike_sigmas),
            stuck_after_rows: Some(config.stuck_after_rows),
            silence_after_s: Some(config.silence_after_s),
        }
    }

    /// Tells what is wrong with the keys that are set; `at` is where they stand.
    fn check(&self, at: &str, problems: &mut Vec<String>) {
        if self.pattern.is_empty() || self.pattern.len() > PATTERN_BYTES_MAX {
            let length = self.pattern.len();
            problems.push(format!("{at}.match is of {length} bytes: 1 to {PATTERN_BYTES_MAX} are taken"));
        }
        check_seconds(&format!("{at}.period_s"), self.period_s, PERIOD_S_MIN, problems);
        check_seconds(&format!("{at}.silence_after_s"), self.silence_after_s, 0.0, problems);
        if let Some(rows) = self.gap_limit_rows.filter(|rows| *rows > GAP_LIMIT_ROWS_MAX) {
            problems.push(format!("{at}.gap_limit_rows = {rows}: 0 to {GAP_LIMIT_ROWS_MAX} is taken"));
        }
        if let Some(sigmas) = self.spike_sigmas.filter(|sigmas| !(sigmas.is_finite() && *sigmas >= 0.0)) {
            problems.push(format!("{at}.spike_sigmas = {sigmas}: 0 (off) or more is taken"));
        }
        if let Some(rows) = self.stuck_after_rows.filter(|rows| *rows == 1 || *rows > STUCK_AFTER_ROWS_MAX) {
            problems.push(format!("{at}.stuck_after_rows = {rows}: 0 (off) or 2 to {STUCK_AFTER_ROWS_MAX} is taken"));
        }
    }

    /// Fills what is left out from `base`, in which everything is set.
    fn rule(&self, base: &Config) -> Rule {
        let silence_after = nanoseconds(self.silence_after_s.unwrap_or(base.silence_after_s));
        let period = nanoseconds(self.period_s.unwrap_or(base.period_s));
        Rule {
            period,
            learns: period == 0 && self.learn_period.unwrap_or(base.learn_period),
            gap: self.gap.unwrap_or(base.gap),
            gap_limit: self.gap_limit_rows.unwrap_or(base.gap_limit_rows).into(),
            min: self.min.unwrap_or(base.min),
            max: self.max.unwrap_or(base.max),
            spike_sigmas: self.spike_sigmas.unwrap_or(base.spike_sigmas),
            stuck_after: self.stuck_after_rows.unwrap_or(base.stuck_after_rows),
            silence_after: if silence_after == 0 { i64::MAX } else { silence_after },
        }
    }
}

/// Rounds; what was checked is at most 3.2e16, so it fits.
fn nanoseconds(seconds: f64) -> i64 {
    (seconds * 1e9).round() as i64
}

/// A duration is 0 or at least `least_s`.
fn check_seconds(key: &str, seconds: Option<f64>, least_s: f64, problems: &mut Vec<String>) {
    let fits = |seconds: f64| seconds == 0.0 || (seconds > 0.0 && seconds >= least_s && seconds <= DURATION_S_MAX);
    if let Some(seconds) = seconds.filter(|seconds| !fits(*seconds)) {
        let least = if least_s > 0.0 { format!("0 or {least_s}") } else { "0".to_owned() };
        problems.push(format!("{key} = {seconds}: {least} to {DURATION_S_MAX} seconds is taken"));
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// The defaults with `overrides` (keys of `[preprocess]`, then rules) in their place.
    pub fn config(overrides: &str) -> Result<Config, String> {
        let defaults: toml::Table = include_str!("../default.toml").parse().unwrap();
        let mut table = defaults["preprocess"].as_table().unwrap().clone();
        table.extend(overrides.parse::<toml::Table>().map_err(|error| error.to_string())?);
        table.try_into().map_err(|error: toml::de::Error| error.to_string())
    }

    #[test]
    fn the_defaults_are_valid_and_learn_instead_of_a_grid() {
        let settings = Settings::new(&config("").unwrap()).unwrap();
        let rule = settings.rule(settings.rule_of("d", "t"));
        assert_eq!((settings.lateness, rule.period, rule.learns), (0, 0, true));
        assert_eq!((rule.min, rule.max), (f64::NEG_INFINITY, f64::INFINITY));
        assert_eq!(rule.silence_after, 900_000_000_000);
    }

    #[test]
    fn the_first_rule_that_matches_counts_and_inherits_the_rest() {
        let overrides = r#"
            period_s = 1
            max = 9.0
            [[series]]
            match = "pump */t"
            period_s = 0.5
            gap = "hold"
            silence_after_s = 0
            [[series]]
            match = "pump 1/*"
            max = 5
        "#;
        let settings = Settings::new(&config(overrides).unwrap()).unwrap();
        for (device, channel, period, gap, max, silence) in [
            ("pump 1", "t", 500_000_000, Gap::Hold, 9.0, i64::MAX),
            ("pump 1", "u", 1_000_000_000, Gap::Interpolate, 5.0, 900_000_000_000),
            ("fan", "t", 1_000_000_000, Gap::Interpolate, 9.0, 900_000_000_000),
        ] {
            let rule = settings.rule(settings.rule_of(device, channel));
            let found = (rule.period, rule.gap, rule.max, rule.silence_after);
            assert_eq!(found, (period, gap, max, silence), "{device}/{channel}");
        }
    }

    #[test]
    fn a_rule_has_a_grid_or_learns_or_neither() {
        for (overrides, period, learns) in [
            ("", 0, true),
            ("learn_period = false", 0, false),
            ("period_s = 2", 2_000_000_000, false),
            ("period_s = 2\n[[series]]\nmatch = \"d/*\"\nperiod_s = 0", 0, true),
            ("period_s = 2\n[[series]]\nmatch = \"d/*\"\nperiod_s = 0\nlearn_period = false", 0, false),
            ("learn_period = false\n[[series]]\nmatch = \"d/*\"\nlearn_period = true", 0, true),
        ] {
            let settings = Settings::new(&config(overrides).unwrap()).unwrap();
            let rule = settings.rule(settings.rule_of("d", "t"));
            assert_eq!((rule.period, rule.learns), (period, learns), "{overrides}");
        }
    }

    #[test]
    fn every_problem_is_told_with_its_key_and_value() {
        let overrides = r#"
            lateness_s = -1.0
            reorder_rows = 0
            series_max = 0
            period_s = 1e-9
            gap_limit_rows = 65
            spike_sigmas = nan
            stuck_after_rows = 1
            silence_after_s = inf
            min = 2.0
            max = 1.0
            [[series]]
            match = ""
            period_s = -3.0
        "#;
        let problems = Settings::new(&config(overrides).unwrap()).unwrap_err();
        for part in [
            "preprocess.lateness_s = -1",
            "preprocess.reorder_rows = 0",
            "preprocess.series_max = 0",
            "preprocess.period_s = 0.000000001",
            "preprocess.gap_limit_rows = 65",
            "preprocess.spike_sigmas = NaN",
            "preprocess.stuck_after_rows = 1",
            "preprocess.silence_after_s = inf",
            "preprocess: min = 2 and max = 1",
            "preprocess.series[0].match",
            "preprocess.series[0].period_s = -3",
        ] {
            let told = problems.iter().filter(|problem| problem.starts_with(part)).count();
            assert_eq!(told, 1, "{part}: {problems:#?}");
        }
        assert_eq!(problems.len(), 11, "{problems:#?}");
    }

    #[test]
    fn a_wrong_key_or_kind_is_refused() {
        for (overrides, part) in [
            ("peroid_s = 1.0", "peroid_s"),
            ("gap = \"fill\"", "fill"),
            ("gap_limit_rows = -1", "gap_limit_rows"),
            ("[[series]]\nmatch = \"*\"\nlateness_s = 1", "lateness_s"),
            ("[[series]]\nperiod_s = 1", "match"),
        ] {
            let error = config(overrides).unwrap_err();
            assert!(error.contains(part), "{overrides}: {error}");
        }
    }
}
