//! compose/demo.yaml with a real Docker engine: the same alerts as `make demo`'s, whatever dies, is cut or is full.
//!
//! `engine` starts Docker, `stack` is the project's files as an operator starts them, `disk` is a volume that can be full.

#![allow(clippy::unwrap_used)]

mod disk;
mod engine;
mod stack;

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use disk::Disk;
use engine::{Engine, done, root, until};
use stack::{Stack, binary, build, composers};

/// The stages of a gateway, each with a key of its own.
const STAGES: [&str; 7] = ["capture", "preprocess", "embed", "detect", "index", "sync", "export"];

/// What `make demo` raises: the alerts' hash.
fn expected() -> String {
    let fleet = root().join("fixtures/fleet");
    let folder = tempfile::tempdir().unwrap();
    let keep = folder.path().join("demo");
    let mut demo = Command::new(binary("eddy"));
    demo.args(["demo", "--recording"]).arg(&fleet).arg("--keep").arg(&keep).current_dir(&folder);
    let told = done(&mut demo);
    told.split("alerts_hash=").nth(1).unwrap().split_whitespace().next().unwrap().to_owned()
}

/// Docker, the image, and a composer of either kind; else says what is missing.
fn prepared(test: &str) -> Option<Engine> {
    let engine = match Engine::start() {
        Ok(engine) => engine,
        Err(why) => {
            eprintln!("SKIPPED {test}: {why}");
            return None;
        }
    };
    if composers().is_empty() {
        eprintln!("SKIPPED {test}: no docker-compose (apt-get install docker-compose)");
        return None;
    }
    build(&engine);
    Some(engine)
}

/// Nobody is root, nothing of the image can be written, and no stage has another's key.
fn nobody_may_more_than_it_needs(stack: &Stack<'_>) {
    let containers = stack.containers();
    assert!(containers.len() > STAGES.len() + 2, "{containers:?}");
    for container in &containers {
        let format = "{{.Name}} {{.Config.User}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.Privileged}} {{.HostConfig.CapDrop}} {{.HostConfig.CapAdd}} {{.HostConfig.SecurityOpt}}";
        let told = stack.inspect(container, format);
        let (name, held) = told.split_once(' ').unwrap();
        assert_eq!(held, "10001:10001 true false [ALL] [] [no-new-privileges:true]", "{name}");
    }
    for stage in STAGES {
        let mounts = stack.inspect(&stack.container(stage), "{{range .Mounts}}{{.Destination}} {{end}}");
        let keys: Vec<&str> = mounts.split_whitespace().filter(|mount| mount.starts_with("/keys")).collect();
        assert_eq!(keys, [format!("/keys/{stage}")], "{mounts}");
    }
    // And with its key it is refused what is another's.
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("capture.nk");
    let from = format!("{}:/keys/capture/capture.nk", stack.container("capture"));
    stack.docker(&["cp", &from, key.to_str().unwrap()]);
    let url = format!("nats://127.0.0.1:{}", stack.bus_port);
    let mut reads = Command::new(binary("eddy"));
    let ran = reads.args(["alerts", "--hash", "--url", &url, "--nkey"]).arg(&key).output().unwrap();
    assert!(!ran.status.success(), "with capture's key: {}", engine::said(&ran));
}

