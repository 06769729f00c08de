//! Full streams: 10077 reaches the sender, nothing is lost, and it goes on when there is room.

use std::time::Duration;

use eddy_runtime::{
    client::ClientError,
    janitor::{Retention, sweep},
    provision::{StreamBounds, provision},
};

use crate::{
    gateway::{Gateway, ROOMY, SITE},
    oracle::lost_and_doubled,
    recording::{Device, fleet, send, subject},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_path_pushes_back_to_the_sender_and_goes_on() {
    let small = StreamBounds { ingest_mb: 1, readings_mb: 1, samples_mb: 1, ..ROOMY };
    let mut gateway = Gateway::without_stages(&small).await;
    let devices = fleet(&["harbour-1", "market", "riverside", "station"], 6_000);
    let client = gateway.client.clone();
    let sender = {
        let (client, devices) = (client.clone(), devices.clone());
        tokio::spawn(async move { send_patiently(&client, &devices).await })
    };
    // With nobody reading, INGEST fills up.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!sender.is_finished(), "a megabyte cannot hold the recording");
    for stage in crate::gateway::STAGES {
        gateway.start_stage(stage);
    }
    // The janitor makes room for what is through.
    let janitor = {
        let client = client.clone();
        tokio::spawn(async move {
            loop {
                let _ = sweep(&client, Retention { keep_percent: 30, replay_tail: 2 }).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        })
    };
    let refusals = sender.await.unwrap();
    assert!(refusals > 0, "10077 must reach the sender");
    gateway.wait_until_through().await;
    janitor.abort();
    assert_eq!(lost_and_doubled(&client, &devices).await, (0, 0));
}

/// Sends all; returns how often a stream was full.
async fn send_patiently(client: &eddy_runtime::client::Client, devices: &[Device]) -> u64 {
    let mut refusals = 0;
    for device in devices {
        for readings in device.readings.chunks(500) {
            let mut batch = eddy_schemas::ReadingsBuilder::default();
            for (channel, time, value) in readings {
                batch.push(&eddy_schemas::SeriesName::encode(&device.name, channel), *time, *value, 0, *time);
            }
            let payload: bytes::Bytes = batch.encode().into();
            let headers = [("Content-Type", "application/vnd.apache.arrow.stream")];
            loop {
                match client.publish(&subject(&device.name), &headers, payload.clone()).await {
                    Ok(_) => break,
                    Err(ClientError::Full { .. }) => refusals += 1,
                    Err(error) => panic!("{error}"),
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    refusals
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_output_stops_nothing_for_good() {
    // DETECTIONS is full: detect waits, everything before it waits, and all comes through once its bound is raised.
    let small = StreamBounds { detections_mb: 1, ..ROOMY };
    let gateway = Gateway::start(&small).await;
    let devices = fleet(&["harbour-1", "market"], 5_000);
    send(&gateway.client, &devices, 500).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (waiting, _) = lost_and_doubled(&gateway.client, &devices).await;
    assert!(waiting > 0, "a megabyte cannot hold the scores");
    provision(&gateway.client, SITE, 1, &ROOMY).await.unwrap();
    gateway.wait_until_through().await;
    assert_eq!(lost_and_doubled(&gateway.client, &devices).await, (0, 0));
}
