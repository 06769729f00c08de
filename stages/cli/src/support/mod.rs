//! `eddy support-bundle`: what somebody who helps from elsewhere needs to see, and nothing that may not leave the gateway.
//!
//! Everything passes through one [`Scrub`] on its way into the archive, whatever it is: secrets by their values, names of devices and
//! channels by pseudonyms. Payloads are never read, but for the names in them.

mod gather;
mod names;
mod redact;

use std::{
    fs::File,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;

use self::redact::Scrub;
use crate::{doctor, gateway::GatewayArgs, output};

/// Text compresses well.
const LEVEL: i32 = 9;

/// Support's part of the command line.
#[derive(Args, Clone, Debug)]
pub struct SupportArgs {
    /// The archive to write
    #[arg(long, value_name = "FILE.tar.zst")]
    pub to: PathBuf,
    /// With the names of devices and channels as they are
    #[arg(long)]
    pub names: bool,
    /// The config file that the gateway runs with [default for a running one: the one that it runs with]
    #[arg(long, env = "EDDY_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Which gateway
    #[command(flatten)]
    pub gateway: GatewayArgs,
}

/// The command.
///
/// # Errors
/// That there is no gateway, or the archive cannot be written.
pub async fn run(args: &SupportArgs) -> anyhow::Result<()> {
    let mut report = doctor::finding::Report::default();
    let patient = doctor::patient(&args.gateway, args.config.clone(), &mut report).await?;
    let report = doctor::examine(&args.gateway, args.config.clone(), Duration::from_secs(6)).await?;
    let mut scrub = Scrub::of_secrets(patient.config_file.as_deref());
    if !args.names {
        match &patient.gateway {
            Some(gateway) => scrub.names(names::known(gateway).await, &gateway.site),
            // Nobody says which words are names.
            None => scrub.note("the gateway did not run: names of devices that stand in the logs are as they are"),
        }
    }
    let mut files = gather::all(&patient).await;
    files.push(("doctor.json".into(), serde_json::to_string_pretty(&report)?));
    files.push(("README.txt".into(), scrub.about(args.names)));
    let files: Vec<_> = files.into_iter().map(|(name, text)| (scrub.text(&name), scrub.text(&text))).collect();
    let bytes = write(&args.to, &files)?;
    output::line(&format!(
        "{}: {} files, {} KB; look at it before you send it",
        args.to.display(),
        files.len(),
        bytes >> 10
    ));
    Ok(())
}

fn write(place: &Path, files: &[(String, String)]) -> anyhow::Result<u64> {
    let open = || File::options().write(true).create_new(true).mode(0o600).open(place);
    let file = open().with_context(|| place.display().to_string())?;
    let mut tar = tar::Builder::new(zstd::Encoder::new(file, LEVEL)?);
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(0);
        tar.append_data(&mut header, format!("eddy-support/{name}"), text.as_bytes())?;
    }
    let file = tar.into_inner()?.finish()?;
    file.sync_all()?;
    Ok(file.metadata()?.len())
}
