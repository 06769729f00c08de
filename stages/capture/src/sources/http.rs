//! HTTP: line protocol as InfluxDB's clients and Telegraf write it, JSON and SenML, answered once they are durable.
//!
//! | route | takes | answers |
//! |---|---|---|
//! | `POST /api/v2/write`, `POST /write` | line protocol, `precision=` ns, us, ms or s | 204 |
//! | `POST /ingest` | every format of [`crate::decode`], by `Content-Type` | 200 with a count |
//! | `GET /health`, `GET /ping` | | 200, 204; 503 while the pipeline is full |
//!
//! `?device=` names the device of a whole request; without it each line (tag) or object (key) names its own. A body may
//! come gzipped. Good lines of a request are taken even if others are not: then the answer is a 400 that tells how
//! many were stored and, one by one, what was refused and why, as InfluxDB's "partial write". Codes and bodies are those of
//! InfluxDB's API v2 (`code`, `message`), so that its clients back off and report as they do with it.

mod answer;

use std::{path::PathBuf, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use eddy_runtime::{
    fresh::Fresh,
    listener::Bounded,
    trace::{TRACEPARENT, TraceContext},
};
use eddy_schemas::side::Reason;
use serde::Deserialize;
use tokio::{net::TcpListener, sync::watch};

use self::answer::{full, not_stored, receipt, refused, unwell, wrong};
use super::{
    gate::{Failed, Gate, Origin},
    gzip,
};
use crate::decode::TimeUnit;

/// In how many times [`Settings::timeout`] a connection must have come to an answer: its body and the storing may take one
/// each, its head one more.
const ANSWER_WITHIN: u32 = 3;

/// What the config asks for.
#[derive(Clone)]
pub(super) struct Settings {
    pub listen: String,
    /// Where the bound address is written; empty: nowhere.
    pub address_file: PathBuf,
    /// Without one, anybody may write.
    pub token: Option<Arc<Fresh<String>>>,
    /// Bytes of a body, unpacked.
    pub body_bytes_max: usize,
    pub connections_max: usize,
    /// How long a body may take to come, and how long an answer may take.
    pub timeout: Duration,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("listen", &self.listen).finish_non_exhaustive()
    }
}

struct Door {
    gate: Gate,
    settings: Settings,
}

/// What a request's query may say; other parameters (`org`, `bucket`, `db`, …) are not needed here.
#[derive(Debug, Deserialize)]
struct Parameters {
    device: Option<String>,
    precision: Option<String>,
}

/// Serves until `stop`.
pub(super) async fn serve(settings: Settings, gate: Gate, mut stop: watch::Receiver<bool>) -> Result<(), String> {
    let wrong = |error: std::io::Error| format!("capture.http.listen = {:?}: {error}", settings.listen);
    let listener = TcpListener::bind(&settings.listen).await.map_err(wrong)?;
    let bound = listener.local_addr().map_err(wrong)?;
    write_address(&settings.address_file, &bound.to_string())
        .map_err(|error| format!("capture.http.address_file = {}: {error}", settings.address_file.display()))?;
    tracing::info!(address = %bound, token = settings.token.is_some(), "taking readings over HTTP");
    let listener = Bounded::new(listener, settings.connections_max, settings.timeout * ANSWER_WITHIN);
    let routes = Router::new()
        .route("/api/v2/write", post(write))
        .route("/write", post(write))
        .route("/ingest", post(ingest))
        .route("/health", get(health))
        .route("/ping", get(ping).head(ping))
        .with_state(Arc::new(Door { gate, settings }));
    let stopped = async move {
        let _ = stop.wait_for(|stop| *stop).await;
    };
    axum::serve(listener, routes).with_graceful_shutdown(stopped).await.map_err(|error| error.to_string())
}

/// A reader sees the whole address or none.
fn write_address(file: &std::path::Path, address: &str) -> std::io::Result<()> {
    if file.as_os_str().is_empty() {
        return Ok(());
    }
    let part = file.with_extension("part");
    std::fs::write(&part, address)?;
    std::fs::rename(&part, file)
}

