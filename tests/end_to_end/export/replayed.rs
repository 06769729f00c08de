//! A recording exported on one gateway and replayed on another: INV-3 holds, controls and bursts in their place.

use std::{collections::BTreeMap, process::Command};

use eddy_runtime::client::{Client, ReadFrom};
use eddy_schemas::{Control, ControlKind, Readings, SeriesName};
use futures_util::TryStreamExt as _;

use super::filled::summary;
use crate::{
    gateway::{Gateway, ROOMY, SITE},
    oracle::{assert_same, outcome},
    recording::{fleet, send, subject},
    stage::binary,
};

const PAUSES: [(usize, &str); 3] = [(900, "label"), (1_800, "maintenance"), (2_400, "recommission")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_replayed_on_another_gateway_gives_the_same_alerts() {
    let recorded = Gateway::start(&ROOMY).await;
    record(&recorded).await;
    let folder = tempfile::tempdir().unwrap();
    let mut export = Command::new(binary("eddy-export"));
    export.arg("--to").arg(folder.path()).args(["--json", "--url", &recorded.server.url(), "--site", SITE]);
    // Several ranges: they have to follow one another.
    export
        .args(["--class", "readings", "--allow", "readings", "--purpose", "a desk"])
        .env("EDDY_EXPORT_CUT_ROWS", "4000");
    let exported = summary(export.env_remove("EDDY_SEED"));
    assert!(exported["classes"][0]["ranges"].as_u64().unwrap() > 3, "{exported}");

    let desk = Gateway::start(&ROOMY).await;
    let mut replay = Command::new(binary("eddy"));
    replay.arg("replay").arg(folder.path()).args(["--json", "--url", &desk.server.url(), "--site", SITE]);
    let replayed = summary(replay.env_remove("EDDY_SEED"));
    assert_eq!(replayed["controls"], PAUSES.len());
    assert_eq!(replayed["readings"].as_u64().unwrap() + PAUSES.len() as u64, exported["rows"].as_u64().unwrap());
    desk.wait_until_through().await;
    let (expected, found) = (readings(&recorded.client).await, readings(&desk.client).await);
    assert!(expected.values().flatten().any(|row| row.contains("burst 256")), "a burst was recorded");
    assert_eq!(expected, found, "the same rows in the same order, controls among them");
    let expected = outcome(&recorded.client).await;
    assert!(!expected.alerts.is_empty(), "the recording raises alerts");
    assert_same(&expected, &outcome(&desk.client).await, "replayed from an export");
}

/// Two devices' days, with a control after each pause, and bursts.
async fn record(gateway: &Gateway) {
    let client = &gateway.client;
    let mut rest = fleet(&["harbour-1", "plaza.north 7"], 2_900);
    let mut done = 0;
    for (at, what) in PAUSES {
        let (first, later): (Vec<_>, Vec<_>) = rest.iter().map(|device| device.cut(at - done)).unzip();
        send(client, &first, 300).await;
        gateway.wait_until_through().await;
        control(client, what).await;
        gateway.wait_until_through().await;
        (rest, done) = (later, at);
    }
    for n in 0..3 {
        let values: Vec<f64> = (0..256).map(|i| f64::from((i * 7 + n) % 5)).collect();
        let line = serde_json::json!({
            "time": format!("2026-01-05T0{n}:00:00Z"), "vibration": { "rate_hz": 100.0, "values": values },
        });
        client.publish(&subject("motor"), &[], line.to_string().into()).await.unwrap();
    }
    send(client, &rest, 300).await;
    gateway.wait_until_through().await;
}

async fn control(client: &Client, what: &str) {
    let device = "harbour-1".to_owned();
    let kind = match what {
        "label" => ControlKind::Label { device, alert: "0123456789abcdef".into(), label: "normal".into() },
        "maintenance" => ControlKind::Maintenance { device: "plaza.north 7".into(), on: true, until: None },
        _ => ControlKind::Recommission { device },
    };
    let control = Control { id: format!("c-{what}"), origin: "test".into(), time: 1_767_571_200_000_000_000, kind };
    let subject = format!("control.{SITE}.{}", control.subject_token());
    client.publish(&subject, &[], control.to_json().into()).await.unwrap();
}

/// Per device its rows in READINGS, in order.
async fn readings(client: &Client) -> BTreeMap<String, Vec<String>> {
    let messages = client.read("READINGS", &[], ReadFrom::Start).await.unwrap();
    let messages: Vec<_> = messages.try_collect().await.unwrap();
    let mut rows = BTreeMap::<String, Vec<String>>::new();
    for message in messages {
        let batch = Readings::decode(&message.payload).unwrap();
        for row in 0..batch.rows.len() {
            let (device, text) = match batch.rows.control(row) {
                Some(control) => (control.device().unwrap_or_default().to_owned(), control.to_json()),
                None => {
                    let name = batch.rows.name(row);
                    let burst = batch.burst(row).map(|burst| format!("burst {} {:?}", burst.values.len(), burst));
                    let (time, value) = (batch.rows.time[row], batch.value[row]);
                    (SeriesName::parse(name).unwrap().device, format!("{name} {time} {value} {burst:?}"))
                }
            };
            rows.entry(device).or_default().push(text);
        }
    }
    rows
}
