//! Certificates and keys on disk.

use std::{
    fs::{self, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown},
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

/// Whole or not at all, and never readable to others in between. A file that is replaced leaves its mode, owner and group to the new one:
/// whoever was given it reads it on.
fn write(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let new = path.with_extension("new");
    let _ = fs::remove_file(&new);
    let written = || -> io::Result<()> {
        let before = match fs::metadata(path) {
            Ok(before) => Some(before),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let created = if before.is_some() { 0o600 } else { mode };
        let mut file = OpenOptions::new().write(true).create_new(true).mode(created).open(&new)?;
        file.write_all(text.as_bytes())?;
        if let Some(before) = before {
            let own = file.metadata()?;
            if (own.uid(), own.gid()) != (before.uid(), before.gid()) {
                fchown(&file, Some(before.uid()), Some(before.gid()))?;
            }
            file.set_permissions(Permissions::from_mode(before.mode() & 0o777))?;
        }
        file.sync_all()?;
        fs::rename(&new, path)
    };
    written().inspect_err(|_| drop(fs::remove_file(&new))).with_context(|| path.display().to_string())
}
