//! What a supervisor serves for Prometheus: `/metrics` of its machine, and `/targets`, every address there is to be scraped.
//!
//! Each process tells its own memory and processor time, with the same names here and in containers; the supervisor tells those of
//! nats-server beside its own, and what only it sees: streams, readers, disk, restarts, certificates, what became of wanted bundles. All of
//! it is looked at when it is asked for: who is not scraped pays nothing.

mod look;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use eddy_runtime::{
    client::Client,
    telemetry::{self, Telemetry},
};
use serde::Serialize;
use tokio::{net::TcpListener, sync::Mutex};

use crate::supervise::register::Register;

/// What the supervisor is called among the processes of its machine.
const SUPERVISOR: &str = "eddy";
/// How long it is waited before an address that is taken is tried again.
const RETRY: Duration = Duration::from_secs(10);
/// Who asks more often is told the same.
const AGE_MIN: Duration = Duration::from_millis(500);
/// How long the streams may take to answer: what is not told by then is told as it was.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is told of.
pub struct Watched {
    /// Where it is told.
    pub telemetry: Arc<Telemetry>,
    /// The processes.
    pub register: Register,
    /// The machine's folder.
    pub dir: PathBuf,
    /// The site; empty for a hub, which has many.
    pub site: String,
    /// The machine's streams.
    pub client: Option<Client>,
    /// The config, whose certificates expire.
    pub config_file: Option<PathBuf>,
}

struct Shared {
    watched: Watched,
    looked: Mutex<Option<Instant>>,
}

/// Serves on `listen` until it is dropped; while the address is taken, it is tried again. No reason to stop a gateway.
pub async fn serve(watched: Watched, listen: SocketAddr) {
    let register = watched.register.clone();
    let pids = register.clone();
    watched.telemetry.also_processes(move || {
        let pids = pids.file().pids.into_iter();
        // Workers tell their own.
        pids.filter(|(name, _)| name == crate::supervise::server::NAME).collect()
    });
    let mut told = false;
    let listener = loop {
        match TcpListener::bind(listen).await {
            Ok(listener) => break listener,
            Err(problem) if !std::mem::replace(&mut told, true) => {
                register.journal.tell(&format!("metrics_listen = \"{listen}\": {problem}; trying again"));
            }
            Err(_) => {}
        }
        tokio::time::sleep(RETRY).await;
    };
    if let Ok(address) = listener.local_addr() {
        register.update(|file| drop(file.http.insert(SUPERVISOR.to_owned(), format!("http://{address}"))));
    }
    let telemetry = watched.telemetry.clone();
    let shared = Arc::new(Shared { watched, looked: Mutex::new(None) });
    let routes = Router::new()
        .merge(telemetry::routes(telemetry))
        .layer(middleware::from_fn_with_state(shared.clone(), look_first))
        .route("/targets", get(targets).with_state(shared));
    if let Err(problem) = axum::serve(listener, routes).await {
        register.journal.tell(&format!("metrics are not served any more: {problem}"));
    }
}

/// Looks at the machine before what is known of it is told.
async fn look_first(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    if request.uri().path() != "/metrics" {
        return next.run(request).await;
    }
    let mut looked = shared.looked.lock().await;
    if looked.is_none_or(|looked| looked.elapsed() > AGE_MIN) {
        // Said by the age of what is told: the streams' server may be starting again.
        let _ = tokio::time::timeout(PATIENCE, look::all(&shared.watched)).await;
        *looked = Some(Instant::now());
    }
    drop(looked);
    next.run(request).await
}

/// An address to be scraped, as Prometheus' `http_sd_configs` take it.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Target {
    targets: [String; 1],
    labels: Labels,
}

/// The same whatever port a process has after its next start, so that its series go on.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Labels {
    instance: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    site: String,
}

