//! The methods of `eddy.region.v1.Region`: answers, and what the log says of them. Whether the caller may ask was decided before
//! (`gate.rs`).

use std::{pin::Pin, sync::Arc, time::Duration};

use eddy_runtime::audit::Audit;
use eddy_schemas::region::wire::{
    GetWindowRequest, GetWindowResponse, LabelRequest, LabelResponse, ReceiptsRequest, ReceiptsResponse, SearchRequest,
    SearchResponse, StatsRequest, StatsResponse,
};
use futures_util::{Stream, StreamExt as _, stream};
use tokio::time::{Instant, timeout_at};
use tonic::{Request, Response, Status, Streaming};

use crate::{
    answer::{Answers, Call, Refusal, Why},
    service::region_server::Region,
};

/// A stream on which nothing is asked for so long is ended.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// Searches of one stream that are answered at the same time; their answers keep the order.
const AHEAD: usize = 4;

/// The service.
pub struct Service {
    pub(super) answers: Arc<Answers>,
    pub(super) audit: Arc<Audit>,
    pub(super) time_max: Duration,
}

/// The call, as the gate let it pass, and what it asks.
fn opened<T>(mut request: Request<T>) -> Result<(Call, T), Refusal> {
    let call = request.extensions_mut().remove::<Call>();
    // The gate is before every method.
    let call = call.ok_or_else(|| Refusal::new(Why::NotAllowed, "not by this way"))?;
    Ok((call, request.into_inner()))
}

pub(crate) fn about(request: &SearchRequest) -> String {
    let SearchRequest { vector, alert, bundle, k, site, device, label, .. } = request;
    let like = if alert.is_empty() { format!("{} components", vector.len()) } else { format!("alert {alert:?}") };
    let mut text = format!("like {like}, k={k}");
    for (what, value) in [("bundle", bundle), ("site", site), ("device", device), ("label", label)] {
        if !value.is_empty() {
            // What is too long is refused, and cut in the log.
            text.push_str(&format!(", {what} {value:?}"));
        }
    }
    text
}

#[tonic::async_trait]
impl Region for Service {
    type SearchStreamStream = Pin<Box<dyn Stream<Item = Result<SearchResponse, Status>> + Send>>;

    async fn search(&self, request: Request<SearchRequest>) -> Result<Response<SearchResponse>, Status> {
        let (call, request) = opened(request)?;
        call.tell(format_args!("{}", about(&request)));
        Ok(Response::new(self.answers.search(&call, &request).await?))
    }

    async fn search_stream(
        &self,
        request: Request<Streaming<SearchRequest>>,
    ) -> Result<Response<Self::SearchStreamStream>, Status> {
        let whole = request.metadata().contains_key("grpc-timeout");
        let (call, requests) = opened(request)?;
        let until = whole.then_some(call.deadline);
        let ended = Ended { audit: self.audit.clone(), who: call.who.clone(), answered: 0 };
        Ok(Response::new(Box::pin(answered(self.answers.clone(), requests, call, (until, self.time_max), ended))))
    }

    async fn get_window(&self, request: Request<GetWindowRequest>) -> Result<Response<GetWindowResponse>, Status> {
        let (call, request) = opened(request)?;
        match request.alert.as_str() {
            "" => call.tell(format_args!("window {} of shard {}", request.number, request.shard)),
            alert => call.tell(format_args!("window of alert {alert:?} {:?}", request.site)),
        }
        Ok(Response::new(self.answers.window(&call, &request).await?))
    }

    async fn label(&self, request: Request<LabelRequest>) -> Result<Response<LabelResponse>, Status> {
        let (call, request) = opened(request)?;
        let LabelRequest { site, device, alert, label, time } = &request;
        call.tell(format_args!("site {site:?} device {device:?} alert {alert:?}: {label:?}, said at {time}"));
        // Before it is done: a crash in between leaves a word that was asked for, never one that nobody knows of.
        let (audit, who, detail) = (self.audit.clone(), call.who.clone(), call.detail());
        let asked = tokio::task::spawn_blocking(move || audit.decide(&who, "Label", "asked", &detail)).await;
        let logged =
            asked.map_err(|panic| panic.to_string()).and_then(|asked| asked.map_err(|error| error.to_string()));
        if let Err(error) = logged {
            tracing::error!(error, "a label is not logged, and so not taken");
            return Err(Status::unavailable(
                "the audit log takes nothing, so that no label is taken: the hub's log says why",
            ));
        }
        Ok(Response::new(self.answers.label(&call, &request).await?))
    }

    async fn receipts(&self, request: Request<ReceiptsRequest>) -> Result<Response<ReceiptsResponse>, Status> {
        let (call, request) = opened(request)?;
        call.tell(format_args!("site {:?}", request.site));
        Ok(Response::new(self.answers.receipts(&call, &request).await?))
    }

    async fn stats(&self, request: Request<StatsRequest>) -> Result<Response<StatsResponse>, Status> {
        let (call, request) = opened(request)?;
        Ok(Response::new(self.answers.stats(&call, &request).await?))
    }
}

/// Answers in the order of the requests, until the first that is refused.
fn answered(
    answers: Arc<Answers>,
    requests: Streaming<SearchRequest>,
    call: Call,
    (until, time_max): (Option<Instant>, Duration),
    mut ended: Ended,
) -> impl Stream<Item = Result<SearchResponse, Status>> + Send {
    let asked = stream::unfold(requests, move |mut requests| async move {
        let idle = Instant::now() + IDLE_MAX;
        let next = match timeout_at(until.unwrap_or(idle).min(idle), requests.next()).await {
            Ok(next) => next?,
            Err(_) => Err(Status::deadline_exceeded("nothing was asked on the stream in time")),
        };
        Some((next, requests))
    });
    let answer = move |asked: Result<SearchRequest, Status>| {
        let (answers, call) = (answers.clone(), call.clone());
        async move {
            let deadline = Instant::now() + time_max;
            let call = call.until(until.unwrap_or(deadline).min(deadline));
            Ok(answers.search(&call, &asked?).await?)
        }
    };
    let mut over = false;
    asked
        .map(answer)
        .buffered(AHEAD)
        .take_while(move |answered: &Result<SearchResponse, Status>| {
            let go_on = !std::mem::replace(&mut over, answered.is_err());
            std::future::ready(go_on)
        })
        .inspect(move |answered| {
            // As a whole: it speaks when it is dropped.
            let ended = &mut ended;
            ended.answered += u64::from(answered.is_ok());
        })
}

/// Says in the log what came of a stream when it ends, however it does.
struct Ended {
    audit: Arc<Audit>,
    who: String,
    answered: u64,
}

impl Drop for Ended {
    fn drop(&mut self) {
        let detail = format!("{} searches answered", self.answered);
        if let Err(error) = self.audit.log(&self.who, "SearchStream", "ended", &detail) {
            tracing::error!(%error, "the end of a stream is not logged");
        }
    }
}
