//! Two whole processes on a real nats-server, asked by gRPC and by NATS.

use std::{
    collections::BTreeSet,
    future::Future,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use eddy_runtime::{
    bus::{Bus as _, Publication, nats::NatsBus},
    config::CommonConfig,
    program::Program as _,
    telemetry::Telemetry,
};
use eddy_schemas::{
    SeriesName, audit, names,
    region::{
        LabelNews, NEWS_STREAM, REQUEST_PREFIX, SEARCH,
        wire::{GetWindowRequest, LabelRequest, ReceiptsRequest, SearchRequest, SearchResponse, StatsRequest},
    },
    sync::{
        self, Class,
        wire::{Action, Batch, Codes, Entries, Entry, VectorDelta, entry::What},
    },
};
use prost::Message as _;
use tokio::{sync::watch, task::JoinHandle};
use tonic::transport::{Channel, Endpoint};

use super::certificates::{Ca, Good};
use crate::{
    Config, Hub, answer::tests::fixture::LONG, grpc::Roles, nats::tests::Server, service::region_client::RegionClient,
};

const SHARDS: u32 = 4;
/// Devices of a site.
const DEVICES: u32 = 12;

/// A process.
struct Process {
    running: JoinHandle<Result<(), (u8, String)>>,
    stop: watch::Sender<bool>,
    folder: PathBuf,
}

fn start(name: &str, folder: &Path, url: &str, ca: &Ca) -> Process {
    let folder = folder.join(name);
    let defaults: toml::Table = Hub::DEFAULTS.parse().unwrap();
    let mut config: Config = defaults["hub"].clone().try_into().unwrap();
    (config.name, config.shards, config.grpc) = (name.into(), SHARDS, ca.config());
    config.sites = ["plant-1", "plant-2"].map(str::to_owned).to_vec();
    (config.site_mb, config.region_mb, config.sketches_mb, config.models_mb, config.map_mb) = (16, 16, 16, 16, 64);
    (config.heartbeat_ms, config.lapse_after_ms, config.takeover_after_ms) = (100, 400, 600);
    let named = |name: &str| vec![name.to_owned()];
    config.roles = Roles { reader: named("console"), labeler: named("alice"), operator: named("bob") };
    let mut common = CommonConfig::for_tests(&folder);
    common.bus.url = url.to_owned();
    let hub = Hub::new(config, &common).unwrap();
    let telemetry = Arc::new(Telemetry::new("hub", 0, LONG));
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn(async move {
        let bus = NatsBus::connect(&common.bus, "hub").await.unwrap();
        hub.run(common, bus, telemetry, stopped).await
    });
    Process { running, stop, folder: folder.join("hub") }
}

/// A site's first batch of deltas: a window of each device, `base` and its number away on the first axis, and of an alert each.
async fn send(bus: &NatsBus, site: &str, base: u32) {
    let device = |number: u32| format!("pump-{number}");
    // Half a unit apart.
    let place = |number: u32| (base + number) as f32 / 2.0;
    let coded = |number: u32| eddy_vectors::quantizer::int8::encode(&[place(number), 0.0, 0.0]).unwrap();
    let delta = |number: u32| VectorDelta {
        action: Action::Insert.into(),
        series: number + 1,
        bundle: 1,
        sequence: 1,
        row: number,
        end: 1_000 + i64::from(number),
        span: 10,
        filled: 4,
        flags: 1,
        score: 0.25,
        codes: Codes::Int8.into(),
        scale: coded(number).0,
        vector: coded(number).1.into(),
        alert: format!("{site} {number}"),
        opens: true,
    };
    let entry = |number: u32| Entry { id: u64::from(number) + 1, what: Some(What::Delta(delta(number))) };
    let entries = Entries {
        entries: (0..DEVICES).map(entry).collect(),
        series: (0..DEVICES).map(|number| SeriesName::encode(&device(number), "t")).collect(),
        bundles: vec![Bytes::from_static(&[0xbb; 4])],
    };
    let mut batch = Batch {
        site: site.into(),
        class: Class::Deltas.into(),
        chain: Bytes::from(vec![1; sync::CHAIN_BYTES]),
        number: 1,
        first: 1,
        last: u64::from(DEVICES),
        ..Default::default()
    };
    batch.pack(&entries);
    let message = Publication {
        stream: sync::stream_of(site),
        subject: sync::subject_of(site, Class::Deltas),
        headers: vec![],
        payload: batch.encode_to_vec().into(),
        guard: Some(0),
    };
    until("the site's stream", || async { bus.stream(&message.stream).await.ok() }).await;
    bus.publish(vec![message]).await.unwrap();
}

/// Asks until it is so.
async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    for _ in 0..LONG.as_millis() / 20 {
        if let Some(told) = ask().await {
            return told;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it never came: {what}");
}

fn near(x: f32) -> SearchRequest {
    SearchRequest { vector: vec![x, 0.0, 0.0], k: 3, ..Default::default() }
}

fn client(address: &str, ca: &Ca, cn: &str) -> RegionClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap();
    let tls = ca.client(Some(&ca.sign(&[cn], Good::Now)));
    RegionClient::new(endpoint.tls_config(tls).unwrap().connect_lazy())
}

/// Who leads, as the heartbeats tell: the address of each shard's leader.
async fn leaders(bus: &NatsBus) -> Vec<String> {
    let mut found = Vec::new();
    for shard in 0..SHARDS {
        let told = bus.last(crate::streams::LEADERS, &crate::streams::lead_subject(shard)).await;
        let address = told.ok().flatten().and_then(|told| {
            let text = String::from_utf8_lossy(&told.payload).into_owned();
            text.split("127.0.0.1:").nth(1)?.split('"').next().map(|port| format!("127.0.0.1:{port}"))
        });
        found.extend(address);
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_are_one_region_and_one_of_them_is_enough() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, url) = Server::start(folder.path());
    let ca = Ca::new();
    let mut common = CommonConfig::for_tests(folder.path()).bus;
    common.url = url.clone();
    let bus = NatsBus::connect(&common, "test").await.unwrap();
    let processes = ["a", "b"].map(|name| start(name, folder.path(), &url, &ca));
    let both = until("each leads something", || async {
        let leaders: BTreeSet<String> = leaders(&bus).await.into_iter().collect();
        (leaders.len() == 2).then_some(leaders)
    })
    .await;
    let both: Vec<String> = both.into_iter().collect();
    send(&bus, "plant-1", 0).await;
    send(&bus, "plant-2", 50).await;
    for address in &both {
        let reader = client(address, &ca, "console");
        let found = until("all windows", || {
            let mut reader = reader.clone();
            async move {
                let found = reader.search(near(27.1)).await.ok()?.into_inner();
                (found.windows == 2 * u64::from(DEVICES) && found.missing_shards.is_empty()).then_some(found)
            }
        })
        .await;
        // plant-2's lie from 25 on, half a unit apart.
        let names: Vec<_> = found.neighbours.iter().map(|near| (near.site.as_str(), near.device.as_str())).collect();
        assert_eq!(names, [("plant-2", "pump-4"), ("plant-2", "pump-5"), ("plant-2", "pump-3")]);
        let stats = client(address, &ca, "bob").stats(StatsRequest {}).await.unwrap().into_inner();
        assert!(stats.shards.iter().all(|shard| both.contains(&shard.address)), "{stats:?}");
    }

    // A word about a window of another process's shard, from one site's console to all sites.
    let own = GetWindowRequest { alert: "plant-1 7".into(), ..Default::default() };
    let own = client(&both[0], &ca, "console").get_window(own).await.unwrap().into_inner().window.unwrap();
    let leads = leaders(&bus).await;
    let other = both.iter().find(|address| **address != leads[own.shard as usize]).unwrap();
    let said = LabelRequest {
        site: "plant-1".into(),
        device: own.device.clone(),
        alert: own.alert.clone(),
        label: "bearing".into(),
        time: 5,
    };
    assert!(client(other, &ca, "alice").label(said).await.unwrap().into_inner().holds);
    let labelled = SearchRequest { label: "bearing".into(), ..near(0.0) };
    let found = client(other, &ca, "console").search(labelled.clone()).await.unwrap().into_inner();
    let told: Vec<_> = found.neighbours.iter().map(|near| (near.alert.as_str(), near.label_origin.as_str())).collect();
    assert_eq!(told, [("plant-1 7", "hub/alice")]);
    let news = until("the news", || async {
        let told = bus.last(NEWS_STREAM, "region.label.plant-1").await.ok().flatten()?;
        serde_json::from_slice::<LabelNews>(&told.payload).ok()
    })
    .await;
    assert_eq!((news.alert.as_str(), news.label.as_str(), news.origin.as_str()), ("plant-1 7", "bearing", "hub/alice"));
    let window = GetWindowRequest { shard: own.shard, number: own.number, ..Default::default() };
    let window = client(other, &ca, "console").get_window(window).await.unwrap().into_inner();
    assert_eq!((window.history.len(), window.vector), (1, vec![3.5, 0.0, 0.0]));
    let receipts = client(other, &ca, "console").receipts(ReceiptsRequest::default()).await.unwrap().into_inner();
    let told: Vec<_> =
        receipts.chains.iter().map(|chain| (chain.site.as_str(), chain.class.as_str(), chain.last)).collect();
    assert_eq!(told, [("plant-1", "deltas", u64::from(DEVICES)), ("plant-2", "deltas", u64::from(DEVICES))]);
    assert!(receipts.missing_shards.is_empty() && receipts.chains.iter().all(|chain| chain.missing.is_empty()));

    // The one that led shard 0 is gone, without a word.
    let [a, b] = processes;
    let first = leads[0].clone();
    let name = client(&first, &ca, "bob").stats(StatsRequest {}).await.unwrap().into_inner().shards[0].leader.clone();
    let (gone, left) = if name == "a" { (a, b) } else { (b, a) };
    gone.running.abort();
    let survivor = both.iter().find(|address| **address != first).unwrap();
    let reader = client(survivor, &ca, "console");
    let found = until("one is enough", || {
        let (mut reader, labelled) = (reader.clone(), labelled.clone());
        async move {
            let found = reader.search(labelled).await.ok()?.into_inner();
            (found.windows == 2 * u64::from(DEVICES) && found.missing_shards.is_empty()).then_some(found)
        }
    })
    .await;
    assert_eq!(found.neighbours[0].alert, "plant-1 7");
    // And by NATS.
    let subject = format!("{REQUEST_PREFIX}.{SEARCH}");
    let answer = bus.request(&subject, near(0.0).encode_to_vec().into(), LONG).await.unwrap();
    assert_eq!(SearchResponse::decode(answer).unwrap().neighbours[0].device, "pump-0");
    left.stop.send_replace(true);
    assert_eq!(left.running.await.unwrap(), Ok(()));
    for folder in [&gone.folder, &left.folder] {
        let verified = audit::verify(folder).unwrap();
        assert!(verified.first == 1 && verified.head.seq > 5, "{verified:?}");
    }
    assert_eq!(names::shard_of(&own.device, SHARDS), own.shard);
}
