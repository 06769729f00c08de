//! `eddy restore`: a gateway made of a backup, in a folder that holds none.

use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Args;
use eddy_runtime::{
    client::{Client, Endpoint},
    identity::Identity,
};

use super::{
    STREAMS, archive,
    files::{CONFIG, FILES, KEYS},
    manifest::Manifest,
};
use crate::{
    output,
    supervise::{Machine, MachinePlan, server::Access},
    up::{self, Plan, users::OPERATOR},
};

/// Beside what is being restored, until all of it is there; held locked meanwhile.
const UNFINISHED: &str = "restore.unfinished";
/// What a new file system of its own has.
const NOT_OURS: &str = "lost+found";
/// Where the streams' parts wait for the server, below the gateway's folder.
const WAITING: &str = "run/restore";

/// Restore's part of the command line.
#[derive(Args, Clone, Debug)]
pub struct RestoreArgs {
    /// What `eddy backup` wrote
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The folder that the gateway will be in: it must not be there, or be empty
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// The config that it will run with [default: the one in the backup]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Its site, which must be the backup's [default: the config's]
    #[arg(long, value_name = "NAME")]
    pub site: Option<String>,
}

/// The command.
///
/// # Errors
/// That the archive is damaged or of another site, that the folder is not empty, or that the streams are not taken; then nothing is
/// left in the folder.
pub async fn run(args: &RestoreArgs) -> anyhow::Result<()> {
    // The folder first: reading a large archive for nothing would be a pity.
    let dir = std::path::absolute(&args.dir)?;
    let is_new = is_new(&dir)?;
    let manifest = archive::verify(&args.file)?;
    std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    let _alone = begin(&dir)?;
    let made = make(args, &dir, &manifest).await;
    if let Err(problem) = made.and_then(|()| Ok(std::fs::remove_file(dir.join(UNFINISHED))?)) {
        clear(&dir, is_new);
        return Err(problem);
    }
    tell(args, &dir, &manifest);
    Ok(())
}

/// Whether the folder is not there yet.
fn is_new(dir: &Path) -> anyhow::Result<bool> {
    match names(dir) {
        Ok(names) => {
            let is_free = names.is_empty() || names.iter().any(|name| name == UNFINISHED);
            anyhow::ensure!(is_free, not_empty(dir));
            Ok(false)
        }
        Err(problem) if problem.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(problem) => Err(problem).with_context(|| dir.display().to_string()),
    }
}

/// What is in the folder, as far as it may be a gateway's.
fn names(dir: &Path) -> io::Result<Vec<OsString>> {
    let entries = std::fs::read_dir(dir)?;
    Ok(entries.flatten().map(|entry| entry.file_name()).filter(|name| name != NOT_OURS).collect())
}

fn not_empty(dir: &Path) -> String {
    format!("{} is not empty: nothing is written over a gateway", dir.display())
}

/// Marks the folder as one that is not whole yet, for this process alone. Only what an earlier try left, which has the mark, is cleared:
/// while the archive was read somebody may have put a gateway there.
fn begin(dir: &Path) -> anyhow::Result<File> {
    let path = dir.join(UNFINISHED);
    let (marker, is_ours) = match File::options().write(true).create_new(true).open(&path) {
        Ok(marker) => (Ok(marker), true),
        Err(problem) if problem.kind() == io::ErrorKind::AlreadyExists => {
            (File::options().write(true).open(&path), false)
        }
        Err(problem) => (Err(problem), false),
    };
    let marker = marker.with_context(|| path.display().to_string())?;
    anyhow::ensure!(marker.try_lock().is_ok(), "another restore into {} is running", dir.display());
    if is_ours {
        if names(dir)?.iter().any(|name| name != UNFINISHED) {
            std::fs::remove_file(&path)?;
            anyhow::bail!(not_empty(dir));
        }
    } else {
        // Whoever held it may have come to its end between the look and the lock.
        let is_it = path.metadata().is_ok_and(|there| marker.metadata().is_ok_and(|held| there.ino() == held.ino()));
        anyhow::ensure!(is_it, not_empty(dir));
        clear_all_but(dir, &[NOT_OURS, UNFINISHED]);
    }
    marker.sync_all()?;
    Ok(marker)
}

