//! `/metrics` and `/healthz`.

use std::{path::Path, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use tokio::net::TcpListener;

use super::{Telemetry, openmetrics};

/// How often histograms are folded, whether or not anybody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

/// Listens on `address` and serves in the background until the process ends; the bound address is written to
/// `address_file` unless that is empty.
///
/// # Errors
/// If the address cannot be bound or the file not be written.
pub async fn serve(
    telemetry: Arc<Telemetry>,
    address: &str,
    address_file: &Path,
) -> Result<std::net::SocketAddr, std::io::Error> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    if !address_file.as_os_str().is_empty() {
        // A reader sees the whole address or none.
        let part = address_file.with_extension("part");
        std::fs::write(&part, bound.to_string())?;
        std::fs::rename(&part, address_file)?;
    }
    let routes = routes(telemetry);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, routes).await {
            tracing::error!(%error, "telemetry is not served any more");
        }
    });
    Ok(bound)
}

/// `/metrics` and `/healthz`, for who listens by itself; from now on histograms are folded in the background.
pub fn routes(telemetry: Arc<Telemetry>) -> Router {
    let kept = Arc::downgrade(&telemetry);
    tokio::spawn(async move {
        let mut interval = tokio::time::interval(UPKEEP);
        while let Some(kept) = kept.upgrade() {
            kept.upkeep();
            drop(kept);
            interval.tick().await;
        }
    });
    Router::new().route("/metrics", get(metrics)).route("/healthz", get(healthz)).with_state(telemetry)
}

async fn metrics(State(telemetry): State<Arc<Telemetry>>, headers: HeaderMap) -> impl IntoResponse {
    let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accepts.contains(openmetrics::ASKED) {
        return ([(header::CONTENT_TYPE, openmetrics::TYPE)], telemetry.render_openmetrics());
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], telemetry.render())
}

async fn healthz(State(telemetry): State<Arc<Telemetry>>) -> impl IntoResponse {
    let (status, text) = match telemetry.health_check() {
        Ok(()) => (StatusCode::OK, r#"{"status":"ok"}"#.to_owned()),
        Err(problem) => {
            (StatusCode::SERVICE_UNAVAILABLE, serde_json::json!({"status": "stalled", "problem": problem}).to_string())
        }
    };
    (status, [(header::CONTENT_TYPE, "application/json")], text)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    fn get_path(address: std::net::SocketAddr, path: &str) -> String {
        get_as(address, path, "*/*")
    }

    fn get_as(address: std::net::SocketAddr, path: &str, accept: &str) -> String {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn both_paths_answer_and_the_address_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("address");
        let telemetry = Arc::new(Telemetry::new("embed", 0, Duration::ZERO));
        let address = serve(telemetry.clone(), "127.0.0.1:0", &file).await.unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), address.to_string());
        assert!(get_path(address, "/metrics").contains("eddy_panics_total{stage=\"embed\""));
        let accept = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.4,*/*;q=0.2";
        let answer = get_as(address, "/metrics", accept);
        assert!(
            answer.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"),
            "{answer}"
        );
        assert!(answer.ends_with("# EOF\n") && answer.contains("# TYPE eddy_panics counter\n"), "{answer}");
        assert!(get_path(address, "/healthz").starts_with("HTTP/1.1 200"));
        telemetry.busy();
        std::thread::sleep(Duration::from_millis(2));
        let answer = get_path(address, "/healthz");
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("pending"), "{answer}");
    }
}
