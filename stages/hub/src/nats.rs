//! The same answers to requests on `eddy.region.<method>` of the hub's NATS: gateways ask there, over the connection that they have.
//!
//! Who may ask is the server's affair: it lets only those publish there whom its permissions name, and a gateway's questions come to
//! `eddy.region.<method>.from.<site>`, so that the log can say whose they are. Every hub process answers; NATS gives each request to one
//! of them.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use eddy_runtime::{
    audit::Audit,
    bus::nats::NatsBus,
    service::{self, Refusal as ServiceRefusal, Request, Service},
};
use eddy_schemas::{
    names,
    region::{
        RECEIPTS, REQUEST_PREFIX, SEARCH, STATS,
        wire::{ReceiptsRequest, SearchRequest, StatsRequest},
    },
};
use prost::Message;
use tokio::sync::watch;

use crate::{
    answer::{Answers, Call, Refusal, Why},
    grpc::{Floods, about},
};

/// Who asks where the server knows no accounts.
const WHO: &str = "nats";
/// Before a site's token, where the server says who asks: a gateway's account has its questions come here.
const FROM: &str = "from";
/// Questions of one gateway that are answered, and logged, in a minute.
const QUESTIONS_MAX: u32 = 6_000;
/// Before the service is registered once more.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What requests over NATS are answered with, and within.
#[derive(Clone)]
pub struct Requests {
    /// The answers.
    pub answers: Arc<Answers>,
    /// The log.
    pub audit: Arc<Audit>,
    /// Bytes of a request.
    pub bytes_max: usize,
    /// Requests at the same time.
    pub at_once: usize,
    /// How long an answer may take.
    pub time_max: Duration,
    /// How many each has asked of late.
    pub lately: Arc<Floods>,
}

impl Requests {
    /// Keeps the service registered until `stop` says true.
    pub async fn serve(self, bus: NatsBus, stop: watch::Receiver<bool>) {
        let methods = [SEARCH, RECEIPTS, STATS].into_iter();
        let open = methods.clone().map(|method| (method.to_owned(), format!("{REQUEST_PREFIX}.{method}")));
        let known = methods.map(|method| (format!("{method}-from"), format!("{REQUEST_PREFIX}.{method}.{FROM}.*")));
        let service = Service {
            name: "eddy-region".into(),
            description: "windows of all sites, and what the region can prove to have".into(),
            endpoints: open.chain(known).collect(),
            at_once: self.at_once,
        };
        let answer = move |Request { subject, payload, .. }: Request| {
            let requests = self.clone();
            async move {
                let (who, method) = asked(&subject);
                requests.answer(&who, &method, &payload).await.map_err(ServiceRefusal::from)
            }
        };
        while !*stop.borrow() {
            if let Err(error) = service::serve(bus.clone(), service.clone(), answer.clone(), stop.clone()).await {
                tracing::warn!(%error, "the region's service is not registered; trying again");
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        }
    }

    async fn answer(&self, who: &str, method: &str, payload: &[u8]) -> Result<Bytes, Refusal> {
        let Some(more) = self.lately.next(who, QUESTIONS_MAX) else {
            let why = format!("{who} asks more than {QUESTIONS_MAX} times a minute: ask again in a minute");
            return Err(Refusal::new(Why::Busy, why));
        };
        let call = Call::new(who, self.time_max);
        if !more.is_empty() {
            call.tell(format_args!("{more}"));
        }
        let answered = match tokio::time::timeout_at(call.deadline, self.method(&call, method, payload)).await {
            Ok(answered) => answered,
            Err(_) => Err(Refusal::too_late()),
        };
        let outcome = answered.as_ref().map_or_else(|refusal| refusal.why.as_str(), |_| "ok");
        if let Err(refusal) = &answered {
            call.tell(format_args!("{refusal}"));
        }
        self.audit.log(who, method, outcome, &call.detail()).map_err(|error| {
            tracing::error!(%error, "a request is not logged, and so not answered");
            Refusal::new(
                Why::Unavailable,
                "the audit log takes nothing, so that nothing is answered: the hub's log says why",
            )
        })?;
        answered
    }

    async fn method(&self, call: &Call, method: &str, payload: &[u8]) -> Result<Bytes, Refusal> {
        if payload.len() > self.bytes_max {
            let (bytes, most) = (payload.len(), self.bytes_max);
            return Err(Refusal::wrong(format!("a request of {bytes} bytes: up to {most} are taken")));
        }
        match method {
            SEARCH => {
                let request: SearchRequest = read(payload)?;
                call.tell(format_args!("{}", about(&request)));
                Ok(self.answers.search(call, &request).await?.encode_to_vec().into())
            }
            RECEIPTS => {
                let request: ReceiptsRequest = read(payload)?;
                call.tell(format_args!("site {:?}", request.site));
                Ok(self.answers.receipts(call, &request).await?.encode_to_vec().into())
            }
            STATS => Ok(self.answers.stats(call, &read::<StatsRequest>(payload)?).await?.encode_to_vec().into()),
            method => Err(Refusal::wrong(format!("{method:?}: {SEARCH}, {RECEIPTS} and {STATS} are answered"))),
        }
    }
}

/// Who asks, and for what.
fn asked(subject: &str) -> (String, String) {
    let rest = subject.strip_prefix(REQUEST_PREFIX).unwrap_or(subject).trim_start_matches('.');
    match rest.split('.').collect::<Vec<_>>()[..] {
        [method, FROM, site] => (format!("site {}", names::decode(site)), method.to_owned()),
        _ => (WHO.to_owned(), rest.to_owned()),
    }
}

fn read<T: Message + Default>(payload: &[u8]) -> Result<T, Refusal> {
    T::decode(payload).map_err(|error| Refusal::wrong(format!("not a request: {error}")))
}

#[cfg(test)]
pub(crate) mod tests;
