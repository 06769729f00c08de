//! Alerts on a slow link that bulk has filled.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use eddy_fixtures::link::Conditions;
use eddy_schemas::{
    ScoresBuilder, SeriesName, Told,
    alert::{Alert, CloudEvent, Phase, Severity},
    flags, names, rfc3339,
    sync::{
        Class, subject_of,
        wire::{Batch, entry::What},
    },
    time_of,
};
use futures_util::StreamExt as _;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

use super::{
    FULL, SyncArgs,
    sites::{Site, Sites},
};

/// Between alerts, milliseconds.
const BETWEEN: std::ops::Range<u64> = 300..900;
/// Of bulk is there so much more than the link carries in the time.
const SPARE: f64 = 1.5;
/// Components of a made-up vector: noise, which nothing makes smaller.
const DIMENSIONS: usize = 64;
/// Windows in a message.
const WINDOWS: u64 = 2_000;
/// What one becomes on the wire at least.
const WINDOW_BYTES: u64 = 80;
/// After it was made slow and filled, the link is left alone for so long.
const SETTLE: Duration = Duration::from_secs(10);
/// An alert that has not come by then never will.
const PATIENCE: Duration = Duration::from_secs(30);
const BUNDLE: &str = "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00";
/// Alerts that were heard and not counted yet, at most.
const ARRIVALS_MAX: usize = 1 << 14;
const SECOND: i64 = 1_000_000_000;

/// What was measured.
pub(super) struct Full {
    /// Milliseconds from an alert's publish on the gateway to its batch at the hub's server, sorted.
    took: Vec<f64>,
    /// Of what the link carries up.
    pub(super) link_use: f64,
}

impl Full {
    /// A quantile.
    pub(super) fn alert_ms(&self, part: f64) -> f64 {
        let at = (part * self.took.len() as f64).ceil() as usize;
        self.took[at.clamp(1, self.took.len()) - 1]
    }

    pub(super) fn alerts(&self) -> usize {
        self.took.len()
    }
}

/// Fills the link and sends alerts.
pub(super) async fn measure(sites: &Sites, args: &SyncArgs) -> Result<Full> {
    let site = &sites.sites[FULL];
    site.link.change(|now| {
        *now = Conditions {
            bytes_per_s: Some(args.bytes_per_s),
            delay: Duration::from_millis(args.delay_ms),
            ..Conditions::default()
        };
    });
    let batches = sites.region.subscribe(subject_of(&site.name, Class::Alerts)).await?;
    sites.region.flush().await?;
    let (told, mut arrivals) = mpsc::channel(ARRIVALS_MAX);
    let hearing = tokio::spawn(hear(batches, told));
    fill(site, args).await?;
    sleep(SETTLE).await;
    let (before, began) = (site.link.traffic().up, Instant::now());
    let published = send(site, began + Duration::from_secs(args.seconds)).await?;
    let (bytes, seconds) = (site.link.traffic().up - before, began.elapsed().as_secs_f64());
    let mut took = Vec::new();
    while took.len() < published.len() {
        let arrival = timeout(PATIENCE, arrivals.recv()).await.context("an alert did not come")?;
        let (alert, at) = arrival.context("the hub's server is gone")?;
        let since = published.get(&alert).with_context(|| format!("nobody published alert {alert}"))?;
        took.push((at - *since).as_secs_f64() * 1e3);
    }
    hearing.abort();
    took.sort_by(f64::total_cmp);
    ensure!(!took.is_empty(), "no alert was sent in {} s", args.seconds);
    Ok(Full { took, link_use: bytes as f64 / (args.bytes_per_s as f64 * seconds) })
}

/// Tells of each alert when it comes to the hub's server.
async fn hear(mut batches: async_nats::Subscriber, told: mpsc::Sender<(String, Instant)>) -> Result<()> {
    while let Some(message) = batches.next().await {
        let at = Instant::now();
        for entry in Batch::read(&message.payload).map_err(anyhow::Error::msg)?.1.entries {
            let Some(What::Alert(event)) = entry.what else { continue };
            let event: CloudEvent = serde_json::from_slice(&event)?;
            told.send((event.data.alert, at)).await?;
        }
    }
    Ok(())
}

/// Alerts now and then; when each was published, by its id.
async fn send(site: &Site, until: Instant) -> Result<HashMap<String, Instant>> {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let mut published = HashMap::new();
    let client = &site.running.gateway.client;
    let scored = format!("scores.{}.0", names::encode(&site.name));
    while Instant::now() < until {
        sleep(Duration::from_millis(random.random_range(BETWEEN))).await;
        let event = event(&site.name, published.len() as u64);
        let at = Instant::now();
        // As detect does: an alert, and the scores that it came with.
        let alert = client.send(&event.nats_subject(), &[], event.to_json().into()).await?;
        let scores = client.send(&scored, &[], opening(&event, &mut random).into()).await?;
        alert.stored().await?;
        scores.stored().await?;
        published.insert(event.data.alert, at);
    }
    Ok(published)
}

/// Windows of noise, more than the link carries in the time.
async fn fill(site: &Site, args: &SyncArgs) -> Result<()> {
    let seconds = args.seconds as f64 + SETTLE.as_secs_f64();
    let windows = (seconds * args.bytes_per_s as f64 * SPARE) as u64 / WINDOW_BYTES;
    let mut random = ChaCha8Rng::seed_from_u64(8);
    let subject = format!("scores.{}.0", names::encode(&site.name));
    for message in 0..windows.div_ceil(WINDOWS) {
        let mut scores = ScoresBuilder::new(BUNDLE);
        for window in 0..WINDOWS {
            let vector: Vec<f32> = (0..DIMENSIONS).map(|_| random.random_range(-1.0..1.0)).collect();
            let end = (message * WINDOWS + window) as i64 * SECOND;
            let series = SeriesName::encode(&format!("pump {}", window % 50), "vibration");
            let told = Told { span: 63 * SECOND, filled: 64, vector: &vector };
            scores.push(&series, end, 0.1, 0.5, flags::KEPT, Some(told));
        }
        site.running.gateway.client.publish(&subject, &[], scores.encode().into()).await?;
    }
    Ok(())
}

/// The row of the window that opened an alert.
fn opening(event: &CloudEvent, random: &mut ChaCha8Rng) -> Vec<u8> {
    let vector: Vec<f32> = (0..DIMENSIONS).map(|_| random.random_range(-1.0..1.0)).collect();
    let mut scores = ScoresBuilder::new(BUNDLE);
    let told = Told { span: 63 * SECOND, filled: 64, vector: &vector };
    let end = time_of(&event.time).unwrap_or_default();
    let series = SeriesName::encode(&event.data.device, "vibration");
    scores.push(&series, end, 1.0, 1e-6, flags::KEPT | flags::ALERTED, Some(told));
    scores.encode()
}

fn event(site: &str, number: u64) -> CloudEvent {
    let time = rfc3339(number as i64 * SECOND);
    let alert = Alert {
        alert: format!("{number:016x}"),
        phase: Phase::Opened,
        severity: Severity::Major,
        site: site.to_owned(),
        device: format!("pump {}", number % 50),
        opened: time.clone(),
        score: 1.0,
        tail: 1e-6,
        threshold: 1e-4,
        tail_min: 1e-6,
        channels: Vec::new(),
        heads: Vec::new(),
        bundle: BUNDLE.into(),
    };
    CloudEvent::new(alert, 0, time)
}
