//! Finished spans to a collector: OTLP as protobuf over HTTP, beside the loops.
//!
//! A batch that the collector does not take now is tried again while the queue fills; past the queue's bound spans are dropped and
//! counted. What fails is told once, and once more when it works again: a gateway without a link must not fill its log.

use std::{sync::Arc, time::Duration};

use prost::Message as _;
use reqwest::{Client, StatusCode, Url, header::CONTENT_TYPE};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, timeout, timeout_at},
};

use super::{Tracer, otlp, span::Span};
use crate::{
    clock::{Clock, SystemClock},
    config::{CommonConfig, TracesConfig},
    stage::Scope,
    telemetry::Telemetry,
};

/// Spans of a request.
const BATCH_MAX: usize = 512;
/// How long the first span of a request waits for others.
const LINGER: Duration = Duration::from_millis(500);
/// How long is waited before a batch is tried again: at first, and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// How long a stop waits for what is left.
const FLUSH: Duration = Duration::from_secs(1);

/// Starts what the config asks for, and has `telemetry` hand its spans to it.
///
/// # Errors
/// That the endpoint is none, or no client can be made.
pub fn start(config: &CommonConfig, stage: &str, telemetry: &Telemetry) -> Result<Option<Exporter>, String> {
    let exporter = Exporter::start(&config.telemetry.traces, stage, &config.scope(), Arc::new(SystemClock))?;
    if let Some(exporter) = &exporter {
        telemetry.trace_by(exporter.tracer.clone());
    }
    Ok(exporter)
}

/// The exporter of a process; without an endpoint there is none.
pub struct Exporter {
    /// What makes the spans.
    tracer: Tracer,
    flush: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Exporter {
    /// Starts one if the config names an endpoint, for `stage`.
    ///
    /// # Errors
    /// That the endpoint is none, or no client can be made.
    fn start(config: &TracesConfig, stage: &str, scope: &Scope, clock: Arc<dyn Clock>) -> Result<Option<Self>, String> {
        let Some(url) = config.url()? else { return Ok(None) };
        // Of all that a process does, whoever comes first installs it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .user_agent(concat!("eddy/", env!("CARGO_PKG_VERSION")))
            .timeout(Duration::from_millis(config.timeout_ms))
            .pool_max_idle_per_host(1)
            .build()
            .map_err(|error| format!("telemetry.traces.endpoint: {error}"))?;
        let resource = vec![
            ("service.namespace", "eddy".to_owned()),
            ("service.name", format!("eddy-{stage}")),
            ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
            ("service.instance.id", format!("{}/{}", scope.site, scope.shard)),
            ("eddy.site", scope.site.clone()),
        ];
        let (tracer, finished) = Tracer::new(config.per_second, config.queue_spans_max, clock);
        let (flush, flushed) = oneshot::channel();
        let sender = Sender { client, shown: shown(&url), url, resource, tracer: tracer.clone(), is_down: false };
        let task = tokio::spawn(sender.run(finished, flushed));
        Ok(Some(Self { tracer, flush, task }))
    }

    /// Sends what is left, in bounded time.
    pub async fn stop(self) {
        let _ = self.flush.send(());
        // What does not go out in time is lost with the process.
        let _ = timeout(FLUSH, self.task).await;
    }
}

/// An address without what it may have of a name and password.
fn shown(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}

/// What became of a request.
enum Answer {
    Taken,
    Later(String),
    Never(String),
}

struct Sender {
    client: Client,
    url: Url,
    /// It, for the log.
    shown: String,
    resource: Vec<(&'static str, String)>,
    tracer: Tracer,
    is_down: bool,
}

impl Sender {
    async fn run(mut self, mut finished: mpsc::Receiver<Span>, mut flush: oneshot::Receiver<()>) {
        loop {
            let first = tokio::select! {
                Some(span) = finished.recv() => span,
                _ = &mut flush => break,
                else => return,
            };
            let (batch, flushing) = gather(first, &mut finished, &mut flush).await;
            if !self.send(batch, &mut flush, flushing).await {
                break;
            }
        }
        // One try for each batch that is left: whoever stops does not wait for a collector that is away.
        loop {
            let batch: Vec<Span> = std::iter::from_fn(|| finished.try_recv().ok()).take(BATCH_MAX).collect();
            if batch.is_empty() {
                return;
            }
            let (spans, answer) = (batch.len() as u64, self.post(batch).await);
            if !matches!(answer, Answer::Taken) {
                self.tracer.drop_spans(spans + finished.len() as u64);
                return;
            }
        }
    }

    /// Tries until the collector has the batch or refuses it; false: it is time to stop.
    async fn send(&mut self, batch: Vec<Span>, flush: &mut oneshot::Receiver<()>, mut flushing: bool) -> bool {
        let spans = batch.len() as u64;
        let mut wait = BACKOFF.0;
        loop {
            match self.post(batch.clone()).await {
                Answer::Taken => {
                    if std::mem::replace(&mut self.is_down, false) {
                        tracing::info!(endpoint = self.shown, "the collector takes traces again");
                    }
                    return !flushing;
                }
                Answer::Never(problem) => {
                    self.tell(&problem);
                    self.tracer.drop_spans(spans);
                    return !flushing;
                }
                Answer::Later(problem) => self.tell(&problem),
            }
            if flushing {
                self.tracer.drop_spans(spans);
                return false;
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(BACKOFF.1),
                _ = &mut *flush => flushing = true,
            }
        }
    }