/// That a folder is not one whose restore was interrupted: to start it would make new streams in the place of those that are missing.
///
/// # Errors
/// That it is.
pub fn ensure_whole(dir: &Path) -> anyhow::Result<()> {
    anyhow::ensure!(
        !dir.join(UNFINISHED).exists(),
        "{} was not restored to its end: `eddy restore` into it once more, which begins anew",
        dir.display()
    );
    Ok(())
}

async fn make(args: &RestoreArgs, dir: &Path, manifest: &Manifest) -> anyhow::Result<()> {
    archive::parts(&args.file, &mut |name, mode, content| {
        let path = place(dir, name).with_context(|| format!("{name}: of another release"))?;
        write(&path, mode, content).with_context(|| path.display().to_string())
    })?;
    let own = dir.join(CONFIG);
    name_keys(dir, manifest)?;
    let config = args.config.clone().or_else(|| own.is_file().then_some(own));
    let mut plan = Plan::load(dir, config.as_deref())?;
    if let Some(site) = &args.site {
        plan.site.clone_from(site);
    } else if config.is_none() {
        // It ran without a config: its site was given by hand, or is the default one.
        plan.site.clone_from(&manifest.site);
    }
    anyhow::ensure!(
        (plan.site == manifest.site) && plan.shards == manifest.shards,
        "the backup is of site {:?} with {} shards, the config of {:?} with {}: subjects and alerts carry the name; give the \
         config of that site (--config), or its name (--site)",
        manifest.site,
        manifest.shards,
        plan.site,
        plan.shards
    );
    if manifest.running {
        fill(dir, &mut plan, manifest).await?;
    }
    Ok(())
}

/// Has the restored config name its keys where they are now.
fn name_keys(dir: &Path, manifest: &Manifest) -> anyhow::Result<()> {
    let path = dir.join(CONFIG);
    if !path.is_file() {
        return Ok(());
    }
    let mut text = std::fs::read_to_string(&path)?;
    for (part, from) in manifest.from.iter().filter(|(part, _)| *part != CONFIG) {
        let (was, now) = (from.display().to_string(), dir.join(part).display().to_string());
        for quote in ['"', '\''] {
            text = text.replace(&format!("{quote}{was}{quote}"), &format!("{quote}{now}{quote}"));
        }
    }
    std::fs::write(&path, text).with_context(|| path.display().to_string())
}

/// Where a part goes.
fn place(dir: &Path, name: &str) -> Option<PathBuf> {
    if name == CONFIG {
        return Some(dir.join(CONFIG));
    }
    let (kind, rest) = name.split_once('/')?;
    match kind {
        FILES => Some(dir.join(rest)),
        KEYS => Some(dir.join(KEYS).join(rest)),
        STREAMS => Some(dir.join(WAITING).join(rest)),
        _ => None,
    }
}

fn write(path: &Path, mode: u32, content: &mut dyn Read) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    io::copy(content, &mut file)?;
    file.sync_all()
}

/// Gives the streams to a server of the gateway's own, on a free port, and stops it.
async fn fill(dir: &Path, plan: &mut Plan, manifest: &Manifest) -> anyhow::Result<()> {
    plan.config.machine.listen_on(0);
    let machine = Machine::start(&MachinePlan {
        kind: up::KIND,
        dir,
        config: &plan.config.machine,
        server_name: format!("eddy-{}", eddy_schemas::names::encode(&plan.site)),
        access: Access { host: "127.0.0.1".into(), ..plan.access()? },
        about: serde_json::json!({ "site": plan.site, "shards": plan.shards }),
        loud: false,
    })
    .await?;
    let identity = plan.key_of(OPERATOR).map_or(Identity::Nobody, Identity::NKey);
    let endpoint = Endpoint { identity, ..Endpoint::new(machine.file().url, "eddy-restore") };
    let filled = fill_streams(dir, &endpoint, manifest).await;
    machine.stop().await;
    filled?;
    std::fs::remove_dir_all(dir.join(WAITING)).context("what the server has now")
}

