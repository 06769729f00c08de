//! The commands against the real nats-server.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{fmt::Write as _, path::Path, time::Duration};

use clap::Parser;
use eddy_cli::{
    alerts,
    gateway::Gateway,
    replay::{self, Progress, ReplayArgs, Summary},
    status,
    supervise::{
        Kind,
        journal::Journal,
        register::Register,
        server::{Access, NAME, Server, ServerPlan},
    },
    up::config::{DEFAULTS, GatewayConfig},
};
use eddy_runtime::{
    client::{Client, Endpoint, ReadFrom},
    provision,
};
use eddy_schemas::{
    Readings,
    alert::{Alert, CloudEvent, Phase, Severity, Share},
    health::{Condition, Health},
    side::{Reason, Rejection},
};
use futures_util::{StreamExt, TryStreamExt};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

struct Setting {
    dir: tempfile::TempDir,
    server: Server,
    register: Register,
    gateway: Gateway,
}

impl Setting {
    /// A server on a free port with provisioned streams, supervised, and no stages.
    async fn new(config_file: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["logs", "run", "streams"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let path = dir.path().join("eddy.toml");
        std::fs::write(
            &path,
            format!("[gateway]\nport = 0\nmonitor_port = 0\nrestart_wait_ms_min = 10\n{config_file}"),
        )
        .unwrap();
        let (_, config) = eddy_runtime::config::load::<GatewayConfig>("gateway", DEFAULTS, Some(&path), []).unwrap();
        let journal = Journal::open(dir.path(), "gateway.log", false).unwrap();
        let register = Register::new(dir.path(), "gateway.json", journal, serde_json::json!({"site": "s 1"}));
        let access = Access::loopback();
        let plan = ServerPlan { dir: dir.path(), name: "test", access: &access, config: &config.machine };
        let kind = Kind { command: "up", table: "gateway", log: "gateway.log", file: "gateway.json" };
        let server = Server::start(&plan, kind, register.clone()).await.unwrap();
        let client = Client::connect(&Endpoint::new(register.file().url, "test")).await.unwrap();
        provision::provision(&client, "s 1", 1, &config.streams).await.unwrap();
        Self { dir, server, register, gateway: Gateway { client, site: "s 1".into(), file: None } }
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    async fn replay(&self, arguments: &[&str]) -> Summary {
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            args: ReplayArgs,
        }
        let line = Line::try_parse_from([&["replay"], arguments].concat()).unwrap();
        replay::replay(&line.args, &self.gateway, &Progress::silent()).await.unwrap()
    }

    /// Every reading in INGEST in order: subject's device token, time, value.
    async fn ingested(&self) -> Vec<(String, i64, f64)> {
        let mut all = Vec::new();
        let mut messages = self.gateway.client.read("INGEST", &[], ReadFrom::Start).await.unwrap();
        while let Some(message) = messages.next().await {
            let message = message.unwrap();
            assert_eq!(message.header("Content-Type"), Some("application/vnd.apache.arrow.stream"));
            let batch = Readings::decode(&message.payload).unwrap();
            let device = message.subject.rsplit('.').next().unwrap().to_owned();
            all.extend((0..batch.rows.len()).map(|row| (device.clone(), batch.rows.time[row], batch.value[row])));
        }
        all
    }
}

/// `rows` readings of one channel, a second apart.
fn csv(rows: u32) -> String {
    let mut text = String::from("time,x\n");
    for row in 0..rows {
        writeln!(text, "{},{row}", 1_600_000_000 + row).unwrap();
    }
    text
}

/// The times of a device, each where it came first: a message that was stored although its ack was lost comes again as
/// a whole, and its rows count once.
fn first_times(readings: &[(String, i64, f64)], device: &str) -> Vec<i64> {
    let mut seen = std::collections::HashSet::new();
    let of_device = readings.iter().filter(|(d, _, _)| d == device).map(|(_, time, _)| *time);
    of_device.filter(|time| seen.insert(*time)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_stores_every_row_and_read_ends_where_the_stream_does() {
    let setting = Setting::new("").await;
    let (a, b) = (setting.write("a.csv", &csv(5_000)), setting.write("b c.csv", &csv(700)));
    let summary = setting.replay(&[&a, &b, "--rows-per-message", "300"]).await;
    assert_eq!((summary.readings, summary.devices, summary.files, summary.retried), (5_700, 2, 2, 0));
    let readings = setting.ingested().await;
    assert_eq!(readings.len(), 5_700);
    let of =
        |device: &str| readings.iter().filter(|(d, _, _)| d == device).map(|(_, t, v)| (*t, *v)).collect::<Vec<_>>();
    let expected = |rows| (0..rows).map(|row| ((1_600_000_000 + row) * 1_000_000_000, row as f64)).collect::<Vec<_>>();
    assert_eq!((of("a"), of("b%20c")), (expected(5_000), expected(700)));
    // Nothing is there on subjects that nobody wrote.
    let none: Vec<_> =
        setting.gateway.client.read("DETECTIONS", &[], ReadFrom::Start).await.unwrap().try_collect().await.unwrap();
    assert!(none.is_empty());
    setting.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_stream_holds_a_replay_back_and_nothing_is_lost() {
    let setting = Setting::new("[gateway.streams]\ningest_mb = 1\n").await;
    let file = setting.write("a.csv", &csv(60_000));
    let context = async_nats::jetstream::new(async_nats::connect(setting.gateway.client.url()).await.unwrap());
    let stream = context.get_stream("INGEST").await.unwrap();
    let (mut seen, mut first) = (Vec::new(), 1);
    let arguments = [file.as_str(), "--rows-per-message", "1000"];
    let mut replay = Box::pin(setting.replay(&arguments));
    let summary = loop {
        tokio::select! {
            summary = &mut replay => break summary,
            () = tokio::time::sleep(Duration::from_millis(150)) => {
                // What capture would do: take everything, then let it go; but only once nothing more goes in.
                let state = stream.get_info().await.unwrap().state;
                if state.bytes < (1 << 20) - 60_000 {
                    continue;
                }
                let last = state.last_sequence;
                for sequence in first..=last {
                    let message = stream.direct_get(sequence).await.unwrap();
                    seen.extend(Readings::decode(&message.payload).unwrap().rows.time.iter().copied());
                }
                first = last + 1;
                stream.purge().sequence(first).await.unwrap();
            }
        }
    };
    drop(replay);
    seen.extend(setting.ingested().await.into_iter().map(|(_, time, _)| time));
    assert!(summary.retried > 0, "2 MB through a stream of 1 MB: {summary:?}");
    assert_eq!((summary.readings, seen.len()), (60_000, 60_000));
    assert!(seen.is_sorted());
    setting.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_in_the_middle_comes_back_and_each_device_keeps_its_order() {
    let setting = Setting::new("").await;
    let (a, b) = (setting.write("a.csv", &csv(30_000)), setting.write("b.csv", &csv(30_000)));
    let pid = setting.register.file().pids[NAME];
    let arguments = [a.as_str(), &b, "--rows-per-message", "50"];
    let replay = setting.replay(&arguments);
    let kill_it = async {
        while setting.gateway.client.stream("INGEST").await.unwrap().unwrap().last_sequence < 40 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        kill(Pid::from_raw(pid as i32), Signal::SIGKILL).unwrap();
    };
    let (summary, ()) = tokio::join!(replay, kill_it);
    assert_eq!(summary.readings, 60_000);
    assert_ne!(setting.register.file().pids[NAME], pid, "it was started again");
    let readings = setting.ingested().await;
    for device in ["a", "b"] {
        let times = first_times(&readings, device);
        assert_eq!(times.len(), 30_000, "{device}");
        assert!(times.is_sorted(), "{device}");
    }
    setting.server.stop().await;
}

fn alert(device: &str, n: u32) -> CloudEvent {
    let alert = Alert {
        alert: "0123456789abcdef".into(),
        phase: Phase::Opened,
        severity: Severity::Major,
        site: "s 1".into(),
        device: device.into(),
        opened: "2026-01-01T00:00:00Z".into(),
        score: 1.0,
        tail: 1e-6,
        threshold: 1e-4,
        tail_min: 1e-6,
        channels: vec![Share { name: "t".into(), share: 1.0 }],
        heads: Vec::new(),
        bundle: "b".into(),
    };
    CloudEvent::new(alert, n, "2026-01-01T00:00:00Z".into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_tells_streams_health_refusals_and_the_last_alert() {
    let setting = Setting::new("").await;
    let client = &setting.gateway.client;
    for n in 0..2 {
        let event = alert("pump", n);
        client.publish(&event.nats_subject(), &[], event.to_json().into()).await.unwrap();
    }
    let health = |channel: &str, active| {
        let channel = Some(channel.to_owned());
        let health = Health { device: "d".into(), channel, condition: Condition::Stuck, active, since: 0, value: 1.0 };
        serde_json::to_vec(&health).unwrap()
    };
    for (channel, active) in [("t", true), ("u", true), ("t", false)] {
        client.publish("health.s%201.d", &[], health(channel, active).into()).await.unwrap();
    }
    let rejection = Rejection {
        reason: Reason::Malformed,
        detail: "no JSON".into(),
        subject: "ingest.s%201.d".into(),
        readings: 1,
    };
    let letters = serde_json::to_vec(&[&rejection, &rejection]).unwrap();
    client.publish("deadletter.s%201.capture.0", &[], letters.into()).await.unwrap();
    let status = status::gather::gather(&setting.gateway, Duration::from_millis(100)).await.unwrap();
    assert_eq!(status.streams.len(), 10);
    assert_eq!(
        status.readers.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(),
        ["capture", "capture", "preprocess-0", "embed-0", "detect-0"]
    );
    assert!(status.readers.iter().all(|reader| !reader.connected));
    assert_eq!(status.health.iter().map(|h| h.channel.clone().unwrap()).collect::<Vec<_>>(), ["u"]);
    assert_eq!(status.aside["capture"].refused["malformed"], 2);
    assert_eq!(status.last_alert.as_ref().unwrap()["id"], "0123456789abcdef-1");
    let shown = status::show::show(&status).join("\n");
    for part in
        ["site s 1", "d/u: stuck", "refused: 2 at capture: malformed", "no JSON", "last alert: 2026-01-01", "detect-0"]
    {
        assert!(shown.contains(part), "{part:?} is missing in:\n{shown}");
    }
    let filter = alerts::alerts_of(&setting.gateway);
    let all: Vec<_> =
        client.read("DETECTIONS", &[&filter], ReadFrom::Start).await.unwrap().try_collect().await.unwrap();
    assert_eq!(all.iter().map(|m| m.pending).collect::<Vec<_>>(), [1, 0]);
    setting.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_goes_on_over_a_killed_server() {
    let setting = Setting::new("").await;
    let client = &setting.gateway.client;
    let publish = async |n: u32| {
        let event = alert("pump", n);
        while client.publish(&event.nats_subject(), &[], event.to_json().into()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let filter = alerts::alerts_of(&setting.gateway);
    let mut messages = client.follow("DETECTIONS", &[&filter], ReadFrom::Start).await.unwrap();
    publish(0).await;
    assert_eq!(messages.next().await.unwrap().unwrap().sequence, 1);
    let pid = setting.register.file().pids[NAME];
    kill(Pid::from_raw(pid as i32), Signal::SIGKILL).unwrap();
    publish(1).await;
    loop {
        // What the client says on the way is not the end.
        if let Ok(message) = messages.next().await.expect("a follower does not end") {
            assert_eq!(message.payload, alert("pump", 1).to_json());
            break;
        }
    }
    setting.server.stop().await;
}

#[test]
fn the_binary_tells_bad_usage_from_failure() {
    let eddy = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_eddy"));
        command.args(arguments).env_remove("EDDY_BUS_URL").output().unwrap()
    };
    assert_eq!(eddy(&["replay"]).status.code(), Some(64));
    assert_eq!(eddy(&["--help"]).status.code(), Some(0));
    let nobody = eddy(&["status", "--url", "nats://127.0.0.1:1", "--dir", "/nonexistent"]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("is the gateway up"), "{nobody:?}");
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("eddy.toml");
    std::fs::write(&config, "[gateway]\nprot = 1\nkeep_percent = 99\n").unwrap();
    let dir = folder.path().join("run");
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let bad = eddy(&["up", "--config", &path(&config), "--dir", &path(&dir)]);
    assert_eq!(bad.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&bad.stderr).contains("did you mean port?"), "{bad:?}");
    assert!(!dir.exists(), "nothing is made before the config is good");
}
