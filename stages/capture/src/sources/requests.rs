//! NATS requests on `direct.<site>.<device>`, answered once they are durable.
//!
//! A publish or request on `ingest.<site>.<device>` is JetStream's: its answer says that INGEST has it, an fsync each, also
//! while capture is down. Here the answer says that READINGS has it and what of it was refused, and thousands of single
//! readings share one commit; while capture is down nobody answers.

use std::sync::Arc;

use eddy_runtime::{
    bus::{asked::Asked, nats::NatsBus},
    direct::{NotStored, Receipt},
};
use eddy_schemas::names;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::watch;

use super::gate::{Failed, Gate, Origin};

/// Takes requests until `stop`.
pub(super) async fn run(
    site: String,
    requests_max: usize,
    gate: Gate,
    bus: NatsBus,
    mut stop: watch::Receiver<bool>,
) -> Result<(), String> {
    let subject = format!("direct.{}.*", names::encode(&site));
    let mut asked =
        bus.asked(&subject, "capture").await.map_err(|error| format!("subscribing to {subject}: {error}"))?;
    let (gate, bus) = (Arc::new(gate), Arc::new(bus));
    let mut answering = FuturesUnordered::new();
    loop {
        tokio::select! {
            request = asked.next(), if answering.len() < requests_max => {
                let Some(request) = request else { return Ok(()) };
                answering.push(answer(gate.clone(), bus.clone(), request));
            }
            Some(()) = answering.next(), if !answering.is_empty() => {}
            _ = stop.changed() => return Ok(()),
        }
    }
}

async fn answer(gate: Arc<Gate>, bus: Arc<NatsBus>, request: Asked) {
    let token = request.subject.rsplit('.').next().unwrap_or_default();
    let device = names::decode(token);
    let content_type = request.content_type.as_deref();
    let origin = Origin { device: Some(&device), content_type, trace: request.trace, ..Origin::default() };
    let told = gate.offer(request.payload.clone(), origin).await;
    let Some(reply) = request.reply else { return };
    let (error, body) = match told {
        Ok(receipt) if receipt.rejected.is_empty() => (None, stored(&receipt)),
        Ok(receipt) => {
            let first = receipt.rejected[0].detail.clone();
            (Some((400, first)), stored(&receipt))
        }
        Err(Failed::Refused((reason, detail))) => {
            let body = serde_json::json!({ "stored": 0, "rejected": [{ "reason": reason, "detail": detail }] });
            (Some((400, detail)), body)
        }
        Err(Failed::NotStored(error)) => {
            let code = if error == NotStored::Busy { 429 } else { 503 };
            (Some((code, error.to_string())), serde_json::json!({ "stored": 0 }))
        }
    };
    bus.answer(reply, error, body.to_string().into()).await;
}

fn stored(receipt: &Receipt) -> serde_json::Value {
    let rejected: Vec<_> = receipt
        .rejected
        .iter()
        .map(|one| serde_json::json!({ "reason": one.reason, "detail": one.detail, "readings": one.readings }))
        .collect();
    let stored = receipt.rows.saturating_sub(rejected.len());
    if rejected.is_empty() {
        serde_json::json!({ "stored": stored })
    } else {
        serde_json::json!({ "stored": stored, "rejected": rejected })
    }
}
