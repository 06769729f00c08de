//! What detect writes to DETECTIONS, made up: scores of a few devices with the windows that were kept, and alerts in the same batch.

use std::time::Duration;

use eddy_runtime::{
    bus::{Bus, BusError, Publication, PublishError, nats::NatsBus},
    config::{self, CommonConfig},
};
use eddy_schemas::{
    ScoresBuilder, SeriesName, Told,
    alert::{Alert, CloudEvent, Phase, Severity},
    flags, names, rfc3339,
};

/// Digest of the bundle.
pub const BUNDLE: &str = "b1b2c3d4e5f60718293a4b5c6d7e8f90b1b2c3d4e5f60718293a4b5c6d7e8f90";
/// Components of a vector.
pub const DIMENSIONS: usize = 64;
const DEVICES: [&str; 3] = ["pump 1", "a/b", "fan.7"];
const MINUTE: i64 = 60_000_000_000;
/// An alert goes with every so many messages.
const ALERT_EVERY: u64 = 4;

/// A site's detect.
pub struct Feed {
    site: String,
    bus: NatsBus,
    /// Messages so far.
    step: u64,
    /// Windows that each device has in a message.
    pub windows: i64,
}

impl Feed {
    /// Of the gateway at `url`.
    pub async fn new(url: &str, site: &str) -> Self {
        let (common, _): (CommonConfig, serde_json::Value) = config::load("test", "[test]", None, []).unwrap();
        let bus = config::BusConfig { url: url.to_owned(), request_timeout_ms: 2_000, ..common.bus };
        Self { site: site.to_owned(), bus: NatsBus::connect(&bus, "feed").await.unwrap(), step: 0, windows: 2 }
    }

    /// Writes the next messages, each once, whatever the server does meanwhile.
    pub async fn more(&mut self, messages: u64) {
        for _ in 0..messages {
            let subject = format!("scores.{}.0", names::encode(&self.site));
            let guard = loop {
                match self.bus.last("DETECTIONS", &subject).await {
                    Ok(last) => break last.map_or(0, |last| last.sequence),
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            };
            loop {
                match self.bus.publish(self.message(&subject, guard)).await {
                    // Refused: it was stored before, and the answer lost.
                    Ok(_) | Err(PublishError::Refused { .. }) => break,
                    Err(PublishError::Fatal(problem)) => panic!("{problem}"),
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
            self.step += 1;
        }
    }

    /// The same, slowly: something happens meanwhile.
    pub async fn trickle(&mut self, messages: u64, every: Duration) {
        for _ in 0..messages {
            self.more(1).await;
            tokio::time::sleep(every).await;
        }
    }

    fn message(&self, subject: &str, guard: u64) -> Vec<Publication> {
        let mut scores = ScoresBuilder::new(BUNDLE);
        let alerting = DEVICES[(self.step / ALERT_EVERY) as usize % DEVICES.len()];
        let alerts = self.step.is_multiple_of(ALERT_EVERY);
        let mut end = 0;
        for window in 0..self.windows {
            end = (self.step as i64 * self.windows + window + 1) * MINUTE;
            for device in DEVICES {
                let series = SeriesName::encode(device, "t");
                let opens = alerts && device == alerting && window + 1 == self.windows;
                let flag = if opens { flags::KEPT | flags::ALERTED } else { flags::KEPT };
                let vector = vector(device, end);
                let told = Told { span: 59 * MINUTE, filled: 60, vector: &vector };
                scores.push(&series, end, 0.1 + (end % 7) as f32 / 100.0, 0.25, flag, Some(told));
                scores.push(&SeriesName::encode(device, "h"), end, 0.05, 0.5, 0, None);
            }
        }
        let publication = |subject: String, payload: Vec<u8>, guard| Publication {
            stream: "DETECTIONS".into(),
            subject,
            headers: Vec::new(),
            payload: payload.into(),
            guard,
        };
        let event = alerts.then(|| event(&self.site, self.step + 1, alerting, end));
        let mut messages: Vec<_> =
            event.iter().map(|event| publication(event.nats_subject(), event.to_json(), None)).collect();
        messages.push(publication(subject.to_owned(), scores.encode(), Some(guard)));
        messages
    }
}

/// The opening of a site's `number`-th alert.
pub fn event(site: &str, number: u64, device: &str, end: i64) -> CloudEvent {
    let time = rfc3339(end);
    let alert = Alert {
        alert: format!("{number:016x}"),
        phase: Phase::Opened,
        severity: Severity::Major,
        site: site.to_owned(),
        device: device.into(),
        opened: time.clone(),
        score: 1.0 + number as f64 / 3.0,
        tail: 1e-6,
        threshold: 1e-4,
        tail_min: 1e-6,
        channels: Vec::new(),
        heads: Vec::new(),
        bundle: BUNDLE.into(),
    };
    CloudEvent::new(alert, 0, time)
}

/// A vector of its own for each window.
fn vector(device: &str, end: i64) -> Vec<f32> {
    let mut state = end as u64 ^ device.len() as u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..DIMENSIONS).map(|_| next()).collect()
}

/// For those who only ask.
pub async fn bus(url: &str) -> Result<NatsBus, BusError> {
    let (common, _): (CommonConfig, serde_json::Value) = config::load("test", "[test]", None, []).unwrap();
    NatsBus::connect(&config::BusConfig { url: url.to_owned(), ..common.bus }, "test").await
}
