//! Another release on the same folder, and back: `make previous` builds its binaries, EDDY_PREVIOUS_BIN names their folder.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use eddy_runtime::position::Position;

use crate::{
    oracle::{Outcome, assert_same, lost_and_doubled, outcome},
    recording::{Device, fleet, send},
    stage::binary,
    up::{PREVIOUS_BIN, Up, config},
};

fn recording() -> Vec<Device> {
    fleet(&["harbour-1", "plaza.north 7"], 2_900)
}

/// The recording in so many parts, each following the one before it.
fn parts(count: usize) -> Vec<Vec<Device>> {
    let part = |nth: usize| {
        let of = |device: &Device| {
            let per = device.readings.len().div_ceil(count);
            let end = ((nth + 1) * per).min(device.readings.len());
            Device { name: device.name.clone(), readings: device.readings[nth * per..end].to_vec() }
        };
        recording().iter().map(of).collect()
    };
    (0..count).map(part).collect()
}

/// A gateway that runs from these binaries in turn, each for its part of the recording.
async fn through(folder: &Path, config: &Path, binaries: &[&Path]) -> (Outcome, (u64, u64)) {
    let mut last = None;
    for (part, eddy) in parts(binaries.len()).iter().zip(binaries) {
        let up = Up::start_with(eddy, folder, config);
        let client = up.client().await;
        send(&client, part, 100).await;
        up.wait_until_through(&client).await;
        if last.is_some() {
            goes_on_from_its_state(folder);
        }
        assert!(up.file()["given_up"].as_object().unwrap().is_empty(), "{}", up.file());
        last = Some((outcome(&client).await, lost_and_doubled(&client, &recording()).await));
        up.stop();
    }
    last.unwrap()
}

/// Each stage began where its state of the release before had come to, not with its input's first message.
fn goes_on_from_its_state(folder: &Path) {
    for stage in ["preprocess", "embed", "detect"] {
        let log = fs::read_to_string(folder.join("logs").join(format!("{stage}.log"))).unwrap();
        let line = log.lines().rfind(|line| line.contains("recovered")).unwrap();
        let from = line.split("from=").nth(1).unwrap().split_whitespace().next().unwrap();
        let position: Position = from.trim_matches('"').parse().unwrap();
        assert!(position.0.values().all(|place| place.sequence > 1), "{stage}: {line}");
    }
}

/// Whether a release takes the state of its stages that another one wrote. One that does not says so and how to begin anew, before it
/// touches anything: the changelog tells of such a release, and a backup of before is the way back.
fn opens(eddy: &Path, state: &Path) -> bool {
    let answers = ["preprocess", "embed", "detect"].map(|stage| {
        let mut check = Command::new(eddy.with_file_name(format!("eddy-{stage}")));
        check
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .env_remove(PREVIOUS_BIN)
            .env("EDDY_STATE_DIR", state);
        let ran = check.arg("check").output().unwrap();
        let said = String::from_utf8_lossy(&ran.stderr).into_owned();
        let refuses = ran.status.code() == Some(70) && said.contains("has version") && said.contains("recover");
        assert!(ran.status.success() || refuses, "{stage}: {:?} {said}", ran.status);
        ran.status.success()
    });
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    answers[0]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_release_before_and_this_one_go_on_from_each_others_state() {
    let Some(previous) = std::env::var_os(PREVIOUS_BIN).map(PathBuf::from) else {
        println!(
            "SKIPPED: EDDY_PREVIOUS_BIN names no folder of the release before: EDDY_PREVIOUS_BIN=$(make -s previous BASE=…)"
        );
        return;
    };
    let (previous, this) = (previous.join("eddy"), binary("eddy"));
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "");
    let run = async |name: &str, binaries: &[&Path]| through(&folder.path().join(name), &config, binaries).await;
    let (of_previous, _) = run("previous", &[&previous]).await;
    let (of_this, _) = run("this", &[&this]).await;
    let (there, _) = run("there", &[&previous, &this]).await;
    let goes_back = opens(&previous, &folder.path().join("there/state"));
    println!("the release before {} what this one wrote", if goes_back { "opens" } else { "refuses" });
    let back: &[&Path] = if goes_back { &[&previous, &this, &previous] } else { &[&previous, &this, &this] };
    let (mixed, accounted) = run("mixed", back).await;
    assert!(!there.alerts.is_empty());
    assert_eq!(accounted, (0, 0), "nothing is lost or doubled across releases");
    assert!(!mixed.alerts.is_empty());
    if of_previous == of_this {
        assert_same(&of_this, &mixed, "from one release to the other and back");
    } else {
        // A release may judge otherwise on purpose; then no third outcome is the right one, and only the accounts are held to.
        println!("the two releases alert differently on the same recording: alerts of the mixed run were not compared");
    }
}
