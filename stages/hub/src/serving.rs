//! What a process answers with: the audit log, the gRPC server, requests over NATS.

use std::{path::Path, sync::Arc};

use eddy_runtime::{bus::nats::NatsBus, clock::SystemClock, program::EXIT_STATE};
use tokio::sync::watch;

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

/// Ready to answer.
pub(crate) struct Serving {
    config: Config,
    audit: Arc<Audit>,
    grpc: Option<Grpc>,
}

impl Serving {
    /// Opens the log in `folder`, and listens where the config says.
    ///
    /// # Errors
    /// The exit code and the reason.
    pub(crate) async fn open(config: &Config, folder: &Path) -> Result<Self, (u8, String)> {
        let audit = Audit::open(folder, config.audit.bounds(), Arc::new(SystemClock)).map_err(|error| {
            let may_pass = matches!(error, AuditError::Io { .. });
            (if may_pass { EXIT_FAILED } else { EXIT_STATE }, error.to_string())
        })?;
        let grpc = match config.grpc.is_served() {
            true => Some(Grpc::listen(config.grpc.clone()).await.map_err(|problem| (EXIT_FAILED, problem))?),
            false => None,
        };
        Ok(Self { config: config.clone(), audit: Arc::new(audit), grpc })
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
