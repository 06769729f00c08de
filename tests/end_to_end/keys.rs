//! A gateway whose server tells its users apart.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_nats::{Client, ConnectOptions, Event};
use futures_util::StreamExt as _;

use crate::{
    bundles::commands::{Up, wait_for},
    stage::binary,
};

const USERS: [&str; 8] = ["capture", "preprocess", "embed", "detect", "index", "notify", "sync", "export"];
/// What each stage reads and writes; whatever else is there is another's.
const STREAMS: [&str; 5] = ["READINGS", "SAMPLES", "EMBEDDINGS", "DETECTIONS", "CONTEXT"];
const WRITES: [&str; 5] = ["readings.demo.0", "samples.demo.0", "embeddings.demo.0", "scores.demo.0", "context.demo.x"];

struct Keyed {
    up: Up,
    keys: PathBuf,
    url: String,
    _folder: tempfile::TempDir,
}

impl Keyed {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (keys, config, dir) =
            (folder.path().join("keys"), folder.path().join("eddy.toml"), folder.path().join("gw"));
        let text = format!("[site]\nname = \"demo\"\n[gateway.access]\nkeys_dir = {keys:?}\n");
        std::fs::write(&config, text).unwrap();
        let up = Up::start(&dir, &config);
        let file: serde_json::Value =
            serde_json::from_slice(&std::fs::read(dir.join("gateway.json")).unwrap()).unwrap();
        Self { up, keys, url: file["url"].as_str().unwrap().to_owned(), _folder: folder }
    }

    fn key(&self, user: &str) -> PathBuf {
        self.keys.join(user).join(format!("{user}.nk"))
    }

    /// What the server's log says of what somebody must not do.
    fn violations(&self) -> usize {
        let log = std::fs::read_to_string(self.up.dir.join("logs/nats-server.log")).unwrap();
        log.lines().filter(|line| line.contains("Violation")).count()
    }

    /// Connected as `user`, or as a guest; what the server refuses is collected.
    async fn connect(&self, user: Option<&str>) -> (Client, Arc<Mutex<Vec<String>>>) {
        let refused = Arc::new(Mutex::new(Vec::new()));
        let told = refused.clone();
        let options = match user {
            Some(user) => {
                let seed = std::fs::read_to_string(self.key(user)).unwrap();
                ConnectOptions::with_nkey(seed.trim().to_owned()).custom_inbox_prefix(format!("_EDDY.{user}"))
            }
            None => ConnectOptions::new(),
        };
        let options = options.request_timeout(Some(Duration::from_secs(5))).event_callback(move |event| {
            let told = told.clone();
            async move {
                if let Event::ServerError(error) = event {
                    told.lock().unwrap().push(error.to_string());
                }
            }
        });
        (options.connect(&self.url).await.unwrap(), refused)
    }
}

