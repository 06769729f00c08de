//! Certificates and keys on disk.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use eddy_schemas::names;

/// What became of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Made {
    /// There was none.
    New,
    /// There was one that is no good any more, or not what is asked for.
    Again,
    /// There is a good one.
    Kept,
}

/// The files' name without its extension.
pub(super) fn stem(name: &str) -> String {
    names::encode(name)
}

/// Where a certificate and its key are.
pub(super) struct Pair {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
}

impl Pair {
    pub(super) fn of(folder: &Path, name: &str) -> Self {
        let at = |extension: &str| folder.join(format!("{}.{extension}", stem(name)));
        Self { cert: at("pem"), key: at("key") }
    }

    /// Both, if the certificate is there.
    pub(super) fn read(&self) -> anyhow::Result<Option<(String, String)>> {
        let cert = match fs::read_to_string(&self.cert) {
            Ok(cert) => cert,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| self.cert.display().to_string()),
        };
        let key = fs::read_to_string(&self.key)
            .with_context(|| format!("{} belongs to {}", self.key.display(), self.cert.display()))?;
        Ok(Some((cert, key)))
    }

    /// The key first: a certificate never stands without it.
    pub(super) fn write(&self, cert: &str, key: &str) -> anyhow::Result<()> {
        write(&self.key, key, 0o600)?;
        write(&self.cert, cert, 0o644)
    }
}

/// Whole or not at all, and never readable to others in between.
fn write(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let new = path.with_extension("new");
    let _ = fs::remove_file(&new);
    let written = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    written().with_context(|| path.display().to_string())
}
