//! The region: a server and hub processes, each with a copy of all shards.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use eddy_runtime::bus::nats::NatsBus;
use eddy_schemas::{
    names,
    region::wire::{ReceiptsRequest, ReceiptsResponse},
};
use eddy_vectors::index::{Filter, IndexError, Searcher};
use prost::Message as _;

use eddy_cli::demo::region::oracle::{Told, Window, id};

use super::{feed, machine::grpc, site::tail};
use crate::{server::Server, stage::StageProcess};

const SHARDS: u32 = 2;
const MAP_MB: usize = 512;
/// More alerts than a test makes.
const ALERTS_MAX: usize = 100_000;

/// A region of tests.
pub struct Hub {
    pub folder: tempfile::TempDir,
    pub server: Server,
    pub processes: Vec<StageProcess>,
}

impl Hub {
    /// With the streams of these sites, and so many hub processes.
    pub fn start(sites: &[&str], processes: usize) -> Self {
        Self::start_with(sites, processes, &[])
    }

    /// The same with more config.
    pub fn start_with(sites: &[&str], processes: usize, more: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(folder.path(), "");
        let mut hub = Self { folder, server, processes: Vec::new() };
        for process in 0..processes {
            let mut environment = hub.environment(process, sites);
            environment.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
            let folder = hub.state(process);
            std::fs::create_dir_all(&folder).unwrap();
            hub.processes.push(StageProcess::start("hub", &folder, &environment));
        }
        hub
    }

    fn environment(&self, process: usize, sites: &[&str]) -> Vec<(String, String)> {
        let pairs = [
            ("EDDY_BUS_URL", self.url()),
            ("EDDY_BUS_REQUEST_TIMEOUT_MS", "2000".to_owned()),
            ("EDDY_STATE_DIR", self.state(process).display().to_string()),
            ("EDDY_HUB_NAME", format!("hub-{process}")),
            ("EDDY_HUB_SHARDS", SHARDS.to_string()),
            ("EDDY_HUB_SITES", format!("{sites:?}")),
            ("EDDY_HUB_SITE_MB", "64".to_owned()),
            ("EDDY_HUB_MAP_MB", MAP_MB.to_string()),
            ("EDDY_HUB_HEARTBEAT_MS", "200".to_owned()),
            ("EDDY_HUB_LAPSE_AFTER_MS", "600".to_owned()),
            ("EDDY_HUB_TAKEOVER_AFTER_MS", "800".to_owned()),
        ];
        let mut all: Vec<_> = pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        // One asks the other for what that leads.
        all.extend(grpc(self.folder.path()));
        all
    }

    /// Where its server listens.
    pub fn address(&self) -> SocketAddr {
        self.url().strip_prefix("nats://").unwrap().parse().unwrap()
    }

    pub fn url(&self) -> String {
        self.server.url()
    }

    fn state(&self, process: usize) -> PathBuf {
        self.folder.path().join(format!("hub-{process}"))
    }

    /// The copies of a process, opened beside it; `None` while one is not there yet.
    fn copies(&self, process: usize) -> Option<Vec<Searcher>> {
        (0..SHARDS).map(|shard| open(&self.state(process).join("hub").join(shard.to_string()))).collect()
    }

    /// What a copy lacks of a site, in words.
    pub fn lacks(&self, site: &str, told: &Told) -> Option<String> {
        for process in 0..self.processes.len() {
            let Some(copies) = self.copies(process) else { return Some(format!("hub {process} has no copy")) };
            let (alerts, windows) = (alerts(&copies, site).len(), windows(&copies, site).len());
            if (alerts, windows) != (told.alerts.len(), told.windows.len()) {
                return Some(format!(
                    "hub {process} has {alerts} of {} alerts and {windows} of {} windows",
                    told.alerts.len(),
                    told.windows.len()
                ));
            }
        }
        None
    }