    /// Once, until it works again.
    fn tell(&mut self, problem: &str) {
        if !std::mem::replace(&mut self.is_down, true) {
            tracing::warn!(
                endpoint = self.shown,
                problem,
                "the collector does not take traces; they are dropped once too many wait"
            );
        }
    }

    async fn post(&self, batch: Vec<Span>) -> Answer {
        let body = otlp::request(&self.resource, batch).encode_to_vec();
        let request = self.client.post(self.url.clone()).header(CONTENT_TYPE, "application/x-protobuf").body(body);
        match request.send().await {
            Ok(answer) if answer.status().is_success() => Answer::Taken,
            Ok(answer) => {
                let status = answer.status();
                // As OTLP has it.
                let later = [
                    StatusCode::TOO_MANY_REQUESTS,
                    StatusCode::BAD_GATEWAY,
                    StatusCode::SERVICE_UNAVAILABLE,
                    StatusCode::GATEWAY_TIMEOUT,
                ];
                if later.contains(&status) {
                    Answer::Later(status.to_string())
                } else {
                    Answer::Never(status.to_string())
                }
            }
            Err(error) => Answer::Later(error.without_url().to_string()),
        }
    }
}

/// What else is finished within a moment; and whether it is time to stop.
async fn gather(
    first: Span,
    finished: &mut mpsc::Receiver<Span>,
    flush: &mut oneshot::Receiver<()>,
) -> (Vec<Span>, bool) {
    let until = Instant::now() + LINGER;
    let mut batch = vec![first];
    while batch.len() < BATCH_MAX {
        tokio::select! {
            next = timeout_at(until, finished.recv()) => match next {
                Ok(Some(span)) => batch.push(span),
                _ => break,
            },
            _ = &mut *flush => return (batch, true),
        }
    }
    (batch, false)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use axum::{Router, body::Bytes, extract::State, routing::post};

    use super::*;
    use crate::{clock::ManualClock, trace::Kind};

    /// What a collector is sent, and how it answers: statuses in turn, then 200.
    #[derive(Default)]
    struct Collector {
        answers: Mutex<Vec<u16>>,
        requests: Mutex<Vec<(u16, Bytes)>>,
    }

    async fn take(State(collector): State<Arc<Collector>>, body: Bytes) -> axum::http::StatusCode {
        let status = collector.answers.lock().unwrap().pop().unwrap_or(200);
        collector.requests.lock().unwrap().push((status, body));
        axum::http::StatusCode::from_u16(status).unwrap()
    }

    async fn collector(answers: &[u16]) -> (Arc<Collector>, String) {
        let collector = Arc::new(Collector {
            answers: Mutex::new(answers.iter().rev().copied().collect()),
            ..Collector::default()
        });
        let routes = Router::new().route("/v1/traces", post(take)).with_state(collector.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        (collector, url)
    }

    fn exporter(endpoint: &str, queue_spans_max: usize) -> Option<Exporter> {
        let config = TracesConfig { endpoint: endpoint.into(), per_second: 1.0, queue_spans_max, timeout_ms: 1_000 };
        let scope = Scope { site: "plant".into(), shard: 2, shards: 3 };
        Exporter::start(&config, "detect", &scope, Arc::new(ManualClock::new(5))).unwrap()
    }

    fn finish(tracer: &Tracer, spans: usize) {
        let one = [tracer.root()].into_iter().collect();
        for _ in 0..spans {
            tracer.close(&tracer.open("detect", Kind::Consumer, &one, 1), &[("eddy.rows", 1_u64.into())], None);
        }
    }

    /// Waits for so many requests.
    async fn requests(collector: &Collector, count: usize) -> Vec<(u16, Bytes)> {
        for _ in 0..2_000 {
            let requests = collector.requests.lock().unwrap().clone();
            if requests.len() >= count {
                return requests;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{count} requests never came");
    }

    #[test]
    fn what_is_shown_of_an_endpoint_has_no_password() {
        let url = Url::parse("https://me:planted@otel.example:4318/v1/traces?key=planted").unwrap();
        assert_eq!(shown(&url), "https://otel.example:4318/v1/traces");
    }

    #[tokio::test]
    async fn without_an_endpoint_there_is_none() {
        assert!(exporter("", 10).is_none());
    }

    #[tokio::test]
    async fn what_is_not_taken_now_is_sent_again_and_what_is_refused_is_dropped() {
        let (collector, url) = collector(&[503, 200, 400]).await;
        let exporter = exporter(&url, 100).unwrap();
        finish(&exporter.tracer, 3);
        let first = requests(&collector, 2).await;
        assert_eq!((first[0].0, first[1].0), (503, 200));
        assert_eq!(first[0].1, first[1].1, "the same again");
        finish(&exporter.tracer, 4);
        requests(&collector, 3).await;
        finish(&exporter.tracer, 1);
        let tracer = exporter.tracer.clone();
        exporter.stop().await;
        assert_eq!(tracer.counts(), (8, 4));
        assert_eq!(requests(&collector, 4).await.len(), 4, "a stop sends what is left");
    }

    #[tokio::test]
    async fn nobody_waits_for_a_collector_that_is_away() {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let exporter = exporter(&format!("http://{nobody}"), 10).unwrap();
        let tracer = exporter.tracer.clone();
        finish(&tracer, 1_000);
        exporter.stop().await;
        assert_eq!(tracer.counts(), (1_000, 1_000));
    }
}
