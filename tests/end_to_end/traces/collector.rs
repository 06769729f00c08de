//! An OTLP collector that keeps what it is sent, and a webhook that keeps whose traces it was told of.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    common::v1::{KeyValue, any_value::Value},
    trace::v1::Span as Wire,
};
use prost::Message as _;

/// A span as it came.
#[derive(Clone, Debug)]
pub struct Span {
    pub service: String,
    pub name: String,
    pub trace: String,
    pub id: String,
    /// Empty: its trace begins with it.
    pub parent: String,
    pub start: u64,
    pub end: u64,
    pub attributes: BTreeMap<String, String>,
    pub failed: bool,
}

#[derive(Default)]
struct Inner {
    spans: Mutex<Vec<Span>>,
    hooks: Mutex<Vec<String>>,
}

pub struct Collector {
    inner: Arc<Inner>,
    pub url: String,
}

impl Collector {
    pub async fn start() -> Self {
        let inner = Arc::<Inner>::default();
        let routes = Router::new().route("/v1/traces", post(take)).route("/hook", post(hook)).with_state(inner.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { inner, url }
    }

    pub fn spans(&self) -> Vec<Span> {
        self.inner.spans.lock().unwrap().clone()
    }

    /// The `traceparent` of each event that was delivered.
    pub fn hooks(&self) -> Vec<String> {
        self.inner.hooks.lock().unwrap().clone()
    }
}

async fn take(State(inner): State<Arc<Inner>>, headers: HeaderMap, body: Bytes) -> (StatusCode, Vec<u8>) {
    assert_eq!(headers["content-type"], "application/x-protobuf");
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    for resource in request.resource_spans {
        let of_process = attributes(resource.resource.unwrap().attributes);
        for scope in resource.scope_spans {
            assert_eq!(scope.scope.unwrap().name, "eddy");
            let read = scope.spans.into_iter().map(|span| read(&of_process["service.name"], span));
            inner.spans.lock().unwrap().extend(read);
        }
    }
    (StatusCode::OK, ExportTraceServiceResponse::default().encode_to_vec())
}

async fn hook(State(inner): State<Arc<Inner>>, headers: HeaderMap) -> StatusCode {
    let trace = headers.get("traceparent").map_or("", |value| value.to_str().unwrap());
    inner.hooks.lock().unwrap().push(trace.to_owned());
    StatusCode::NO_CONTENT
}

fn read(service: &str, span: Wire) -> Span {
    assert_eq!((span.trace_id.len(), span.span_id.len()), (16, 8));
    Span {
        service: service.to_owned(),
        name: span.name,
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        start: span.start_time_unix_nano,
        end: span.end_time_unix_nano,
        attributes: attributes(span.attributes),
        failed: span.status.is_some_and(|status| status.code != 0),
    }
}

fn attributes(all: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value| match value {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    };
    all.into_iter().map(|one| (one.key, text(one.value.unwrap().value.unwrap()))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
