//! Questions of this gateway to its region: passed on, answered or refused within a deadline; and how the way there stands, which is
//! answered here.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use eddy_runtime::{
    bus::{BusError, nats::NatsBus},
    service::{self, Refusal, Request, Service},
};
use eddy_schemas::{
    names,
    region::{RECEIPTS, REQUEST_PREFIX, SEARCH, STATS},
    sync::{Class, ClassStats, UPLINK, UplinkStats},
};
use tokio::{sync::watch, task::spawn_blocking};

use crate::queue::{Queue, QueueError};

/// How long is waited before the service is registered again.
const AGAIN: Duration = Duration::from_secs(1);
/// A question's bytes at most: a slow link has other things to carry.
const QUESTION_BYTES_MAX: usize = 64 << 10;

/// What is asked, and of whom.
#[derive(Clone)]
pub struct Proxy {
    /// The region's NATS.
    pub hub: NatsBus,
    /// Its URL, as it is configured.
    pub url: String,
    /// What waits for it.
    pub queue: Arc<Queue>,
    /// How long it may take.
    pub timeout: Duration,
}

impl Proxy {
    /// Keeps the service of `site` registered until `stop` says true; so many questions are asked at the same time.
    pub async fn serve(self, gateway: NatsBus, site: String, at_once: usize, stop: watch::Receiver<bool>) {
        let subject = |method: &str| format!("{REQUEST_PREFIX}.{}.{method}", names::encode(&site));
        let service = Service {
            name: "eddy-sync".into(),
            description: format!("what the region knows, for {site}"),
            endpoints: [SEARCH, RECEIPTS, STATS, UPLINK].map(|method| (method.to_owned(), subject(method))).into(),
            at_once,
        };
        let answer = move |Request { endpoint, payload, .. }: Request| {
            let proxy = self.clone();
            async move {
                match endpoint.as_str() {
                    UPLINK => proxy.uplink().await,
                    method => ask(&proxy.hub, method, payload, proxy.timeout).await,
                }
            }
        };
        while !*stop.borrow() {
            if let Err(error) = service::serve(gateway.clone(), service.clone(), answer.clone(), stop.clone()).await {
                tracing::warn!(%error, "questions to the region are not answered; trying again");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }

    async fn uplink(self) -> Result<Bytes, Refusal> {
        let failed = |message: String| Refusal { code: 500, message };
        let (connected, queue) = (self.hub.is_connected(), self.queue);
        let classes = spawn_blocking(move || stats(&queue)).await.map_err(|panic| failed(panic.to_string()))?;
        let stats =
            UplinkStats { hub: self.url, connected, classes: classes.map_err(|error| failed(error.to_string()))? };
        serde_json::to_vec(&stats).map(Bytes::from).map_err(|error| failed(error.to_string()))
    }
}

fn stats(queue: &Queue) -> Result<Vec<ClassStats>, QueueError> {
    let mut all = Vec::new();
    for class in Class::ALL {
        let depth = queue.depth(class)?;
        if depth.next > 1 {
            let (waiting, waiting_bytes, lost) = (depth.entries, depth.bytes, depth.lost());
            all.push(ClassStats { class: class.token().to_owned(), next: depth.next, waiting, waiting_bytes, lost });
        }
    }
    Ok(all)
}

async fn ask(hub: &NatsBus, method: &str, question: Bytes, timeout: Duration) -> Result<Bytes, Refusal> {
    if question.len() > QUESTION_BYTES_MAX {
        let message = format!("a question of {} bytes: at most {QUESTION_BYTES_MAX} are passed on", question.len());
        return Err(Refusal { code: 413, message });
    }
    // What is asked meanwhile would wait in the connection, and be answered to nobody.
    if !hub.is_connected() {
        return Err(Refusal { code: 503, message: "there is no connection to the region".into() });
    }
    match hub.request(&format!("{REQUEST_PREFIX}.{method}"), question, timeout).await {
        Ok(answer) => Ok(answer),
        // The region's own words.
        Err(BusError::Fatal(problem)) => Err(Refusal { code: 502, message: problem }),
        Err(error) => Err(Refusal { code: 503, message: format!("the region does not answer: {error}") }),
    }
}
