//! A gateway is copied while it works, destroyed, and made anew elsewhere: nothing that it would have said is lost or doubled.

use std::{fs, path::Path, time::Duration};

use crate::{
    oracle::{Outcome, assert_same, lost_and_doubled, outcome},
    recording::{Device, fleet, send},
    up::{Up, config},
};

fn recording() -> Vec<Device> {
    fleet(&["harbour-1", "plaza.north 7"], 2_900)
}

/// What an undisturbed gateway makes of the recording.
pub async fn undisturbed(folder: &Path, config: &Path) -> Outcome {
    let up = Up::start(&folder.join("undisturbed"), config);
    let client = up.client().await;
    send(&client, &recording(), 100).await;
    up.wait_until_through(&client).await;
    let expected = outcome(&client).await;
    assert!(!expected.alerts.is_empty(), "the recording raises alerts");
    up.stop();
    expected
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copied_in_the_middle_destroyed_and_restored_the_alerts_are_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "");
    let expected = undisturbed(folder.path(), &config).await;
    let up = Up::start(&folder.path().join("first"), &config);
    let client = up.client().await;
    let sender = {
        let client = client.clone();
        // Slowly, so that it is in the middle when it is copied.
        tokio::spawn(async move {
            for part in 0..29 {
                let rows = |device: &Device| {
                    let (per, all) = (device.readings.len() / 29, &device.readings);
                    let end = if part == 28 { all.len() } else { (part + 1) * per };
                    Device { name: device.name.clone(), readings: all[part * per..end].to_vec() }
                };
                let devices: Vec<_> = recording().iter().map(rows).collect();
                send(&client, &devices, 50).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        })
    };
    tokio::time::sleep(Duration::from_millis(1_300)).await;
    let archive = folder.path().join("plant.tar");
    let created = client.stream("READINGS").await.unwrap().unwrap().incarnation;
    let before = client.stream("INGEST").await.unwrap().unwrap().last_sequence;
    let said = tokio::task::block_in_place(|| up.ends(0, &["backup", "--to", archive.to_str().unwrap()]));
    assert!(said.contains("site plant, while it ran"), "{said}");
    sender.await.unwrap();
    let after = client.stream("INGEST").await.unwrap().unwrap().last_sequence;
    assert!(before > 10 && after > before + 10, "it was in the middle: {before} of {after}");
    up.destroy();

    let second = folder.path().join("second");
    restore(&archive, &second, &[], 0);
    let up = Up::start(&second, &second.join("config.toml"));
    let client = up.client().await;
    let info = client.stream("READINGS").await.unwrap().unwrap();
    assert_eq!(info.incarnation, created, "positions name it");
    let there = client.stream("INGEST").await.unwrap().unwrap().last_sequence;
    assert!(there >= before && there < after, "{there} of {after}");
    // Whoever sent does not know what was stored: all of it again.
    send(&client, &recording(), 100).await;
    up.wait_until_through(&client).await;
    assert_same(&expected, &outcome(&client).await, "after a restore");
    assert_eq!(lost_and_doubled(&client, &recording()).await, (0, 0));
    let doctor = up.ends(0, &["doctor", "index"]);
    assert!(doctor.contains("windows"), "{doctor}");
    assert!(up.file()["given_up"].as_object().unwrap().is_empty());

    // What runs is not written over; nor what is stopped.
    assert!(restore(&archive, &second, &[], 1).contains("not empty"));
    up.stop();
    let stopped = folder.path().join("stopped.tar");
    let up_config = second.join("config.toml");
    let said = eddy(&["backup", "--to", path(&stopped), "--dir", path(&second), "--config", path(&up_config)], 0);
    assert!(said.contains("site plant, stopped"), "{said}");
    let third = folder.path().join("third");
    restore(&stopped, &third, &[], 0);
    let up = Up::start(&third, &third.join("config.toml"));
    let client = up.client().await;
    assert_same(&expected, &outcome(&client).await, "after a restore of one that was stopped");
    up.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_is_damaged_or_of_another_site_is_refused_and_keys_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    fs::write(&token, "a-token-of-writers\n").unwrap();
    let more = format!("[capture.http]\nlisten = \"127.0.0.1:0\"\ntoken_file = {token:?}\n");
    let config = config(folder.path(), &more);
    let up = Up::start(&folder.path().join("first"), &config);
    let client = up.client().await;
    send(&client, &fleet(&["harbour-1"], 300), 100).await;
    up.wait_until_through(&client).await;
    let (without, with) = (folder.path().join("without.tar"), folder.path().join("with.tar"));
    let said = up.ends(0, &["backup", "--to", path(&without)]);
    assert!(said.contains("not in it (--with-keys): capture.http.token_file"), "{said}");
    let said = up.ends(0, &["backup", "--with-keys", "--to", path(&with)]);
    assert!(said.contains("keep it as safe"), "{said}");
    assert!(up.ends(1, &["backup", "--to", path(&with)]).contains("is there already"));
    up.stop();

    let place = folder.path().join("second");
    restore(&with, &place, &[], 0);
    assert_eq!(fs::read_to_string(place.join("keys/0-token")).unwrap(), "a-token-of-writers\n");
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&fs::metadata(place.join("keys/0-token")).unwrap()) & 0o777, 0o600);
    let place = folder.path().join("other");
    assert!(restore(&without, &place, &["--site", "another"], 1).contains("the backup is of site \"plant\""));
    assert!(!place.exists(), "nothing is left");
    restore(&without, &place, &[], 0);
    assert!(!place.join("keys").exists());

    let good = fs::read(&without).unwrap();
    let at = good.windows(20).position(|bytes| bytes.starts_with(b"streams/READINGS.zst")).unwrap();
    let mut bad = good.clone();
    bad[at + 700] ^= 1;
    let place = folder.path().join("bad");
    fs::write(folder.path().join("bad.tar"), bad).unwrap();
    let said = restore(&folder.path().join("bad.tar"), &place, &[], 1);
    assert!(said.contains("streams/READINGS") && said.contains("damaged") && !place.exists(), "{said}");
    fs::write(folder.path().join("short.tar"), &good[..good.len() / 2]).unwrap();
    let said = restore(&folder.path().join("short.tar"), &place, &[], 1);
    assert!(said.contains("ends too early") && !place.exists(), "{said}");
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn restore(archive: &Path, dir: &Path, more: &[&str], code: i32) -> String {
    eddy(&[&["restore", path(archive), "--dir", path(dir)], more].concat(), code)
}

fn eddy(arguments: &[&str], code: i32) -> String {
    let ran = std::process::Command::new(crate::stage::binary("eddy")).args(arguments).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert_eq!(ran.status.code(), Some(code), "{arguments:?}: {said}");
    said
}