async fn targets(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> impl IntoResponse {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let all = targets_of(shared.watched.register.file().http, &shared.watched.site, host);
    let json = serde_json::to_string(&all).expect("lists, and maps of text to text, are JSON");
    ([(header::CONTENT_TYPE, "application/json")], json)
}

/// `host`: how the one who asks reaches the supervisor; who listens everywhere on this machine is reached there too.
fn targets_of(http: impl IntoIterator<Item = (String, String)>, site: &str, host: Option<&str>) -> Vec<Target> {
    let machine = host.map(|host| host.rsplit_once(':').map_or(host, |(name, _)| name));
    let target = |(name, url): (String, String)| {
        let told = url.trim_start_matches("http://");
        let address = match (host, told.strip_prefix("0.0.0.0:"), machine) {
            (Some(host), ..) if name == SUPERVISOR => host.to_owned(),
            (_, Some(port), Some(machine)) => format!("{machine}:{port}"),
            _ => told.to_owned(),
        };
        Target { targets: [address], labels: Labels { instance: name, site: site.to_owned() } }
    };
    http.into_iter().map(target).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervise::{http, journal::Journal};

    #[test]
    fn the_supervisor_is_named_as_it_is_reached_and_the_others_as_they_say() {
        let http = [("detect", "http://127.0.0.1:41"), ("eddy", "http://0.0.0.0:9100"), ("hub-0", "http://0.0.0.0:42")];
        let http = http.map(|(name, url)| (name.to_owned(), url.to_owned()));
        let json = serde_json::to_value(targets_of(http, "plant-1", Some("bus:9100"))).unwrap();
        let expected = serde_json::json!([
            {"targets": ["127.0.0.1:41"], "labels": {"instance": "detect", "site": "plant-1"}},
            {"targets": ["bus:9100"], "labels": {"instance": "eddy", "site": "plant-1"}},
            {"targets": ["bus:42"], "labels": {"instance": "hub-0", "site": "plant-1"}},
        ]);
        assert_eq!(json, expected);
        let of_hub =
            serde_json::to_value(targets_of([("hub-0".to_owned(), "http://h:1".to_owned())], "", None)).unwrap();
        assert_eq!(of_hub, serde_json::json!([{"targets": ["h:1"], "labels": {"instance": "hub-0"}}]));
    }

    #[tokio::test]
    async fn a_machine_tells_its_processes_disk_and_restarts_and_where_to_scrape() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("logs")).unwrap();
        let journal = Journal::open(folder.path(), "up.log", false).unwrap();
        let register = Register::new(folder.path(), "gateway.json", journal, serde_json::json!({}));
        for _ in 0..3 {
            register.set_pid("detect", Some(1));
        }
        register.set_pid("nats-server", Some(std::process::id()));
        let watched = Watched {
            telemetry: Arc::new(Telemetry::supervisor("gateway")),
            register: register.clone(),
            dir: folder.path().to_owned(),
            site: "s".into(),
            client: None,
            config_file: None,
        };
        let serving = tokio::spawn(serve(watched, "127.0.0.1:0".parse().unwrap()));
        while register.file().http.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let address = register.file().http["eddy"].trim_start_matches("http://").to_owned();
        let get = |path| http::get(&address, path, 1 << 20, Duration::from_secs(5));
        let (_, text) = get("/metrics").await.unwrap();
        for line in [
            "eddy_process_restarts_total{stage=\"gateway\",shard=\"0\",process=\"detect\"} 2",
            "eddy_given_up_processes{stage=\"gateway\",shard=\"0\"} 0",
            "eddy_disk_free_bytes{stage=\"gateway\",shard=\"0\"} ",
            "eddy_memory_bytes{stage=\"nats-server\",shard=\"0\"} ",
            "eddy_rollouts_total{stage=\"gateway\",shard=\"0\",outcome=\"refused\"} 0",
        ] {
            assert!(text.contains(line), "{line:?} is missing in:\n{text}");
        }
        assert!(!text.contains("eddy_received_rows_total"), "what stages count is not the supervisor's:\n{text}");
        assert_eq!(get("/healthz").await.unwrap().0, 200);
        assert!(get("/targets").await.unwrap().1.contains(&format!("[\"{address}\"]")));
        serving.abort();
    }
}