async fn fill_streams(dir: &Path, endpoint: &Endpoint, manifest: &Manifest) -> anyhow::Result<()> {
    let client = Client::connect(endpoint).await?;
    for (name, stream) in &manifest.streams {
        let mut file = File::open(dir.join(WAITING).join(name)).with_context(|| format!("stream {name}"))?;
        client.restore(name, &stream.snapshot, stream.incarnation, |buffer| file.read(buffer)).await?;
        let info = client.stream(name).await?.with_context(|| format!("stream {name} is not there"))?;
        // Positions name it: a stream that was created another time would be another stream to every stage.
        anyhow::ensure!(
            info.incarnation == stream.incarnation && info.last_sequence >= stream.snapshot.last_sequence(),
            "stream {name} was restored as one of {} up to message {}, not of {} up to {}",
            eddy_schemas::rfc3339(info.incarnation),
            info.last_sequence,
            eddy_schemas::rfc3339(stream.incarnation),
            stream.snapshot.last_sequence()
        );
    }
    Ok(())
}

/// Removes what was made: the folder was empty, or not there.
fn clear(dir: &Path, is_new: bool) {
    // What cannot be removed is marked as unfinished, and the next try begins with removing it.
    if is_new {
        let _ = std::fs::remove_dir_all(dir);
        return;
    }
    clear_all_but(dir, &[NOT_OURS, UNFINISHED]);
    let _ = std::fs::remove_file(dir.join(UNFINISHED));
}

fn clear_all_but(dir: &Path, kept: &[&str]) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if kept.iter().all(|name| entry.file_name() != *name) {
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let _ = if is_folder { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
        }
    }
}

fn tell(args: &RestoreArgs, dir: &Path, manifest: &Manifest) {
    let shown = |text: &dyn std::fmt::Display| output::printable(&text.to_string());
    let config = args.config.clone().or_else(|| Some(dir.join(CONFIG)).filter(|path| path.is_file()));
    // Without a config the site was given by hand.
    let how =
        config.map_or_else(|| format!("--site '{}'", manifest.site), |path| format!("--config {}", path.display()));
    output::line(&format!(
        "site {} as it was at {}, in {}",
        shown(&manifest.site),
        shown(&manifest.made_at),
        dir.display()
    ));
    manifest.notes.iter().for_each(|note| output::line(&format!("  {}", shown(note))));
    for (part, from) in manifest.from.iter().filter(|(part, _)| *part != CONFIG) {
        let (now, was) = (dir.join(part).display().to_string(), from.display().to_string());
        output::line(&format!("  {} was at {}; config.toml names it where it is now", shown(&now), shown(&was)));
    }
    output::line(&format!("start it: eddy up --dir {} {}", dir.display(), shown(&how)));
    output::line(
        "if it had sent to a region since then, sync stops and says so: `eddy-sync recover` begins a new chain",
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_taken_if_nothing_of_a_gateway_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("gateway");
        assert!(is_new(&dir).unwrap());
        std::fs::create_dir_all(dir.join(NOT_OURS)).unwrap();
        assert!(!is_new(&dir).unwrap());
        std::fs::write(dir.join("config.toml"), "").unwrap();
        assert!(is_new(&dir).unwrap_err().to_string().contains("not empty"));
    }

    #[test]
    fn a_gateway_that_came_while_the_archive_was_read_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!is_new(folder.path()).unwrap());
        std::fs::create_dir(folder.path().join("streams")).unwrap();
        assert!(begin(folder.path()).unwrap_err().to_string().contains("not empty"));
        assert_eq!(names(folder.path()).unwrap(), ["streams"]);
    }

    #[test]
    fn what_an_interrupted_restore_left_is_no_gateway_and_the_next_one_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        let held = begin(dir).unwrap();
        std::fs::create_dir_all(dir.join("streams/READINGS")).unwrap();
        assert!(begin(dir).unwrap_err().to_string().contains("another restore"));
        // It is killed.
        drop(held);
        assert!(ensure_whole(dir).unwrap_err().to_string().contains("once more"));
        assert!(!is_new(dir).unwrap());
        let _held = begin(dir).unwrap();
        assert!(!dir.join("streams").exists());
        clear(dir, false);
        ensure_whole(dir).unwrap();
        assert_eq!(std::fs::read_dir(dir).unwrap().count(), 0);
    }
}
