//! The disk that the stages' state lies on fills up: what cannot be written waits, and goes on when there is room.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use eddy_tests::ballast;

use crate::{
    faults::undisturbed,
    gateway::{Gateway, ROOMY, STAGES, is_through},
    index::{indexed, stats, told},
    oracle::{assert_same, lost_and_doubled, outcome},
    recording::{fleet, send},
    stage::binary,
};

/// Readings of a device that come before the disk is full.
const EARLY: usize = 2_000;

/// A small file system of its own, if this process may make one.
pub struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    pub fn new(megabytes: u32) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "eddy-test"]).arg(folder.path());
        mount.stderr(Stdio::null()).status().is_ok_and(|status| status.success()).then_some(Self(folder))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all the room that is left.
    pub fn fill(&self) {
        ballast::fill(self.path());
    }

    pub fn make_room(&self) {
        ballast::make_room(self.path());
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// Nothing can be written to /dev/full, as to a log on a full disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_takes_nothing_stops_nothing_and_changes_no_exit_code() {
    let gateway = Gateway::without_stages(&ROOMY).await;
    let capture = |more: &[(&str, &str)]| {
        let environment = gateway.environment(&gateway.folder.path().join("state"));
        let mut command = Command::new(binary("eddy-capture"));
        command.arg("run").envs(environment).envs(more.iter().copied());
        command.stdout(Stdio::null()).stderr(std::fs::File::options().write(true).open("/dev/full").unwrap());
        command.spawn().unwrap()
    };
    let status = capture(&[("EDDY_LIMITS_POISON_TRIES", "0")]).wait().unwrap();
    assert_eq!(status.code(), Some(64), "bad config is told by the code");
    let mut running = capture(&[]);
    send(&gateway.client, &fleet(&["harbour-1"], 500), 100).await;
    let deadline = Instant::now() + Duration::from_secs(60);
    while gateway.client.stream("READINGS").await.unwrap().is_none_or(|stream| stream.messages == 0) {
        assert!(Instant::now() < deadline, "capture takes nothing");
        assert_eq!(running.try_wait().unwrap(), None, "capture ended");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(running.id() as i32), nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(running.wait().unwrap().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_of_state_delays_and_changes_nothing() {
    full_disk(false).await;
}

/// What a stage has collected and cannot write is not written over by what changes afterwards: the state stays as it was, and is replayed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_while_the_disk_is_full_loses_no_state() {
    full_disk(true).await;
}

async fn full_disk(stops: bool) {
    let Some(disk) = Tmpfs::new(64) else {
        eprintln!("SKIPPED full_disk (stops: {stops}): mounting a tmpfs needs root");
        return;
    };
    let expected = undisturbed(5_000).await;
    let mut gateway = Gateway::without_stages(&ROOMY).await;
    let state = disk.path().join("state").display().to_string();
    for stage in STAGES.into_iter().chain(["index"]) {
        gateway.start_stage_with(
            stage,
            &[("EDDY_STATE_DIR", &state), ("EDDY_INDEX_MAP_MB", "1024"), ("EDDY_INDEX_BYTES_MAX_MB", "256")],
        );
    }
    let devices = fleet(&["harbour-1", "plaza.north 7"], 2_900);
    let (early, late): (Vec<_>, Vec<_>) = devices.iter().map(|device| device.cut(EARLY)).unzip();
    send(&gateway.client, &early, 100).await;
    gateway.wait_until_through().await;
    disk.fill();
    send(&gateway.client, &late, 100).await;
    let deadline = Instant::now() + Duration::from_secs(60);
    while !gateway.stages.iter().any(|stage| stage.log().contains("No space left")) {
        assert!(Instant::now() < deadline, "no stage says that the disk is full");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    if stops {
        while !gateway.stages.iter().any(|stage| stage.log().contains("state could not be written")) {
            assert!(Instant::now() < deadline, "every stage could write its state");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for stage in &mut gateway.stages {
            if stage.ended().is_none() {
                stage.stop();
            }
        }
    }
    disk.make_room();
    // Those that ended are started again, as `eddy up` would.
    let deadline = Instant::now() + Duration::from_secs(240);
    loop {
        // First: all but the index may have been through when they were stopped.
        gateway.stages.iter_mut().for_each(|stage| {
            if stage.ended().is_some() {
                stage.restart();
            }
        });
        if is_through(&gateway.client).await {
            break;
        }
        assert!(Instant::now() < deadline, "not through in time");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    indexed(&gateway).await;
    assert_same(&expected, &outcome(&gateway.client).await, "a full disk");
    assert_eq!(lost_and_doubled(&gateway.client, &devices).await, (0, 0));
    let windows = told(&gateway.client).await.len() as u64;
    assert_eq!(stats(&gateway.client).await.unwrap().windows, windows, "every window that was told is in the index");
}