    /// Each copy holds each alert and each window of a gateway once, and no others of its site.
    pub fn assert_holds(&self, site: &str, told: &Told) {
        for process in 0..self.processes.len() {
            let copies = self.copies(process).unwrap();
            let mut ids = BTreeSet::new();
            for alert in alerts(&copies, site) {
                let id = id(&alert).unwrap();
                assert_eq!(told.alerts.get(&id), Some(&alert), "hub {process}, {site}: alert {id}");
                assert!(ids.insert(id.clone()), "hub {process}, {site}: alert {id} twice");
            }
            assert_eq!(ids.len(), told.alerts.len(), "hub {process}, {site}: alerts");
            let by_place =
                |a: &(u64, Window), b: &(u64, Window)| (a.0, &a.1.series, a.1.end).cmp(&(b.0, &b.1.series, b.1.end));
            let mut windows = windows(&copies, site);
            windows.sort_by(by_place);
            let expected = told.windows.iter().map(|((sequence, _), window)| (*sequence, window.clone()));
            let mut expected: Vec<(u64, Window)> = expected.collect();
            expected.sort_by(by_place);
            assert_eq!(windows.len(), expected.len(), "hub {process}, {site}: windows");
            for ((at, told), (found_at, found)) in expected.iter().zip(&windows) {
                assert_eq!(at, found_at, "hub {process}, {site}");
                assert!(told.is(found), "hub {process}, {site}: {told:?} became {found:?}");
            }
        }
    }

    /// What the region says that it can prove of a site, as soon as all shards have somebody who answers.
    pub async fn receipts(&self, site: &str) -> ReceiptsResponse {
        let bus = feed::bus(&self.url()).await.unwrap();
        loop {
            match ask(&bus, site).await {
                Ok(receipts) if receipts.missing_shards.is_empty() => return receipts,
                Ok(receipts) => println!("without shards {:?}", receipts.missing_shards),
                Err(problem) => println!("{problem}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The hub processes' last words.
    pub fn said(&self) -> String {
        let said = self.processes.iter().enumerate().map(|(n, process)| tail(&format!("hub {n}"), process));
        said.collect::<Vec<_>>().join("\n")
    }
}

/// A copy, opened beside the process that writes it; `None` while it is not there yet.
pub fn open(folder: &Path) -> Option<Searcher> {
    match Searcher::open(folder, MAP_MB << 20) {
        Ok(searcher) => Some(searcher),
        Err(IndexError::Io { .. }) => None,
        Err(problem) => panic!("{problem}"),
    }
}

async fn ask(bus: &NatsBus, site: &str) -> Result<ReceiptsResponse, String> {
    let request = ReceiptsRequest { site: site.to_owned() }.encode_to_vec();
    let answer = bus.request("eddy.region.receipts", request.into(), Duration::from_secs(2)).await;
    ReceiptsResponse::decode(answer.map_err(|error| error.to_string())?).map_err(|error| error.to_string())
}

/// The events of a site's alerts in all shards, as they came.
pub fn alerts(copies: &[Searcher], site: &str) -> Vec<Vec<u8>> {
    let prefix = format!("alert/{}/", names::encode(site));
    let notes = copies.iter().flat_map(|copy| copy.notes(&prefix, ALERTS_MAX).unwrap());
    // Eight bytes say when it came.
    notes.map(|(_, note)| note[8..].to_vec()).collect()
}

/// The windows of a site in all shards, with the message of the gateway that brought each.
fn windows(copies: &[Searcher], site: &str) -> Vec<(u64, Window)> {
    let filter = Filter { site: Some(names::encode(site)), ..Filter::default() };
    let mut all = Vec::new();
    for copy in copies {
        copy.refresh().unwrap();
        for window in copy.matching(&filter).unwrap() {
            let Some((found, vector, _)) = copy.window(window).unwrap() else { continue };
            let (filed, channel) = found.series.split_once('/').unwrap();
            let filed = names::decode(filed);
            let device = filed.strip_prefix(&format!("{site}/")).unwrap();
            let series = format!("{}/{channel}", names::encode(device));
            let (end, score) = (found.facts.end, found.facts.score);
            all.push((found.facts.sequence, Window { series, end, score, vector }));
        }
    }
    all
}
