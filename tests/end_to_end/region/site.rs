//! A gateway's server with sync, behind a bad link.

use std::{net::SocketAddr, path::Path};

use eddy_fixtures::link::{Conditions, Link};
use eddy_runtime::{client::Client, provision::provision};

use super::feed::Feed;
use crate::{
    gateway::{ROOMY, connect},
    server::Server,
    stage::StageProcess,
};

/// One of the region's sites.
pub struct Site {
    pub name: String,
    pub folder: tempfile::TempDir,
    pub server: Server,
    pub client: Client,
    pub link: Link,
    pub sync: StageProcess,
}

impl Site {
    /// Called `name`, with a good link to the region at `hub`.
    pub async fn start(name: &str, hub: SocketAddr, seed: u64, more: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(folder.path(), "");
        let client = connect(&server.url()).await;
        provision(&client, name, 1, &ROOMY).await.unwrap();
        let link = Link::to(hub, seed).unwrap();
        let environment = environment(name, &server.url(), &format!("nats://{}", link.address()), folder.path(), more);
        let sync = StageProcess::start("sync", folder.path(), &environment);
        Self { name: name.to_owned(), folder, server, client, link, sync }
    }

    /// What writes its DETECTIONS.
    pub async fn feed(&self) -> Feed {
        Feed::new(&self.server.url(), &self.name).await
    }

    /// Changes the link.
    pub fn link_is(&self, conditions: Conditions) {
        self.link.change(|now| *now = conditions);
    }

    /// Sync's last words.
    pub fn said(&self) -> String {
        tail("sync", &self.sync)
    }
}

/// What sync is configured with, its state in `folder`.
pub fn environment(name: &str, bus: &str, hub: &str, folder: &Path, more: &[(&str, &str)]) -> Vec<(String, String)> {
    let state = folder.join("state").display().to_string();
    let pairs = [
        ("EDDY_BUS_URL", bus),
        ("EDDY_BUS_REQUEST_TIMEOUT_MS", "2000"),
        ("EDDY_SITE_NAME", name),
        ("EDDY_STATE_DIR", &state),
        ("EDDY_SYNC_HUB_URL", hub),
        ("EDDY_SYNC_HUB_REQUEST_TIMEOUT_MS", "2000"),
        ("EDDY_SYNC_COMMIT_INTERVAL_MS", "150"),
        ("EDDY_SYNC_LINGER_S", "0.2"),
    ];
    pairs.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The last lines of a process' log.
pub fn tail(name: &str, process: &StageProcess) -> String {
    let log = process.log();
    let lines: Vec<&str> = log.lines().collect();
    format!("{name} said:\n{}", lines[lines.len().saturating_sub(15)..].join("\n"))
}
