//! What gateways send to the region, over links that are as bad as they get: each alert and each kept window is there once, or a gap
//! says what is not and why.
//!
//! `feed` writes what detect would, `site` is a gateway with sync behind a bad link, `hub` the region. What the gateway has and what
//! came of it is judged by the demo's oracle, which follows the chains in the hub's stream with code of its own; `hub` looks into the
//! stores of all its processes besides.

mod chains;
mod cluster;
mod feed;
mod forged;
mod hostile;
mod hub;
mod kills;
mod links;
pub mod machine;
mod offline;
mod site;

use std::time::{Duration, Instant};

use async_nats::jetstream;
use eddy_cli::demo::region::oracle::{self, Comparison, Sent, Told};

pub use hub::Hub;
pub use machine::grpc;
pub use site::Site;

/// How long the region may take until it has everything.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a gateway has to tell.
async fn told(site: &Site) -> Told {
    let context = jetstream::new(async_nats::connect(site.server.url()).await.unwrap());
    oracle::told(&context, &site.name).await.unwrap()
}

/// What was sent of a site, along chains that hold.
async fn sent(hub: &Hub, site: &str) -> Sent {
    let context = jetstream::new(async_nats::connect(hub.url()).await.unwrap());
    oracle::sent(&context, site).await.unwrap()
}

/// Waits until every copy of the region holds as much of each site as its gateway has, and then compares.
async fn assert_complete(hub: &Hub, sites: &[&Site]) {
    let deadline = Instant::now() + PATIENCE;
    for site in sites {
        let told = told(site).await;
        assert!(!told.alerts.is_empty() && !told.windows.is_empty(), "{} has something to tell", site.name);
        while let Some(lack) = hub.lacks(&site.name, &told) {
            assert!(Instant::now() < deadline, "{}: {lack}\n{}\n{}", site.name, site.said(), hub.said());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let sent = sent(hub, &site.name).await;
        assert_eq!((told.compare(&sent).unwrap(), sent.gaps), (Comparison::default(), vec![]), "{}", site.name);
        hub.assert_holds(&site.name, &told);
        let receipts = hub.receipts(&site.name).await;
        let entries = |class: &str| receipts.chains.iter().filter(|c| c.class == class).map(|c| c.entries).sum::<u64>();
        assert_eq!(entries("alerts"), told.alerts.len() as u64, "{receipts:?}");
        assert_eq!(entries("deltas"), told.windows.len() as u64, "{receipts:?}");
        assert!(receipts.chains.iter().all(|chain| chain.missing.is_empty() && chain.current), "{receipts:?}");
    }
}
