//! Each kind of client feeds a whole gateway, and each of its readings is scored once.

use super::{
    brokers::{Mosquitto, OPEN, nats_mqtt, publish},
    clients::{program, python, run, script, tool, values_file},
    series::{ENOUGH, assert_each_scored_once, json, lines, wait_for_readings},
    site::{Plan, Site, TOKEN, free_port},
    telegraf::Telegraf,
};
use crate::gateway::SITE;

fn mqtt(port: u16) -> String {
    format!("[capture.mqtt]\nurl = \"mqtt://127.0.0.1:{port}\"\ntopics = [\"sensors/{{device}}\"]\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_feeds_it() {
    let Some(curl) = tool("curl") else { return };
    let site = Site::start(Plan::default()).await;
    let folder = site.gateway.folder.path();
    let (url, token) = (format!("http://127.0.0.1:{}", site.port), format!("Authorization: Token {TOKEN}"));
    let curl = || {
        let mut command = program(&curl);
        command.args(["--silent", "--show-error", "--write-out", "%{http_code}", "-H", &token]);
        command
    };
    // Line protocol from a file, the device as a tag.
    let file = folder.join("lines.txt");
    std::fs::write(&file, lines("boiler 1", 0..ENOUGH)).unwrap();
    let mut command = curl();
    command.arg("--data-binary").arg(format!("@{}", file.display())).arg(format!("{url}/api/v2/write"));
    assert_eq!(run(&mut command).await, "204");
    // A JSON array without a content type: curl says that it is a form. The device stands in the address.
    let array = format!("[{}]", (0..ENOUGH).map(json).collect::<Vec<_>>().join(","));
    std::fs::write(&file, array).unwrap();
    let mut command = curl();
    command.arg("--data-binary").arg(format!("@{}", file.display())).arg(format!("{url}/ingest?device=boiler%202"));
    assert_eq!(run(&mut command).await, format!("{{\"stored\":{ENOUGH}}}200"));
    assert_each_scored_once(&site.gateway, &[("boiler 1", ENOUGH), ("boiler 2", ENOUGH)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_client_of_influxdb_feeds_it() {
    let Some(python) = python("influxdb_client") else { return };
    let site = Site::start(Plan::default()).await;
    let values = values_file(site.gateway.folder.path());
    for (device, gzip) in [("pump-1", false), ("pump-2", true)] {
        let mut command = script(&python, "influx.py");
        command.args(["--url", &format!("http://127.0.0.1:{}", site.port), "--token", TOKEN, "--device", device]);
        command.arg("--values").arg(&values).args(["--count", &ENOUGH.to_string()]);
        if gzip {
            command.arg("--gzip");
        }
        assert_eq!(run(&mut command).await.trim(), ENOUGH.to_string());
    }
    assert_each_scored_once(&site.gateway, &[("pump-1", ENOUGH), ("pump-2", ENOUGH)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_py_feeds_it_by_request_and_by_publish() {
    let Some(python) = python("nats") else { return };
    let site = Site::start(Plan::default()).await;
    let values = values_file(site.gateway.folder.path());
    for (device, publish) in [("fan-1", false), ("fan-2", true)] {
        let mut command = script(&python, "nats_client.py");
        command.args(["--url", &site.gateway.server.url(), "--site", SITE, "--device", device]);
        command.arg("--values").arg(&values).args(["--count", &ENOUGH.to_string()]);
        if publish {
            command.arg("--publish");
        }
        assert_eq!(run(&mut command).await.trim(), ENOUGH.to_string());
    }
    assert_each_scored_once(&site.gateway, &[("fan-1", ENOUGH), ("fan-2", ENOUGH)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mosquitto_pub_feeds_it_through_mosquitto() {
    let folder = tempfile::tempdir().unwrap();
    let Some(broker) = Mosquitto::start(folder.path(), OPEN) else { return };
    let mut site = Site::start(Plan { config: &mqtt(broker.port), ..Plan::default() }).await;
    site.wait_until_logged("subscribed").await;
    publish(broker.port, "valve-1", 0..ENOUGH).await;
    wait_for_readings(&mut site.gateway, "valve-1", ENOUGH).await;
    assert_each_scored_once(&site.gateway, &[("valve-1", ENOUGH)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mosquitto_pub_feeds_it_through_the_mqtt_of_nats_server() {
    if tool("mosquitto_pub").is_none() {
        return;
    }
    // One process is the gateway's bus and the broker.
    let port = free_port();
    let plan = Plan { config: &mqtt(port), server: &nats_mqtt(port), ..Plan::default() };
    let mut site = Site::start(plan).await;
    site.wait_until_logged("subscribed").await;
    publish(port, "valve-2", 0..ENOUGH).await;
    wait_for_readings(&mut site.gateway, "valve-2", ENOUGH).await;
    assert_each_scored_once(&site.gateway, &[("valve-2", ENOUGH)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_telegraf_writes_feeds_it() {
    let site = Site::start(Plan::default()).await;
    let mut telegraf = Telegraf::new(site.port, TOKEN);
    // More than one batch; in turns, as one agent gathers from several inputs.
    let devices = ["mixer-1", "mixer-2", "mixer-3"];
    for i in 0..ENOUGH {
        for device in devices {
            telegraf.gather(&lines(device, i..i + 1).replace(" value", ",host=gw7 value"));
        }
    }
    telegraf.flush_all().await;
    assert_eq!((telegraf.accepted, telegraf.dropped.len()), (3 * ENOUGH, 0), "{:?}", telegraf.dropped);
    assert_each_scored_once(&site.gateway, &devices.map(|device| (device, ENOUGH))).await;
}
