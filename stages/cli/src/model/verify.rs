//! `eddy model verify`.

use std::{fmt, path::PathBuf};

use clap::Args;
use eddy_runtime::bundle::{Bundle, BundleError};
use serde::Serialize;

use super::{inspect::Signature, keys};

/// What is checked.
#[derive(Args, Clone, Debug)]
pub struct VerifyArgs {
    /// Folder of the bundle
    pub dir: PathBuf,
    /// A public key that may have signed it: base64, or a file .pub; may be repeated
    #[arg(long, value_name = "KEY", required = true, num_args = 1..)]
    pub trusted: Vec<String>,
    /// As one line of JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Serialize)]
struct Verified {
    bundle: String,
    version: String,
    digest: String,
    /// The entry of `--trusted`, and its number.
    trusted: String,
    key: String,
    trusted_comment: Option<String>,
    heads: Vec<String>,
}

pub(super) fn run(args: &VerifyArgs) -> anyhow::Result<()> {
    // Every entry has to be a key, whichever signed.
    let bundle = Bundle::open(&args.dir, &args.trusted, false)?;
    let mut signers =
        args.trusted.iter().filter(|key| Bundle::open(&args.dir, std::slice::from_ref(*key), false).is_ok());
    let Some(trusted) = signers.next().cloned() else {
        let path = args.dir.join("model.toml");
        return Err(BundleError::Altered { path }.into());
    };
    let key = keys::number(keys::public(&trusted)?.keynum());
    let trusted_comment = Signature::read(&args.dir)?.and_then(|signature| signature.trusted_comment);
    let heads = bundle.manifest.heads.iter().map(|head| head.name.clone()).collect();
    let (name, version) = (bundle.manifest.name, bundle.manifest.version);
    let digest = bundle.digest;
    super::tell(args.json, &Verified { bundle: name, version, digest, trusted, key, trusted_comment, heads })
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bundle, version, digest, trusted, key, heads, .. } = self;
        writeln!(f, "good: {bundle} {version}, signed by key {key} ({trusted})")?;
        writeln!(f, "digest: {digest}")?;
        write!(f, "heads: {}", heads.join(", "))
    }
}
