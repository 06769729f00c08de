//! The config table `[detect]`.

use std::path::PathBuf;

use serde::Deserialize;

use crate::told::Spans;

/// `[detect]`, as `default.toml` documents it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Folder of the model bundle.
    pub bundle: PathBuf,
    /// Folder of further bundles, each in a folder named by its digest; empty for none.
    pub bundles: PathBuf,
    /// Minisign public keys, or `.pub` files of them.
    pub trusted_keys: Vec<String>,
    /// Whether a bundle need not be signed.
    pub allow_unsigned: bool,
    /// Alerts a day that may come by chance, of the whole site.
    pub alerts_per_day: f64,
    /// Series that share [`Self::alerts_per_day`].
    pub fleet_series: f64,
    /// So many rows on end share the budget of one.
    pub independent_rows: f64,
    /// Rows that come faster than one in so many seconds share the budget of one.
    pub independent_after_s: f64,
    /// At or below this tail probability a row does not enter the memory.
    pub gate_tail: f64,
    /// The same of all channels of a device together.
    pub joint_gate_tail: f64,
    /// Event time of gated rows on end after which a series has a new regime, in seconds.
    pub regime_after_s: f64,
    /// Quiet rows of each channel after which an episode closes.
    pub close_after_rows: u32,
    /// Quiet is a tail probability above threshold x this.
    pub hysteresis: f64,
    /// And no less than that many seconds of event time.
    pub close_after_s: f64,
    /// Rows of each channel after a close in which only what is worse opens a new episode.
    pub refractory_rows: u32,
    /// And no less than that many seconds of event time.
    pub refractory_s: f64,
    /// Most `updated` events of an episode.
    pub updates_max: u32,
    /// Periods for which a channel's last score counts for its device.
    pub stale_after_rows: u32,
    /// And no less than that many seconds of event time.
    pub stale_after_s: f64,
    /// Rows for which a peak of a series' score stands, unless it is exceeded.
    pub peak_rows: u32,
    /// Rows over which the level is smoothed that a series tells between peaks.
    pub level_rows: f64,
    /// Most series of the shard.
    pub series_max: usize,
    /// Most channels of a device that are judged together.
    pub joint_channels_max: usize,
    /// Which windows are told with their vector.
    pub tell_windows: TellWindows,
}

/// Which windows are told with the vector of the head that may leave the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TellWindows {
    /// Those that were new to their series' memory, those of alerts, and those by which episodes are compared.
    Kept,
    /// Every one with as many real samples as the head wants.
    All,
}

impl Config {
    /// Every key that holds what it cannot.
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut above_zero = |key: &str, value: f64, most: f64| {
            if !(value > 0.0 && value <= most) {
                problems.push(format!("detect.{key}: expected above 0, to {most}, found {value}"));
            }
        };
        above_zero("alerts_per_day", self.alerts_per_day, 1e6);
        above_zero("gate_tail", self.gate_tail, 0.1);
        above_zero("joint_gate_tail", self.joint_gate_tail, 0.1);
        let mut within = |key: &str, value: f64, least: f64, most: f64| {
            if !(value >= least && value <= most) {
                problems.push(format!("detect.{key}: expected {least} to {most}, found {value}"));
            }
        };
        within("fleet_series", self.fleet_series, 1.0, 1e7);
        within("independent_rows", self.independent_rows, 1.0, 1e6);
        within("independent_after_s", self.independent_after_s, 0.0, 1e6);
        within("hysteresis", self.hysteresis, 1.0, 1e6);
        within("regime_after_s", self.regime_after_s, 1.0, 1e9);
        within("close_after_rows", f64::from(self.close_after_rows), 1.0, 1e6);
        within("refractory_rows", f64::from(self.refractory_rows), 0.0, 1e6);
        within("close_after_s", self.close_after_s, 0.0, 1e9);
        within("refractory_s", self.refractory_s, 0.0, 1e9);
        within("stale_after_s", self.stale_after_s, 0.0, 1e9);
        within("updates_max", f64::from(self.updates_max), 0.0, 1000.0);
        within("stale_after_rows", f64::from(self.stale_after_rows), 1.0, 1e6);
        within("peak_rows", f64::from(self.peak_rows), 0.0, 1e6);
        within("level_rows", self.level_rows, 1.0, 1e6);
        within("series_max", self.series_max as f64, 1.0, 1e7);
        within("joint_channels_max", self.joint_channels_max as f64, 2.0, 1024.0);
        problems
    }

    /// Over how many rows scores are told.
    pub fn spans(&self) -> Spans {
        Spans { peak_rows: self.peak_rows, level_rows: self.level_rows as f32 }
    }

    /// [`Self::regime_after_s`] in rows of a series of this period, at least one.
    pub fn regime_after_rows(&self, hop_ns: i64) -> u32 {
        // A cast saturates.
        (self.regime_after_s * 1e9 / hop_ns.max(1) as f64).max(1.0) as u32
    }

    /// How long after its newest row a series of this period still counts, in nanoseconds.
    pub fn stale_after_ns(&self, hop_ns: i64) -> i64 {
        hop_ns.max(1).saturating_mul(i64::from(self.stale_after_rows)).max(nanoseconds(self.stale_after_s))
    }

    /// How many alerts the budget allows a series of this period in the time of a row.
    pub fn allowed(&self, hop_ns: i64) -> f64 {
        self.alerts_per_day / self.fleet_series * hop_ns.max(1) as f64 / DAY_NS
    }

    /// The tail probability at which a series of this period spends its part of the budget, were its rows independent.
    pub fn threshold(&self, hop_ns: i64) -> f64 {
        let apart_ns = (hop_ns.max(1) as f64 * self.independent_rows).max(self.independent_after_s * 1e9);
        let rows_a_day = DAY_NS / apart_ns;
        (self.alerts_per_day / self.fleet_series / rows_a_day).min(0.01)
    }
}