/// As soon as the server has handled what was sent before.
async fn settle(client: &Client, refused: &Arc<Mutex<Vec<String>>>, count: usize) -> usize {
    client.flush().await.unwrap();
    for _ in 0..100 {
        if refused.lock().unwrap().len() >= count {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    refused.lock().unwrap().len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_stage_does_its_work_with_its_own_rights_and_has_no_other_ones() {
    let gateway = Keyed::start();
    let fleet = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/fleet");
    let said = |arguments: &[&str]| {
        // The demo ends with an export to the folder that it is called from.
        let folder = tempfile::tempdir().unwrap();
        let ran = std::process::Command::new(binary("eddy")).args(arguments).current_dir(&folder).output().unwrap();
        String::from_utf8(ran.stdout).unwrap()
    };
    let demo = said(&["demo", "--recording", fleet.to_str().unwrap()]);
    let expected = demo.split("alerts_hash=").nth(1).unwrap()[..16].to_owned();
    gateway.up.done(&["replay", fleet.to_str().unwrap(), "--speed", "max"]);
    wait_for("the demo's alerts", || gateway.up.done(&["alerts", "--hash"]).contains(&expected));
    assert_eq!(gateway.violations(), 0, "nobody asked for what it may not");

    for user in USERS {
        let (client, refused) = gateway.connect(Some(user)).await;
        // To hear a stream's subjects is nobody's right: readers ask for messages.
        let hears = [
            "readings.>",
            "samples.>",
            "embeddings.>",
            "scores.>",
            "alerts.>",
            "control.>",
            "ingest.>",
            "_EDDY.>",
            ">",
        ];
        let mut heard = Vec::new();
        for subject in hears {
            heard.push(client.subscribe(subject).await.unwrap());
        }
        assert_eq!(settle(&client, &refused, hears.len()).await, hears.len(), "{user} hears: {refused:?}");
        refused.lock().unwrap().clear();
        let own: &[&str] = match user {
            "capture" => &["READINGS"],
            "preprocess" => &["READINGS", "SAMPLES"],
            "embed" => &["SAMPLES", "EMBEDDINGS"],
            "detect" => &["EMBEDDINGS", "DETECTIONS"],
            "index" => &["DETECTIONS", "CONTEXT"],
            "notify" => &["DETECTIONS"],
            "sync" => &["READINGS", "DETECTIONS", "CONTEXT"],
            _ => &STREAMS,
        };
        let writes: &[&str] = match user {
            "capture" => &WRITES[..1],
            "preprocess" => &WRITES[1..2],
            "embed" => &WRITES[2..3],
            "detect" => &WRITES[3..4],
            "index" => &WRITES[4..],
            _ => &[],
        };
        let mut denied = 0;
        for stream in STREAMS.iter().filter(|stream| !own.contains(stream)) {
            for call in ["DIRECT.GET", "STREAM.INFO", "CONSUMER.CREATE"] {
                client
                    .publish_with_reply(format!("$JS.API.{call}.{stream}"), client.new_inbox(), "{}".into())
                    .await
                    .unwrap();
                denied += 1;
            }
        }
        // Nobody takes a message from another's consumer, nor moves it, nor makes or removes a stream.
        for (stream, durable, whose) in
            [("READINGS", "preprocess-0", "preprocess"), ("EMBEDDINGS", "detect-0", "detect")]
        {
            if whose != user {
                for call in ["MSG.NEXT", "RESET", "DELETE"] {
                    client.publish(format!("$JS.API.CONSUMER.{call}.{stream}.{durable}"), "".into()).await.unwrap();
                    denied += 1;
                }
            }
        }
        for call in ["PURGE", "DELETE", "MSG.DELETE", "UPDATE"] {
            client.publish(format!("$JS.API.STREAM.{call}.DETECTIONS"), "{}".into()).await.unwrap();
            denied += 1;
        }
        for subject in WRITES.iter().filter(|subject| !writes.contains(subject)) {
            client.publish(*subject, "x".into()).await.unwrap();
            denied += 1;
        }
        assert_eq!(settle(&client, &refused, denied).await, denied, "{user}: {refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_sends_readings_and_hears_alerts_and_cannot_have_an_answer_sent_elsewhere() {
    let gateway = Keyed::start();
    let (guest, refused) = gateway.connect(None).await;
    let count = |stream: &str| {
        let status: serde_json::Value = serde_json::from_str(&gateway.up.done(&["status", "--json"])).unwrap();
        let of = |entry: &&serde_json::Value| entry["name"] == stream;
        status["streams"].as_array().unwrap().iter().find(of).unwrap()["messages"].as_u64().unwrap()
    };
    let mut alerts = guest.subscribe("alerts.>").await.unwrap();
    let reading = r#"{"time":"2026-01-05T00:00:00Z","t":1}"#;
    let stored = guest.request("ingest.demo.a", reading.into()).await.unwrap();
    assert!(std::str::from_utf8(&stored.payload).unwrap().contains("\"seq\":1"), "{stored:?}");
    let answered = guest.request("direct.demo.b", reading.into()).await.unwrap();
    assert_eq!(answered.payload, r#"{"stored":1}"#.as_bytes());

    // The server answers in its own right: where a guest says, if both were in one account.
    let before = (count("READINGS"), count("CONTROL"));
    for elsewhere in ["readings.demo.0", "control.demo.label"] {
        for subject in ["ingest.demo.a", "direct.demo.b"] {
            guest.publish_with_reply(subject, elsewhere, "rubbish".into()).await.unwrap();
        }
    }
    guest.flush().await.unwrap();
    wait_for("the rubbish", || count("SIDE") >= 2);
    // What was rubbish is in the dead letters; an empty batch may stand for it in READINGS, an answer does not.
    assert_eq!(count("CONTROL"), before.1);
    let (operator, _) = gateway.connect(Some("operator")).await;
    let readings = async_nats::jetstream::new(operator).get_stream("READINGS").await.unwrap();
    for sequence in 1..=count("READINGS") {
        let message = readings.direct_get(sequence).await.unwrap();
        assert!(!message.payload.starts_with(b"{"), "{sequence}: {:?}", message.payload);
    }

    for subject in ["readings.demo.0", "control.demo.label", "$JS.API.STREAM.PURGE.READINGS", "$JS.API.STREAM.NAMES"] {
        guest.publish(subject, "{}".into()).await.unwrap();
    }
    let _other = guest.subscribe("readings.>").await.unwrap();
    assert_eq!(settle(&guest, &refused, 5).await, 5, "{refused:?}");

    let fleet = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/fleet");
    gateway.up.done(&["replay", fleet.to_str().unwrap(), "--speed", "max"]);
    let alert = tokio::time::timeout(Duration::from_secs(60), alerts.next()).await.unwrap().unwrap();
    assert!(alert.subject.starts_with("alerts.demo."));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_key_is_taken_up_while_everything_runs_and_the_old_one_is_nobody() {
    let gateway = Keyed::start();
    let pids = || {
        let file = std::fs::read(gateway.up.dir.join("gateway.json")).unwrap();
        serde_json::from_slice::<serde_json::Value>(&file).unwrap()["pids"].clone()
    };
    let (before, old) = (pids(), std::fs::read_to_string(gateway.key("detect")).unwrap());
    std::fs::remove_file(gateway.key("detect")).unwrap();
    let log = gateway.up.dir.join("logs/nats-server.log");
    wait_for("the reload", || std::fs::read_to_string(&log).unwrap().contains("Reloaded server configuration"));
    assert_ne!(std::fs::read_to_string(gateway.key("detect")).unwrap(), old);
    assert!(ConnectOptions::with_nkey(old.trim().to_owned()).connect(&gateway.url).await.is_err());
    // Detect goes on with the new one.
    let fleet = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/fleet");
    gateway.up.done(&["replay", fleet.to_str().unwrap(), "--speed", "max"]);
    wait_for("alerts", || !gateway.up.alerts().is_empty());
    assert_eq!(pids(), before, "nothing was started again");
}
