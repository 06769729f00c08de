//! MQTT against the real Mosquitto: the state of each device is right, whatever died.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
    time::{Duration, Instant},
};

use eddy_schemas::{
    alert::{CloudEvent, Phase},
    names,
};

use super::{
    Setting,
    broker::{self, Broker, Watcher},
    event, publish,
};
use crate::gateway::SITE;

const DEVICES: [&str; 5] = ["pump 1", "a/b", "+", "#", "$SYS"];

fn sink(port: u16, more: &str) -> String {
    format!(
        "[[notify.mqtt]]\nname = \"m\"\nurl = \"mqtt://127.0.0.1:{port}\"\ntimeout_ms = 2000\n{more}\n\
         [notify.mqtt.delivery]\nretry_wait_ms_min = 20\nretry_wait_ms_max = 200\n"
    )
}

/// Three events of an episode of each device; the last one open, or closed where the device's number is odd.
fn episodes(round: u64) -> Vec<CloudEvent> {
    let mut all = Vec::new();
    for (index, device) in DEVICES.iter().enumerate() {
        let episode = round * 100 + index as u64;
        let last = if index % 2 == 1 { Phase::Closed } else { Phase::Updated };
        all.extend(
            [Phase::Opened, Phase::Updated, last].into_iter().zip(0..).map(|(p, n)| event(device, episode, n, p)),
        );
    }
    all
}

fn topic(device: &str) -> String {
    format!("eddy/{SITE}/{}/alert", names::encode(device))
}

/// Device by device, the id of the last event and the state.
fn expected(events: &[CloudEvent]) -> BTreeMap<String, (String, String)> {
    let state = |event: &CloudEvent| if event.data.phase == Phase::Closed { "ok" } else { "alert" };
    events.iter().map(|event| (topic(&event.data.device), (event.id.clone(), state(event).to_owned()))).collect()
}

async fn retained(broker: &Broker) -> BTreeMap<String, (String, String)> {
    let text = |value: &serde_json::Value, key: &str| value[key].as_str().unwrap().to_owned();
    let kept = broker.retained("eddy/#").await;
    kept.into_iter().map(|(topic, value)| (topic, (text(&value, "event"), text(&value, "state")))).collect()
}

