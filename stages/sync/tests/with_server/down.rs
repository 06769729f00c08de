//! Down from the region: labels, sketches, and answers to questions; and the whole stage.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use eddy_runtime::{
    bus::{
        Bus as _, BusError, Publication, PullBounds,
        nats::{NatsBus, PlannedStream, Read},
    },
    client::{Client, Endpoint},
    config::CommonConfig,
    program::Program as _,
    provision::{StreamBounds, provision},
    service::{self, Refusal, Request, Service},
    telemetry::Telemetry,
};
use eddy_schemas::{
    Control, ControlKind,
    region::{LabelNews, wire::Sketch},
    sync::{Class, wire},
};
use eddy_sync::{Sync, config::Config};
use prost::Message as _;
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    server::Server,
    site::{SITE, batches, bus_config, connect, provide, until},
};

const BOUNDS: StreamBounds = StreamBounds {
    ingest_mb: 16,
    control_mb: 16,
    readings_mb: 16,
    samples_mb: 16,
    embeddings_mb: 16,
    detections_mb: 16,
    context_mb: 16,
    health_mb: 16,
    region_mb: 16,
    models_mb: 4,
    side_mb: 16,
};

/// Both servers, provisioned.
struct World {
    folder: tempfile::TempDir,
    hub_server: Server,
    _gateway_server: Server,
    hub: NatsBus,
    gateway: NatsBus,
    gateway_port: u16,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let hub_server = Server::start(&folder.path().join("hub"));
        let gateway_server = Server::start(&folder.path().join("gateway"));
        let (hub, gateway) = (connect(hub_server.port).await, connect(gateway_server.port).await);
        provide(&hub, 16 << 20).await;
        for (name, subjects, per_subject_max) in
            [("REGION", "region.label.>", None), ("KV_SKETCHES", "$KV.SKETCHES.>", Some(1))]
        {
            let planned = PlannedStream {
                name: name.into(),
                subjects: vec![subjects.into()],
                bytes_max: 16 << 20,
                per_subject_max,
                drops_oldest: true,
                replicas: 1,
            };
            hub.provide(&planned).await.unwrap();
        }
        let client = Client::connect(&Endpoint::new(gateway_server.url(), "test")).await.unwrap();
        provision(&client, SITE, 1, &BOUNDS).await.unwrap();
        let gateway_port = gateway_server.port;
        Self { folder, hub_server, _gateway_server: gateway_server, hub, gateway, gateway_port }
    }

    /// The whole stage, as its binary runs it.
    async fn stage(&self) -> Stage {
        let defaults: toml::Table = Sync::DEFAULTS.parse().unwrap();
        let mut config: Config = defaults["sync"].clone().try_into().unwrap();
        config.hub = bus_config(self.hub_server.port);
        config.linger_s = 0.1;
        config.sketch_poll_s = 1;
        let mut common: CommonConfig = toml::from_str(eddy_runtime::config::DEFAULTS).unwrap();
        common.site.name = SITE.into();
        common.state.dir = self.folder.path().join("state");
        common.bus = bus_config(self.gateway_port);
        let sync = Sync::new(config, &common).unwrap();
        let (stop, stopped) = watch::channel(false);
        let telemetry = Arc::new(Telemetry::new("sync", 0, Duration::from_secs(30)));
        let bus = connect(self.gateway_port).await;
        Stage { task: tokio::spawn(sync.run(common, bus, telemetry, stopped)), stop }
    }

    async fn publish(&self, subject: &str, payload: Vec<u8>) {
        let stream = if subject.starts_with("$KV") { "KV_SKETCHES" } else { "REGION" };
        let message = Publication {
            stream: stream.into(),
            subject: subject.into(),
            headers: Vec::new(),
            payload: payload.into(),
            guard: None,
        };
        self.hub.publish(vec![message]).await.unwrap();
    }

    async fn gateway_has(&self, stream: &str, subjects: &str) -> Vec<Read> {
        let bounds = PullBounds { messages: 100, bytes: 1 << 20 };
        self.gateway.read_on(stream, subjects, 1, bounds).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_message_says_of_itself_is_not_taken_for_the_servers_word() {
    let world = World::new().await;
    let lies = [("Nats-Sequence", "77"), ("Nats-Subject", "region.label.z"), ("Nats-Stream", "Z")];
    let message = Publication {
        stream: "REGION".into(),
        subject: "region.label.a".into(),
        headers: lies.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        payload: Bytes::from_static(b"1"),
        guard: None,
    };
    world.hub.publish(vec![message]).await.unwrap();
    world.publish("region.label.b", b"2".to_vec()).await;
    let bounds = PullBounds { messages: 100, bytes: 1 << 20 };
    let read = world.hub.read_on("REGION", "region.label.>", 1, bounds).await.unwrap();
    let told: Vec<_> = read.iter().map(|read| (read.sequence, read.subject.as_str())).collect();
    assert_eq!(told, [(1, "region.label.a"), (2, "region.label.b")]);
}

struct Stage {
    task: JoinHandle<Result<(), (u8, String)>>,
    stop: watch::Sender<bool>,
}

impl Stage {
    async fn stop(self) {
        self.stop.send_replace(true);
        self.task.await.unwrap().unwrap();
    }
}

fn news(site: &str, device: &str, origin: &str) -> Vec<u8> {
    let news = LabelNews {
        site: site.into(),
        device: device.into(),
        channel: "t".into(),
        alert: "00ff".into(),
        label: "leak".into(),
        origin: origin.into(),
        time: 5,
        bundle: "ab".into(),
        start: 1,
        end: 2,
        filled: 3,
        score: 0.5,
        vector: vec![0.25, 1.0],
    };
    serde_json::to_vec(&news).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn labels_and_sketches_come_down_once_however_often_sync_starts() {
    let mut world = World::new().await;
    world.publish("region.label.yard", news("yard", "pump 1", "yard/cli")).await;
    world.publish("$KV.SKETCHES.ab.0", Sketch { windows: 1, ..Sketch::default() }.encode_to_vec()).await;
    let stage = world.stage().await;
    let controls = async |world: &World, count: usize| {
        until("the controls", || async { world.gateway_has("CONTROL", "control.>").await.len() >= count }).await;
    };
    controls(&world, 1).await;
    // What comes while it runs, rubbish among it, and what was said here.
    world.publish("region.label.yard", b"rubbish".to_vec()).await;
    world.publish("region.label.plant%201", news(SITE, "pump 2", &format!("{SITE}/cli"))).await;
    world.publish("region.label.plant%201", news(SITE, "pump 2", "hub/anna")).await;
    controls(&world, 2).await;
    stage.stop().await;
    // What comes while it does not run, and while the region's server is away.
    world.publish("region.label.yard", news("yard", "pump 3", "yard/cli")).await;
    world.publish("$KV.SKETCHES.ab.0", Sketch { windows: 2, ..Sketch::default() }.encode_to_vec()).await;
    world.hub_server.kill();
    let stage = world.stage().await;
    world.hub_server.restart();
    controls(&world, 3).await;
    let sketch = async |world: &World| {
        let there = world.gateway_has("REGION", "region.plant%201.sketch.ab.0").await;
        there.last().map(|last| Sketch::decode(last.payload.clone()).unwrap().windows)
    };
    until("the sketch", || async { sketch(&world).await == Some(2) }).await;
    stage.stop().await;
    let said: Vec<_> = world
        .gateway_has("CONTROL", "control.>")
        .await
        .iter()
        .map(|read| Control::parse(&read.payload).unwrap())
        .collect();
    let devices: Vec<_> = said.iter().map(|control| (control.device().unwrap(), control.origin.as_str())).collect();
    assert_eq!(
        devices,
        [("yard/pump 1", "region/yard/cli"), ("pump 2", "region/hub/anna"), ("yard/pump 3", "region/yard/cli")]
    );
    assert!(matches!(said[1].kind, ControlKind::Label { .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_are_passed_on_and_refused_while_there_is_no_region() {
    let mut world = World::new().await;
    let (stop, stopped) = watch::channel(false);
    let service = Service {
        name: "hub".into(),
        description: "a hub".into(),
        endpoints: vec![("search".into(), "eddy.region.search".into()), ("stats".into(), "eddy.region.stats".into())],
        at_once: 4,
    };
    let answer = |asked: Request| async move {
        match asked.endpoint.as_str() {
            "search" => Ok([b"answer to ", &asked.payload[..]].concat().into()),
            _ => Err(Refusal { code: 404, message: "no such site".into() }),
        }
    };
    let serving = tokio::spawn(service::serve(world.hub.clone(), service, answer, stopped));
    let stage = world.stage().await;
    let ask = async |method: &str| {
        let subject = format!("eddy.region.plant%201.{method}");
        world.gateway.request(&subject, Bytes::from_static(b"x"), Duration::from_secs(20)).await
    };
    until("an answer", || async { ask("search").await.is_ok() }).await;
    assert_eq!(ask("search").await.unwrap(), "answer to x");
    let refused = |answer: Result<Bytes, BusError>| match answer {
        Err(BusError::Fatal(problem)) => problem,
        other => panic!("{other:?}"),
    };
    assert!(refused(ask("stats").await).contains("no such site"));
    assert!(refused(ask("receipts").await).contains("the region does not answer"));
    world.hub_server.kill();
    let down =
        || async { matches!(ask("search").await, Err(BusError::Fatal(problem)) if problem.contains("no connection")) };
    until("that the link is down", down).await;
    stage.stop().await;
    stop.send_replace(true);
    serving.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_gateway_publishes_comes_to_the_region() {
    let world = World::new().await;
    let stage = world.stage().await;
    for number in 0..5_u8 {
        let message = Publication {
            stream: "CONTEXT".into(),
            subject: "context.plant%201.pump".into(),
            headers: Vec::new(),
            payload: vec![b'{', b'0' + number, b'}'].into(),
            guard: None,
        };
        world.gateway.publish(vec![message]).await.unwrap();
    }
    let contexts = async || {
        let batches = batches(&world.hub, Class::Contexts).await;
        let entries = batches.into_iter().flat_map(|(_, entries)| entries.entries);
        entries.map(|entry| entry.what.unwrap()).collect::<Vec<_>>()
    };
    until("the contexts", || async { contexts().await.len() == 5 }).await;
    stage.stop().await;
    let said: Vec<_> = contexts().await;
    assert_eq!(said[4], wire::entry::What::Context(Bytes::from_static(b"{4}")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recovering_begins_a_new_chain_but_not_under_a_running_sync() {
    let world = World::new().await;
    let stage = world.stage().await;
    let folder = world.folder.path().join("state");
    until("the queue", || async { folder.join("sync/data.mdb").exists() }).await;
    let sync = || {
        let defaults: toml::Table = Sync::DEFAULTS.parse().unwrap();
        let common: CommonConfig = toml::from_str(eddy_runtime::config::DEFAULTS).unwrap();
        let common = CommonConfig {
            state: eddy_runtime::config::StateConfig { dir: folder.clone(), ..common.state.clone() },
            ..common
        };
        (Sync::new(defaults["sync"].clone().try_into().unwrap(), &common).unwrap(), common)
    };
    let (running, common) = sync();
    assert_eq!(running.recover(&common).unwrap_err().0, 70, "it is in use");
    stage.stop().await;
    let (stopped, common) = sync();
    assert!(stopped.recover(&common).unwrap().contains("a new chain begins"));
    assert!(!folder.join("sync/data.mdb").exists());
}
