//! A site's stream, followed for ever: what ends the loop that reads it is made good, or told.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use eddy_runtime::{
    bus::{Bus, Source},
    config::LimitsConfig,
    store_loop::{self, Outside, SinkError},
    telemetry::Telemetry,
};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use crate::{
    audit_sink::AuditSink,
    merge::{Rules, Site, SiteSink},
    shards::Led,
};

/// Before what ended is begun again.
const RETRY: Duration = Duration::from_secs(1);
/// Endings in a row that nothing explains, before the process gives up.
const TRIES: u32 = 5;

/// What does not work, since when: told by the health check once it lasts.
#[derive(Debug, Default)]
pub struct Troubles(Mutex<BTreeMap<String, (Instant, String)>>);

impl Troubles {
    /// It does not work.
    pub fn begin(&self, what: &str, why: String) {
        let mut troubles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        troubles.entry(what.to_owned()).or_insert_with(|| (Instant::now(), String::new())).1 = why;
    }

    /// It does.
    pub fn end(&self, what: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(what);
    }

    /// What has not worked for `patience`.
    ///
    /// # Errors
    /// All of it.
    pub fn check(&self, patience: Duration) -> Result<(), String> {
        let troubles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lasting = troubles.iter().filter(|(_, (since, _))| since.elapsed() >= patience);
        let told: Vec<String> = lasting.map(|(what, (_, why))| format!("{what}: {why}")).collect();
        if told.is_empty() { Ok(()) } else { Err(told.join("; ")) }
    }
}

/// What the followers of a copy share.
#[derive(Clone)]
pub struct Follower<B> {
    pub(crate) bus: B,
    pub(crate) copy: Arc<Led>,
    /// This copy's name in the streams' consumers.
    pub(crate) durable: String,
    pub(crate) rules: Rules,
    pub(crate) limits: LimitsConfig,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) troubles: Arc<Troubles>,
    /// Where it tells; `None`: another copy of this process does.
    pub(crate) audit: Option<Arc<dyn AuditSink>>,
}

impl<B: Bus> Follower<B> {
    /// Merges a site's stream until `stop` says true.
    ///
    /// # Errors
    /// What cannot be made good by trying again.
    pub async fn run(self, site: String, mut stop: watch::Receiver<bool>) -> Result<(), String> {
        let site = Site::new(&site);
        let what = format!("site {} in shard {}", site.name, self.copy.shard);
        let mut tries = 0;
        while !*stop.borrow() {
            let ended = match self.adopt(&site).await {
                Ok(adopted) => {
                    tries = if adopted { 0 } else { tries };
                    self.troubles.end(&what);
                    let began = Instant::now();
                    match store_loop::run(self.sink(&site), self.outside(&site), stop.clone()).await {
                        Ok(()) => return Ok(()),
                        Err(error) => {
                            tries = if began.elapsed() > 10 * RETRY { 1 } else { tries + 1 };
                            error.to_string()
                        }
                    }
                }
                Err(SinkError::Again(problem)) => problem,
                Err(SinkError::Fatal(problem) | SinkError::Restart(problem)) => return Err(problem),
            };
            if tries >= TRIES {
                return Err(ended);
            }
            tracing::warn!(what, ended, "beginning again");
            self.troubles.begin(&what, ended);
            if timeout(RETRY, stop.wait_for(|stop| *stop)).await.is_ok() {
                break;
            }
        }
        Ok(())
    }

    /// Whether the store's place had to be made to fit the stream.
    async fn adopt(&self, site: &Site) -> Result<bool, SinkError> {
        let state = self.bus.stream(&site.stream).await.map_err(|error| SinkError::Again(error.to_string()))?;
        let adopted = tokio::task::block_in_place(|| self.copy.adopt(site, &state))?;
        if let Some(done) = &adopted {
            tracing::warn!(site = site.name, shard = self.copy.shard, done, "a stream is not the one that was read");
            if let Some(audit) = &self.audit {
                audit.note("stream", &site.name, "anew", done);
            }
        }
        Ok(adopted.is_some())
    }

    fn sink(&self, site: &Site) -> SiteSink {
        SiteSink {
            site: site.clone(),
            copy: self.copy.clone(),
            rules: self.rules,
            telemetry: self.telemetry.clone(),
            audit: self.audit.clone(),
            told: (i64::MIN, 0),
        }
    }

    fn outside(&self, site: &Site) -> Outside<B> {
        let source = Source {
            stream: site.stream.clone(),
            durable: self.durable.clone(),
            // Every class and what is said here, in their one order.
            filter: ">".into(),
            ack_pending_max: i64::try_from(self.limits.ack_pending_max).unwrap_or(i64::MAX),
            ack_wait: Duration::from_secs(self.limits.ack_wait_s),
        };
        Outside {
            bus: self.bus.clone(),
            source,
            limits: self.limits.clone(),
            telemetry: self.telemetry.clone(),
            way_out: "eddy-hub recover".into(),
        }
    }
}
