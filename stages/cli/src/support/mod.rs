//! `eddy support-bundle`: what somebody who helps from elsewhere needs to see, and nothing that may not leave the gateway.
//!
//! Everything passes through one [`Scrub`] on its way into the archive, whatever it is: secrets by their values, names of devices and
//! channels by pseudonyms. Payloads are never read, but for the names in them.

mod config;
mod gather;
mod names;
mod redact;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;

use self::redact::{Names, Scrub};
use crate::{
    doctor::{self, Patient},
    gateway::{DEFAULT_SITE, GatewayArgs},
    output,
};

/// Text compresses well.
const LEVEL: i32 = 9;

/// Support's part of the command line.
#[derive(Args, Clone, Debug)]
pub struct SupportArgs {
    /// The archive to write, or a folder to write eddy-support-SITE-TIME.tar.zst in
    #[arg(long, value_name = "FILE.tar.zst|DIR")]
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
    let place = place(&args.to, &patient);
    anyhow::ensure!(!place.exists(), "{} is there already", place.display());
    let mut scrub = Scrub::of_secrets(patient.config_file.as_deref(), &patient.cwd);
    let names = match &patient.gateway {
        _ if args.names => Names::AsTheyAre,
        Some(gateway) => {
            scrub.names(names::known(gateway).await, &gateway.site);
            Names::Known
        }
        None => {
            scrub.note("nobody answered who knows the names of devices and channels: the logs have them as they are");
            Names::Unknown
        }
    };
    let mut files = gather::all(&patient, args.names).await;
    files.push(("doctor.json".into(), serde_json::to_string_pretty(&report)?));
    files.push(("README.txt".into(), scrub.about(names)));
    let files: Vec<_> = files.into_iter().map(|(name, text)| (scrub.text(&name), scrub.text(&text))).collect();
    let bytes = write(&place, &files).with_context(|| place.display().to_string())?;
    let (count, kilobytes) = (files.len(), bytes >> 10);
    output::line(&format!("{}: {count} files, {kilobytes} KB; look at it before you send it", place.display()));
    scrub.notes().iter().for_each(|note| output::line(&format!("  {note}")));
    Ok(())
}

/// Where the archive will be: in a folder it is called by site and time.
fn place(to: &Path, patient: &Patient) -> PathBuf {
    if !to.is_dir() {
        return to.to_owned();
    }
    let of_gateway = patient.gateway.as_ref().map(|gateway| &gateway.site);
    let site = of_gateway.or(patient.plan.as_ref().map(|plan| &plan.site)).map_or(DEFAULT_SITE, String::as_str);
    let time = eddy_schemas::rfc3339(crate::now() / 1_000_000_000 * 1_000_000_000).replace(['-', ':'], "");
    to.join(format!("eddy-support-{}-{time}.tar.zst", eddy_schemas::names::encode(site)))
}

/// Whole or not at all, and readable by its owner alone.
fn write(place: &Path, files: &[(String, String)]) -> anyhow::Result<u64> {
    let folder = place.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let draft = tempfile::NamedTempFile::new_in(folder)?;
    let mut tar = tar::Builder::new(zstd::Encoder::new(draft.as_file(), LEVEL)?);
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(0);
        tar.append_data(&mut header, format!("eddy-support/{name}"), text.as_bytes())?;
    }
    tar.into_inner()?.finish()?.sync_all()?;
    Ok(draft.persist_noclobber(place)?.metadata()?.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_whole_or_not_there_and_nothing_is_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("a.tar.zst");
        // A name in a tar holds no zero byte.
        assert!(write(&place, &[("x".into(), "text".into()), ("a\0b".into(), String::new())]).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
        let bytes = write(&place, &[("x".into(), "text".into())]).unwrap();
        assert!(bytes > 0 && write(&place, &[]).is_err());
        assert_eq!(place.metadata().unwrap().len(), bytes);
        assert_eq!(std::os::unix::fs::MetadataExt::mode(&place.metadata().unwrap()) & 0o777, 0o600);
    }

    #[test]
    fn in_a_folder_an_archive_has_a_name_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let patient =
            Patient { dir: "/g".into(), cwd: "/".into(), config_file: None, plan: None, file: None, gateway: None };
        let of = |to: &Path| place(to, &patient).file_name().unwrap().to_string_lossy().into_owned();
        let name = of(folder.path());
        assert!(name.starts_with("eddy-support-site-2") && name.ends_with("Z.tar.zst"), "{name}");
        assert_eq!(of(&folder.path().join("x")), "x");
    }
}
