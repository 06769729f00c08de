//! With a real nats-server.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

use eddy_runtime::{audit::Bounds, bus::BusError, config::CommonConfig};
use eddy_schemas::{
    audit,
    region::wire::{ReceiptsResponse, SearchResponse, StatsResponse},
};

use super::*;
use crate::answer::{
    Peers,
    tests::fixture::{BUNDLE, LONG, TestRegion, chain, clock},
};

/// A server of the test's own.
pub(crate) struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    /// Starts one that keeps its files in `folder`; where it listens.
    pub(crate) fn start(folder: &Path) -> (Self, String) {
        let local = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/py/bin/nats-server");
        let local = if local.exists() { local } else { "nats-server".into() };
        let binary = std::env::var_os("EDDY_NATS_SERVER").map_or(local, Into::into);
        let mut command = Command::new(binary);
        // Its own bound: the default is a part of what the disk has free, and on a full one a stream would be refused.
        let config = format!("jetstream {{ store_dir: {:?}, max_file_store: 1GB }}\n", folder.join("streams"));
        std::fs::write(folder.join("nats.conf"), config).unwrap();
        command.args(["-a", "127.0.0.1", "-p", "-1", "-c"]).arg(folder.join("nats.conf"));
        command.arg("--ports_file_dir").arg(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap_or_else(|error| panic!("nats-server: {error}; `make tools` installs it"));
        let server = Self(child);
        for _ in 0..LONG.as_millis() / 10 {
            let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
            let ports = files
                .filter(|path| path.extension().is_some_and(|it| it == "ports"))
                .find_map(|path| serde_json::from_slice::<serde_json::Value>(&std::fs::read(path).ok()?).ok());
            if let Some(url) = ports.and_then(|ports| ports["nats"][0].as_str().map(str::to_owned)) {
                return (server, url);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("nats-server does not start");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_answered_refused_and_logged() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, url) = Server::start(folder.path());
    let mut config = CommonConfig::for_tests(folder.path()).bus;
    config.url = url;
    let bus = NatsBus::connect(&config, "test").await.unwrap();
    let region = TestRegion::new(1, &[0]);
    region.shard(0).add(BUNDLE, "plant-1/pump", 1.0, "a1");
    *region.shard(0).chains.lock().unwrap() = vec![chain("plant-1", 9)];
    let bounds = Bounds { file_bytes_max: 1 << 20, bytes_max: 1 << 24, key: "" };
    let audit = Arc::new(Audit::open(folder.path(), bounds, clock()).unwrap());
    let answers = region.answers(Peers::new(None));
    let requests = Requests { answers, audit, bytes_max: 4_096, at_once: 4, time_max: LONG, lately: Arc::default() };
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(requests.serve(bus.clone(), stopped));
    let asking = NatsBus::connect(&config, "gateway").await.unwrap();
    let ask = |method: &str, payload: Vec<u8>| {
        let (asking, subject) = (asking.clone(), format!("eddy.region.{method}"));
        async move {
            loop {
                match asking.request(&subject, payload.clone().into(), LONG).await {
                    // The service is not registered yet.
                    Err(BusError::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(10)).await,
                    answered => break answered,
                }
            }
        }
    };
    let near = |vector: Vec<f32>| SearchRequest { vector, ..Default::default() }.encode_to_vec();
    let found = ask("search", near(vec![0.0; 3])).await.unwrap();
    let found = SearchResponse::decode(found).unwrap();
    assert_eq!((found.neighbours.len(), found.neighbours[0].device.as_str()), (1, "pump"));
    let receipts = ask("receipts", ReceiptsRequest::default().encode_to_vec()).await.unwrap();
    assert_eq!(ReceiptsResponse::decode(receipts).unwrap().chains[0].last, 9);
    let stats = ask("stats", Vec::new()).await.unwrap();
    assert_eq!(StatsResponse::decode(stats).unwrap().shards[0].windows, 1);
    for (payload, part) in [
        (near(vec![f32::NAN; 3]), "vector[0] = NaN"),
        (near(vec![0.0; 2]), "2 components"),
        (near(vec![0.0; 2_000]), "up to 4096 are taken"),
        (b"\xff\xff\xff".to_vec(), "not a request"),
    ] {
        let refused = ask("search", payload).await.unwrap_err();
        assert!(matches!(&refused, BusError::Fatal(problem) if problem.contains(part)), "{refused}");
    }
    stop.send_replace(true);
    serving.await.unwrap();
    let mut logged = Vec::new();
    audit::read(folder.path(), |entry, _| logged.push(format!("{} {} {}", entry.who, entry.what, entry.outcome)))
        .unwrap();
    let wrong = "nats search wrong";
    assert_eq!(logged, ["nats search ok", "nats receipts ok", "nats stats ok", wrong, wrong, wrong, wrong]);
}
