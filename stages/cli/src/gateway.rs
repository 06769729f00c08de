//! Which gateway a command talks to.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use eddy_runtime::{
    client::{Client, ClientError, Endpoint},
    identity::Identity,
};
use eddy_schemas::Control;
use serde::{Deserialize, Serialize};

use crate::supervise::register::{self, MachineFile};

/// Where `eddy up` keeps a gateway unless told otherwise.
pub const DEFAULT_DIR: &str = ".run";
/// Where a gateway listens unless told otherwise.
pub const DEFAULT_URL: &str = "nats://127.0.0.1:4222";
/// A site's name unless told otherwise.
pub const DEFAULT_SITE: &str = "site";

/// What `eddy up` writes to its folder.
pub const FILE: &str = "gateway.json";

/// What is in it: how to reach the gateway that runs there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayFile {
    /// Its processes.
    #[serde(flatten)]
    pub machine: MachineFile,
    /// The site.
    pub site: String,
    /// How many shards the site has.
    pub shards: u32,
    /// The config file that its stages run with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_file: Option<PathBuf>,
    /// Whether they were told of a bundle other than the default one.
    #[serde(default)]
    pub own_bundle: bool,
    /// How its bus is reached from elsewhere, as from a container beside it; empty: as here.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub bus_at: String,
    /// Who may sign bundles.
    #[serde(default)]
    pub trusted_keys: Vec<String>,
    /// Whether they need not be signed.
    #[serde(default)]
    pub allow_unsigned: bool,
    /// The operator's key, if its server tells its users apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator_key: Option<PathBuf>,
}

impl GatewayFile {
    /// Reads the file of the gateway in `dir`; `None` if there is none or it is no such file.
    pub fn read(dir: &Path) -> Option<Self> {
        register::read(dir, FILE)
    }

    /// Whether its bus is at this address.
    fn is_at(&self, url: &str) -> bool {
        [&self.machine.url, &self.bus_at].into_iter().any(|known| !known.is_empty() && server(known) == server(url))
    }
}

/// A server's address, however it is written: without what the default says, and this machine by its number.
fn server(url: &str) -> String {
    let url = url.trim().trim_end_matches('/').to_ascii_lowercase();
    let address = url.split_once("://").map_or(url.as_str(), |(_, address)| address);
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (address, "4222"),
    };
    let host = if host == "localhost" { "127.0.0.1" } else { host };
    format!("{host}:{port}")
}

/// How a gateway's bus is found.
#[derive(Args, Clone, Debug, Default)]
pub struct BusArgs {
    /// The gateway's bus [default: that of the gateway in --dir, else nats://127.0.0.1:4222]
    #[arg(long, env = "EDDY_BUS_URL", value_name = "URL")]
    pub url: Option<String>,
    /// The folder that `eddy up` was started with
    #[arg(long, env = "EDDY_GATEWAY_DIR", value_name = "DIR", default_value = DEFAULT_DIR)]
    pub dir: PathBuf,
    /// NATS credentials file
    #[arg(long, env = "EDDY_BUS_CREDENTIALS_FILE", value_name = "FILE")]
    pub credentials: Option<PathBuf>,
    /// File with the seed of an NKey [default: the operator's of the gateway in --dir, if it tells its users apart]
    #[arg(long, env = "EDDY_BUS_NKEY_FILE", value_name = "FILE", conflicts_with = "credentials")]
    pub nkey: Option<PathBuf>,
}

/// Options of every command that talks to a gateway.
#[derive(Args, Clone, Debug, Default)]
pub struct GatewayArgs {
    /// Where
    #[command(flatten)]
    pub bus: BusArgs,
    /// The site [default: that of the gateway in --dir, else site]
    #[arg(long, env = "EDDY_SITE_NAME", value_name = "NAME")]
    pub site: Option<String>,
}

