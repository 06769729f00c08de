//! `eddy demo --sites N`: so many gateways and a hub on one machine, and a link that is cut while something happens.

pub mod layout;
pub mod oracle;
pub mod receipts;

use std::{net::SocketAddr, path::Path, time::Instant};

use anyhow::Context as _;
use async_nats::jetstream;
use eddy_fixtures::link::{Link, State};
use futures_util::future::{join_all, try_join_all};
use tokio::{sync::watch, time::sleep};

use self::layout::{Layout, SiteLayout};
use super::{LOOK_EVERY, PATIENCE, judged, show, truth::Truth};
use crate::{
    hub, output,
    supervise::Machine,
    up::{self, Running},
};

/// How many sites there may be.
pub(super) const SITES_MAX: i64 = layout::SITES.len() as i64;

/// A site of the demo that runs.
struct Site {
    layout: SiteLayout,
    link: Link,
    running: Running,
}

/// Everything that runs.
struct Region {
    hub: Machine,
    /// To ask the hub's server as a plain client.
    client: async_nats::Client,
    sites: Vec<Site>,
}

/// Shows it, in `dir`.
///
/// # Errors
/// That something did not start, was lost or doubled on the way to the region, or that too few faults were found.
pub async fn run(dir: &Path, recording: &Path, sites: usize, rows: u32) -> anyhow::Result<()> {
    let truth = Truth::read(recording)?;
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    let layout = Layout::make(dir, recording, sites)?;
    let region = start(&layout).await?;
    let shown = tokio::select! {
        shown = show_all(&region, &truth, rows) => shown,
        problem = given_up(&region) => Err(problem),
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    let judged = match shown {
        Ok(()) => judge(&region, &truth).await,
        Err(problem) => Err(problem),
    };
    join_all(region.sites.into_iter().map(|site| site.running.stop())).await;
    region.hub.stop().await;
    judged
}

async fn start(layout: &Layout) -> anyhow::Result<Region> {
    let mut plan = hub::Plan::load(&layout.hub, Some(&layout.hub_config))?;
    plan.loud = false;
    let machine = hub::start(&plan).await?;
    let url = machine.file().url;
    eprintln!("eddy: the region at {url} ({})", layout.hub.display());
    let started = async {
        let client = layout.connect(&url).await?;
        let address: SocketAddr = url.trim_start_matches("tls://").parse().with_context(|| url.clone())?;
        let sites = layout.sites.iter().cloned().zip(0..).map(|(site, seed)| start_site(site, address, seed));
        let sites = try_join_all(sites).await?;
        anyhow::Ok((client, sites))
    };
    match started.await {
        Ok((client, sites)) => Ok(Region { hub: machine, client, sites }),
        Err(problem) => {
            machine.stop().await;
            Err(problem)
        }
    }
}

async fn start_site(layout: SiteLayout, hub: SocketAddr, seed: u64) -> anyhow::Result<Site> {
    let link = Link::to(hub, seed)?;
    // A week goes by in seconds: what is not urgent waits less than it would.
    layout.configure(link.address(), "linger_s = 1.0")?;
    let mut plan = up::Plan::load(&layout.dir, Some(&layout.config))?;
    plan.loud = false;
    let running = Running::start(&plan).await?;
    eprintln!("eddy: site {} at {} ({})", layout.name, running.machine.file().url, layout.dir.display());
    Ok(Site { layout, link, running })
}

/// Returns when some process is not started again.
async fn given_up(region: &Region) -> anyhow::Error {
    let machines = region.sites.iter().map(|site| (site.layout.name.as_str(), &site.running.machine));
    let machines = machines.chain([("hub", &region.hub)]);
    let one = |(name, machine): (&str, &Machine)| {
        let (name, mut given_up) = (name.to_owned(), machine.register.given_up());
        Box::pin(async move {
            match given_up.wait_for(|all| !all.is_empty()).await {
                Ok(all) => anyhow::anyhow!(
                    "{name}: {}: {}; it said:\n  {}",
                    all[0].name,
                    all[0].ending,
                    all[0].said.join("\n  ")
                ),
                Err(_) => anyhow::anyhow!("{name}: the supervisor ended"),
            }
        })
    };
    futures_util::future::select_all(machines.map(one)).await.0
}

/// Each site's recording through its gateway; the last one's link is cut as soon as the region has heard of it, and mended when
/// all is through.
async fn show_all(region: &Region, truth: &Truth, rows: u32) -> anyhow::Result<()> {
    let (through, mut cut_is_over) = watch::channel(false);
    let cut = region.sites.last().context("a region of no sites")?;
    let shows = try_join_all(region.sites.iter().map(async |site| {
        let prefix = format!("{:<7}", site.layout.name);
        show(&site.running.gateway, &site.layout.recording, truth, rows, 1, &prefix).await?;
        if std::ptr::eq(site, cut) {
            through.send_replace(true);
        }
        anyhow::Ok(())
    }));
    let cutting = async {
        wait_for_an_alert(region, cut).await?;
        cut.link.change(|now| now.state = State::Cut);
        eprintln!("eddy: the link of {} is cut", cut.layout.name);
        cut_is_over.wait_for(|is_over| *is_over).await?;
        let (there, here) = (alerts_of(region, cut).await?, alerts_told(cut).await?);
        eprintln!(
            "eddy: {} has gone on: {here} events of alerts, of which the region has {there}; its link is mended",
            cut.layout.name
        );
        cut.link.change(|now| now.state = State::Through);
        anyhow::Ok(())
    };
    tokio::try_join!(shows, cutting)?;
    let started = Instant::now();
    for site in &region.sites {
        catch_up(region, site).await?;
    }
    eprintln!("eddy: the region has all of it, {:.2} s after", started.elapsed().as_secs_f64());
    Ok(())
}

/// Returns once the region has heard of an alert of the site.
async fn wait_for_an_alert(region: &Region, site: &Site) -> anyhow::Result<()> {
    while alerts_of(region, site).await? == 0 {
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// How many alerts of a site the region has.
async fn alerts_of(region: &Region, site: &Site) -> anyhow::Result<usize> {
    Ok(oracle::sent(&region.context(), &site.layout.name).await?.alerts.len())
}

/// How many alerts the gateway has told.
async fn alerts_told(site: &Site) -> anyhow::Result<usize> {
    Ok(super::oracle::alerts(&site.url(), &site.layout.name).await?.len())
}

/// Waits until the hub's ledger accounts for all that the gateway has told.
async fn catch_up(region: &Region, site: &Site) -> anyhow::Result<()> {
    let told = oracle::told(&site.context().await?, &site.layout.name).await?;
    let (mut last, mut moved_at) = (0, Instant::now());
    loop {
        let held = receipts::of(&region.client, &site.layout.name).await.unwrap_or_default();
        let (alerts, deltas) = (held.entries("alerts"), held.entries("deltas"));
        if alerts >= told.alerts.len() as u64 && deltas >= told.windows.len() as u64 {
            return Ok(());
        }
        if alerts + deltas != last {
            (last, moved_at) = (alerts + deltas, Instant::now());
        }
        anyhow::ensure!(
            moved_at.elapsed() < PATIENCE,
            "{}: the region has {alerts} of {} alerts and {deltas} of {} windows, and no more comes",
            site.layout.name,
            told.alerts.len(),
            told.windows.len()
        );
        sleep(LOOK_EVERY).await;
    }
}

/// Prints a line of each gateway, a line of what the region has of it, and what its receipts say.
async fn judge(region: &Region, truth: &Truth) -> anyhow::Result<()> {
    let (mut problems, mut found, mut faults) = (Vec::new(), 0, 0);
    for site in &region.sites {
        let name = &site.layout.name;
        let gateway =
            judged(&site.url(), name, &site.layout.recording, &truth.of_devices(&site.layout.devices)).await?;
        found += gateway.found;
        faults += gateway.faults;
        problems.extend(gateway.readings().map(|problem| format!("{name}: {problem}")));
        let told = oracle::told(&site.context().await?, name).await?;
        let compared = told.compare(&oracle::sent(&region.context(), name).await?)?;
        for example in &compared.examples {
            eprintln!("eddy: {name}: {example}");
        }
        let held = receipts::of(&region.client, name).await?;
        output::line(&format!(
            "region: site={name} alerts={} windows={} lost={} duplicated={} altered={}",
            told.alerts.len(),
            told.windows.len(),
            compared.lost,
            compared.duplicated,
            compared.altered
        ));
        output::line(&format!("receipts: {name}: {}", held.words()));
        if compared.lost + compared.duplicated + compared.altered > 0 {
            problems.push(format!("{name}: the region does not have each alert and each window once, as they are"));
        }
        if !held.is_complete() {
            problems.push(format!("{name}: something is missing in the region"));
        }
    }
    if found * 10 < faults * 9 {
        problems.push(format!("{found} of {faults} faults were found: fewer than 90%"));
    }
    anyhow::ensure!(problems.is_empty(), problems.join("; "));
    Ok(())
}

impl Region {
    fn context(&self) -> jetstream::Context {
        jetstream::new(self.client.clone())
    }
}

impl Site {
    fn url(&self) -> String {
        self.running.machine.file().url
    }

    async fn context(&self) -> anyhow::Result<jetstream::Context> {
        Ok(jetstream::new(async_nats::connect(self.url()).await?))
    }
}
