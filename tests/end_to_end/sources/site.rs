//! A gateway whose capture takes readings over HTTP, MQTT and NATS requests.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use eddy_runtime::provision::StreamBounds;

use super::http;
use crate::{
    gateway::{Gateway, ROOMY, SITE, STAGES},
    stage::StageProcess,
};

/// The token that writers over HTTP must have.
pub const TOKEN: &str = "s3cret";

/// A port of the loopback that nobody listens on, outside the range that the system gives to outgoing connections, so that it
/// stays free while a server is away.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 20_000 + (std::process::id() as u16).wrapping_mul(37).wrapping_add(step) % 12_000;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A gateway with sources.
pub struct Site {
    pub gateway: Gateway,
    /// Where capture takes HTTP.
    pub port: u16,
}

/// What differs from one test's gateway to another's.
#[derive(Default)]
pub struct Plan<'a> {
    /// More TOML of the stages' config.
    pub config: &'a str,
    /// More keys of `[capture.http]`.
    pub http: &'a str,
    /// More lines of nats-server's config.
    pub server: &'a str,
    /// Only capture runs.
    pub capture_only: bool,
    /// Bounds of the streams, if not roomy.
    pub bounds: Option<StreamBounds>,
}

impl Site {
    /// Everything provisioned and running.
    pub async fn start(plan: Plan<'_>) -> Self {
        let gateway = Gateway::without_stages_with(&plan.bounds.unwrap_or(ROOMY), plan.server).await;
        let mut site = Self { gateway, port: free_port() };
        let folder = site.gateway.folder.path().to_owned();
        std::fs::write(folder.join("token"), format!("{TOKEN}\n")).unwrap();
        let text = format!(
            "[capture.http]\nlisten = \"127.0.0.1:{}\"\ntoken_file = {:?}\n{}\n{}\n",
            site.port,
            folder.join("token"),
            plan.http,
            plan.config
        );
        std::fs::write(site.config(), text).unwrap();
        let mut environment = site.gateway.environment(&folder.join("state"));
        environment.push(("EDDY_CONFIG".into(), site.config().display().to_string()));
        for stage in STAGES.iter().take(if plan.capture_only { 1 } else { STAGES.len() }) {
            site.gateway.stages.push(StageProcess::start(stage, &folder, &environment));
        }
        site.wait_until_ready().await;
        site
    }

    /// The stages' config file.
    pub fn config(&self) -> PathBuf {
        self.gateway.folder.path().join("gateway.toml")
    }

    /// Waits until capture answers over HTTP.
    pub async fn wait_until_ready(&mut self) {
        let port = self.port;
        self.wait_until(async || http::get(port, "/health").await.is_ok_and(|answer| answer.status == 200)).await;
    }

    /// Waits until somebody answers NATS requests: until then they fail at once. Nothing of what it asks is stored.
    pub async fn wait_for_requests(&self) {
        let client = async_nats::connect(self.gateway.server.url()).await.unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while client.request(format!("direct.{SITE}.nobody"), "".into()).await.is_err() {
            assert!(Instant::now() < deadline, "nobody answers requests");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until capture's log has this.
    pub async fn wait_until_logged(&mut self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.capture().log().contains(text) {
            assert!(Instant::now() < deadline, "capture does not log {text:?}:\n{}", self.capture().log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until `done`; fails with capture's log.
    pub async fn wait_until(&mut self, mut done: impl AsyncFnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(120);
        while !done().await {
            assert!(Instant::now() < deadline, "it does not come about; capture's log:\n{}", self.capture().log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The capture process.
    pub fn capture(&mut self) -> &mut StageProcess {
        &mut self.gateway.stages[0]
    }

    /// Writes over HTTP with the token.
    pub async fn post(&self, path: &str, content_type: &str, body: impl AsRef<[u8]>) -> http::Answer {
        let authorization = format!("Token {TOKEN}");
        let headers = [("Authorization", authorization.as_str()), ("Content-Type", content_type)];
        http::request(self.port, "POST", path, &headers, body.as_ref()).await.unwrap()
    }
}
