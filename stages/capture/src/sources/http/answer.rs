//! What a sender is told, in the words of InfluxDB's API v2.

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use eddy_runtime::direct::{NotStored, Receipt};
use eddy_schemas::side::Reason;
use serde_json::{Value, json};

/// Seconds after which a sender that is turned away may come again.
const RETRY_AFTER_S: &str = "1";

fn json(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

/// Everything, or what of it, was stored.
pub(super) fn receipt(receipt: &Receipt) -> Response {
    let rejected: Vec<_> = receipt
        .rejected
        .iter()
        .map(|one| json!({ "reason": one.reason, "detail": one.detail, "readings": one.readings }))
        .collect();
    let stored = receipt.rows.saturating_sub(rejected.len());
    let Some(first) = receipt.rejected.first() else { return json(StatusCode::OK, &json!({ "stored": stored })) };
    let more = if rejected.len() > 1 { format!(" (and {} more)", rejected.len() - 1) } else { String::new() };
    let message = format!("partial write: {stored} readings stored; {}{more}", first.detail);
    let body = json!({ "code": "invalid", "message": message, "stored": stored, "rejected": rejected });
    json(StatusCode::BAD_REQUEST, &body)
}

/// Nothing was stored: the message is wrong as a whole.
pub(super) fn refused(status: StatusCode, reason: Reason, detail: &str) -> Response {
    let rejected = [json!({ "reason": reason, "detail": detail })];
    let code = if status == StatusCode::PAYLOAD_TOO_LARGE { "request too large" } else { "invalid" };
    json(status, &json!({ "code": code, "message": detail, "stored": 0, "rejected": rejected }))
}

/// The request itself is wrong.
pub(super) fn wrong(status: StatusCode, code: &str, message: &str) -> Response {
    json(status, &json!({ "code": code, "message": message }))
}

/// The pipeline is full.
pub(super) fn full() -> Response {
    not_stored(NotStored::Busy)
}

/// The same to whoever asks how it is.
pub(super) fn unwell() -> Response {
    let body = json!({ "name": "eddy", "message": NotStored::Busy.to_string(), "status": "fail" });
    json(StatusCode::SERVICE_UNAVAILABLE, &body)
}

/// 429 where nothing was taken, 503 where that is not known; sending it again is right in both cases.
pub(super) fn not_stored(error: NotStored) -> Response {
    let (status, code) = match error {
        NotStored::Busy => (StatusCode::TOO_MANY_REQUESTS, "too many requests"),
        NotStored::Unknown => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
    };
    let body = json(status, &json!({ "code": code, "message": error.to_string() }));
    ([(header::RETRY_AFTER, RETRY_AFTER_S)], body).into_response()
}
