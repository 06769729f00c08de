//! Files into the archive: what lies in the gateway's folder, and what its config names outside of it.

use std::{
    fs::File,
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use super::{archive::Writer, manifest::Manifest};
use crate::{config_files, watch::act};

/// What parts of the gateway's own folder are called.
pub const FILES: &str = "files";
/// The config file's part.
pub const CONFIG: &str = "config.toml";
/// What parts of keys and secrets begin with.
pub const KEYS: &str = "keys";
/// Locks and LMDB's tables of readers mean nothing elsewhere; they are made again.
const PASSING: [&str; 4] = ["lock.mdb", "writer.lock", "lock", "audit.lock"];
/// What lies in the gateway's folder beside streams and state: bundles, and what operators said. Both only grow; of a log's line that is
/// being written its next writer drops the part that was copied.
pub const BESIDE: [&str; 2] = ["bundles", act::FOLDER];

/// A file of the gateway's folder that is open, so that it can be read to its end even if it is removed.
pub struct Opened {
    /// The part's name.
    pub name: String,
    mode: u32,
    file: File,
}

impl Opened {
    /// Opens `path`, which lies below `dir`.
    ///
    /// # Errors
    /// That it is not there.
    pub fn new(dir: &Path, path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let mode = file.metadata()?.mode() & 0o777;
        Ok(Self { name: part(dir, path), mode, file })
    }

    /// The same, to be its owner's alone where it is restored.
    pub fn private(self) -> Self {
        Self { mode: 0o600, ..self }
    }

    /// Puts it into the archive.
    ///
    /// # Errors
    /// That it cannot be read, or the archive not be written.
    pub fn store(self, writer: &mut Writer) -> anyhow::Result<()> {
        let name = self.name.clone();
        writer.copy(self.name, self.mode, self.file).with_context(|| name)
    }
}

/// What a file of the gateway's folder is called in the archive.
pub fn part(dir: &Path, path: &Path) -> String {
    format!("{FILES}/{}", path.strip_prefix(dir).unwrap_or(path).display())
}

/// Every file below `folder`, in order; none if it is not there. What is made or removed meanwhile may be missing.
pub fn below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else { return found };
    for entry in entries.flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(below(&entry.path())),
            Ok(kind) if kind.is_file() && !PASSING.iter().any(|name| entry.file_name() == *name) => {
                found.push(entry.path());
            }
            _ => {}
        }
    }
    found.sort();
    found
}

/// Everything below `DIR/<folder>`, which nobody changes.
///
/// # Errors
/// That something cannot be read, or the archive not be written.
pub fn store_below(writer: &mut Writer, dir: &Path, folder: &str) -> anyhow::Result<()> {
    for path in below(&dir.join(folder)) {
        Opened::new(dir, &path).with_context(|| path.display().to_string())?.store(writer)?;
    }
    Ok(())
}

/// The config, and, if they are wanted, the files that it names.
///
/// # Errors
/// That one of them cannot be read, or the archive not be written.
pub fn store_config(writer: &mut Writer, config: Option<&Path>, manifest: &mut Manifest) -> anyhow::Result<()> {
    let Some(config) = config else {
        manifest.notes.push("the gateway ran without a config file".into());
        return Ok(());
    };
    let file = File::open(config).with_context(|| config.display().to_string())?;
    writer.copy(CONFIG.to_owned(), 0o600, file)?;
    manifest.from.insert(CONFIG.to_owned(), config.to_owned());
    let named = config_files::named(config)?;
    if !manifest.with_keys {
        let keys = named.iter().map(|named| format!("{} = {}", named.key, named.path.display()));
        manifest.notes.extend(keys.map(|key| format!("not in it (--with-keys): {key}")));
        return Ok(());
    }
    for (index, named) in named.iter().enumerate() {
        let name = named.path.file_name().unwrap_or_default().to_string_lossy();
        let part = format!("{KEYS}/{index}-{name}");
        let file = File::open(&named.path).with_context(|| format!("{} = {}", named.key, named.path.display()))?;
        writer.copy(part.clone(), 0o600, file)?;
        manifest.from.insert(part, named.path.clone());
    }
    Ok(())
}
