//! A region of a sandbox's own: a hub, certificates, and a link to it that is the drill's.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use async_nats::jetstream;
use eddy_cli::{
    certs::{self, CertsArgs},
    demo::region::{
        oracle::{self, Sent, Told},
        receipts::{self, Receipts},
    },
    hub,
    supervise::Machine,
};
use eddy_fixtures::link::Link;
use eddy_schemas::names;

use crate::{
    sandbox::config::Config,
    trial::{Kit, Trial},
};

/// How long nothing may come while the region catches up.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// What is not urgent waits less than as shipped: days go by in seconds.
const LINGER_S: f64 = 1.0;

/// One that runs.
#[derive(Debug)]
pub struct Region {
    /// The way to it.
    pub link: Link,
    dir: PathBuf,
    site: String,
    client: async_nats::Client,
    machine: Machine,
    /// What the gateway's stream may have dropped since it was read.
    told: Mutex<Told>,
}

impl Region {
    /// Starts one in `dir`, and says in `config` how to come to it.
    ///
    /// # Errors
    /// That it does not come up.
    pub async fn start(kit: &Kit, dir: &Path, config: &mut Config) -> Result<Self> {
        let (site, certs) = (config.site()?, dir.join("certs"));
        std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        certs::make(&CertsArgs {
            out: certs.clone(),
            hosts: Vec::new(),
            sites: vec![site.clone()],
            readers: Vec::new(),
            labelers: Vec::new(),
            operators: Vec::new(),
            days: 7,
            renew: None,
        })?;
        let file = |name: &str| certs.join(name).display().to_string();
        let mut own = Config::default();
        for (key, name) in [("ca_file", "ca.pem"), ("cert_file", "hub.pem"), ("key_file", "hub.key")] {
            own.set(&["region", "tls", key], file(name));
        }
        own.set(&["hub", "sites"], vec![site.clone()]);
        own.set(&["hub", "site_mb"], 256);
        let own_file = dir.join("hub.toml");
        own.write(&own_file)?;
        let mut plan = hub::Plan::load(&dir.join("hub"), Some(&own_file))?;
        plan.config.machine.listen_on(0);
        plan.loud = false;
        let machine = hub::start(&plan).await?;
        let url = machine.file().url;
        let reached = async {
            let client = async_nats::ConnectOptions::new()
                .add_root_certificates(file("ca.pem").into())
                .add_client_certificate(file("hub.pem").into(), file("hub.key").into())
                .require_tls(true)
                .connect(&url)
                .await?;
            let address: SocketAddr = url.trim_start_matches("tls://").parse().with_context(|| url.clone())?;
            anyhow::Ok((client, Link::to(address, kit.seed)?))
        };
        let (client, link) = match reached.await {
            Ok(reached) => reached,
            Err(problem) => {
                machine.stop().await;
                return Err(problem);
            }
        };
        let base = format!("site-{}", names::encode(&site));
        config.set(&["sync", "linger_s"], LINGER_S);
        config.set(&["sync", "hub", "url"], format!("tls://{}", link.address()));
        config.set(&["sync", "hub", "tls_ca_file"], file("ca.pem"));
        config.set(&["sync", "hub", "tls_cert_file"], file(&format!("{base}.pem")));
        config.set(&["sync", "hub", "tls_key_file"], file(&format!("{base}.key")));
        Ok(Self { link, dir: dir.to_owned(), site, client, machine, told: Mutex::default() })
    }

    /// The folder and file that say which processes run.
    pub fn machine(&self) -> (PathBuf, &'static str) {
        (self.dir.join("hub"), hub::FILE)
    }

    /// What the gateway has to tell.
    async fn told(&self, trial: &Trial<'_>) -> Result<Told> {
        let gateway = jetstream::new(async_nats::connect(trial.sandbox.url()).await?);
        oracle::told(&gateway, &self.site).await
    }

    /// Keeps what the gateway has told so far: in a long run its stream drops that at its bound.
    pub async fn remember(&self, trial: &Trial<'_>) {
        // A server that is dead at the moment is asked again a round later.
        if let Ok(told) = self.told(trial).await {
            self.told.lock().unwrap_or_else(PoisonError::into_inner).extend(told);
        }
    }

    async fn held(&self) -> Receipts {
        receipts::of(&self.client, &self.site).await.unwrap_or_default()
    }

    /// Whether its receipts count as much as the gateway has to tell.
    pub async fn has_all(&self, trial: &Trial<'_>) -> Result<bool> {
        let (told, held) = (self.told(trial).await?, self.held().await);
        let (alerts, windows) = (told.alerts.len() as u64, told.windows.len() as u64);
        Ok(held.entries("alerts") >= alerts && held.entries("deltas") >= windows)
    }

    /// Waits until it has all that the gateway told, and compares; what is wrong goes to the trial's problems.
    ///
    /// # Errors
    /// If it does not get there, or a chain does not hold.
    pub async fn judge(&self, trial: &mut Trial<'_>) -> Result<(Told, Sent)> {
        let (mut last, mut moved) = (0, Instant::now());
        while !self.has_all(trial).await? {
            let held = self.held().await;
            let now = held.entries("alerts") + held.entries("deltas");
            if now != last {
                (last, moved) = (now, Instant::now());
            }
            ensure!(moved.elapsed() < PATIENCE, "the region does not catch up: {}", held.words());
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let now = self.told(trial).await?;
        let mut told = std::mem::take(&mut *self.told.lock().unwrap_or_else(PoisonError::into_inner));
        told.extend(now);
        let sent = oracle::sent(&jetstream::new(self.client.clone()), &self.site).await?;
        let (compared, held) = (told.compare(&sent)?, receipts::of(&self.client, &self.site).await?);
        if compared.lost + compared.duplicated + compared.altered > 0 {
            trial.problems.push(format!(
                "in the region {} are lost, {} doubled and {} altered ({})",
                compared.lost,
                compared.duplicated,
                compared.altered,
                compared.examples.join("; ")
            ));
        }
        if !held.is_complete() {
            trial.problems.push(format!("the region's receipts are not complete: {}", held.words()));
        }
        let all = serde_json::json!({
            "alerts": told.alerts.len(), "windows": told.windows.len(), "receipts": held.words(),
            "bytes_up": self.link.traffic().up,
        });
        trial.figures.insert("region".to_owned(), all);
        Ok((told, sent))
    }

    /// Stops it.
    pub async fn stop(self) {
        self.machine.stop().await;
        // Whether it stays is the folder's above to say.
        drop(self.link);
    }
}
