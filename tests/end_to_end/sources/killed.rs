//! Capture, nats-server and the broker die at random moments while every kind of client sends and sends again what was not
//! acknowledged: what was acknowledged is there, and each reading is scored once.
//!
//! Mosquitto is stopped with SIGTERM: it then saves what it holds. Killed, it loses what it acknowledged since its last save (a
//! second ago, at best): that is between it and its publishers, and eddy cannot know of it. nats-server's own MQTT is killed.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use rumqttc::{AsyncClient, MqttOptions, PublishOptions};
use tokio::task::JoinHandle;

use super::{
    brokers::{Mosquitto, OPEN, nats_mqtt},
    clients::{program, python, run, script, tool, values_file},
    series::{ENOUGH, assert_each_scored_once, json, lines, wait_for_readings},
    site::{Plan, Site, TOKEN, free_port},
    telegraf::Telegraf,
};
use crate::{
    faults::{Dice, seed},
    gateway::SITE,
};

const KILLS: usize = 20;

/// Until when the clients send: at least [`ENOUGH`] readings each, and until this file is there.
#[derive(Clone)]
struct Until(PathBuf);

impl Until {
    fn goes_on(&self, sent: usize) -> bool {
        sent < ENOUGH || !self.0.exists()
    }
}

/// A client that sends; it ends with the number of its readings that were acknowledged.
type Sender = (&'static str, JoinHandle<usize>);

fn telegraf(port: u16, until: Until) -> JoinHandle<usize> {
    tokio::spawn(async move {
        let (mut telegraf, mut sent) = (Telegraf::new(port, TOKEN), 0);
        while until.goes_on(sent) || telegraf.buffered() > 0 {
            if until.goes_on(sent) {
                telegraf.gather(&lines("telegraf", sent..sent + 20));
                sent += 20;
            }
            telegraf.flush().await;
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
        assert!(telegraf.dropped.is_empty(), "{:?}", telegraf.dropped);
        telegraf.accepted
    })
}

fn curl(curl: PathBuf, port: u16, folder: PathBuf, until: Until) -> JoinHandle<usize> {
    tokio::spawn(async move {
        let (file, mut sent) = (folder.join("curl.txt"), 0);
        while until.goes_on(sent) {
            std::fs::write(&file, lines("curl", sent..sent + 30)).unwrap();
            let mut command = program(&curl);
            command.args(["--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "--max-time", "5"]);
            command.args(["-H", &format!("Authorization: Token {TOKEN}"), "--data-binary"]);
            command.arg(format!("@{}", file.display())).arg(format!("http://127.0.0.1:{port}/api/v2/write"));
            match String::from_utf8_lossy(&command.output().await.unwrap().stdout).as_ref() {
                "204" => sent += 30,
                // Nobody there, or it says to come again.
                "000" | "429" | "503" => {}
                other => panic!("curl: {other}"),
            }
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
        sent
    })
}

fn influx(python: &Path, port: u16, values: &Path, until: &Until) -> JoinHandle<usize> {
    let mut command = script(python, "influx.py");
    command.args(["--url", &format!("http://127.0.0.1:{port}"), "--token", TOKEN, "--device", "influx"]);
    command.arg("--values").arg(values).args(["--count", &ENOUGH.to_string()]).arg("--until").arg(&until.0);
    tokio::spawn(async move { run(&mut command).await.trim().parse().unwrap() })
}

fn nats_py(python: &Path, url: &str, values: &Path, until: &Until, publish: bool) -> JoinHandle<usize> {
    let mut command = script(python, "nats_client.py");
    command.args(["--url", url, "--site", SITE, "--device", if publish { "publish" } else { "request" }]);
    command.arg("--values").arg(values).args(["--count", &ENOUGH.to_string()]).arg("--until").arg(&until.0);
    if publish {
        command.arg("--publish");
    }
    tokio::spawn(async move { run(&mut command).await.trim().parse().unwrap() })
}

/// Publishes with QoS 1, and what has no PUBACK again on a new connection.
fn mqtt(port: u16, device: &'static str, pace: Duration, until: Until) -> JoinHandle<usize> {
    tokio::spawn(async move {
        let (mut sent, mut connections) = (0, 0);
        while until.goes_on(sent) {
            connections += 1;
            let mut options = MqttOptions::new(format!("{device}-{connections}"), ("127.0.0.1", port));
            options.set_keep_alive(5);
            let (client, mut events) = AsyncClient::builder(options).capacity(10).build();
            let polling = tokio::spawn(async move { while events.poll().await.is_ok() {} });
            while until.goes_on(sent) && published(&client, device, sent).await {
                sent += 1;
                tokio::time::sleep(pace).await;
            }
            polling.abort();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        sent
    })
}

async fn published(client: &AsyncClient, device: &str, i: usize) -> bool {
    let publish = async {
        let options = PublishOptions::at_least_once();
        let notice = client.publish_tracked(format!("sensors/{device}"), json(i), options).await.ok()?;
        notice.wait_async().await.ok()
    };
    tokio::time::timeout(Duration::from_secs(2), publish).await.is_ok_and(|acknowledged| acknowledged.is_some())
}

/// What dies.
enum Victim {
    Stage(usize),
    Server,
    Broker,
}

/// Kills at random, then lets the clients finish; checks what came out.
async fn kill_and_check(site: &mut Site, broker: Option<&mut Mosquitto>, until: &Until, senders: Vec<Sender>) {
    let (mut dice, mut broker) = (Dice(seed()), broker);
    for _ in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(50 + dice.below(400))).await;
        // Capture half of the time: it is what this is about.
        let victim = match dice.below(10) {
            0..5 => Victim::Stage(0),
            5..7 => Victim::Server,
            7 => Victim::Stage(1 + dice.below(3) as usize),
            _ => Victim::Broker,
        };
        match (victim, &mut broker) {
            (Victim::Stage(stage), _) => site.gateway.stages[stage].kill_and_restart(),
            (Victim::Broker, Some(broker)) => broker.restart(),
            (Victim::Server | Victim::Broker, _) => site.gateway.server.kill_and_restart(),
        }
    }
    std::fs::write(&until.0, "").unwrap();
    let mut acknowledged = Vec::new();
    for (device, sender) in senders {
        let sent = sender.await.unwrap();
        assert!(sent >= ENOUGH, "{device}: {sent}");
        acknowledged.push((device, sent));
    }
    println!("acknowledged: {acknowledged:?}");
    // What a broker holds is not in READINGS when its publisher is done. Then a last reading, behind which none waits.
    for (device, sent) in acknowledged.iter().filter(|(device, _)| device.starts_with("mqtt")) {
        wait_for_readings(&mut site.gateway, device, *sent).await;
    }
    for (device, _) in &acknowledged {
        let answer = site.post("/api/v2/write", "text/plain", lines(device, 100_000..100_001)).await;
        assert_eq!(answer.status, 204, "{answer:?}");
    }
    assert_each_scored_once(&site.gateway, &acknowledged).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_over_http_nats_and_mosquitto() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Mosquitto::start(folder.path(), OPEN);
    let capture = broker.as_ref().map_or(String::new(), |broker| {
        format!("[capture.mqtt]\nurl = \"mqtt://127.0.0.1:{}\"\ntopics = [\"sensors/{{device}}\"]\n", broker.port)
    });
    let mut site = Site::start(Plan { config: &capture, ..Plan::default() }).await;
    let (values, until) = (values_file(folder.path()), Until(folder.path().join("enough")));
    let url = site.gateway.server.url();
    let mut senders: Vec<Sender> = vec![("telegraf", telegraf(site.port, until.clone()))];
    if let Some(binary) = tool("curl") {
        senders.push(("curl", curl(binary, site.port, folder.path().to_owned(), until.clone())));
    }
    if let Some(python) = python("influxdb_client") {
        senders.push(("influx", influx(&python, site.port, &values, &until)));
    }
    if let Some(python) = python("nats") {
        senders.push(("request", nats_py(&python, &url, &values, &until, false)));
        senders.push(("publish", nats_py(&python, &url, &values, &until, true)));
    }
    let mut broker = broker;
    if let Some(broker) = &broker {
        site.wait_until_logged("subscribed").await;
        senders.push(("mqtt", mqtt(broker.port, "mqtt", Duration::from_millis(4), until.clone())));
    }
    kill_and_check(&mut site, broker.as_mut(), &until, senders).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_over_the_mqtt_of_nats_server() {
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    // What capture had in hand when it died comes again only after the broker's ack_wait, behind newer messages: preprocess
    // has to wait that long, or it would be late.
    let config = format!(
        "[capture.mqtt]\nurl = \"mqtt://127.0.0.1:{port}\"\ntopics = [\"sensors/{{device}}\"]\n\
         [preprocess]\nlateness_s = 1000.0\n"
    );
    let plan = Plan { config: &config, server: &nats_mqtt(port), ..Plan::default() };
    let mut site = Site::start(plan).await;
    site.wait_until_logged("subscribed").await;
    let until = Until(folder.path().join("enough"));
    let senders = vec![("mqtt", mqtt(port, "mqtt", Duration::from_millis(25), until.clone()))];
    kill_and_check(&mut site, None, &until, senders).await;
}
