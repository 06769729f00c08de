//! The demo's folders: each machine's, its config file as a person would write it, the certificates, and each site's share of the
//! recording.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use crate::certs::{self, CertsArgs};

/// Names of sites.
pub(super) const SITES: [&str; 8] = ["north", "south", "east", "west", "hill", "lake", "bridge", "park"];
/// What a file of the recording ends with.
const RECORDED: &str = ".csv.gz";

/// All of it.
pub struct Layout {
    certs: PathBuf,
    /// The hub machine's folder.
    pub hub: PathBuf,
    /// Its config file.
    pub hub_config: PathBuf,
    /// The sites.
    pub sites: Vec<SiteLayout>,
}

/// A site's.
#[derive(Clone, Debug)]
pub struct SiteLayout {
    /// Its name.
    pub name: String,
    /// The gateway's folder.
    pub dir: PathBuf,
    /// Its config file.
    pub config: PathBuf,
    /// Its share of the recording.
    pub recording: PathBuf,
    /// Whose readings are in it.
    pub devices: Vec<String>,
    certs: PathBuf,
}

impl Layout {
    /// Makes everything in `dir` but the gateways' configs, which name the links.
    ///
    /// # Errors
    /// If a file cannot be read or written, or there are fewer recorded devices than sites.
    pub fn make(dir: &Path, recording: &Path, sites: usize) -> anyhow::Result<Self> {
        let dir = fs::canonicalize(dir).with_context(|| dir.display().to_string())?;
        let certs = dir.join("certs");
        let names: Vec<String> = SITES[..sites.min(SITES.len())].iter().map(|name| (*name).to_owned()).collect();
        certs::make(&CertsArgs {
            out: certs.clone(),
            hosts: Vec::new(),
            sites: names.clone(),
            readers: Vec::new(),
            labelers: Vec::new(),
            operators: Vec::new(),
            days: 7,
            renew: None,
        })?;
        let hub_config = dir.join("hub.toml");
        let text = format!(
            "[region]\nport = 0\nmonitor_port = 0\n\n[region.tls]\nca_file = {:?}\ncert_file = {:?}\nkey_file = {:?}\n\n\
             [hub]\nsites = {names:?}\nshards = 2\nsite_mb = 256\n",
            certs.join("ca.pem"),
            certs.join("hub.pem"),
            certs.join("hub.key"),
        );
        fs::write(&hub_config, text).with_context(|| hub_config.display().to_string())?;
        let shares = shares(recording, names.len())?;
        let site = |(name, files): (String, Vec<PathBuf>)| SiteLayout::make(&dir, &certs, name, &files);
        let sites = names.into_iter().zip(shares).map(site).collect::<anyhow::Result<_>>()?;
        Ok(Self { hub: dir.join("hub"), certs, hub_config, sites })
    }

    /// A plain client at the hub's server that may do everything.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn connect(&self, url: &str) -> anyhow::Result<async_nats::Client> {
        let file = |name: &str| self.certs.join(name);
        let options = async_nats::ConnectOptions::new()
            .add_root_certificates(file("ca.pem"))
            .add_client_certificate(file("hub.pem"), file("hub.key"))
            .require_tls(true);
        options.connect(url).await.with_context(|| url.to_owned())
    }
}

impl SiteLayout {
    fn make(dir: &Path, certs: &Path, name: String, files: &[PathBuf]) -> anyhow::Result<Self> {
        let recording = dir.join(format!("{name}-recording"));
        fs::create_dir_all(&recording).with_context(|| recording.display().to_string())?;
        let mut devices = Vec::new();
        for file in files {
            let name = file.file_name().unwrap_or_default();
            std::os::unix::fs::symlink(file, recording.join(name)).with_context(|| file.display().to_string())?;
            let stem = name.to_string_lossy();
            devices.push(eddy_schemas::names::decode(stem.strip_suffix(RECORDED).unwrap_or(&stem)));
        }
        let (own, config) = (dir.join(&name), dir.join(format!("{name}.toml")));
        Ok(Self { name, dir: own, config, recording, devices, certs: certs.to_owned() })
    }

    /// Writes its config, with its link to the region, and keys of the table `sync` that are not as shipped.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn configure(&self, link: SocketAddr, sync: &str) -> anyhow::Result<()> {
        let file = |extension: &str| self.certs.join(format!("site-{}.{extension}", self.name));
        let text = format!(
            "[site]\nname = {:?}\n\n[gateway]\nport = 0\nmonitor_port = 0\n\n\
             [sync]\n{sync}\n\n\
             [sync.hub]\nurl = \"tls://{link}\"\ntls_ca_file = {:?}\ntls_cert_file = {:?}\ntls_key_file = {:?}\n",
            self.name,
            self.certs.join("ca.pem"),
            file("pem"),
            file("key"),
        );
        fs::write(&self.config, text).with_context(|| self.config.display().to_string())
    }
}

/// The recording's files, dealt out.
fn shares(recording: &Path, sites: usize) -> anyhow::Result<Vec<Vec<PathBuf>>> {
    let recording = fs::canonicalize(recording).with_context(|| recording.display().to_string())?;
    let entries = recording.read_dir().with_context(|| recording.display().to_string())?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    files.retain(|file| file.to_string_lossy().ends_with(RECORDED));
    files.sort();
    anyhow::ensure!(files.len() >= sites, "{}: fewer recorded devices than sites", recording.display());
    let share = |site: usize| files.iter().skip(site).step_by(sites).cloned().collect();
    Ok((0..sites).map(share).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_device_is_at_one_site() {
        let (dir, recording) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for name in ["a.csv.gz", "b%20c.csv.gz", "d.csv.gz", "e.csv.gz", "truth.json"] {
            fs::write(recording.path().join(name), name).unwrap();
        }
        let layout = Layout::make(dir.path(), recording.path(), 3).unwrap();
        let devices: Vec<_> = layout.sites.iter().map(|site| site.devices.join(" and ")).collect();
        assert_eq!(devices, ["a and e", "b c", "d"]);
        let file = layout.sites[1].recording.join("b%20c.csv.gz");
        assert_eq!(fs::read_to_string(file).unwrap(), "b%20c.csv.gz");
        layout.sites[0].configure("127.0.0.1:9".parse().unwrap(), "linger_s = 1.0").unwrap();
        assert!(crate::up::Plan::load(&layout.sites[0].dir, Some(&layout.sites[0].config)).unwrap().hub);
        assert_eq!(crate::hub::Plan::load(&layout.hub, Some(&layout.hub_config)).unwrap().sites.len(), 3);
        let other = tempfile::tempdir().unwrap();
        assert!(Layout::make(other.path(), recording.path(), 5).is_err());
    }
}
