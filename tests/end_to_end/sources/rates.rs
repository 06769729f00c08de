//! How fast the sources take readings: by hand, on a quiet machine. Nothing is asserted but that all of it is stored.
//!
//! `cargo nextest run --release --workspace --run-ignored only --no-capture -E 'test(sources::rates)'` (bins built with `--release` too)

use std::time::{Duration, Instant};

use eddy_runtime::client::Client;
use futures_util::{StreamExt, stream::FuturesUnordered};
use rumqttc::{AsyncClient, MqttOptions, PublishOptions};

use super::{
    brokers::{Mosquitto, OPEN},
    series::{json, lines, readings},
    site::{Plan, Site, TOKEN},
};
use crate::gateway::SITE;

const SECONDS: u64 = 5;

/// Rows and messages of READINGS.
async fn stored(client: &Client) -> (usize, u64) {
    (readings(client).await.len(), client.stream("READINGS").await.unwrap().unwrap().last_sequence)
}

async fn report(what: &str, site: &Site, acknowledged: usize, seconds: f64) {
    let (rows, messages) = stored(&site.gateway.client).await;
    assert!(rows >= acknowledged, "{rows} of {acknowledged} are stored");
    println!(
        "{what}: {:.0} readings/s, {:.0} publishes/s into READINGS, {:.1} readings in each",
        acknowledged as f64 / seconds,
        messages as f64 / seconds,
        rows as f64 / messages as f64
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn line_protocol_over_http() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let site = Site::start(Plan { capture_only: true, ..Plan::default() }).await;
    let (started, client) = (Instant::now(), reqwest::Client::new());
    let writer = |writer: usize| {
        let (client, url) = (client.clone(), format!("http://127.0.0.1:{}/api/v2/write", site.port));
        async move {
            let body = lines(&format!("d{writer}"), 0..1_000);
            let mut acknowledged = 0;
            while started.elapsed() < Duration::from_secs(SECONDS) {
                let request = client.post(&url).header("Authorization", format!("Token {TOKEN}")).body(body.clone());
                assert_eq!(request.send().await.unwrap().status().as_u16(), 204);
                acknowledged += 1_000;
            }
            acknowledged
        }
    };
    let acknowledged: usize = futures_util::future::join_all((0..4).map(writer)).await.into_iter().sum();
    report("HTTP, 4 connections, 1,000 lines a write", &site, acknowledged, started.elapsed().as_secs_f64()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn single_readings_over_nats_requests() {
    let site = Site::start(Plan { capture_only: true, ..Plan::default() }).await;
    site.wait_for_requests().await;
    let client = async_nats::connect(site.gateway.server.url()).await.unwrap();
    let ask = |i: usize| {
        let client = client.clone();
        async move {
            let answer = client.request(format!("direct.{SITE}.d{}", i % 1_000), json(i).into()).await.unwrap();
            assert_eq!(&answer.payload[..], b"{\"stored\":1}");
        }
    };
    let (started, mut sent, mut acknowledged) = (Instant::now(), 0, 0);
    let mut asking = FuturesUnordered::new();
    loop {
        while asking.len() < 1_000 && started.elapsed() < Duration::from_secs(SECONDS) {
            asking.push(ask(sent));
            sent += 1;
        }
        if asking.next().await.is_none() {
            break;
        }
        acknowledged += 1;
    }
    report("NATS requests, 1,000 in flight", &site, acknowledged, started.elapsed().as_secs_f64()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn single_readings_over_mqtt() {
    let folder = tempfile::tempdir().unwrap();
    for inflight in [20, 1_000] {
        let config = format!("{OPEN}max_inflight_messages {inflight}\n");
        let Some(broker) = Mosquitto::start(&folder.path().join(inflight.to_string()), &config) else { return };
        let port = broker.port;
        let capture = format!("[capture.mqtt]\nurl = \"mqtt://127.0.0.1:{port}\"\ntopics = [\"sensors/{{device}}\"]\n");
        let mut site = Site::start(Plan { capture_only: true, config: &capture, ..Plan::default() }).await;
        site.wait_until_logged("subscribed").await;
        let mut options = MqttOptions::new("publisher", ("127.0.0.1", port));
        options.set_inflight(1_000);
        let (client, mut events) = AsyncClient::builder(options).capacity(1_000).build();
        let polling = tokio::spawn(async move { while events.poll().await.is_ok() {} });
        let (started, count) = (Instant::now(), 20_000);
        for i in 0..count {
            let topic = format!("sensors/d{}", i % 1_000);
            client.publish(topic, json(i), PublishOptions::at_least_once()).await.unwrap();
        }
        while stored(&site.gateway.client).await.0 < count {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let what = format!("MQTT through Mosquitto, max_inflight_messages {inflight}");
        report(&what, &site, count, started.elapsed().as_secs_f64()).await;
        polling.abort();
    }
}