async fn health(State(door): State<Arc<Door>>) -> Response {
    if door.gate.is_full() {
        return unwell();
    }
    let body = r#"{"name":"eddy","message":"ready to take readings","status":"pass"}"#;
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

async fn ping(State(door): State<Arc<Door>>) -> Response {
    if door.gate.is_full() { unwell() } else { StatusCode::NO_CONTENT.into_response() }
}

async fn write(
    State(door): State<Arc<Door>>,
    Query(parameters): Query<Parameters>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let unit = match parameters.precision.as_deref() {
        None | Some("") => None,
        Some("ns" | "n") => Some(TimeUnit::Ns),
        Some("us" | "u" | "µ") => Some(TimeUnit::Us),
        Some("ms") => Some(TimeUnit::Ms),
        Some("s") => Some(TimeUnit::S),
        Some(other) => {
            let problem = format!("precision {other:?} is none of ns, us, ms, s");
            return wrong(StatusCode::BAD_REQUEST, "invalid", &problem);
        }
    };
    let origin = Origin {
        device: parameters.device.as_deref(),
        // Not text/plain, which may also be a bare number.
        content_type: Some("application/x-influxdb-line-protocol"),
        line_time_unit: unit,
        trace: trace(&headers),
        ..Origin::default()
    };
    match door.take(&headers, body, origin).await {
        Ok(stored) if stored.rejected.is_empty() => StatusCode::NO_CONTENT.into_response(),
        Ok(stored) => receipt(&stored),
        Err(answer) => answer,
    }
}

async fn ingest(
    State(door): State<Arc<Door>>,
    Query(parameters): Query<Parameters>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    // What curl and forms say of a body that nobody described.
    let said = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type = said.filter(|said| !said.starts_with("application/x-www-form-urlencoded"));
    let (device, trace) = (parameters.device.as_deref(), trace(&headers));
    let origin = Origin { device, content_type, trace, ..Origin::default() };
    match door.take(&headers, body, origin).await {
        Ok(stored) => receipt(&stored),
        Err(answer) => answer,
    }
}

fn trace(headers: &HeaderMap) -> Option<TraceContext> {
    headers.get(TRACEPARENT).and_then(|value| value.to_str().ok()).and_then(TraceContext::parse)
}

impl Door {
    async fn take(
        &self,
        headers: &HeaderMap,
        body: Body,
        origin: Origin<'_>,
    ) -> Result<eddy_runtime::direct::Receipt, Response> {
        if !self.is_allowed(headers) {
            let problem =
                "the Authorization header must be \"Token <token>\" or \"Bearer <token>\" with the gateway's token";
            return Err(wrong(StatusCode::UNAUTHORIZED, "unauthorized", problem));
        }
        // Before the body is read: a sender that is turned away has not filled the memory.
        if self.gate.is_full() {
            return Err(full());
        }
        let most = self.settings.body_bytes_max;
        let read = tokio::time::timeout(self.settings.timeout, axum::body::to_bytes(body, most)).await;
        let packed = match read {
            Ok(Ok(packed)) => packed,
            Ok(Err(error)) if is_too_long(&error) => return Err(too_long(most)),
            Ok(Err(error)) => {
                return Err(wrong(StatusCode::BAD_REQUEST, "invalid", &format!("reading the body: {error}")));
            }
            Err(_) => {
                let problem = format!("the body did not come within {} ms", self.settings.timeout.as_millis());
                return Err(wrong(StatusCode::REQUEST_TIMEOUT, "request timeout", &problem));
            }
        };
        let body = self.unpack(headers, packed).map_err(|answer| *answer)?;
        match tokio::time::timeout(self.settings.timeout, self.gate.offer(body, origin)).await {
            Ok(Ok(receipt)) => Ok(receipt),
            Ok(Err(Failed::Refused((Reason::TooLarge, detail)))) => {
                Err(refused(StatusCode::PAYLOAD_TOO_LARGE, Reason::TooLarge, &detail))
            }
            Ok(Err(Failed::Refused((reason, detail)))) => Err(refused(StatusCode::BAD_REQUEST, reason, &detail)),
            Ok(Err(Failed::NotStored(error))) => Err(not_stored(error)),
            Err(_) => Err(not_stored(eddy_runtime::direct::NotStored::Unknown)),
        }
    }

    fn is_allowed(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.settings.token else { return true };
        let said = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let said = said.strip_prefix("Token ").or_else(|| said.strip_prefix("Bearer ")).unwrap_or_default();
        // Digests are compared, so that the time it takes tells nothing of the token.
        blake3::hash(said.as_bytes()) == blake3::hash(token.get().as_bytes())
    }

    fn unpack(&self, headers: &HeaderMap, packed: Bytes) -> Result<Bytes, Box<Response>> {
        match headers.get(header::CONTENT_ENCODING).map(|value| value.to_str().unwrap_or("?")) {
            None | Some("identity" | "") => Ok(packed),
            Some("gzip") => {
                let most = self.settings.body_bytes_max;
                gzip::unpack(&packed, most).map(Bytes::from).map_err(|problem| {
                    Box::new(match problem {
                        gzip::Wrong::TooLong => too_long(most),
                        gzip::Wrong::NoGzip(error) => {
                            wrong(StatusCode::BAD_REQUEST, "invalid", &format!("the body is no gzip: {error}"))
                        }
                    })
                })
            }
            Some(other) => {
                let problem = format!("Content-Encoding {other:?} is not read: send gzip or none");
                Err(Box::new(wrong(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid", &problem)))
            }
        }
    }
}

fn too_long(most: usize) -> Response {
    let problem = format!("the body has more than {most} bytes (capture.http.body_bytes_max): send smaller ones");
    wrong(StatusCode::PAYLOAD_TOO_LARGE, "request too large", &problem)
}

/// Whether reading failed at the limit; axum hides which it was behind its error's source.
fn is_too_long(error: &axum::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.to_string().contains("length limit"))
}
