//! Which bundle and which configuration is run: one of each, for every stream.
//!
//! The stages' shipped defaults, over them the site's config file, the environment, and what the command line sets. A
//! config that names no bundle of its own gets the default one, which is carried in the binary.

use std::{io, path::PathBuf};

use anyhow::{Context as _, Result, anyhow};
use eddy_capture::Capture;
use eddy_detect::Detect;
use eddy_embed::Embed;
use eddy_preprocess::Preprocess;
use eddy_runtime::{
    bundle::{Bundle, Manifest, Memory},
    config::{self, ConfigError},
    stage::Stage,
};
use tempfile::TempDir;

/// Most rows that commission a stream: embed holds them until then, at some ten bytes each, and more of them change no
/// figure (bench/quality/README.md). It is also the most that NAB grants.
const COMMISSIONING_ROWS_MAX: usize = 750;
const STAGES: [&str; 3] = ["preprocess", "embed", "detect"];
const CARRIED: [(&str, &[u8]); 3] = [
    ("model.onnx", include_bytes!("../../fixtures/bundles/default/model.onnx")),
    ("model.toml", include_bytes!("../../fixtures/bundles/default/model.toml")),
    ("model.toml.minisig", include_bytes!("../../fixtures/bundles/default/model.toml.minisig")),
];
const CARRIED_KEY: &str = include_str!("../../fixtures/bundles/default.pub");

/// What is run, and with which settings.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Settings {
    /// A config file, as the site's stages take it
    #[arg(long, short, env = "EDDY_CONFIG")]
    pub config: Option<PathBuf>,
    /// Folder of a model bundle, signed or not, instead of the config's or the default one
    #[arg(long)]
    pub bundle: Option<PathBuf>,
    /// A key of preprocess, embed or detect to set otherwise, as in `detect.gate_tail=1e-4`; may be repeated
    #[arg(long = "set", value_name = "STAGE.KEY=VALUE")]
    pub set: Vec<String>,
    /// A field of a head of the bundle to set otherwise, for detect alone, as in `value.weight=0.5`; may be repeated
    #[arg(long = "head", value_name = "HEAD.FIELD=VALUE")]
    pub head: Vec<String>,
}

/// The configuration of all stages, checked, and the bundle.
#[derive(Debug)]
pub struct Pipeline {
    pub(crate) preprocess: <Preprocess as Stage>::Config,
    pub(crate) embed: <Embed as Stage>::Config,
    pub(crate) detect: <Detect as Stage>::Config,
    pub(crate) manifest: Manifest,
    pub(crate) digest: String,
    /// What it was made of.
    settings: Settings,
    /// The carried bundle's folder; gone with the pipeline.
    _carried: Option<TempDir>,
}

impl Pipeline {
    /// Puts defaults, file, environment and command line together, and opens the bundle.
    ///
    /// # Errors
    /// Every problem of the config; else why the bundle cannot be had.
    pub fn new(settings: &Settings) -> Result<Self> {
        let environment = environment(&settings.set)?;
        let mut problems: Vec<String> = Vec::new();
        let preprocess = take::<Preprocess>(settings, &environment, &mut problems);
        let embed = take::<Embed>(settings, &environment, &mut problems);
        let detect = take::<Detect>(settings, &environment, &mut problems);
        let (Some(preprocess), Some(mut embed), Some(mut detect)) = (preprocess, embed, detect) else {
            return Err(ConfigError { problems }.into());
        };
        let carried = match &settings.bundle {
            Some(bundle) => {
                (embed.bundle, detect.bundle) = (bundle.clone(), bundle.clone());
                (embed.allow_unsigned, detect.allow_unsigned) = (true, true);
                None
            }
            None if embed.bundle == shipped_bundle()? && detect.bundle == embed.bundle => {
                let folder = carry().context("the default bundle cannot be written to a temporary folder")?;
                // The key stands on the file's last line; the line before is a comment.
                let key = CARRIED_KEY.lines().last().unwrap_or_default().to_owned();
                (embed.bundle, detect.bundle) = (folder.path().to_owned(), folder.path().to_owned());
                (embed.trusted_keys, detect.trusted_keys) = (vec![key.clone()], vec![key]);
                Some(folder)
            }
            None => None,
        };
        let opened = Bundle::open(&detect.bundle, &detect.trusted_keys, detect.allow_unsigned)
            .map_err(|error| ConfigError { problems: vec![format!("detect.bundle: {error}")] })?;
        let mut manifest = opened.manifest;
        settings.head.iter().try_for_each(|change| set_head(&mut manifest, change))?;
        let pipeline = Self {
            preprocess,
            embed,
            detect,
            manifest,
            digest: opened.digest,
            settings: settings.clone(),
            _carried: carried,
        };
        // The stages check ranges when they are made.
        pipeline.chain(0).map(|_| pipeline)
    }

