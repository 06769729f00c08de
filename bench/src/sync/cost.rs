//! Bytes of a recorded fleet on its gateway's link, period by period of event time.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use eddy_schemas::{
    ScoresBuilder, names,
    sync::{Class, subject_of, wire::Batch},
};
use futures_util::StreamExt as _;
use tokio::time::timeout;

use super::{
    IDLE, RECORDED,
    recorded::{Period, Recorded},
    sites::{Site, Sites},
};

/// How long a batch may take that must come.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a summary may take, which does not come where every device was silent.
const SUMMARY_PATIENCE: Duration = Duration::from_millis(1_500);
/// What is held is written after ten milliseconds, as these gateways are configured.
const HELD: Duration = Duration::from_millis(12);
/// Five minutes.
const PERIOD_S: f64 = 300.0;
/// After so long a new connection has said what there is to say at first; and so long it is measured.
const CONNECTED: Duration = Duration::from_secs(15);
const IDLE_FOR: Duration = Duration::from_secs(75);
/// What a reading is: a time and a value.
const READING_BYTES: f64 = 16.0;
/// Acks of what came last are on their way for so long at most.
const SETTLE: Duration = Duration::from_millis(3);

/// Bytes a device and five minutes, of TCP payload in both directions.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cost {
    /// The median of periods in which no alert changed and no window was kept.
    pub(super) quiet: f64,
    pub(super) mean: f64,
    pub(super) worst: f64,
    /// Of a gateway's connection alone, whatever its devices; it is in none of the others.
    pub(super) idle: f64,
    /// Bytes of readings for each byte on the link.
    pub(super) reduction: f64,
    pub(super) devices: u64,
    pub(super) periods: usize,
}

/// Brings the recording to the region.
pub(super) async fn measure(sites: &Sites, recorded: &Recorded) -> Result<Cost> {
    let site = &sites.sites[RECORDED];
    let idle = idle(&sites.sites[IDLE]).await;
    let mut arrivals = Arrivals::of(&sites.region, &site.name).await?;
    let (mut all, mut quiet) = (Vec::new(), Vec::new());
    let mut before = bytes(site);
    let mut sums_up = false;
    for period in &recorded.periods {
        publish(site, period).await?;
        let kept = arrivals.wait(period, sums_up).await?;
        sums_up = period.is_judged;
        tokio::time::sleep(SETTLE).await;
        let after = bytes(site);
        let cost = (after - before) as f64 / recorded.devices as f64;
        before = after;
        all.push(cost);
        if !kept && period.alerts.is_empty() {
            quiet.push(cost);
        }
    }
    ensure!(!quiet.is_empty(), "there is no quiet period in the recording");
    quiet.sort_by(f64::total_cmp);
    let total: f64 = all.iter().sum::<f64>() * recorded.devices as f64;
    Ok(Cost {
        quiet: quiet[quiet.len() / 2],
        mean: all.iter().sum::<f64>() / all.len() as f64,
        worst: all.iter().copied().fold(0.0, f64::max),
        idle,
        reduction: recorded.readings as f64 * READING_BYTES / total,
        devices: recorded.devices,
        periods: all.len(),
    })
}

/// What a connection costs in five minutes on which nothing is to be said.
async fn idle(site: &Site) -> f64 {
    tokio::time::sleep(CONNECTED).await;
    let (began, before) = (Instant::now(), bytes(site));
    tokio::time::sleep(IDLE_FOR).await;
    (bytes(site) - before) as f64 * PERIOD_S / began.elapsed().as_secs_f64()
}

fn bytes(site: &Site) -> u64 {
    let traffic = site.link.traffic();
    traffic.up + traffic.down
}

async fn publish(site: &Site, period: &Period) -> Result<()> {
    let client = &site.running.gateway.client;
    for alert in &period.alerts {
        let mut alert = alert.clone();
        site.name.clone_into(&mut alert.data.site);
        client.publish(&alert.nats_subject(), &[], alert.to_json().into()).await?;
    }
    if !period.scores.is_empty() {
        let subject = format!("scores.{}.0", names::encode(&site.name));
        client.publish(&subject, &[], Bytes::from(period.scores.clone())).await?;
        // In five minutes what is held is written by itself; here the next message makes it so.
        tokio::time::sleep(HELD).await;
        client.publish(&subject, &[], ScoresBuilder::new("").encode().into()).await?;
    }
    Ok(())
}

/// Batches as they come to the hub's server.
struct Arrivals {
    batches: async_nats::Subscriber,
    site: String,
    /// Alerts and contexts that have come, and that must have.
    came: (u64, u64),
    due: (u64, u64),
}

impl Arrivals {
    async fn of(region: &async_nats::Client, site: &str) -> Result<Self> {
        let batches = region.subscribe(format!("sync.{}.>", names::encode(site))).await?;
        region.flush().await?;
        Ok(Self { batches, site: site.to_owned(), came: (0, 0), due: (0, 0) })
    }

    /// Waits for all that a period brings; whether windows were among it.
    async fn wait(&mut self, period: &Period, sums_up: bool) -> Result<bool> {
        self.due.0 += period.alerts.len() as u64;
        self.due.1 += period.opened();
        let (mut summed, mut kept) = (!sums_up, false);
        let [alerts, contexts, deltas, summaries] = [Class::Alerts, Class::Contexts, Class::Deltas, Class::Summaries]
            .map(|class| subject_of(&self.site, class));
        while !summed || self.came.0 < self.due.0 || self.came.1 < self.due.1 {
            let has_all = self.came.0 >= self.due.0 && self.came.1 >= self.due.1;
            let patience = if has_all { SUMMARY_PATIENCE } else { PATIENCE };
            let Ok(Some(message)) = timeout(patience, self.batches.next()).await else {
                if has_all {
                    break;
                }
                anyhow::bail!("of {:?} alerts and contexts {:?} came, and no more", self.due, self.came);
            };
            let subject = message.subject.as_str();
            let (_, entries) = Batch::read(&message.payload).map_err(anyhow::Error::msg)?;
            let count = entries.entries.len() as u64;
            self.came.0 += if subject == alerts { count } else { 0 };
            self.came.1 += if subject == contexts { count } else { 0 };
            kept |= subject == deltas;
            summed |= subject == summaries;
        }
        Ok(kept)
    }
}
