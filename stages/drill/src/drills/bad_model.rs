//! `bad-model`: bundles that no gateway may take are offered, by the command and on the bus.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result, ensure};
use eddy_cli::{handed, up::bundle};
use eddy_runtime::dead_letter::DeadLetter;
use eddy_schemas::{BundleAction, Control, ControlKind, names};

use super::Disturb;
use crate::{
    feed,
    judge::Run,
    sandbox::config::Config,
    trial::{CannotRun, Kit, Trial},
};

/// A key of the drill's own: its sandbox trusts it, so that a bundle can be signed and bad all the same.
const KEY: &str = "drill";
/// What is offered.
pub(crate) const BAD: [&str; 3] = ["unsigned", "altered", "misshapen"];

#[derive(Debug)]
pub(crate) struct BadModel {
    folder: PathBuf,
    /// Digests that were asked for on the bus, as controls with these ids.
    smuggled: Vec<String>,
}

impl BadModel {
    /// Makes its bundles in `folder`.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, smuggled: Vec::new() }
    }

    fn key(&self) -> PathBuf {
        self.folder.join(format!("{KEY}.pub"))
    }

    /// `eddy …` in the drill's folder: whether it went well, and what it said.
    async fn eddy(&self, arguments: &[&str]) -> Result<(bool, String)> {
        let eddy = handed::binary("eddy").map_err(|problem| CannotRun(problem.to_string()))?;
        let mut command = tokio::process::Command::new(eddy);
        command.args(arguments).current_dir(&self.folder).stdin(Stdio::null()).kill_on_drop(true);
        let ran = command.output().await?;
        let said = [ran.stdout, ran.stderr].map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
        Ok((ran.status.success(), said.join(" ").trim().to_owned()))
    }

    async fn done(&self, arguments: &[&str]) -> Result<()> {
        let (well, said) = self.eddy(arguments).await?;
        ensure!(well, "eddy {}: {said}", arguments.join(" "));
        Ok(())
    }

    /// The default bundle with another manifest, unsigned; its digest.
    fn altered(&self, from: &Path, name: &str, change: (&str, &str)) -> Result<String> {
        let text = fs::read_to_string(from.join("model.toml"))?;
        ensure!(text.contains(change.0), "the default bundle's manifest does not say {}", change.0);
        let text = text.replacen(change.0, change.1, 1);
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder)?;
        fs::copy(from.join("model.onnx"), folder.join("model.onnx"))?;
        fs::write(folder.join("model.toml"), &text)?;
        Ok(blake3::hash(text.as_bytes()).to_hex().to_string())
    }

    /// Makes all of them from the default one, in `first`; the digest of the unsigned one.
    ///
    /// # Errors
    /// If one cannot be made.
    pub(crate) async fn make(&self, first: &Path) -> Result<String> {
        let secret = format!("{KEY}.key");
        let unsigned = self.altered(first, "unsigned", ("version = \"", "version = \"u-"))?;
        self.altered(first, "altered", ("version = \"", "version = \"a-"))?;
        self.done(&["model", "sign", "altered", "--key", &secret]).await?;
        fs::write(self.folder.join("altered/model.onnx"), b"another graph")?;
        // As many numbers come out of the graph as before, and the manifest says one less.
        self.altered(first, "misshapen", ("dimensions = 16", "dimensions = 15"))?;
        self.done(&["model", "sign", "misshapen", "--key", &secret]).await?;
        Ok(unsigned)
    }

    /// Offers one, which has to be refused.
    ///
    /// # Errors
    /// If the command cannot be run.
    pub(crate) async fn offer(&self, trial: &mut Trial<'_>, name: &str) -> Result<()> {
        let dir = trial.sandbox.dir.display().to_string();
        let (well, said) = self.eddy(&["model", "activate", name, "--dir", &dir]).await?;
        if well {
            trial.problems.push(format!("the {name} bundle was taken: {said}"));
        }
        trial.did(format!("{name} bundle offered"));
        trial.figures.insert(format!("{name}_refused"), said.into());
        Ok(())
    }

    /// Asks for a bundle on the bus, as the follower would once it is satisfied: past all of its checks.
    async fn smuggle(&mut self, trial: &mut Trial<'_>, digest: &str) -> Result<()> {
        let id = format!("drill-{}", self.smuggled.len());
        let kind = ControlKind::Bundle { digest: digest.to_owned(), action: BundleAction::Activate };
        let control = Control { id: id.clone(), origin: "drill".into(), time: 1, kind };
        let context = feed::connect(&trial.sandbox.url()).await?;
        let subject = format!("control.{}.bundle", names::encode(&trial.sandbox.plan.site));
        context.publish(subject, control.to_json().into()).await?.await?;
        trial.did("bundle asked for on the bus");
        self.smuggled.push(id);
        Ok(())
    }
}

impl Disturb for BadModel {
    async fn before(&mut self, _kit: &Kit, config: &mut Config) -> Result<()> {
        config.add("gateway", "trusted_keys", self.key().display().to_string());
        fs::create_dir_all(&self.folder).with_context(|| self.folder.display().to_string())?;
        self.done(&["model", "keygen", KEY, "--no-password"]).await
    }

    async fn act(&mut self, trial: &mut Trial<'_>) -> Result<()> {
        let unsigned = self.make(&bundle::default_place(&trial.sandbox.dir)).await?;
        trial.until(0.3).await?;
        for name in BAD {
            self.offer(trial, name).await?;
        }
        // One that lies among the good ones, unsigned; one that is nowhere.
        let place = bundle::folder(&trial.sandbox.dir).join(&unsigned);
        fs::create_dir_all(&place)?;
        for file in ["model.onnx", "model.toml"] {
            fs::copy(self.folder.join("unsigned").join(file), place.join(file))?;
        }
        self.smuggle(trial, &unsigned).await?;
        self.smuggle(trial, &"0".repeat(64)).await
    }

    async fn clean(&mut self, keep: bool) {
        if !keep {
            // What stays of it is no harm: it lies in a temporary folder.
            let _ = fs::remove_dir_all(&self.folder);
        }
    }

    fn check(&mut self, trial: &mut Trial<'_>, _run: &Run, letters: &[DeadLetter]) {
        for id in &self.smuggled {
            let of = |letter: &&DeadLetter| {
                letter.original().is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(&format!("\"{id}\"")))
            };
            match letters.iter().find(of) {
                Some(letter) => {
                    drop(trial.figures.insert(format!("{id}_refused"), letter.rejection.detail.clone().into()))
                }
                None => trial.problems.push(format!("no dead letter of the control {id}, which asks for a bad bundle")),
            }
        }
    }
}
