//! A region and its gateways on this machine, each with a link of its own.

use std::{net::SocketAddr, path::Path};

use anyhow::{Context as _, Result};
use eddy_cli::{
    demo::region::layout::{Layout, SiteLayout},
    hub,
    supervise::Machine,
    up::{self, Running},
};
use eddy_fixtures::link::Link;
use futures_util::future::{join_all, try_join_all};

/// Whose link carries the recording, whose carries nothing, and whose is filled: their places.
pub(super) const RECORDED: usize = 0;
pub(super) const IDLE: usize = 1;
pub(super) const FULL: usize = 2;

/// A gateway.
pub(super) struct Site {
    pub(super) name: String,
    pub(super) link: Link,
    pub(super) running: Running,
}

/// All of it.
pub(super) struct Sites {
    hub: Machine,
    /// A client of the hub's server.
    pub(super) region: async_nats::Client,
    pub(super) sites: Vec<Site>,
    _folder: tempfile::TempDir,
}

impl Sites {
    /// Starts them. The recording is only dealt out: nothing is replayed.
    pub(super) async fn start(recording: &Path) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("eddy-bench-").tempdir()?;
        let layout = Layout::make(folder.path(), recording, 3)?;
        let mut plan = hub::Plan::load(&layout.hub, Some(&layout.hub_config))?;
        plan.loud = false;
        let hub = hub::start(&plan).await?;
        let started = async {
            let url = hub.file().url;
            let region = layout.connect(&url).await?;
            let address: SocketAddr = url.trim_start_matches("tls://").parse().with_context(|| url.clone())?;
            let lingers = [Some(cost_linger()), None, None];
            let sites = layout.sites.iter().zip(lingers).map(|(site, linger)| start_site(site, address, linger));
            anyhow::Ok((region, try_join_all(sites).await?))
        };
        match started.await {
            Ok((region, sites)) => Ok(Self { hub, region, sites, _folder: folder }),
            Err(problem) => {
                hub.stop().await;
                Err(problem)
            }
        }
    }

    /// Stops all of it.
    pub(super) async fn stop(self) {
        join_all(self.sites.into_iter().map(|site| site.running.stop())).await;
        self.hub.stop().await;
    }
}

/// A period of five minutes takes milliseconds here, and so must what waits for a batch to fill.
fn cost_linger() -> f64 {
    0.005
}

async fn start_site(layout: &SiteLayout, hub: SocketAddr, linger_s: Option<f64>) -> Result<Site> {
    let link = Link::to(hub, 1)?;
    layout.configure(link.address(), linger_s)?;
    let mut plan = up::Plan::load(&layout.dir, Some(&layout.config))?;
    plan.loud = false;
    let running = Running::start(&plan).await?;
    Ok(Site { name: layout.name.clone(), link, running })
}
