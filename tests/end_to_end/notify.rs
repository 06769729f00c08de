//! Alerts reach people who do not speak NATS, once each, whatever fails in between.
//!
//! The alerts are published on their subjects by the tests themselves; `receiver` and `broker` are what notify brings
//! them to.

mod broker;
mod faults;
mod mqtt;
mod receiver;
mod webhook;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use eddy_runtime::client::{Client, ClientError};
use eddy_schemas::alert::{Alert, CloudEvent, Phase, Severity, Share};

use crate::{
    gateway::{Gateway, ROOMY, SITE},
    stage::StageProcess,
};

/// A gateway without stages, and notify with some sinks.
struct Setting {
    gateway: Gateway,
    notify: StageProcess,
}

impl Setting {
    /// `sinks` is TOML below the table `[notify]`; `SECRET` in it is the path of a file with the receivers' secret.
    async fn start(sinks: &str) -> Self {
        let gateway = Gateway::without_stages(&ROOMY).await;
        let secret = gateway.folder.path().join("secret");
        std::fs::write(&secret, receiver::SECRET).unwrap();
        let config = gateway.folder.path().join("notify.toml");
        let sinks = sinks.replace("SECRET", &secret.display().to_string());
        std::fs::write(&config, format!("[notify]\nstart_at = \"oldest\"\n{sinks}")).unwrap();
        let mut environment = gateway.environment(&gateway.state());
        let address = gateway.folder.path().join("notify.address").display().to_string();
        environment.push(("EDDY_CONFIG".into(), config.display().to_string()));
        environment.push(("EDDY_TELEMETRY_ADDRESS_FILE".into(), address));
        environment.push(("EDDY_TELEMETRY_STALL_AFTER_S".into(), "1".into()));
        let notify = StageProcess::start("notify", gateway.folder.path(), &environment);
        Self { gateway, notify }
    }

    fn client(&self) -> &Client {
        &self.gateway.client
    }

    fn state(&self) -> PathBuf {
        self.gateway.state().join("notify")
    }

    /// Asks notify over HTTP: the status and the text.
    async fn ask(&self, path: &str) -> (u16, String) {
        let file = self.gateway.folder.path().join("notify.address");
        let address = std::fs::read_to_string(file).unwrap();
        receiver::get(&format!("http://{address}{path}")).await
    }

    /// Waits until `done`; fails with notify's log if that takes too long.
    async fn wait(&self, what: &str, mut done: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(90);
        while !done() {
            if Instant::now() > deadline {
                let log = self.notify.log();
                let lines: Vec<&str> = log.lines().collect();
                panic!("{what}: not in time; notify said:\n{}", lines[lines.len().saturating_sub(30)..].join("\n"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits for so many dead letters.
    async fn dead_letters(&self, count: usize) -> Vec<eddy_runtime::dead_letter::DeadLetter> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let letters = crate::oracle::dead_letters(self.client()).await;
            if letters.len() >= count {
                return letters;
            }
            assert!(Instant::now() < deadline, "{} of {count} dead letters: {}", letters.len(), self.notify.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The `n`-th event of episode `episode` of a device.
fn event(device: &str, episode: u64, n: u32, phase: Phase) -> CloudEvent {
    let share = |name: &str| vec![Share { name: name.into(), share: 1.0 }];
    let alert = Alert {
        alert: format!("{episode:016x}"),
        phase,
        severity: if episode.is_multiple_of(2) { Severity::Major } else { Severity::Minor },
        site: SITE.into(),
        device: device.into(),
        opened: "2026-01-01T00:00:00Z".into(),
        score: 1.0 + episode as f64 / 3.0,
        tail: 1e-6,
        threshold: 1e-4,
        tail_min: 1e-6,
        channels: share("t"),
        heads: share("value"),
        bundle: "b".repeat(64),
    };
    CloudEvent::new(alert, n, format!("2026-01-01T00:{:02}:00Z", n % 60))
}

/// `count` opened alerts, turn by turn of each device.
fn opened(devices: &[&str], first: u64, count: u64) -> Vec<CloudEvent> {
    (first..first + count).map(|n| event(devices[(n % devices.len() as u64) as usize], n, 0, Phase::Opened)).collect()
}

/// Publishes; what the server did not confirm is published again only if it is not there.
async fn publish(client: &Client, events: &[CloudEvent]) {
    for event in events {
        let subject = event.nats_subject();
        while let Err(problem) = client.publish(&subject, &[], event.to_json().into()).await {
            assert!(matches!(
                problem,
                ClientError::TimedOut { .. } | ClientError::NoStream { .. } | ClientError::Refused(_)
            ));
            tokio::time::sleep(Duration::from_millis(100)).await;
            let last = client.last("DETECTIONS", &subject).await;
            if last.is_ok_and(|last| last.is_some_and(|last| last.payload == event.to_json())) {
                break;
            }
        }
    }
}
