//! `eddy model keygen`.

use std::{fmt, path::PathBuf};

use anyhow::{Context as _, ensure};
use clap::Args;
use minisign::KeyPair;
use serde::Serialize;

use super::{files, keys};

/// Which keys are made.
#[derive(Args, Clone, Debug)]
pub struct KeygenArgs {
    /// Path of both files without its extension: NAME.key and NAME.pub
    pub name: PathBuf,
    /// Leave the secret key unencrypted; otherwise its password is asked for, or taken from EDDY_MODEL_PASSWORD
    #[arg(long)]
    pub no_password: bool,
    /// As one line of JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Serialize)]
struct Made {
    secret: PathBuf,
    public: PathBuf,
    /// As it goes into `trusted_keys`.
    key: String,
    number: String,
    is_encrypted: bool,
}

pub(super) fn run(args: &KeygenArgs) -> anyhow::Result<()> {
    let with = |extension: &str| {
        let mut path = args.name.clone().into_os_string();
        path.push(extension);
        PathBuf::from(path)
    };
    let (secret, public) = (with(".key"), with(".pub"));
    for path in [&secret, &public] {
        let is_free = path.symlink_metadata().is_err();
        ensure!(is_free, "{} is there already: keys are never overwritten", path.display());
    }
    let (pair, comment) = if args.no_password {
        (KeyPair::generate_unencrypted_keypair(), "minisign secret key, not encrypted")
    } else {
        let password = keys::password(true)?;
        (KeyPair::generate_encrypted_keypair(Some(password)), "minisign encrypted secret key")
    };
    let pair = pair.context("making a key")?;
    // The secret one first: a public key that nothing can sign for would be of no use.
    files::create(&secret, &pair.sk.to_box(Some(comment))?.into_string(), 0o600)?;
    files::create(&public, &pair.pk.to_box()?.into_string(), 0o644)?;
    let (key, number) = (pair.pk.to_base64(), keys::number(pair.pk.keynum()));
    super::tell(args.json, &Made { secret, public, key, number, is_encrypted: !args.no_password })
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.is_encrypted { "encrypted" } else { "NOT encrypted" };
        writeln!(f, "{}  signs bundles, {how}: keep it off the gateways", self.secret.display())?;
        writeln!(f, "{}  key {}; gateways that trust it have", self.public.display(), self.number)?;
        write!(f, "  trusted_keys = [\"{}\"]", self.key)
    }
}