async fn wait_for_states(setting: &Setting, broker: &Broker, expected: &BTreeMap<String, (String, String)>) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let kept = retained(broker).await;
        if kept == *expected {
            return;
        }
        assert!(Instant::now() < deadline, "{kept:#?} instead of {expected:#?}\n{}", setting.notify.log());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_state_of_each_device_is_right_after_a_broker_and_notify_died() {
    if broker::binary().is_none() {
        println!("SKIPPED: mosquitto is not installed (apt-get install mosquitto)");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut broker = Broker::start(folder.path(), "allow_anonymous true");
    let mut setting = Setting::start(&sink(broker.port, "")).await;
    let first = episodes(1);
    publish(setting.client(), &first).await;
    wait_for_states(&setting, &broker, &expected(&first)).await;
    let kept = broker.retained(&topic("a/b")).await;
    let state = &kept[&topic("a/b")];
    assert_eq!((state["device"].as_str(), state["since"].as_str()), (Some("a/b"), Some("2026-01-01T00:02:00Z")));

    // A broker that lost everything is told anew, without any new alert.
    broker.restart(false);
    wait_for_states(&setting, &broker, &expected(&first)).await;

    // One that is away while devices change.
    broker.kill();
    let second = episodes(2);
    publish(setting.client(), &second[..9]).await;
    broker.restart(true);
    publish(setting.client(), &second[9..]).await;
    wait_for_states(&setting, &broker, &expected(&second)).await;

    // Notify dies in the middle, again and again; so does the broker.
    let mut last = Vec::new();
    for round in 3..9 {
        last = episodes(round);
        publish(setting.client(), &last[..8]).await;
        setting.notify.kill_and_restart();
        publish(setting.client(), &last[8..]).await;
        if round % 2 == 0 {
            broker.restart(round % 4 == 0);
        }
        tokio::time::sleep(Duration::from_millis(round * 40)).await;
    }
    wait_for_states(&setting, &broker, &expected(&last)).await;

    // And a restart of both, with the broker's memory gone: what notify keeps on disk is enough.
    assert!(setting.notify.stop().success(), "{}", setting.notify.log());
    broker.restart(false);
    setting.notify.restart();
    wait_for_states(&setting, &broker, &expected(&last)).await;
    assert!(crate::oracle::dead_letters(setting.client()).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_is_published_where_asked_for() {
    if broker::binary().is_none() {
        println!("SKIPPED: mosquitto is not installed (apt-get install mosquitto)");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(folder.path(), "allow_anonymous true");
    let topics = "state_topic = \"s/{device}\"\nevent_topic = \"events/{severity}/{phase}/{device}\"";
    let mut watcher = Watcher::new(broker.port, "events/#");
    assert_eq!(watcher.next(Duration::from_millis(500)).await, None, "subscribed");
    let setting = Setting::start(&sink(broker.port, topics)).await;
    let all = episodes(1);
    publish(setting.client(), &all).await;
    let mut seen = BTreeSet::new();
    while seen.len() < all.len() {
        let Some((topic, payload)) = watcher.next(Duration::from_secs(30)).await else {
            panic!("{} of {} events came\n{}", seen.len(), all.len(), setting.notify.log());
        };
        let event: CloudEvent = serde_json::from_slice(&payload).unwrap();
        let (alert, device) = (&event.data, names::encode(&event.data.device));
        assert_eq!(topic, format!("events/{}/{}/{device}", alert.severity.as_str(), alert.phase.as_str()));
        assert_eq!(payload, event.to_json());
        assert!(seen.insert(event.id.clone()), "{} came twice", event.id);
    }
    assert_eq!(broker.retained("s/#").await.len(), DEVICES.len());
}

/// Runs a program; whether it is there and did it.
fn ran(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_with_a_client_certificate_and_a_password() {
    let folder = tempfile::tempdir().unwrap();
    let files = folder.path().join("broker");
    std::fs::create_dir_all(&files).unwrap();
    let path = |name: &str| files.join(name).display().to_string();
    let made = broker::binary().is_some() && {
        let ca = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=ca"];
        let mut made = ran("openssl", &[&ca[..], &["-keyout", &path("ca.key"), "-out", &path("ca.pem")]].concat());
        for name in ["server", "client"] {
            let (key, csr, pem) =
                (path(&format!("{name}.key")), path(&format!("{name}.csr")), path(&format!("{name}.pem")));
            let request =
                ["req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-addext", "subjectAltName=IP:127.0.0.1"];
            made &= ran("openssl", &[&request[..], &["-keyout", &key, "-out", &csr]].concat());
            let sign = ["x509", "-req", "-days", "2", "-CAcreateserial", "-copy_extensions", "copy"];
            made &= ran(
                "openssl",
                &[&sign[..], &["-in", &csr, "-CA", &path("ca.pem"), "-CAkey", &path("ca.key"), "-out", &pem]].concat(),
            );
        }
        made && ran("mosquitto_passwd", &["-b", "-c", &path("passwords"), "eddy", "pass word"])
    };
    if !made {
        println!("SKIPPED: mosquitto, mosquitto_passwd or openssl 3 is not installed");
        return;
    }
    std::fs::write(path("password"), "pass word\n").unwrap();
    let broker = Broker::start(
        folder.path(),
        "cafile FOLDER/ca.pem\ncertfile FOLDER/server.pem\nkeyfile FOLDER/server.key\nrequire_certificate true\n\
         allow_anonymous false\npassword_file FOLDER/passwords",
    );
    let tls = format!(
        "username = \"eddy\"\npassword_file = {:?}\ntls_ca_file = {:?}\ntls_cert_file = {:?}\ntls_key_file = {:?}",
        path("password"),
        path("ca.pem"),
        path("client.pem"),
        path("client.key")
    );
    let setting = Setting::start(&sink(broker.port, &tls).replace("mqtt://", "mqtts://")).await;
    publish(setting.client(), &[event("pump", 1, 0, Phase::Opened)]).await;
    let file = setting.gateway.folder.path().join("notify.address");
    setting.wait("started", || file.exists()).await;
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let (_, metrics) = setting.ask("/metrics").await;
        if metrics.contains("eddy_delivered_alerts_total{stage=\"notify\",shard=\"0\",sink=\"m\"} 1") {
            break;
        }
        assert!(Instant::now() < deadline, "{}", setting.notify.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // mosquitto_sub has TLS of its own: it sees what is kept.
    let arguments = ["-h", "127.0.0.1", "-p", &broker.port.to_string(), "-t", "eddy/#", "-C", "1", "-W", "10", "-v"]
        .map(String::from);
    let tls = [
        "--cafile",
        &path("ca.pem"),
        "--cert",
        &path("client.pem"),
        "--key",
        &path("client.key"),
        "-u",
        "eddy",
        "-P",
        "pass word",
    ]
    .map(String::from);
    match Command::new("mosquitto_sub").args(arguments).args(tls).output() {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(text.starts_with("eddy/plant/pump/alert {\"state\":\"alert\""), "{text} {output:?}");
        }
        Err(_) => println!("SKIPPED: mosquitto_sub is not installed"),
    }
}