/// Who knows the token acts in the console on the gateway beside it, and what was done is written down; nobody else sees anything.
async fn the_console_is_for_who_knows_the_token(stack: &Stack<'_>) {
    let url = format!("http://127.0.0.1:{}", stack.console_port);
    let client = eddy_tests::browser::http();
    assert_eq!(client.get(&url).send().await.unwrap().status(), 401);
    let token = std::fs::read_to_string(root().join("compose/demo/console.token")).unwrap();
    let page = client.get(&url).bearer_auth(token.trim()).send().await.unwrap();
    assert_eq!(page.status(), 200, "{}", page.text().await.unwrap());
    let told = stack.ask("bus", &["eddy", "alerts", "--json"]).unwrap();
    let event: serde_json::Value = serde_json::from_str(told.lines().next().unwrap()).unwrap();
    let alert = event["data"]["alert"].as_str().unwrap();
    let act = format!(r#"{{"act":"label","alert":"{alert}","label":"bearing"}}"#);
    let acts = client.post(format!("{url}/act")).bearer_auth(token.trim()).header("Origin", &url);
    let said = acts.header("Content-Type", "application/json").body(act).send().await.unwrap();
    assert_eq!(said.status(), 200, "{}", said.text().await.unwrap());
    let audit = stack.ask("console", &["eddy", "audit", "verify", "/var/lib/eddy/gateway/audit"]).unwrap();
    assert!(audit.starts_with("sound: entries 1 to 1"), "{audit}");
    let log = stack.composed(&["run", "--rm", "-T", "eddy", "audit", "verify", "/var/lib/eddy/gateway/audit"]);
    assert!(log.contains("sound: entries 1 to 1"), "{log}");
}

#[test]
fn the_demo_in_containers_is_make_demo() {
    let Some(engine) = prepared("the_demo_in_containers_is_make_demo") else { return };
    let hash = expected();
    let (composer, version) = composers().pop().unwrap();
    eprintln!("docker-compose {version}");
    let stack = Stack::new(&engine, &composer, "demo", None);
    stack.composed(&["build"]);
    stack.composed(&["up", "-d"]);
    stack.healthy(&["bus", "hub", "console"]);
    stack.healthy(&STAGES);
    nobody_may_more_than_it_needs(&stack);
    until("the recording is sent", Duration::from_secs(120), || {
        match stack.inspect(&stack.container("replay"), "{{.State.Status}} {{.State.ExitCode}}").as_str() {
            "exited 0" => Ok(()),
            other => Err(other.to_owned()),
        }
    });
    let alerts = stack.alerts_are(&hash);
    stack.receipts_are_complete();
    stack.exports_are_complete(alerts);
    tokio::runtime::Runtime::new().unwrap().block_on(the_console_is_for_who_knows_the_token(&stack));
}

/// What the gateway's volume lies on, in a file for docker-compose.
fn on_a_disk_of_its_own(disk: &Disk, folder: &Path) -> std::path::PathBuf {
    let file = folder.join("disk.yaml");
    let device = disk.path();
    let text = format!(
        "volumes:\n  gateway:\n    driver: local\n    driver_opts: {{type: none, o: bind, device: {}}}\n",
        device.display()
    );
    std::fs::write(&file, text).unwrap();
    file
}

#[test]
fn whatever_dies_in_containers_the_alerts_are_the_same() {
    let test = "whatever_dies_in_containers_the_alerts_are_the_same";
    let Some(engine) = prepared(test) else { return };
    let hash = expected();
    let (composer, version) = composers().remove(0);
    eprintln!("docker-compose {version}");
    let disk = Disk::new(512);
    if disk.is_none() {
        eprintln!("SKIPPED {test}: a full volume: no loop device may be mounted");
    }
    let folder = tempfile::tempdir().unwrap();
    let more = disk.as_ref().map(|disk| on_a_disk_of_its_own(disk, folder.path()));
    let stack = Stack::new(&engine, &composer, "fault", more);
    let mut services = vec!["up", "-d", "bus", "hub", "s3", "bucket"];
    services.extend(STAGES);
    stack.composed(&["build"]);
    stack.composed(&services);
    stack.healthy(&["bus", "hub"]);
    stack.healthy(&STAGES);

    let key = folder.path().join("operator.nk");
    stack.docker(&["cp", &format!("{}:/keys/operator/operator.nk", stack.container("bus")), key.to_str().unwrap()]);
    let url = format!("nats://127.0.0.1:{}", stack.bus_port);
    let mut replay = Command::new(binary("eddy"));
    replay.arg("replay").arg(root().join("fixtures/fleet")).args([
        "--rows-per-message",
        "20",
        "--site",
        "demo",
        "--url",
        &url,
    ]);
    let log = std::fs::File::create(folder.path().join("replay")).unwrap();
    let mut replay = replay.arg("--nkey").arg(&key).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();

    let network =
        stack.inspect(&stack.container("sync"), "{{range $name, $it := .NetworkSettings.Networks}}{{$name}} {{end}}");
    let uplink = network.split_whitespace().find(|name| name.ends_with("uplink")).unwrap().to_owned();
    let sync = stack.container("sync");
    let cut = Instant::now();
    stack.docker(&["network", "disconnect", "-f", &uplink, &sync]);
    for service in ["detect", "bus", "capture", "embed", "preprocess"] {
        stack.kill(service);
        std::thread::sleep(Duration::from_secs(3));
    }
    if let Some(disk) = &disk {
        disk.fill();
        std::thread::sleep(Duration::from_secs(10));
        disk.make_room();
    }
    for service in ["index", "sync", "bus", "export", "detect"] {
        stack.kill(service);
        std::thread::sleep(Duration::from_secs(3));
    }
    std::thread::sleep(Duration::from_secs(60).saturating_sub(cut.elapsed()));
    stack.docker(&["network", "connect", &uplink, &sync]);
    // The host's power fails and comes back.
    for service in STAGES.iter().chain(&["bus", "hub", "s3"]) {
        stack.kill(service);
    }

    let ended = replay.wait().unwrap();
    assert!(ended.success(), "{}", std::fs::read_to_string(folder.path().join("replay")).unwrap());
    let alerts = stack.alerts_are(&hash);
    stack.receipts_are_complete();
    stack.exports_are_complete(alerts);
    stack.healthy(&["bus", "hub"]);
    stack.healthy(&STAGES);
}