    /// Capture's configuration, of the same file: benchmarks need none, what devices sent does.
    ///
    /// # Errors
    /// Every problem of it.
    pub(crate) fn capture(&self) -> Result<<Capture as Stage>::Config> {
        let of_capture = |(name, _): &(String, String)| name.starts_with(&variable("capture", ""));
        let environment: Vec<(String, String)> = std::env::vars().filter(of_capture).collect();
        let mut problems = Vec::new();
        take::<Capture>(&self.settings, &environment, &mut problems).ok_or_else(|| ConfigError { problems }.into())
    }

    /// How many rows commission a series where a benchmark grants so many: these, at least 2 and at most 750; where it
    /// grants none as many as the config says (0: as the bundle does).
    pub fn commissioning_rows(&self, granted: usize) -> usize {
        if granted == 0 { self.embed.commissioning_rows } else { granted.clamp(2, COMMISSIONING_ROWS_MAX) }
    }
}

/// The environment of the three stages, with what the command line sets over it.
fn environment(set: &[String]) -> Result<Vec<(String, String)>, ConfigError> {
    let of_stage = |name: &str| STAGES.iter().any(|stage| name.starts_with(&variable(stage, "")));
    let mut variables: Vec<(String, String)> = std::env::vars().filter(|(name, _)| of_stage(name)).collect();
    let mut problems = Vec::new();
    for change in set {
        let parts = change.split_once('=').and_then(|(path, value)| Some((path.split_once('.')?, value)));
        match parts.filter(|((stage, _), _)| STAGES.contains(stage)) {
            Some(((stage, key), value)) => {
                let name = variable(stage, key);
                variables.retain(|(other, _)| *other != name);
                variables.push((name, value.to_owned()));
            }
            None => problems.push(format!("--set {change}: STAGE.KEY=VALUE is taken, STAGE one of {STAGES:?}")),
        }
    }
    if problems.is_empty() { Ok(variables) } else { Err(ConfigError { problems }) }
}

fn variable(stage: &str, key: &str) -> String {
    format!("EDDY_{stage}_{key}").to_uppercase()
}

fn take<S: Stage>(
    settings: &Settings,
    environment: &[(String, String)],
    problems: &mut Vec<String>,
) -> Option<S::Config> {
    let loaded = config::load::<S::Config>(S::SPEC.name, S::DEFAULTS, settings.config.as_deref(), environment.to_vec());
    match loaded {
        Ok((_, own)) => Some(own),
        Err(error) => {
            // A problem of the shared tables is told by every stage.
            let new: Vec<String> = error.problems.into_iter().filter(|problem| !problems.contains(problem)).collect();
            problems.extend(new);
            None
        }
    }
}

/// The bundle that embed's defaults name.
fn shipped_bundle() -> Result<PathBuf> {
    let defaults: toml::Table = Embed::DEFAULTS.parse()?;
    let bundle = defaults.get("embed").and_then(|embed| embed.get("bundle")).and_then(toml::Value::as_str);
    Ok(PathBuf::from(bundle.context("embed's defaults name no bundle")?))
}

fn carry() -> io::Result<TempDir> {
    let folder = tempfile::Builder::new().prefix("eddy-bundle-").tempdir()?;
    CARRIED.iter().try_for_each(|(name, bytes)| std::fs::write(folder.path().join(name), bytes))?;
    Ok(folder)
}

