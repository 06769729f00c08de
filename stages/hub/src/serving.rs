//! What a process answers with: the audit log, the gRPC server, requests over NATS.

use std::{path::Path, sync::Arc, time::Duration};

use eddy_runtime::{bus::nats::NatsBus, clock::SystemClock, program::EXIT_STATE};
use tokio::{sync::watch, task::block_in_place, time::timeout};

use crate::{
    answer::{Answers, Peers},
    audit::{Audit, AuditError},
    config::Config,
    grpc::Grpc,
    nats::Requests,
    shards::Shards,
};

/// Failed while running; starting again may help.
const EXIT_FAILED: u8 = 1;

/// How often it is looked whether another process has left this one's folder.
const FOLDER_LOOK: Duration = Duration::from_millis(500);

/// Ready to answer.
pub(crate) struct Serving {
    config: Config,
    audit: Arc<Audit>,
    grpc: Option<Grpc>,
}

impl Serving {
    /// Opens the log in `folder`, and listens where the config says; `None` if it was asked to stop before.
    ///
    /// # Errors
    /// The exit code and the reason.
    pub(crate) async fn open(
        config: &Config,
        folder: &Path,
        stop: watch::Receiver<bool>,
    ) -> Result<Option<Self>, (u8, String)> {
        let Some(audit) = open_audit(folder, config, stop).await? else { return Ok(None) };
        let grpc = match config.grpc.is_served() {
            true => Some(Grpc::listen(config.grpc.clone()).await.map_err(|problem| (EXIT_FAILED, problem))?),
            false => None,
        };
        Ok(Some(Self { config: config.clone(), audit, grpc }))
    }

    /// The log.
    pub(crate) fn audit(&self) -> Arc<Audit> {
        self.audit.clone()
    }

    /// Where it answers by gRPC; empty: nowhere.
    pub(crate) fn address(&self) -> String {
        let advertised = self.grpc.as_ref().map(Grpc::advertised);
        advertised.and_then(Result::ok).unwrap_or_default()
    }

    /// Answers for `shards` until `stop` says true.
    ///
    /// # Errors
    /// The server's.
    pub(crate) async fn run(
        self,
        shards: Arc<Shards>,
        bus: NatsBus,
        stop: watch::Receiver<bool>,
    ) -> Result<(), String> {
        let Self { config, audit, grpc } = self;
        let peers = Peers::new(grpc.as_ref().map(|grpc| grpc.tls().client.clone()));
        let bounds = config.answers;
        let answers = Arc::new(Answers::new(shards, peers, Arc::new(SystemClock), bounds.bounds()));
        // Kept elsewhere, with the process's own log, it tells whether lines are missing later.
        tracing::info!(head = %audit.head(), "audit log");
        let requests = Requests {
            answers: answers.clone(),
            audit: audit.clone(),
            bytes_max: bounds.request_bytes_max,
            at_once: bounds.calls_max,
            time_max: bounds.deadline(),
        };
        let requests = requests.serve(bus, stop.clone());
        let Some(grpc) = grpc else {
            requests.await;
            return Ok(());
        };
        tracing::info!(address = ?grpc.address().ok(), "answers by gRPC");
        let serving = grpc.serve(answers, audit, (config.roles, bounds), stop);
        let ((), served) = tokio::join!(requests, serving);
        served
    }
}

#[cfg(test)]
mod tests;

/// Opens the audit log, once no other process has it: that one has this folder, and this one waits for its end.
async fn open_audit(
    folder: &Path,
    config: &Config,
    mut stop: watch::Receiver<bool>,
) -> Result<Option<Arc<Audit>>, (u8, String)> {
    let mut waits = false;
    loop {
        let opened = block_in_place(|| Audit::open(folder, config.audit.bounds(), Arc::new(SystemClock)));
        match opened {
            Ok(audit) => return Ok(Some(Arc::new(audit))),
            Err(AuditError::InUse { .. }) => {
                if !std::mem::replace(&mut waits, true) {
                    tracing::info!(folder = %folder.display(), "another eddy-hub has this folder; waiting for its end");
                }
            }
            Err(error @ AuditError::Io { .. }) => return Err((EXIT_FAILED, error.to_string())),
            Err(error) => return Err((EXIT_STATE, error.to_string())),
        }
        if timeout(FOLDER_LOOK, stop.wait_for(|stop| *stop)).await.is_ok() {
            return Ok(None);
        }
    }
}
