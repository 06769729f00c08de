//! `eddy doctor` and `eddy support-bundle` at a gateway that runs, that is ill, and that is stopped.

use std::{fs, path::Path, process::Command};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use eddy_schemas::{ReadingsBuilder, SeriesName};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::{
    gateway::SITE,
    recording::{fleet, send},
    stage::binary,
    up::{Up, config},
};

/// What the doctor says as JSON, and whether it ended with 0.
fn examined(dir: &Path, more: &[&str]) -> (Value, bool) {
    let mut command = Command::new(binary("eddy"));
    let ran = command.args(["doctor", "--json", "--interval", "2", "--dir"]).arg(dir).args(more).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    let report = said.lines().next().unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&ran.stderr)));
    (serde_json::from_str(report).unwrap(), ran.status.success())
}

/// The findings of one check.
fn of<'a>(report: &'a Value, check: &str) -> Vec<&'a Value> {
    report["findings"].as_array().unwrap().iter().filter(|finding| finding["check"] == check).collect()
}

fn signal(up: &Up, process: &str, signal: Signal) {
    let pid = up.file()["pids"][process].as_i64().unwrap();
    kill(Pid::from_raw(pid.try_into().unwrap()), signal).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_finds_what_is_wrong_and_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let config_file = config(folder.path(), "");
    let up = Up::start(&folder.path().join("g"), &config_file);
    let client = up.client().await;
    send(&client, &fleet(&["harbour-1"], 600), 100).await;
    up.wait_until_through(&client).await;
    let (report, sound) = examined(&up.dir, &[]);
    assert!(sound, "{report:#}");
    let checks = [
        "versions",
        "config",
        "disk",
        "encryption",
        "certificates",
        "processes",
        "clock",
        "streams",
        "consumers",
        "dead letters",
        "bundles",
        "index",
    ];
    for check in checks {
        assert!(report["checked"].as_array().unwrap().contains(&check.into()), "{check}: {report:#}");
        assert!(of(&report, check).iter().all(|finding| finding["severity"] == "warning"), "{check}: {report:#}");
    }
    assert_eq!((of(&report, "dead letters").len(), of(&report, "consumers").len()), (0, 0), "{report:#}");

    // Rubbish, a stage that hangs, and a bundle that is gone.
    client
        .publish(&format!("ingest.{SITE}.x"), &[("Content-Type", "application/json")], "{rubbish".into())
        .await
        .unwrap();
    up.wait_until_through(&client).await;
    let bundles = up.dir.join("bundles");
    let bundle = fs::read_dir(&bundles).unwrap().next().unwrap().unwrap().path();
    fs::rename(&bundle, folder.path().join("away")).unwrap();
    signal(&up, "embed", Signal::SIGSTOP);
    send(&client, &fleet(&["market"], 200), 100).await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let (report, sound) = examined(&up.dir, &[]);
    signal(&up, "embed", Signal::SIGCONT);
    fs::rename(folder.path().join("away"), &bundle).unwrap();
    assert!(!sound);
    for (check, part) in
        [("dead letters", "refused"), ("consumers", "messages wait"), ("bundles", ""), ("processes", "healthz")]
    {
        let found = of(&report, check);
        assert!(!found.is_empty() && found[0]["what"].as_str().unwrap().contains(part), "{check}: {report:#}");
        assert!(
            found.iter().all(|finding| finding["remedy"].as_str().is_some_and(|remedy| remedy.len() > 10)),
            "{report:#}"
        );
    }
    up.wait_until_through(&client).await;

    // Stopped: what can be looked at is, also with a config that is no good.
    let dir = up.dir.clone();
    up.stop();
    let at = config_file.to_str().unwrap();
    let (report, sound) = examined(&dir, &["--config", at]);
    assert!(sound && report["unchecked"].to_string().contains("does not run"), "{report:#}");
    fs::write(
        &config_file,
        format!("[site]\nname = {SITE:?}\n[detect]\nalerts_per_day = -1.0\n[gateway]\nencryption = \"server\"\n"),
    )
    .unwrap();
    let (report, sound) = examined(&dir, &["--config", at]);
    assert!(!sound && of(&report, "config")[0]["what"].as_str().unwrap().contains("alerts_per_day"), "{report:#}");
    assert!(of(&report, "encryption").iter().any(|finding| finding["place"] == "stream READINGS"), "{report:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_support_bundle_holds_no_secret_no_reading_and_no_name() {
    let folder = tempfile::tempdir().unwrap();
    let (token, secret) = (folder.path().join("token"), folder.path().join("secret"));
    let (planted, key) = ("planted-token-of-writers", STANDARD.encode([0x5a; 32]));
    fs::write(&token, format!("{planted}\n")).unwrap();
    fs::write(&secret, format!("whsec_{key}\n")).unwrap();
    let more = format!(
        "[capture.http]\nlisten = \"127.0.0.1:0\"\ntoken_file = {token:?}\n[[notify.webhook]]\nname = \"desk\"\n\
         url = \"http://user:planted-userinfo@127.0.0.1:9/planted-path\"\nsecret_file = {secret:?}\n"
    );
    let up = Up::start(&folder.path().join("g"), &config(folder.path(), &more));
    let client = up.client().await;
    let mut batch = ReadingsBuilder::default();
    for row in 0..50 {
        batch.push(&SeriesName::encode("planted-device", "planted-channel"), row * 1_000_000_000, 73_191.424_2, 0, 0);
    }
    let arrow = ("Content-Type", "application/vnd.apache.arrow.stream");
    client.publish(&format!("ingest.{SITE}.planted-device"), &[arrow], batch.encode().into()).await.unwrap();
    let rubbish = format!("{{\"planted-channel\": \"88112.7731 {planted}\", ");
    client
        .publish(&format!("ingest.{SITE}.planted-device"), &[("Content-Type", "application/json")], rubbish.into())
        .await
        .unwrap();
    send(&client, &fleet(&["harbour-1"], 300), 100).await;
    up.wait_until_through(&client).await;
    // Whoever helps must not see what somebody wrote into a log by mistake either.
    fs::write(up.dir.join("logs/own.log"), format!("writing with {planted}, {}\n", STANDARD.encode(planted))).unwrap();
    let place = folder.path().join("bundle.tar.zst");
    tokio::task::block_in_place(|| up.ends(0, &["support-bundle", "--to", place.to_str().unwrap()]));
    let all = unpacked(&place, folder.path());
    for part in [
        "doctor.json",
        "config/detect.toml",
        "logs/capture.log",
        "metrics/embed.txt",
        "nats-server/jsz.json",
        "status.json",
        "dead-letters.json",
    ] {
        assert!(all.contains(&format!("== eddy-support/{part}")), "{part} is missing");
    }
    assert!(all.contains("eddy_received_messages_total") && all.contains("\"reason\"") && all.contains("secret_file"));
    let numbers = ["73191.4", "88112.77"].map(str::to_owned);
    let planted_words =
        [planted, &key, "planted-userinfo", "planted-path", "planted-device", "planted-channel", "harbour-1"];
    for word in numbers.into_iter().chain(planted_words.map(str::to_owned)) {
        for form in [word.clone(), STANDARD.encode(&word)] {
            let form = form.trim_end_matches('=');
            if let Some(at) = all.find(form) {
                let around: String = all[at.saturating_sub(200)..].chars().take(400).collect();
                panic!("{word} as {form} is in it: {around}");
            }
        }
    }
    assert!(all.contains(SITE), "the site stays");
    let named = folder.path().join("named.tar.zst");
    tokio::task::block_in_place(|| up.ends(0, &["support-bundle", "--names", "--to", named.to_str().unwrap()]));
    let all = unpacked(&named, folder.path());
    assert!(all.contains("as they are (--names)") && !all.contains(planted));
    up.stop();
}

/// Every file's name and text, one after the other.
fn unpacked(place: &Path, folder: &Path) -> String {
    let into = folder.join(place.file_name().unwrap().to_str().unwrap().replace('.', "-"));
    fs::create_dir(&into).unwrap();
    let ran = Command::new("tar").args(["--zstd", "-xf"]).arg(place).arg("-C").arg(&into).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let mut all = String::new();
    gather(&into, &into, &mut all);
    all
}

fn gather(root: &Path, folder: &Path, all: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            gather(root, &path, all);
        } else {
            all.push_str(&format!("== {}\n", path.strip_prefix(root).unwrap().display()));
            all.push_str(&String::from_utf8_lossy(&fs::read(&path).unwrap()));
        }
    }
}
