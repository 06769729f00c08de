//! A gateway that does not run, copied file by file; the caller holds its lock.

use std::path::Path;

use eddy_schemas::names;

use super::{archive::Writer, files, manifest::Manifest};

/// The folders that are a gateway.
const FOLDERS: [&str; 2] = ["streams", "state"];

/// Copies streams, state, what lies beside them, and the config.
///
/// # Errors
/// That something cannot be read, or the archive not be written.
pub fn store(
    writer: &mut Writer,
    dir: &Path,
    config: Option<&Path>,
    mut manifest: Manifest,
) -> anyhow::Result<Manifest> {
    for folder in FOLDERS.into_iter().chain(files::BESIDE) {
        files::store_below(writer, dir, folder)?;
    }
    files::store_config(writer, config, &mut manifest)?;
    Ok(manifest)
}

/// The site whose streams lie in `dir`, as far as nats-server's own files say it; they do not where they are encrypted.
pub fn site_of(dir: &Path) -> Option<String> {
    let is_config = |path: &std::path::PathBuf| path.ends_with("READINGS/meta.inf");
    let file = files::below(&dir.join("streams")).into_iter().find(is_config)?;
    let meta: serde_json::Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    let subject = meta["subjects"][0].as_str()?;
    subject.split('.').nth(1).map(names::decode)
}
