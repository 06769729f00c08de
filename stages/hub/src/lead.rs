//! Who leads a shard: one task a shard, which takes part where this process has a copy, and watches where it has none.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use eddy_runtime::{
    bus::{Bus, BusError},
    lease::{Lease, Standing, Terms},
    position::Position,
};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Mutex, watch},
    task::block_in_place,
    time::timeout,
};

use crate::{
    audit_sink::AuditSink,
    config::Config,
    shards::{Leader, Led, Shards},
    streams,
};

/// A process that leads shards waits so much longer for each of them before it takes another one, so that others come first ...
const PATIENCE: Duration = Duration::from_millis(250);
/// ... up to this.
const PATIENCE_MAX: Duration = Duration::from_millis(500);
/// And one whose copy is behind the last leader's waits so much longer than one whose copy is not.
const PATIENCE_BEHIND: Duration = Duration::from_millis(500);
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
    /// Where it answers.
    pub(crate) address: String,
    pub(crate) shards: Arc<Shards>,
    /// Of one process one task claims at a time: whoever leads more waits longer.
    pub(crate) claiming: Arc<Mutex<()>>,
    pub(crate) audit: Arc<dyn AuditSink>,
    /// How far the leader that was seen last had come.
    pub(crate) last: Position,
}

/// Whether a copy has read less of a stream than the last leader had.
fn is_behind(own: &Position, last: &Position) -> bool {
    last.0.iter().any(|(stream, there)| match own.place(stream) {
        Some(own) => own.incarnation == there.incarnation && own.sequence < there.sequence,
        None => true,
    })
}

impl<B: Bus> Leading<B> {
    /// Runs until `stop` says true, and gives the shard back then.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let beat = self.lease.terms().renew_every;
        let mut held = false;
        while !*stop.borrow() {
            match self.step().await {
                Ok(standing) => self.saw(standing),
                Err(error) => tracing::debug!(%error, shard = self.shard, "who leads is not known"),
            }
            let is_held = self.lease.held().is_held();
            if std::mem::replace(&mut held, is_held) != is_held {
                let how = if is_held { "begins" } else { "ends" };
                block_in_place(|| self.audit.note("lead", &self.name, how, &format!("shard {}", self.shard)));
            }
            let wait = if is_held { beat } else { beat / LOOKS };
            // An error means that the sender is gone, which is a stop too.
            if timeout(wait, stop.wait_for(|stop| *stop)).await.is_ok() {
                break;
            }
        }
        self.lease.release().await;
    }

    async fn step(&mut self) -> Result<Standing, BusError> {
        let copy = self.copy.borrow().clone();
        let Some(copy) = copy else { return self.lease.watch().await };
        let heartbeat = Heartbeat {
            name: self.name.clone(),
            address: self.address.clone(),
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
        let behind = if is_behind(&copy.position(), &self.last) { PATIENCE_BEHIND } else { Duration::ZERO };
        self.lease.step(payload, patience + behind).await
    }

    fn saw(&mut self, standing: Standing) {
        let nobody = Leader { shard: self.shard, ..Leader::default() };
        let Some(holder) = standing.holder else { return self.shards.saw(nobody) };
        // What cannot be read is a leader all the same.
        let heartbeat: Heartbeat = serde_json::from_slice(&holder.payload).unwrap_or_default();
        self.last = heartbeat.positions.parse().unwrap_or_default();
        if standing.stale {
            return self.shards.saw(nobody);
        }
        self.shards.saw(Leader {
            name: Some(if heartbeat.name.is_empty() { holder.name } else { heartbeat.name }),
            address: Some(heartbeat.address).filter(|address| !address.is_empty()),
            positions: self.last.clone(),
            here: standing.held,
            ..nobody
        });
    }
}

#[cfg(test)]
mod tests {
    use eddy_runtime::position::Place;

    use super::*;

    #[test]
    fn a_copy_is_behind_what_the_last_leader_had_read() {
        let at = |sequence| Position([("SITE_a".to_owned(), Place::whole(7, sequence))].into());
        assert!(is_behind(&at(3), &at(4)) && is_behind(&Position::default(), &at(1)));
        assert!(!is_behind(&at(4), &at(4)) && !is_behind(&at(1), &Position::default()));
        let anew = Position([("SITE_a".to_owned(), Place::whole(8, 1))].into());
        assert!(!is_behind(&anew, &at(4)), "of another stream");
        assert!(serde_json::from_slice::<Heartbeat>(b"{}").is_err(), "which is a leader all the same");
    }
}
