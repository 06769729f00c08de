//! `eddy backup` and `eddy restore`: a gateway's streams, state, config and bundles in one file, and a gateway made of it.
//!
//! A gateway that runs is copied in an order that leaves what a crash leaves (see [`running`]); one that is stopped, file by file.
//! Archive and manifest are the same. Keys and secrets are in it only if that is asked for.

mod archive;
mod files;
mod manifest;
pub mod restore;
mod running;
mod stopped;

pub(crate) use files::below;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

use self::{
    archive::Writer,
    manifest::{FORMAT, Manifest},
};
use crate::{
    gateway::{Gateway, GatewayArgs},
    output, supervise,
    up::{Plan, hold},
};

/// What parts of streams are called that the server sent.
const STREAMS: &str = "streams";
/// Stages whose state must find its input: they hold streams back.
const PATH: [&str; 3] = ["preprocess", "embed", "detect"];

/// Backup's part of the command line.
#[derive(Args, Clone, Debug)]
pub struct BackupArgs {
    /// The archive to write, or a folder to write eddy-SITE-TIME.tar in
    #[arg(long, value_name = "FILE|DIR")]
    pub to: PathBuf,
    /// With the certificates, keys and secrets that the config names
    #[arg(long)]
    pub with_keys: bool,
    /// The config file that a stopped gateway runs with [default for a running one: the one that it runs with]
    #[arg(long, env = "EDDY_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Which gateway
    #[command(flatten)]
    pub gateway: GatewayArgs,
}

/// The command.
///
/// # Errors
/// That something cannot be read or written; then no archive is left.
pub async fn backup(args: &BackupArgs) -> anyhow::Result<()> {
    let dir = std::path::absolute(&args.gateway.bus.dir)?;
    anyhow::ensure!(dir.join("streams").is_dir(), "{} holds no gateway: --dir names its folder", dir.display());
    restore::ensure_whole(&dir)?;
    has_state(&dir)?;
    let (place, manifest, bytes) = match supervise::lock(&dir, "up") {
        Ok(_held) => of_stopped(args, &dir)?,
        Err(supervise::UpError::Busy(..)) => of_running(args, &dir).await?,
        Err(problem) => return Err(problem.into()),
    };
    let how = if manifest.running { "while it ran" } else { "stopped" };
    output::line(&format!(
        "{}: site {}, {how}, {} parts, {:.1} MB",
        place.display(),
        manifest.site,
        manifest.parts.len(),
        bytes as f64 / 1e6
    ));
    manifest.notes.iter().for_each(|note| output::line(&format!("  {note}")));
    if args.with_keys {
        output::line("  keys and secrets are in it: keep it as safe as these");
    }
    Ok(())
}

type Made = (PathBuf, Manifest, u64);

async fn of_running(args: &BackupArgs, dir: &Path) -> anyhow::Result<Made> {
    let gateway = args.gateway.connect().await?;
    let file = gateway.file.clone().unwrap_or_default();
    let is_its_own = args.gateway.bus.url.is_none() || gateway.file.is_some();
    anyhow::ensure!(is_its_own, "--url names another gateway than the one that runs in {}", dir.display());
    let site = &gateway.site;
    anyhow::ensure!(
        file.site.is_empty() || file.site == *site,
        "the gateway in {} is of site {:?}, not {site:?}",
        dir.display(),
        file.site
    );
    let _held = hold::janitor(dir).await.context("waiting for the janitor")?;
    let manifest = manifest_of(args, &gateway.site, file.shards.max(1), true);
    let (place, mut writer) = begin(args, &manifest)?;
    let config = args.config.clone().or_else(|| file.config_file.clone());
    let stored = store_running(&mut writer, dir, &gateway, config.as_deref(), manifest).await;
    finish(place, writer, stored)
}

async fn store_running(
    writer: &mut Writer,
    dir: &Path,
    gateway: &Gateway,
    config: Option<&Path>,
    mut manifest: Manifest,
) -> anyhow::Result<Manifest> {
    running::store(writer, dir, gateway, &mut manifest).await?;
    files::store_config(writer, config, &mut manifest)?;
    Ok(manifest)
}

fn of_stopped(args: &BackupArgs, dir: &Path) -> anyhow::Result<Made> {
    let mut plan = Plan::load(dir, args.config.as_deref())?;
    if let Some(site) = &args.gateway.site {
        plan.site.clone_from(site);
    }
    if let Some(site) = stopped::site_of(dir) {
        anyhow::ensure!(
            site == plan.site,
            "the gateway in {} is of site {site:?}, not {:?}: name the config that it runs with (--config), or --site",
            dir.display(),
            plan.site
        );
    }
    let manifest = manifest_of(args, &plan.site, plan.shards, false);
    let (place, mut writer) = begin(args, &manifest)?;
    let stored = stopped::store(&mut writer, dir, args.config.as_deref(), manifest);
    finish(place, writer, stored)
}

fn begin(args: &BackupArgs, manifest: &Manifest) -> anyhow::Result<(PathBuf, Writer)> {
    let place = if args.to.is_dir() {
        let time = manifest.made_at.replace(['-', ':'], "");
        args.to.join(format!("eddy-{}-{time}.tar", eddy_schemas::names::encode(&manifest.site)))
    } else {
        args.to.clone()
    };
    let writer = Writer::create(&place)?;
    Ok((place, writer))
}

fn finish(place: PathBuf, writer: Writer, stored: anyhow::Result<Manifest>) -> anyhow::Result<Made> {
    // A writer that is dropped leaves nothing.
    let (manifest, bytes) = writer.finish(stored?)?;
    Ok((place, manifest, bytes))
}

/// That the state of the stages is here to be copied: without it their checkpoints lead nowhere.
fn has_state(dir: &Path) -> anyhow::Result<()> {
    let state = dir.join("state");
    let is_there = below(&state).iter().any(|file| file.ends_with("data.mdb"));
    anyhow::ensure!(
        is_there,
        "{} holds no state: where stages keep it elsewhere (containers, systemd), stop the gateway and copy its volumes or folders",
        state.display()
    );
    Ok(())
}

fn manifest_of(args: &BackupArgs, site: &str, shards: u32, running: bool) -> Manifest {
    Manifest {
        format: FORMAT,
        eddy: env!("CARGO_PKG_VERSION").to_owned(),
        site: site.to_owned(),
        shards,
        made_at: eddy_schemas::rfc3339(crate::now() / 1_000_000_000 * 1_000_000_000),
        running,
        with_keys: args.with_keys,
        positions: std::collections::BTreeMap::new(),
        streams: std::collections::BTreeMap::new(),
        from: std::collections::BTreeMap::new(),
        notes: Vec::new(),
        parts: Vec::new(),
    }
}

/// Whether a state's folder, named after stage and shard, is of a stage that holds streams back.
fn is_on_path(state: &str) -> bool {
    state.rsplit_once('-').is_some_and(|(stage, _)| PATH.contains(&stage))
}
