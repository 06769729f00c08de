//! A gateway as an operator has it: `eddy up` in a folder, from the binaries of this build or another one.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use eddy_runtime::client::Client;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::{
    gateway::{SITE, connect, is_through},
    stage::binary,
};

/// Names the folder of another release's binaries.
pub const PREVIOUS_BIN: &str = "EDDY_PREVIOUS_BIN";
/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// A gateway that runs; its `eddy up` is killed when dropped, and its processes with it.
pub struct Up {
    pub dir: PathBuf,
    eddy: PathBuf,
    child: Child,
}

impl Up {
    /// Starts it with this build's binaries.
    pub fn start(dir: &Path, config: &Path) -> Self {
        Self::start_with(&binary("eddy"), dir, config)
    }

    /// Starts it with those beside `eddy`.
    pub fn start_with(eddy: &Path, dir: &Path, config: &Path) -> Self {
        let log = fs::File::options().create(true).append(true).open(dir.with_extension("up.log")).unwrap();
        let child = Command::new(eddy)
            // It is this test's, and no key of theirs.
            .env_remove(PREVIOUS_BIN)
            .args(["up", "--port", "0", "--dir"])
            .arg(dir)
            .arg("--config")
            .arg(config)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut up = Self { dir: dir.to_owned(), eddy: eddy.to_owned(), child };
        up.wait("the gateway", |up| up.eddy(&["status", "--json"]).status.success());
        up
    }

    /// `eddy …` at this gateway.
    pub fn eddy(&self, arguments: &[&str]) -> Output {
        Command::new(&self.eddy).env_remove(PREVIOUS_BIN).args(arguments).arg("--dir").arg(&self.dir).output().unwrap()
    }

    /// The same, which has to end so; what was said.
    pub fn ends(&self, code: i32, arguments: &[&str]) -> String {
        let ran = self.eddy(arguments);
        let said = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert_eq!(ran.status.code(), Some(code), "{arguments:?}: {said}");
        said
    }

    /// What it says of its processes and addresses.
    pub fn file(&self) -> Value {
        serde_json::from_slice(&fs::read(self.dir.join("gateway.json")).unwrap()).unwrap()
    }

    /// Connected to it.
    pub async fn client(&self) -> Client {
        connect(self.file()["url"].as_str().unwrap()).await
    }

    /// Waits until everything that was sent has come through to DETECTIONS.
    pub async fn wait_until_through(&self, client: &Client) {
        let deadline = Instant::now() + PATIENCE;
        while !is_through(client).await {
            let log = fs::read_to_string(self.dir.with_extension("up.log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "not through in time: {log}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn wait(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            let ended = self.child.try_wait().unwrap();
            let log = fs::read_to_string(self.dir.with_extension("up.log")).unwrap_or_default();
            assert!(ended.is_none() && Instant::now() < deadline, "{what}: {ended:?} {log}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Stops it as an operator does.
    pub fn stop(mut self) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), Signal::SIGTERM).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {}", fs::read_to_string(self.dir.with_extension("up.log")).unwrap());
    }

    /// Kills all of its processes: the machine is gone.
    pub fn destroy(mut self) {
        let file = self.file();
        let _ = self.child.kill();
        let _ = self.child.wait();
        for pid in file["pids"].as_object().unwrap().values() {
            // SIGTERM may have reached it when its parent went.
            let _ = kill(Pid::from_raw(i32::try_from(pid.as_i64().unwrap()).unwrap()), Signal::SIGKILL);
        }
        let deadline = Instant::now() + PATIENCE;
        while file["pids"].as_object().unwrap().values().any(|pid| Path::new(&format!("/proc/{pid}")).exists()) {
            assert!(Instant::now() < deadline, "{file}");
            std::thread::sleep(Duration::from_millis(20));
        }
        fs::remove_dir_all(&self.dir).unwrap();
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A config for the recording's site, with `more`.
pub fn config(folder: &Path, more: &str) -> PathBuf {
    let path = folder.join("eddy.toml");
    fs::write(&path, format!("[site]\nname = {SITE:?}\n[state]\ncommit_interval_ms = 200\n{more}")).unwrap();
    path
}
