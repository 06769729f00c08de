//! The disk that the stages' state lies on fills up: what cannot be written waits, and goes on when there is room.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    faults::undisturbed,
    gateway::{Gateway, ROOMY, STAGES, is_through},
    index::{indexed, stats, told},
    oracle::{assert_same, lost_and_doubled, outcome},
    recording::{fleet, send},
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
        let file = std::fs::File::create(self.path().join("ballast")).unwrap();
        let problem = std::io::copy(&mut std::io::repeat(1), &mut &file).unwrap_err();
        assert_eq!(problem.kind(), std::io::ErrorKind::StorageFull, "{problem}");
    }

    pub fn make_room(&self) {
        std::fs::remove_file(self.path().join("ballast")).unwrap();
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_of_state_delays_and_changes_nothing() {
    let Some(disk) = Tmpfs::new(64) else {
        eprintln!("SKIPPED a_full_disk_of_state_delays_and_changes_nothing: mounting a tmpfs needs root");
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
    disk.make_room();
    // Those that ended are started again, as `eddy up` would.
    let deadline = Instant::now() + Duration::from_secs(240);
    while !is_through(&gateway.client).await {
        assert!(Instant::now() < deadline, "not through in time");
        gateway.stages.iter_mut().for_each(|stage| {
            if stage.ended().is_some() {
                stage.restart();
            }
        });
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    indexed(&gateway).await;
    assert_same(&expected, &outcome(&gateway.client).await, "a full disk");
    assert_eq!(lost_and_doubled(&gateway.client, &devices).await, (0, 0));
    let windows = told(&gateway.client).await.len() as u64;
    assert_eq!(stats(&gateway.client).await.unwrap().windows, windows, "every window that was told is in the index");
}
