//! A hub process that listens, and what its log says.

use std::{path::Path, sync::Arc, time::Duration};

use eddy_runtime::audit::{Audit, Bounds};
use eddy_schemas::{audit::read, names};
use tokio::{sync::watch, task::JoinHandle};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

use super::certificates::{Ca, Good};
use crate::{
    answer::{
        Leader, Peers,
        tests::fixture::{LONG, TestRegion, clock},
    },
    grpc::{Grpc, GrpcConfig, Roles},
    service::region_client::RegionClient,
};

pub(super) const ROOMY: Bounds = Bounds { file_bytes_max: 1 << 20, bytes_max: 1 << 24, key: "" };

/// A process.
pub(super) struct Hub {
    pub(super) region: Arc<TestRegion>,
    pub(super) address: String,
    pub(super) log: tempfile::TempDir,
    pub(super) stop: watch::Sender<bool>,
    pub(super) serving: JoinHandle<Result<(), String>>,
}

pub(super) fn roles() -> Roles {
    let names = |name: &str| vec![name.to_owned()];
    Roles { reader: names("console"), labeler: names("alice"), operator: names("bob") }
}

impl Hub {
    pub(super) async fn start(ca: &Ca, region: Arc<TestRegion>) -> Self {
        Self::with(ca.config(), region, ROOMY).await
    }

    pub(super) async fn with(config: GrpcConfig, region: Arc<TestRegion>, bounds: Bounds) -> Self {
        let log = tempfile::tempdir().unwrap();
        let audit = Arc::new(Audit::open(log.path(), bounds, clock()).unwrap());
        let grpc = Grpc::listen(config).await.unwrap();
        let address = grpc.advertised().unwrap();
        let answers = region.answers(Peers::new(Some(grpc.tls())));
        let (stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(grpc.serve(answers, audit, roles(), stopped));
        Self { region, address, log, stop, serving }
    }

    pub(super) fn endpoint(&self, tls: ClientTlsConfig) -> Endpoint {
        let endpoint = Endpoint::from_shared(format!("https://{}", self.address)).unwrap();
        endpoint.tls_config(tls).unwrap().connect_timeout(LONG)
    }

    pub(super) async fn channel(&self, ca: &Ca, cn: &str) -> Channel {
        self.endpoint(ca.client(Some(&ca.sign(&[cn], Good::Now)))).connect().await.unwrap()
    }

    pub(super) async fn client(&self, ca: &Ca, cn: &str) -> RegionClient<Channel> {
        RegionClient::new(self.channel(ca, cn).await)
    }

    /// Says who leads what, to all of these processes.
    pub(super) fn introduce(hubs: &[&Self]) {
        let leads = |hub: &Self| {
            let (name, address) = (format!("hub at {}", hub.address), hub.address.clone());
            let led: Vec<u32> = hub.region.led.iter().map(|(shard, _)| *shard).collect();
            led.into_iter().map(move |shard| Leader { shard, name: name.clone(), address: address.clone() })
        };
        let leaders: Vec<Leader> = hubs.iter().flat_map(|hub| leads(hub)).collect();
        hubs.iter().for_each(|hub| hub.region.leaders.lock().unwrap().clone_from(&leaders));
    }

    /// The log, which must be sound: who, what, outcome, detail.
    pub(super) fn logged(&self) -> Vec<[String; 4]> {
        logged(self.log.path())
    }

    /// Waits for an entry, and returns its detail.
    pub(super) async fn logs(&self, who: &str, what: &str, outcome: &str) -> String {
        for _ in 0..LONG.as_millis() / 10 {
            let found =
                self.logged().into_iter().find(|[by, did, ended, _]| (&**by, &**did, &**ended) == (who, what, outcome));
            if let Some([.., detail]) = found {
                return detail;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{who} {what} {outcome} is not logged: {:?}", self.logged());
    }

    /// Waits for an entry whose detail says that.
    pub(super) async fn says(&self, part: &str) -> [String; 4] {
        for _ in 0..LONG.as_millis() / 10 {
            if let Some(entry) = self.logged().into_iter().find(|[.., detail]| detail.contains(part)) {
                return entry;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{part:?} is not logged: {:?}", self.logged());
    }

    pub(super) fn shard_of(&self, device: &str) -> u32 {
        names::shard_of(device, self.region.count)
    }
}

pub(super) fn logged(folder: &Path) -> Vec<[String; 4]> {
    let mut entries = Vec::new();
    // A line may be being written.
    let result = read(folder, |entry, _| {
        entries.push([&entry.who, &entry.what, &entry.outcome, &entry.detail].map(String::clone));
    });
    if let Err(problem) = result {
        assert!(problem.to_string().contains("does not end"), "{problem}");
    }
    entries
}
