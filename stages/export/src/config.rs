//! The table `[export]`; `default.toml` says what each key means.

use std::{collections::BTreeSet, path::PathBuf};

use eddy_runtime::bundle::Library;
use serde::Deserialize;

use crate::{
    class::Class,
    policy::{Heads, Policy},
    select::Cut,
};

/// The commented defaults.
pub const DEFAULTS: &str = include_str!("../default.toml");

/// `[export]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to; empty: nowhere.
    pub to: String,
    /// What.
    pub classes: BTreeSet<Class>,
    /// Rows of a range.
    pub cut_rows: usize,
    /// Megabytes of a range.
    pub cut_mb: usize,
    /// Seconds.
    pub cut_age_s: u64,
    /// Seconds.
    pub poll_s: u64,
    /// Folders.
    pub bundles: PathBuf,
    /// Minisign public keys, or `.pub` files of them.
    pub trusted_keys: Vec<String>,
    /// Whether a bundle need not be signed.
    pub allow_unsigned: bool,
    /// What raw data may leave.
    pub policy: Policy,
}

impl Config {
    /// Every key that holds what it cannot.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut range = |key: &str, value: u64, low: u64, high: u64| {
            if !(low..=high).contains(&value) {
                problems.push(format!("export.{key} = {value}: {low} to {high} is taken"));
            }
        };
        range("cut_rows", self.cut_rows as u64, 1_000, 5_000_000);
        range("cut_mb", self.cut_mb as u64, 1, 512);
        range("cut_age_s", self.cut_age_s, 60, 86_400);
        range("poll_s", self.poll_s, 1, 3_600);
        if self.classes.is_empty() && !self.to.is_empty() {
            problems.push("export.classes = []: name at least one".into());
        }
        problems.extend(self.policy.problem());
        if !self.to.is_empty() {
            problems.extend(self.classes.iter().filter_map(|class| self.policy.check(*class).err()));
        }
        problems
    }

    /// Where a stream is cut; by age only where it runs continuously.
    pub fn cut(&self, is_continuous: bool) -> Cut {
        // Within 86,400 s, far below an i64's nanoseconds.
        let age = is_continuous.then_some(self.cut_age_s as i64 * 1_000_000_000);
        Cut { rows: self.cut_rows, bytes: self.cut_mb << 20, age }
    }

    /// Which heads may leave, by the bundles of the folder.
    pub fn heads(&self) -> Heads {
        Heads::new(&self.policy, Library::new(&self.bundles, &self.trusted_keys, self.allow_unsigned))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(file: &str) -> Result<Config, Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("eddy.toml");
        std::fs::write(&path, file).unwrap();
        let loaded = eddy_runtime::config::load::<Config>("export", DEFAULTS, Some(&path), []);
        loaded.map(|(_, config)| config).map_err(|error| error.problems)
    }

    #[test]
    fn the_defaults_are_every_key_valid_and_let_nothing_raw_leave() {
        let config = load("").unwrap();
        assert_eq!(config.problems(), Vec::<String>::new());
        assert!(config.to.is_empty() && config.policy == Policy::default());
        assert!(!config.classes.contains(&Class::Readings) && !config.classes.contains(&Class::Samples));
        assert_eq!(config.cut(false).age, None);
    }

    #[test]
    fn a_wrong_key_and_a_wrong_class_are_named() {
        for (text, part) in [("[export]\ncut_row = 5\n", "cut_row"), ("[export]\nclasses = [\"x\"]\n", "x")] {
            let problems = load(text).unwrap_err().join("\n");
            assert!(problems.contains(part), "{part}: {problems}");
        }
    }

    #[test]
    fn all_that_is_out_of_range_or_not_allowed_is_told_at_once() {
        let text = "[export]\nto = \"x\"\nclasses = [\"readings\"]\ncut_rows = 1\ncut_mb = 0\ncut_age_s = 1\npoll_s = 0\n\
                    [export.policy]\nraw = [\"samples\"]\n";
        let problems = load(text).unwrap().problems();
        assert_eq!(problems.len(), 6, "{problems:?}");
        let all = problems.join("\n");
        for part in ["cut_rows", "cut_mb", "cut_age_s", "poll_s", "export.policy.purpose", "export.policy.raw"] {
            assert!(all.contains(part), "{part}: {all}");
        }
    }
}