fn set_head(manifest: &mut Manifest, change: &str) -> Result<()> {
    let wrong = |what: &str| {
        let problem = format!("--head {change}: {what}; HEAD.FIELD=NUMBER or HEAD.memory=gated|slow|frozen is taken");
        anyhow!(ConfigError { problems: vec![problem] })
    };
    let (path, value) = change.split_once('=').ok_or_else(|| wrong("no value"))?;
    let (name, field) = path.split_once('.').ok_or_else(|| wrong("no field"))?;
    let head = manifest.heads.iter_mut().find(|head| head.name == name).ok_or_else(|| wrong("no such head"))?;
    let number = || value.parse::<f64>().map_err(|_| wrong("not a number"));
    match field {
        "weight" => head.weight = number()?,
        "evidence" => head.evidence = number()?,
        "floor" => head.floor = number()?,
        "history_bytes" => head.history_bytes = number()? as u32,
        "exclusion" => head.exclusion = number()? as usize,
        "min_rows" => head.min_rows = number()? as usize,
        "memory" if value == "gated" => head.memory = Memory::Gated,
        "memory" if value == "slow" => head.memory = Memory::Slow,
        "memory" if value == "frozen" => head.memory = Memory::Frozen,
        _ => return Err(wrong("no such field")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(settings: &Settings) -> String {
        let error = Pipeline::new(settings).unwrap_err();
        error.downcast_ref::<ConfigError>().expect("it is of the config").problems.join("\n")
    }

    #[test]
    fn the_shipped_configuration_needs_no_folder_and_one_place_changes_it() {
        let set = vec!["detect.gate_tail=1e-4".into(), "preprocess.period_s=300".into()];
        let pipeline = Pipeline::new(&Settings { set, head: vec!["span64.weight=0.05".into()], ..Settings::default() });
        let pipeline = pipeline.unwrap();
        assert_eq!((pipeline.detect.gate_tail, pipeline.preprocess.period_s), (1e-4, 300.0));
        let head = pipeline.manifest.heads.iter().find(|head| head.name == "span64").unwrap();
        assert_eq!(head.weight, 0.05);
        assert_eq!([0, 1, 750, 10_080].map(|granted| pipeline.commissioning_rows(granted)), [0, 2, 750, 750]);
    }

    #[test]
    fn a_config_file_is_the_sites_and_all_its_problems_are_listed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("site.toml");
        std::fs::write(&file, "[detect]\ngate_tial = 1.0\n[embed]\ncommissioning_rows = \"x\"\n").unwrap();
        let told = problems(&Settings { config: Some(file.clone()), ..Settings::default() });
        assert!(told.contains("gate_tial") && told.contains("commissioning_rows"), "{told}");
        std::fs::write(&file, "[detect]\nalerts_per_day = 1.0\n[bus]\nurl = \"nats://gw:4222\"\n").unwrap();
        let pipeline = Pipeline::new(&Settings { config: Some(file), ..Settings::default() }).unwrap();
        assert_eq!(pipeline.detect.alerts_per_day, 1.0);
    }

    #[test]
    fn what_the_command_line_cannot_set_is_told() {
        for set in ["gate_tail=1", "capture.x=1", "detect.gate_tail"] {
            let told = problems(&Settings { set: vec![set.into()], ..Settings::default() });
            assert!(told.contains(set) && told.contains("STAGE.KEY=VALUE"), "{told}");
        }
        for (set, part) in [("detect.nothing=1", "EDDY_DETECT_NOTHING"), ("detect.gate_tail=7", "gate_tail")] {
            let told = problems(&Settings { set: vec![set.into()], ..Settings::default() });
            assert!(told.contains(part), "{told}");
        }
        for head in ["value.weight=heavy", "nose.weight=1", "value.colour=1", "value"] {
            let told = problems(&Settings { head: vec![head.into()], ..Settings::default() });
            assert!(told.contains(head), "{told}");
        }
    }
}
