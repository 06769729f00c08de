//! Questions of this gateway to its region: passed on, answered or refused within a deadline.

use std::time::Duration;

use bytes::Bytes;
use eddy_runtime::{
    bus::{BusError, nats::NatsBus},
    service::{self, Refusal, Service},
};
use eddy_schemas::{
    names,
    region::{RECEIPTS, REQUEST_PREFIX, SEARCH, STATS},
};
use tokio::sync::watch;

/// How long is waited before the service is registered again.
const AGAIN: Duration = Duration::from_secs(1);
/// A question's bytes at most: a slow link has other things to carry.
const QUESTION_BYTES_MAX: usize = 64 << 10;

/// Keeps the service registered until `stop` says true.
pub async fn serve(
    gateway: NatsBus,
    hub: NatsBus,
    site: String,
    (timeout, at_once): (Duration, usize),
    stop: watch::Receiver<bool>,
) {
    let subject = |method: &str| format!("{REQUEST_PREFIX}.{}.{method}", names::encode(&site));
    let service = Service {
        name: "eddy-sync".into(),
        description: format!("what the region knows, for {site}"),
        endpoints: [SEARCH, RECEIPTS, STATS].map(|method| (method.to_owned(), subject(method))).into(),
        at_once,
    };
    let answer = move |method: String, question: Bytes| {
        let hub = hub.clone();
        async move { ask(&hub, &method, question, timeout).await }
    };
    while !*stop.borrow() {
        if let Err(error) = service::serve(gateway.clone(), service.clone(), answer.clone(), stop.clone()).await {
            tracing::warn!(%error, "questions to the region are not answered; trying again");
            tokio::time::sleep(AGAIN).await;
        }
    }
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
