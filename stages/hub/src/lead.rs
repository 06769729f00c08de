//! Who leads a shard: one task a shard, which takes part where this process has a copy, and watches where it has none.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use eddy_runtime::{
    bus::Bus,
    lease::{Lease, Standing, Terms},
};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Mutex, watch},
    time::timeout,
};

use crate::{
    config::Config,
    shards::{Leader, Led, Shards},
    streams,
};

/// A process that leads shards waits so much longer for each of them before it takes another one, so that others come first ...
const PATIENCE: Duration = Duration::from_millis(250);
/// ... up to this.
const PATIENCE_MAX: Duration = Duration::from_millis(1_000);
/// A candidate looks so many times within a heartbeat.
const LOOKS: u32 = 4;

/// What a leader says of itself, beside being one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The process.
    pub name: String,
    /// Where it answers by gRPC; empty: nowhere.
    pub address: String,
    /// How far its copy has come in each site's stream.
    pub positions: String,
}

/// The terms of a shard's lease.
pub fn terms(config: &Config, shard: u32) -> Terms {
    Terms {
        stream: streams::LEADERS.into(),
        subject: streams::lead_subject(shard),
        renew_every: Duration::from_millis(config.heartbeat_ms),
        lapse_after: Duration::from_millis(config.lapse_after_ms),
        takeover_after: Duration::from_millis(config.takeover_after_ms),
    }
}

/// One shard's part of leading.
pub struct Leading<B> {
    pub(crate) shard: u32,
    pub(crate) lease: Lease<B>,
    /// This process's copy, once it is open.
    pub(crate) copy: watch::Receiver<Option<Arc<Led>>>,
    pub(crate) name: String,
    /// Where it answers; it may be known later than this runs.
    pub(crate) address: watch::Receiver<String>,
    pub(crate) shards: Arc<Shards>,
    /// Of one process one task claims at a time: whoever leads more waits longer.
    pub(crate) claiming: Arc<Mutex<()>>,
}

impl<B: Bus> Leading<B> {
    /// Runs until `stop` says true, and gives the shard back then.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let beat = self.lease.terms().renew_every;
        while !*stop.borrow() {
            let held = match self.step().await {
                Ok(standing) => {
                    let held = standing.held;
                    self.saw(standing);
                    held
                }
                Err(error) => {
                    tracing::debug!(%error, shard = self.shard, "who leads is not known");
                    self.lease.held().is_held()
                }
            };
            let wait = if held { beat } else { beat / LOOKS };
            // An error means that the sender is gone, which is a stop too.
            if timeout(wait, stop.wait_for(|stop| *stop)).await.is_ok() {
                break;
            }
        }
        self.lease.release().await;
    }

    async fn step(&mut self) -> Result<Standing, eddy_runtime::bus::BusError> {
        let copy = self.copy.borrow().clone();
        let Some(copy) = copy else { return self.lease.watch().await };
        let heartbeat = Heartbeat {
            name: self.name.clone(),
            address: self.address.borrow().clone(),
            positions: copy.position().to_string(),
        };
        // Text and numbers always become JSON.
        let payload = Bytes::from(serde_json::to_vec(&heartbeat).unwrap_or_default());
        if self.lease.held().is_held() {
            return self.lease.step(payload, Duration::ZERO).await;
        }
        let claiming = self.claiming.clone();
        let _one = claiming.lock().await;
        let patience = PATIENCE.saturating_mul(self.shards.led_count()).min(PATIENCE_MAX);
        self.lease.step(payload, patience).await
    }

    fn saw(&self, standing: Standing) {
        let nobody = Leader { shard: self.shard, ..Leader::default() };
        let Some(holder) = standing.holder.filter(|_| !standing.stale) else { return self.shards.saw(nobody) };
        // What cannot be read is a leader all the same.
        let heartbeat: Heartbeat = serde_json::from_slice(&holder.payload).unwrap_or_default();
        self.shards.saw(Leader {
            name: Some(if heartbeat.name.is_empty() { holder.name } else { heartbeat.name }),
            address: Some(heartbeat.address).filter(|address| !address.is_empty()),
            positions: heartbeat.positions.parse().unwrap_or_default(),
            here: standing.held,
            ..nobody
        });
    }
}