/// A gateway that a command is connected to.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// The bus.
    pub client: Client,
    /// The site, as its operator calls it.
    pub site: String,
    /// What is known of how it runs, if it is the one of the folder that was named.
    pub file: Option<GatewayFile>,
}

impl Gateway {
    /// The site as a subject token.
    pub fn site_token(&self) -> String {
        eddy_schemas::names::encode(&self.site)
    }

    /// Says a control, once however often it is tried: its id makes the second copy of an ambiguous publish no other one. Its
    /// sequence on CONTROL.
    ///
    /// # Errors
    /// That it is not stored, or not known to be.
    pub async fn say(&self, control: &Control) -> Result<u64, ClientError> {
        let subject = format!("control.{}.{}", self.site_token(), control.subject_token());
        let headers = [("Content-Type", "application/json"), ("Nats-Msg-Id", control.id.as_str())];
        self.client.publish(&subject, &headers, control.to_json().into()).await
    }
}

impl GatewayArgs {
    /// Finds the gateway and connects.
    ///
    /// # Errors
    /// If nobody answers there.
    pub async fn connect(&self) -> anyhow::Result<Gateway> {
        self.bus.connect(self.site.clone()).await
    }
}

impl BusArgs {
    /// The gateway of --dir, unless --url names another one.
    pub fn file(&self) -> Option<GatewayFile> {
        GatewayFile::read(&self.dir).filter(|file| self.url.as_ref().is_none_or(|url| file.is_at(url)))
    }

    /// Who asks there: whoever the command line names, or else the operator of the gateway that runs in `file`'s folder.
    pub fn identity(&self, file: Option<&GatewayFile>) -> Identity {
        let own = file.and_then(|file| file.operator_key.clone());
        match (&self.credentials, self.nkey.clone().or(own)) {
            (Some(file), _) => Identity::Credentials(file.clone()),
            (None, Some(file)) => Identity::NKey(file),
            (None, None) => Identity::Nobody,
        }
    }

    /// Connects to the gateway there, whose site is `site`, or else what is known of it.
    ///
    /// # Errors
    /// If nobody answers there.
    pub async fn connect(&self, site: Option<String>) -> anyhow::Result<Gateway> {
        let file = self.file();
        let url = self.url.clone().or(file.as_ref().map(|file| file.machine.url.clone()));
        let site = site.or(file.as_ref().map(|file| file.site.clone()));
        let is_guess = url.is_none();
        // Who names a folder means that gateway, and no other that happens to run here.
        anyhow::ensure!(
            !is_guess || self.dir.as_os_str() == DEFAULT_DIR,
            "{} holds no gateway.json, so no gateway runs there: start it with `eddy up --dir`, or name its bus with --url",
            self.dir.display()
        );
        let mut endpoint = Endpoint::new(url.unwrap_or_else(|| DEFAULT_URL.to_owned()), "eddy-cli");
        endpoint.identity = self.identity(file.as_ref());
        let mut connected = Client::connect(&endpoint).await.map_err(anyhow::Error::from);
        if is_guess {
            connected = connected.with_context(|| {
                let dir = self.dir.display();
                format!("{dir} holds no gateway.json, so no gateway runs there; {DEFAULT_URL} was tried instead")
            });
        }
        let client = connected?;
        Ok(Gateway { client, site: site.unwrap_or_else(|| DEFAULT_SITE.to_owned()), file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_the_same_however_it_is_written() {
        for url in
            ["nats://127.0.0.1:4222", "localhost", "NATS://LOCALHOST:4222/", " 127.0.0.1 ", "tls://127.0.0.1:4222"]
        {
            assert_eq!(server(url), "127.0.0.1:4222", "{url}");
        }
        for other in ["nats://127.0.0.1:4223", "nats://bus:4222", "nats://[::1]", "127.0.0.2"] {
            assert_ne!(server(other), "127.0.0.1:4222", "{other}");
        }
        assert_eq!((server("nats://[::1]"), server("[::1]:9")), ("[::1]:4222".to_owned(), "[::1]:9".to_owned()));
    }
}
