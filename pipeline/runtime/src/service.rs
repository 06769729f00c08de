//! Requests and answers over the bus, discoverable by the conventions of NATS services (ADR-32): `$SRV.PING`, `.INFO`, `.STATS`.

use std::{future::Future, sync::Arc};

use async_nats::service::{ServiceExt as _, error};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::{Semaphore, watch};

use crate::bus::{BusError, nats::NatsBus};

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// As in HTTP: 400 for what was asked wrongly, 404, 503.
    pub code: usize,
    /// What, where, which value, and what to do.
    pub message: String,
}

/// A service to be.
#[derive(Clone, Debug)]
pub struct Service {
    /// Letters, digits and `-`.
    pub name: String,
    /// What it does.
    pub description: String,
    /// Endpoints: name and subject.
    pub endpoints: Vec<(String, String)>,
    /// Requests that are answered at the same time; further ones wait in the connection.
    pub at_once: usize,
}

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    /// The endpoint's name.
    pub endpoint: String,
    /// What it was published on, where the endpoint's subject has wildcards.
    pub subject: String,
    /// Payload.
    pub payload: Bytes,
}

/// Answers requests until `stop` says true.
///
/// # Errors
/// That the service cannot be registered.
pub async fn serve<F, A>(
    bus: NatsBus,
    service: Service,
    answer: F,
    mut stop: watch::Receiver<bool>,
) -> Result<(), BusError>
where
    F: Fn(Request) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Result<Bytes, Refusal>> + Send,
{
    let unavailable = |error: async_nats::Error| BusError::Unavailable(error.to_string());
    let builder = bus.client().service_builder().description(&service.description);
    let running = builder.start(&service.name, env!("CARGO_PKG_VERSION")).await.map_err(unavailable)?;
    let room = Arc::new(Semaphore::new(service.at_once));
    let mut tasks = Vec::new();
    for (name, subject) in service.endpoints {
        let added = running.endpoint_builder().name(&name).add(&subject).await;
        let mut endpoint = added.map_err(unavailable)?;
        let (answer, room) = (answer.clone(), room.clone());
        tasks.push(tokio::spawn(async move {
            while let Some(request) = endpoint.next().await {
                let Ok(place) = room.clone().acquire_owned().await else { return };
                let (answer, name) = (answer.clone(), name.clone());
                tokio::spawn(async move {
                    let subject = request.message.subject.to_string();
                    let asked = Request { endpoint: name, subject, payload: request.message.payload.clone() };
                    let answered = answer(asked).await;
                    let refused = |Refusal { code, message }| error::Error { status: message, code };
                    if let Err(error) = request.respond(answered.map_err(refused)).await {
                        tracing::debug!(%error, "an answer was lost");
                    }
                    drop(place);
                });
            }
        }));
    }
    // An error means that the sender is gone, which is a stop too.
    let _ = stop.wait_for(|stop| *stop).await;
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    let _ = running.stop().await;
    Ok(())
}
