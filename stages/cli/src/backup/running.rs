//! A gateway that runs, copied in such an order that what comes out is what a crash leaves.
//!
//! First each stage's state, then the streams, from the end of the path to its beginning. So every state is behind its
//! checkpoint, and every checkpoint behind its input: at the next start the stages replay from their states, and keep quiet up to
//! their checkpoints. Side outputs come before the main ones (they lead the checkpoint after a crash too), and bundles last (whatever a
//! control names is there before the control). The janitor waits meanwhile: nothing is removed that a copied state needs.

use std::{
    io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use eddy_runtime::{position::Position, state};

use super::{
    archive::{PartWriter, Writer},
    files::{self, Opened},
    manifest::{Manifest, StreamPart},
};
use crate::gateway::Gateway;

/// Streams in the order in which they are read; others come before the last two, which only devices and operators write.
const ORDER: [&str; 9] =
    ["SIDE", "HEALTH", "CONTEXT", "DETECTIONS", "EMBEDDINGS", "SAMPLES", "READINGS", "REGION", "MODELS"];
const LAST: [&str; 2] = ["CONTROL", "INGEST"];
/// The stage whose store and CONTEXT must be of one moment: it tells a context again whose note of having been told is not in its
/// store, unless it is the last one of its device.
const INDEX: &str = "index";
const CONTEXT: &str = "CONTEXT";
/// So often that moment is tried for.
const MOMENTS: u32 = 5;

/// Copies state, streams, and what lies beside them.
///
/// # Errors
/// That something cannot be read, or the archive not be written.
pub async fn store(writer: &mut Writer, dir: &Path, gateway: &Gateway, manifest: &mut Manifest) -> anyhow::Result<()> {
    let scratch = tempfile::tempdir_in(writer.folder()).context("beside the archive")?;
    let index = dir.join("state").join(INDEX);
    for folder in environments(&dir.join("state")).into_iter().filter(|folder| *folder != index) {
        let copy = copy_state(dir, &folder, scratch.path(), manifest)?;
        store_all(writer, copy)?;
    }
    let streams = gateway.client.streams("").await?;
    if environments(&index).is_empty() {
        copy_stream(writer, gateway, CONTEXT, manifest).await?.map_or(Ok(()), |part| writer.end(part))?;
    } else {
        store_index(writer, dir, gateway, scratch.path(), manifest).await?;
    }
    for name in in_order(&streams).into_iter().filter(|name| *name != CONTEXT) {
        copy_stream(writer, gateway, name, manifest).await?.map_or(Ok(()), |part| writer.end(part))?;
    }
    for folder in files::BESIDE {
        files::store_below(writer, dir, folder)?;
    }
    fits(manifest)
}

fn in_order(streams: &[String]) -> Vec<&str> {
    let known = |name: &str| ORDER.iter().chain(&LAST).any(|known| *known == name);
    let others = streams.iter().map(String::as_str).filter(|name| !known(name));
    let is_there = |name: &&str| streams.iter().any(|stream| stream == name);
    let first = ORDER.into_iter().filter(is_there);
    first.chain(others).chain(LAST.into_iter().filter(is_there)).collect()
}

/// The folders at or below `folder` that hold an LMDB environment which is written to.
fn environments(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    if folder.join("data.mdb").is_file() && folder.join("lock.mdb").is_file() {
        found.push(folder.to_owned());
    }
    if let Ok(entries) = std::fs::read_dir(folder) {
        let mut folders: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
        folders.sort();
        found.extend(folders.iter().flat_map(|folder| environments(folder)));
    }
    found
}

/// The files beside an environment's own: an index's segments, which never change once the catalog names them.
fn beside(dir: &Path, folder: &Path, known: &mut Vec<Opened>) {
    let own = folder.join("data.mdb");
    for path in files::below(folder).into_iter().filter(|path| *path != own) {
        let name = files::part(dir, &path);
        // One that is gone already is named by no catalog that is copied after it.
        if let (false, Ok(opened)) = (known.iter().any(|known| known.name == name), Opened::new(dir, &path)) {
            known.push(opened);
        }
    }
}

/// A copy of one environment, with what lies beside it: opened before the copy, so that what its catalog names is there even if
/// it is removed meanwhile, and again after it, for what is new.
fn copy_state(dir: &Path, folder: &Path, scratch: &Path, manifest: &mut Manifest) -> anyhow::Result<Vec<Opened>> {
    let name = folder.strip_prefix(dir).unwrap_or(folder);
    let copy = scratch.join(name).join("data.mdb");
    std::fs::create_dir_all(scratch.join(name))?;
    let mut opened = Vec::new();
    beside(dir, folder, &mut opened);
    let copied = state::copy(folder, &copy)?;
    beside(dir, folder, &mut opened);
    // As private as the store itself: the copy's permissions are a scratch file's.
    opened.push(Opened::new(scratch, &copy)?.private());
    std::fs::remove_file(&copy)?;
    if let Some(position) = copied.position {
        let stage = name.strip_prefix("state").unwrap_or(name).display().to_string();
        manifest.positions.insert(stage, position.to_string());
    }
    Ok(opened)
}

fn store_all(writer: &mut Writer, opened: Vec<Opened>) -> anyhow::Result<()> {
    opened.into_iter().try_for_each(|opened| opened.store(writer))
}

/// The index's store and CONTEXT, between which nothing was told.
async fn store_index(
    writer: &mut Writer,
    dir: &Path,
    gateway: &Gateway,
    scratch: &Path,
    manifest: &mut Manifest,
) -> anyhow::Result<()> {
    let folder = dir.join("state").join(INDEX);
    for moment in 1.. {
        let before = gateway.client.stream(CONTEXT).await?.map_or(0, |info| info.last_sequence);
        let copy = copy_state(dir, &folder, scratch, manifest)?;
        let part = copy_stream(writer, gateway, CONTEXT, manifest).await?;
        let after = manifest.streams.get(CONTEXT).map_or(0, |stream| stream.snapshot.last_sequence());
        if after != before && moment < MOMENTS {
            continue;
        }
        if after != before {
            manifest.notes.push(format!(
                "contexts {} to {after} were told while the index was copied: some may be told again",
                before + 1
            ));
        }
        store_all(writer, copy)?;
        return part.map_or(Ok(()), |part| writer.end(part)).map_err(Into::into);
    }
    Ok(())
}

/// One stream; `None` where there is none of that name.
async fn copy_stream(
    writer: &Writer,
    gateway: &Gateway,
    name: &str,
    manifest: &mut Manifest,
) -> anyhow::Result<Option<PartWriter>> {
    let Some(info) = gateway.client.stream(name).await? else { return Ok(None) };
    let mut part = writer.begin(format!("{}/{name}", super::STREAMS), 0o600)?;
    let snapshot = gateway.client.snapshot(name, |bytes| io::Write::write_all(&mut part, bytes)).await?;
    manifest.streams.insert(name.to_owned(), StreamPart { incarnation: info.incarnation, snapshot });
    Ok(Some(part))
}

/// That the streams hold what the states need: a janitor of an earlier release knows no hold.
fn fits(manifest: &Manifest) -> anyhow::Result<()> {
    for (stage, position) in &manifest.positions {
        let position: Position = position.parse()?;
        for (stream, place) in &position.0 {
            let Some(there) = manifest.streams.get(stream).filter(|_| super::is_on_path(stage)) else { continue };
            let (next, first) = (place.next_sequence(), there.snapshot.first_sequence());
            anyhow::ensure!(
                next >= first,
                "{stage} was copied at message {next} of {stream}, which was purged up to {first} meanwhile: try again"
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_read_from_the_end_of_the_path_to_its_beginning() {
        let streams = ["CONTROL", "DETECTIONS", "EMBEDDINGS", "INGEST", "KV_X", "READINGS", "SAMPLES", "SIDE"];
        let streams = streams.map(str::to_owned);
        let expected = ["SIDE", "DETECTIONS", "EMBEDDINGS", "SAMPLES", "READINGS", "KV_X", "CONTROL", "INGEST"];
        assert_eq!(in_order(&streams), expected);
    }
}
