//! The config table `[embed]`.

use std::path::PathBuf;

use eddy_runtime::bundle::COMMISSIONING_ROWS_MAX;
use serde::Deserialize;

/// `[embed]`, as `default.toml` documents it.
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
    /// First samples of a series that set its scaling; 0 for as many as the bundle says.
    pub commissioning_rows: usize,
    /// Most windows that are computed at once.
    pub inference_batch_max: usize,
}

impl Config {
    /// Every key that holds what it cannot.
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.commissioning_rows == 1 || self.commissioning_rows > COMMISSIONING_ROWS_MAX {
            problems.push(format!(
                "embed.commissioning_rows: expected 0 (the bundle's) or 2 to {COMMISSIONING_ROWS_MAX}, found {}",
                self.commissioning_rows
            ));
        }
        if !(1..=65_536).contains(&self.inference_batch_max) {
            problems
                .push(format!("embed.inference_batch_max: expected 1 to 65536, found {}", self.inference_batch_max));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct File {
        embed: Config,
    }

    fn defaults() -> String {
        include_str!("../default.toml").to_owned()
    }

    #[test]
    fn the_defaults_are_every_key_and_valid() {
        let file: File = toml::from_str(&defaults()).unwrap();
        assert_eq!(file.embed.validate(), Vec::<String>::new());
        assert!(!file.embed.allow_unsigned);
    }

    #[test]
    fn a_wrong_missing_or_mistyped_key_is_named() {
        for (from, to, part) in [
            ("allow_unsigned", "allow_unsinged", "allow_unsinged"),
            ("commissioning_rows = 0", "", "commissioning_rows"),
            ("inference_batch_max = 256", "inference_batch_max = \"256\"", "invalid type"),
        ] {
            let text = defaults().replace(from, to);
            assert_ne!(text, defaults(), "{from}");
            let error = toml::from_str::<File>(&text).unwrap_err().to_string();
            assert!(error.contains(part), "{part}: {error}");
        }
    }

    #[test]
    fn all_values_out_of_range_are_listed() {
        let mut config = toml::from_str::<File>(&defaults()).unwrap().embed;
        config.commissioning_rows = 1;
        config.inference_batch_max = 0;
        let problems = config.validate().join("\n");
        assert!(problems.contains("commissioning_rows") && problems.contains("inference_batch_max"), "{problems}");
    }
}
