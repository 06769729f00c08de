//! What index makes of a region: sketches that sync mirrors, questions that it passes on, and words of other sites that it brings.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use eddy_runtime::{bundle::Bundle, client::Client};
use eddy_schemas::{
    Control, ControlKind,
    context::{Asked, Tier, Verdict},
    region::{LabelNews, wire},
};
use futures_util::StreamExt as _;
use prost::Message as _;
use serde_json::json;

use crate::{
    gateway::{Gateway, ROOMY, SITE},
    index::{contexts, indexed, opened, search},
    recording::{fleet, send},
};

fn bundle() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/bundles/default");
    Bundle::open(&folder, &[], true).unwrap().digest
}

/// A sphere that no window lies outside of, with windows of another site in it.
fn sketch(bundle: &str) -> Bytes {
    let cluster = wire::Cluster {
        centroid: vec![0; 16].into(),
        scale: 0.0,
        radius: 1e9,
        sites: vec![0],
        windows: 7,
        labelled: 1,
    };
    let sketch = wire::Sketch {
        bundle: bundle.to_owned(),
        dimensions: 16,
        clusters: vec![cluster],
        sites: vec!["plant 2".into()],
        windows: 7,
        made: 1,
    };
    sketch.encode_to_vec().into()
}

/// What the hub would answer, by way of sync, to whatever is asked: the same window, called a leak.
async fn answer(url: &str) -> tokio::task::JoinHandle<()> {
    let client = async_nats::connect(url).await.unwrap();
    let mut requests = client.subscribe(format!("eddy.region.{SITE}.search")).await.unwrap();
    client.flush().await.unwrap();
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            let asked = wire::SearchRequest::decode(request.payload).unwrap();
            assert_eq!((asked.vector.len(), asked.other_than_site.as_str(), asked.bundle), (16, SITE, bundle()));
            let neighbour = wire::Window {
                site: "plant 2".into(),
                device: "pump".into(),
                channel: asked.channel,
                distance: asked.radius / 2.0,
                alert: "00ff".into(),
                label: "leak".into(),
                label_origin: "plant 2/cli".into(),
                label_time: 5,
                ..Default::default()
            };
            let answer = wire::SearchResponse { neighbours: vec![neighbour], windows: 7, ..Default::default() };
            client.publish(request.reply.unwrap(), answer.encode_to_vec().into()).await.unwrap();
        }
    })
}

async fn publish_sketch(client: &Client) {
    let bundle = bundle();
    client.publish(&format!("region.{SITE}.sketch.{bundle}.0"), &[], sketch(&bundle)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contexts_tell_what_the_region_knows_and_are_told_without_it() {
    let mut gateway = Gateway::start(&ROOMY).await;
    publish_sketch(&gateway.client).await;
    let answering = answer(&gateway.server.url()).await;
    gateway.start_stage("index");
    let devices = fleet(&["harbour-1", "plaza.north 7"], 2_900);
    send(&gateway.client, &devices, 100).await;
    gateway.wait_until_through().await;
    indexed(&gateway).await;
    let told = contexts(&gateway.client).await;
    assert!(!told.is_empty());
    for context in &told {
        let region = context.region.as_ref().unwrap();
        assert_eq!((&region.asked, region.windows), (&Asked::Answered, 7), "{context:?}");
        assert_eq!((region.neighbours[0].site.as_str(), region.neighbours[0].device.as_str()), ("plant 2", "pump"));
        assert_eq!(context.verdict, Verdict::Fault { name: "leak".into(), votes: 1, tier: Tier::Region });
    }
    // Nobody passes questions on any more: every alert has its context all the same.
    answering.abort();
    send(&gateway.client, &fleet(&["tunnel-mouth", "ring-road-3"], 2_900), 100).await;
    gateway.wait_until_through().await;
    indexed(&gateway).await;
    let (all, alerts) = (contexts(&gateway.client).await, opened(&gateway.client).await);
    assert_eq!(all.len(), alerts.len());
    assert!(all.len() > told.len(), "more alerts came");
    for context in &all[told.len()..] {
        let asked = &context.region.as_ref().unwrap().asked;
        assert!(matches!(asked, Asked::NoAnswer { .. } | Asked::BreakerOpen), "{context:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_word_of_another_site_comes_through_all_stages_into_the_index() {
    let mut gateway = Gateway::start(&ROOMY).await;
    gateway.start_stage("index");
    let mut devices = fleet(&["harbour-1"], 2_900);
    let later = devices[0].readings.split_off(8_000);
    send(&gateway.client, &devices, 100).await;
    gateway.wait_until_through().await;
    indexed(&gateway).await;
    let alert = contexts(&gateway.client).await.first().unwrap().alert.clone();
    let like = json!({"alert": alert});
    let own = search(&gateway.client, json!({"like": like, "k": 1, "with_vector": true})).await.unwrap();
    let news = LabelNews {
        site: "plant 2".into(),
        device: "pump 7".into(),
        channel: own.query.as_ref().unwrap().channel.clone(),
        alert: "00ff".into(),
        label: "leak".into(),
        origin: "plant 2/cli".into(),
        time: 5,
        bundle: own.bundle.clone(),
        start: 1,
        end: own.query.as_ref().unwrap().end,
        filled: 9,
        score: 0.5,
        vector: own.vector.unwrap(),
    };
    let control = Control {
        id: "region-1".into(),
        origin: "region/plant 2/cli".into(),
        time: 5,
        kind: ControlKind::RegionLabel { device: "plant 2/pump 7".into(), news: Box::new(news) },
    };
    let subject = format!("control.{SITE}.{}", control.subject_token());
    let headers = [("Content-Type", "application/json")];
    gateway.client.publish(&subject, &headers, control.to_json().into()).await.unwrap();
    devices[0].readings = later;
    send(&gateway.client, &devices, 100).await;
    gateway.wait_until_through().await;
    indexed(&gateway).await;
    let deadline = Instant::now() + Duration::from_secs(60);
    let found = loop {
        let asked = json!({"like": like, "k": 1, "device": "plant 2/pump 7"});
        let mut found = search(&gateway.client, asked).await.unwrap().neighbours;
        if let Some(found) = found.pop() {
            break found;
        }
        assert!(Instant::now() < deadline, "the word never came");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let label = found.label.unwrap();
    assert_eq!((label.name.as_str(), label.origin.as_str(), label.time), ("leak", "region/plant 2/cli", 5));
    assert_eq!((found.distance, found.alert.as_deref()), (0.0, Some("plant%202/00ff")));
}
