//! Asking the streams.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use eddy_runtime::{
    client::{ClientError, ConsumerInfo, ReadFrom, StreamInfo},
    position::HEADER,
};
use eddy_schemas::{
    health::Health,
    region::REQUEST_PREFIX,
    search::IndexStats,
    sync::{UPLINK, UplinkStats},
};
use futures_util::TryStreamExt as _;

use super::{
    Aside, Checkpoint, PATH, Reader, STREAMS, Status, StreamUse,
    fold::{Conditions, aside_of},
};
use crate::{
    alerts::alerts_of,
    gateway::Gateway,
    rollout::{self, seen::Seen},
};

/// One look at all counters.
struct Look {
    streams: Vec<StreamInfo>,
    consumers: Vec<ConsumerInfo>,
}

async fn look(gateway: &Gateway) -> Result<Look, ClientError> {
    let (mut streams, mut consumers) = (Vec::new(), Vec::new());
    for name in STREAMS {
        let Some(info) = gateway.client.stream(name).await? else { continue };
        streams.push(info);
        // A tool's own consumer is no stage.
        consumers.extend(gateway.client.consumers(name).await?.into_iter().filter(|consumer| consumer.durable));
    }
    Ok(Look { streams, consumers })
}

/// Asks for everything; it takes `interval`.
///
/// # Errors
/// If the gateway does not answer, or was never provisioned.
pub async fn gather(gateway: &Gateway, interval: Duration) -> Result<Status, ClientError> {
    let (health, aside) = (health(gateway).await?, aside(gateway).await?);
    let checkpoints = checkpoints(gateway).await?;
    let last_alert = gateway.client.last("DETECTIONS", &alerts_of(gateway)).await?;
    let (readers, streams) = rates(gateway, interval).await?;
    Ok(Status {
        url: gateway.client.url().to_owned(),
        site: gateway.site.clone(),
        readers,
        checkpoints,
        streams,
        last_alert: last_alert.and_then(|message| serde_json::from_slice(&message.payload).ok()),
        health,
        index: index(gateway).await,
        region: region(gateway).await,
        bundles: Seen::ask(gateway).await?,
        wish: rollout::seen::state(gateway).await.unwrap_or_default(),
        given_up: gateway.file.as_ref().map(|file| file.machine.given_up.clone()).unwrap_or_default(),
        aside,
    })
}

/// How full streams are and how far readers have come, and how fast both moved within `interval`.
///
/// # Errors
/// If the gateway does not answer, or was never provisioned.
pub async fn rates(gateway: &Gateway, interval: Duration) -> Result<(Vec<Reader>, Vec<StreamUse>), ClientError> {
    let before = look(gateway).await?;
    if before.streams.is_empty() {
        return Err(ClientError::NoStream { what: "any of eddy's subjects".into() });
    }
    tokio::time::sleep(interval).await;
    Ok(between(&before, &look(gateway).await?, interval))
}

/// What came between two looks.
fn between(before: &Look, after: &Look, interval: Duration) -> (Vec<Reader>, Vec<StreamUse>) {
    let per_second = |from: u64, to: u64| (to.saturating_sub(from) as f64 / interval.as_secs_f64()).round() as u64;
    let readers = after.consumers.iter().map(|now| {
        let was = before.consumers.iter().find(|was| (&was.stream, &was.name) == (&now.stream, &now.name));
        Reader {
            name: now.name.clone(),
            stream: now.stream.clone(),
            lag_messages: now.pending,
            in_flight_messages: now.ack_pending,
            messages_per_s: per_second(was.map_or(now.delivered, |was| was.delivered), now.delivered),
            connected: now.pulls_waiting > 0,
        }
    });
    let streams = after.streams.iter().map(|now| {
        let was = before.streams.iter().find(|was| was.name == now.name).map_or(now.last_sequence, |w| w.last_sequence);
        StreamUse {
            name: now.name.clone(),
            messages: now.messages,
            bytes: now.bytes,
            bytes_max: now.bytes_max,
            messages_per_s: per_second(was, now.last_sequence),
        }
    });
    (readers.collect(), streams.collect())
}

/// What the index says of itself, if it runs.
pub async fn index(gateway: &Gateway) -> Option<IndexStats> {
    let subject = format!("eddy.search.{}.stats", gateway.site_token());
    let answer = gateway.client.request(&subject, Bytes::new()).await.ok()?;
    serde_json::from_slice(&answer).ok()
}

/// What sync says of the way to the region, if it runs.
pub async fn region(gateway: &Gateway) -> Option<UplinkStats> {
    let subject = format!("{REQUEST_PREFIX}.{}.{UPLINK}", gateway.site_token());
    let answer = gateway.client.request(&subject, Bytes::new()).await.ok()?;
    serde_json::from_slice(&answer).ok()
}

async fn checkpoints(gateway: &Gateway) -> Result<Vec<Checkpoint>, ClientError> {
    let (mut all, now) = (Vec::new(), crate::now());
    for stage in &PATH {
        let filter = format!("{}.{}.*", stage.output_prefix, gateway.site_token());
        for subject in gateway.client.subjects(stage.output_stream, &filter).await?.into_keys() {
            let Some(last) = gateway.client.last(stage.output_stream, &subject).await? else { continue };
            all.push(Checkpoint {
                stage: stage.name.to_owned(),
                subject,
                reaches: last.header(HEADER).map(str::to_owned),
                age_s: (now - last.stored_at).max(0) as f64 / 1e9,
            });
        }
    }
    Ok(all)
}

/// The conditions that hold. HEALTH is bounded, so that it can be read whole.
async fn health(gateway: &Gateway) -> Result<Vec<Health>, ClientError> {
    let filter = format!("health.{}.>", gateway.site_token());
    let mut messages = gateway.client.read("HEALTH", &[&filter], ReadFrom::Start).await?;
    let mut conditions = Conditions::default();
    while let Some(message) = messages.try_next().await? {
        // What is no condition is of another release.
        let _ = serde_json::from_slice(&message.payload).map(|health| conditions.take(health));
    }
    Ok(conditions.active())
}

/// The subjects of what a gateway's stages put aside.
pub fn side_of(gateway: &Gateway) -> [String; 2] {
    let site = gateway.site_token();
    [format!("late.{site}.>"), format!("deadletter.{site}.>")]
}

/// What lies in SIDE, by stage. It is bounded too.
async fn aside(gateway: &Gateway) -> Result<BTreeMap<String, Aside>, ClientError> {
    let [late, dead] = side_of(gateway);
    let mut messages = gateway.client.read("SIDE", &[&late, &dead], ReadFrom::Start).await?;
    let mut stages: BTreeMap<String, Aside> = BTreeMap::new();
    while let Some(message) = messages.try_next().await? {
        let (stage, aside) = aside_of(&message);
        stages.entry(stage).or_default().add(aside);
    }
    Ok(stages)
}
