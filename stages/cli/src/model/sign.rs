//! `eddy model sign`.

use std::{fmt, fs, path::PathBuf};

use anyhow::{Context as _, ensure};
use clap::Args;
use eddy_runtime::bundle::{Bundle, BundleError};
use minisign::PublicKey;
use serde::Serialize;

use super::{files, keys};

/// What is signed.
#[derive(Args, Clone, Debug)]
pub struct SignArgs {
    /// Folder of the bundle
    pub dir: PathBuf,
    /// The secret key; if it has a password, that is asked for, or taken from EDDY_MODEL_PASSWORD
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// Write the BLAKE3 of model.onnx into model.toml's onnx_digest first
    #[arg(long)]
    pub set_digest: bool,
    /// As one line of JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Serialize)]
struct Signed {
    signature: PathBuf,
    bundle: String,
    version: String,
    digest: String,
    key: String,
    trusted_comment: String,
}

pub(super) fn run(args: &SignArgs) -> anyhow::Result<()> {
    let secret = keys::secret(&args.key)?;
    let manifest = args.dir.join("model.toml");
    if args.set_digest {
        let onnx = args.dir.join("model.onnx");
        let graph = fs::read(&onnx).with_context(|| onnx.display().to_string())?;
        let text = fs::read_to_string(&manifest).with_context(|| manifest.display().to_string())?;
        let digest = blake3::hash(&graph).to_hex();
        let text = with_digest(&text, &digest).with_context(|| manifest.display().to_string())?;
        files::replace(&manifest, &text)?;
    }
    let bundle = Bundle::open(&args.dir, &[], true).map_err(advised)?;
    let (name, version) = (bundle.manifest.name, bundle.manifest.version);
    ensure!(
        !version.contains(char::is_control),
        "version: {version:?} has a control character, so no comment holds it"
    );
    let trusted_comment = format!("eddy bundle {name} {version} blake3:{}", bundle.digest);
    let bytes = fs::read(&manifest).with_context(|| manifest.display().to_string())?;
    ensure!(
        blake3::hash(&bytes).to_hex().as_str() == bundle.digest,
        "{} was changed meanwhile: nothing is signed",
        manifest.display()
    );
    let public = PublicKey::from_secret_key(&secret)?;
    let comment = Some("signature of an eddy bundle");
    let signature = minisign::sign(Some(&public), &secret, bytes.as_slice(), Some(&trusted_comment), comment)?;
    let path = args.dir.join("model.toml.minisig");
    files::replace(&path, &signature.into_string())?;
    Bundle::open(&args.dir, &[public.to_base64()], false).context("what was signed does not verify")?;
    let key = keys::number(public.keynum());
    super::tell(
        args.json,
        &Signed { signature: path, bundle: name, version, digest: bundle.digest, key, trusted_comment },
    )
}

/// What to do about a digest that is wrong.
fn advised(error: BundleError) -> anyhow::Error {
    let is_digest = match &error {
        BundleError::OnnxDigest { .. } => true,
        BundleError::Fields { problems, .. } => problems.iter().any(|problem| problem.starts_with("onnx_digest")),
        _ => false,
    };
    let error = anyhow::Error::from(error);
    if is_digest { error.context("if this model.onnx is the right one, --set-digest writes its digest") } else { error }
}

/// The manifest with another `onnx_digest`, and all else as it stands.
fn with_digest(text: &str, digest: &str) -> anyhow::Result<String> {
    let is_key = |line: &str| line.split_once('=').is_some_and(|(key, _)| key.trim() == "onnx_digest");
    let top = text.lines().take_while(|line| !line.trim_start().starts_with('['));
    let at = top.enumerate().find(|(_, line)| is_key(line)).map(|(at, _)| at);
    let at = at.context("no line `onnx_digest = \"\"` before the first table")?;
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines[at] = format!("onnx_digest = \"{digest}\"");
    Ok(lines.join("\n") + "\n")
}

impl fmt::Display for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { signature, bundle, version, digest, key, .. } = self;
        write!(f, "{}: {bundle} {version}, digest {digest}, signed by key {key}", signature.display())
    }
}
