//! READINGS is full: each kind of sender is told in its own way, and nothing that was acknowledged is lost once there is room.

use std::collections::BTreeSet;

use eddy_runtime::provision::{StreamBounds, provision};

use super::{
    brokers::{Mosquitto, OPEN, publish},
    http,
    series::{CHANNEL, lines, readings, series, time, wait_for_readings},
    site::{Plan, Site, TOKEN},
    telegraf::Telegraf,
};
use crate::gateway::{ROOMY, SITE};

/// A megabyte of readings.
const SMALL: StreamBounds = StreamBounds { readings_mb: 1, ..ROOMY };
/// Lines of one write.
const STEP: usize = 2_000;

async fn full(config: &str) -> Site {
    let plan = Plan { capture_only: true, bounds: Some(SMALL), http: "timeout_ms = 1000", config, ..Plan::default() };
    Site::start(plan).await
}

/// Writes until it is told that there is no room; returns how many readings were acknowledged.
async fn fill(site: &Site) -> usize {
    for step in 0..100 {
        let body = lines("d", step * STEP..(step + 1) * STEP);
        let answer = site.post("/api/v2/write", "text/plain", body).await;
        match answer.status {
            204 => {}
            // The one that meets the full stream waits for room until its time is up: it may be stored yet.
            503 => {
                assert_eq!(answer.header("retry-after"), Some("1"), "{answer:?}");
                return step * STEP;
            }
            _ => panic!("{answer:?}"),
        }
    }
    panic!("a megabyte holds {} readings", 100 * STEP);
}

async fn make_room(site: &Site) {
    provision(&site.gateway.client, SITE, 1, &ROOMY).await.unwrap();
}

/// The times of a device's readings in READINGS.
async fn times(site: &Site, device: &str) -> BTreeSet<i64> {
    let name = series(device, CHANNEL);
    readings(&site.gateway.client).await.into_iter().filter(|(of, ..)| *of == name).map(|(_, time, _)| time).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http_it_is_a_429_with_retry_after_until_there_is_room() {
    let mut site = full("").await;
    let acknowledged = fill(&site).await;
    let answer = site.post("/api/v2/write", "text/plain", lines("d", 0..1)).await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("1")), "{answer:?}");
    assert!(answer.message().contains("full"), "{answer:?}");
    assert_eq!(site.post("/ingest?device=d", "application/json", "{\"t\":1}").await.status, 429);
    for path in ["/health", "/ping"] {
        assert_eq!(http::get(site.port, path).await.unwrap().status, 503, "{path}");
    }
    // Telegraf keeps its batch, waits as long as it is told, and delivers it afterwards.
    let mut telegraf = Telegraf::new(site.port, TOKEN);
    telegraf.gather(&lines("t", 0..1_500));
    telegraf.flush().await;
    assert_eq!(
        (telegraf.accepted, telegraf.buffered(), &telegraf.throttled[..]),
        (0, 1_500, &[(429, Some("1".into()))][..])
    );
    make_room(&site).await;
    telegraf.flush_all().await;
    assert_eq!((telegraf.accepted, telegraf.dropped.len()), (1_500, 0), "{:?}", telegraf.dropped);
    site.wait_until_ready().await;
    assert_eq!(site.post("/api/v2/write", "text/plain", lines("d", 0..1)).await.status, 204);
    let (stored, of_telegraf) = (times(&site, "d").await, times(&site, "t").await);
    assert!((0..acknowledged).all(|i| stored.contains(&time(i))), "{} of {acknowledged}", stored.len());
    assert_eq!(of_telegraf.len(), 1_500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nats_request_is_told_429() {
    let mut site = full("").await;
    site.wait_for_requests().await;
    fill(&site).await;
    let client = async_nats::connect(site.gateway.server.url()).await.unwrap();
    let ask = async || client.request(format!("direct.{SITE}.r"), "{\"t\":1}".into()).await.unwrap().headers;
    let headers = ask().await.unwrap();
    assert_eq!(headers.get("Nats-Service-Error-Code").unwrap().as_str(), "429");
    assert!(headers.get("Nats-Service-Error").unwrap().as_str().contains("try again later"));
    make_room(&site).await;
    site.wait_until_ready().await;
    let headers = ask().await.unwrap();
    assert!(headers.get("Nats-Service-Error-Code").is_none(), "{headers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mqtt_broker_keeps_what_has_no_room() {
    let folder = tempfile::tempdir().unwrap();
    let Some(broker) = Mosquitto::start(folder.path(), OPEN) else { return };
    let mqtt =
        format!("[capture.mqtt]\nurl = \"mqtt://127.0.0.1:{}\"\ntopics = [\"sensors/{{device}}\"]\n", broker.port);
    let mut site = full(&mqtt).await;
    site.wait_until_logged("subscribed").await;
    fill(&site).await;
    publish(broker.port, "m", 0..500).await;
    assert_eq!(times(&site, "m").await.len(), 0);
    // What capture has in hand dies with it: had it acknowledged any of that, it would be lost now.
    site.capture().kill();
    make_room(&site).await;
    site.capture().restart();
    wait_for_readings(&mut site.gateway, "m", 500).await;
    assert_eq!(times(&site, "m").await, (0..500).map(time).collect());
}