const DAY_NS: f64 = 86_400e9;

/// Seconds as nanoseconds; what is too long for them is as long as they can be.
pub(crate) fn nanoseconds(seconds: f64) -> i64 {
    (seconds * 1e9) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct File {
        detect: Config,
    }

    fn defaults() -> String {
        include_str!("../default.toml").to_owned()
    }

    #[test]
    fn the_defaults_are_every_key_and_valid() {
        let file: File = toml::from_str(&defaults()).unwrap();
        assert_eq!(file.detect.validate(), Vec::<String>::new());
        assert!(!file.detect.allow_unsigned);
    }

    #[test]
    fn a_wrong_missing_or_mistyped_key_is_named() {
        for (from, to, part) in [
            ("gate_tail", "gate_tial", "gate_tial"),
            ("allow_unsigned = false", "", "allow_unsigned"),
            ("updates_max = 8", "updates_max = \"8\"", "expected u32"),
        ] {
            let text = defaults().replace(from, to);
            assert_ne!(text, defaults(), "{from}");
            let error = toml::from_str::<File>(&text).unwrap_err().to_string();
            assert!(error.contains(part), "{part}: {error}");
        }
    }

    #[test]
    fn all_values_out_of_range_are_listed() {
        let mut config = toml::from_str::<File>(&defaults()).unwrap().detect;
        config.alerts_per_day = f64::NAN;
        config.gate_tail = 0.5;
        config.close_after_rows = 0;
        config.joint_channels_max = 1;
        let problems = config.validate();
        assert_eq!(problems.len(), 4, "{problems:?}");
    }

    #[test]
    fn the_threshold_spends_the_budget_at_any_period() {
        let mut config = toml::from_str::<File>(&defaults()).unwrap().detect;
        (config.alerts_per_day, config.fleet_series) = (2.0, 10.0);
        (config.independent_rows, config.independent_after_s) = (1.0, 0.0);
        for hop_s in [1, 300] {
            let expected = 0.2 * hop_s as f64 / 86_400.0;
            assert!((config.threshold(hop_s * 1_000_000_000) / expected - 1.0).abs() < 1e-12);
        }
        assert_eq!(config.threshold(86_400_000_000_000), 0.01);
        config.independent_rows = 6.0;
        assert!((config.threshold(300_000_000_000) / (6.0 * 0.2 * 300.0 / 86_400.0) - 1.0).abs() < 1e-12);
        (config.independent_rows, config.independent_after_s) = (1.0, 20.0);
        assert_eq!(config.threshold(1), config.threshold(20_000_000_000));
    }
}
