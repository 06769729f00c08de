//! What gateways send to the region, over links that are as bad as they get: each alert and each kept window is there once, or a gap
//! says what is not and why.
//!
//! `feed` writes what detect would, `site` is a gateway with sync behind a bad link, `hub` the region. `truth` is what the
//! gateway has, `proof` what the region can show: the chains in its streams, checked with code of this test alone, and the
//! stores of its hub processes.

mod chains;
mod feed;
mod hub;
mod kills;
mod links;
mod proof;
mod site;
mod truth;

use std::time::{Duration, Instant};

use hub::Hub;
use site::Site;

/// How long the region may take until it has everything.
const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until every copy of the region holds as much of each site as its gateway has, and then compares.
async fn assert_complete(hub: &Hub, sites: &[&Site]) {
    let deadline = Instant::now() + PATIENCE;
    for site in sites {
        let truth = truth::of(&site.client, &site.name).await;
        assert!(!truth.alerts.is_empty() && !truth.windows.is_empty(), "{} has something to tell", site.name);
        while let Some(lack) = hub.lacks(&site.name, &truth) {
            assert!(Instant::now() < deadline, "{}: {lack}\n{}\n{}", site.name, site.said(), hub.said());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        proof::assert_sent(&hub.url(), &site.name, &truth).await;
        hub.assert_holds(&site.name, &truth);
    }
}
