//! Which gateway a command talks to.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use clap::Args;
use eddy_runtime::client::{Client, ClientError, Endpoint};
use serde::{Deserialize, Serialize};

/// Where `eddy up` keeps a gateway unless told otherwise.
pub const DEFAULT_DIR: &str = ".run";
/// Where a gateway listens unless told otherwise.
pub const DEFAULT_URL: &str = "nats://127.0.0.1:4222";
/// A site's name unless told otherwise.
pub const DEFAULT_SITE: &str = "site";

const FILE: &str = "gateway.json";

/// What `eddy up` writes to `DIR/gateway.json`: how to reach the gateway that runs there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayFile {
    /// The bus.
    pub url: String,
    /// The site.
    pub site: String,
    /// How many shards the site has.
    pub shards: u32,
    /// The server's monitoring address.
    pub monitoring: String,
    /// Process ids: `up` itself, `nats-server`, and each stage.
    pub pids: BTreeMap<String, u32>,
    /// Per stage the address of its `/metrics` and `/healthz`.
    pub http: BTreeMap<String, String>,
    /// What `up` does not start again, and how it ended.
    #[serde(default)]
    pub given_up: BTreeMap<String, String>,
}

impl GatewayFile {
    /// Reads the file of the gateway in `dir`; `None` if there is none or it is no such file.
    pub fn read(dir: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(dir.join(FILE)).ok()?).ok()
    }

    /// Writes the file in one step: nobody reads half of it.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn write(&self, dir: &Path) -> std::io::Result<()> {
        let (path, draft) = (dir.join(FILE), dir.join(".gateway.json.draft"));
        std::fs::write(&draft, serde_json::to_vec_pretty(self).map_err(std::io::Error::other)?)?;
        std::fs::rename(draft, path)
    }

    /// Removes the file: nothing runs there any more.
    pub fn remove(dir: &Path) {
        // It may be gone already; there is nothing else to do about it.
        let _ = std::fs::remove_file(dir.join(FILE));
    }
}

/// Options of every command that talks to a gateway.
#[derive(Args, Clone, Debug, Default)]
pub struct GatewayArgs {
    /// The gateway's bus [default: that of the gateway in --dir, else nats://127.0.0.1:4222]
    #[arg(long, env = "EDDY_BUS_URL", value_name = "URL")]
    pub url: Option<String>,
    /// The folder that `eddy up` was started with
    #[arg(long, env = "EDDY_GATEWAY_DIR", value_name = "DIR", default_value = DEFAULT_DIR)]
    pub dir: PathBuf,
    /// The site [default: that of the gateway in --dir, else site]
    #[arg(long, env = "EDDY_SITE_NAME", value_name = "NAME")]
    pub site: Option<String>,
    /// NATS credentials file
    #[arg(long, env = "EDDY_BUS_CREDENTIALS_FILE", value_name = "FILE")]
    pub credentials: Option<PathBuf>,
}

/// A gateway that a command is connected to.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// The bus.
    pub client: Client,
    /// The site, as its operator calls it.
    pub site: String,
    /// What is known of how it runs, if it runs on this machine.
    pub file: Option<GatewayFile>,
}

impl Gateway {
    /// The site as a subject token.
    pub fn site_token(&self) -> String {
        eddy_schemas::names::encode(&self.site)
    }
}

impl GatewayArgs {
    /// Finds the gateway and connects.
    ///
    /// # Errors
    /// If nobody answers there.
    pub async fn connect(&self) -> Result<Gateway, ClientError> {
        let file = GatewayFile::read(&self.dir);
        let known = file.as_ref().map(|file| (file.url.clone(), file.site.clone()));
        let url = self.url.clone().or(known.as_ref().map(|(url, _)| url.clone()));
        // A gateway that was named by --url is another one than the folder's: its site is not known from there.
        let site_of_file = known.filter(|(known_url, _)| self.url.as_ref().is_none_or(|url| url == known_url));
        let site = self.site.clone().or(site_of_file.map(|(_, site)| site));
        let mut endpoint = Endpoint::new(url.unwrap_or_else(|| DEFAULT_URL.to_owned()), "eddy-cli");
        endpoint.credentials.clone_from(&self.credentials);
        let client = Client::connect(&endpoint).await?;
        Ok(Gateway { client, site: site.unwrap_or_else(|| DEFAULT_SITE.to_owned()), file })
    }
}
