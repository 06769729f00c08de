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

/// A gateway.
pub(crate) struct Site {
    pub(crate) name: String,
    pub(crate) link: Link,
    pub(crate) running: Running,
}

/// All of it.
pub(crate) struct Sites {
    hub: Machine,
    /// A client of the hub's server.
    pub(crate) region: async_nats::Client,
    pub(crate) sites: Vec<Site>,
    _folder: tempfile::TempDir,
}

impl Sites {
    /// Starts them, each with keys of the table `sync` that are not as shipped. The recording is only dealt out: nothing is replayed.
    pub(crate) async fn start(recording: &Path, configs: [&str; 3]) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("eddy-bench-").tempdir()?;
        let layout = Layout::make(folder.path(), recording, 3)?;
        let mut plan = hub::Plan::load(&layout.hub, Some(&layout.hub_config))?;
        plan.loud = false;
        let hub = hub::start(&plan).await?;
        let started = async {
            let url = hub.file().url;
            let region = layout.connect(&url).await?;
            let address: SocketAddr = url.trim_start_matches("tls://").parse().with_context(|| url.clone())?;
            let sites = layout.sites.iter().zip(configs).map(|(site, config)| start_site(site, address, config));
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
    pub(crate) async fn stop(self) {
        join_all(self.sites.into_iter().map(|site| site.running.stop())).await;
        self.hub.stop().await;
    }
}

async fn start_site(layout: &SiteLayout, hub: SocketAddr, sync: &str) -> Result<Site> {
    let link = Link::to(hub, 1)?;
    layout.configure(link.address(), sync)?;
    let mut plan = up::Plan::load(&layout.dir, Some(&layout.config))?;
    plan.loud = false;
    let running = Running::start(&plan).await?;
    Ok(Site { name: layout.name.clone(), link, running })
}
