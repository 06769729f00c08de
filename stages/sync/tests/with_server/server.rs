//! A real nats-server of a test's own.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// The server's binary: EDDY_NATS_SERVER, `.tools/`, or the path.
fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("EDDY_NATS_SERVER") {
        return path.into();
    }
    let local = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/py/bin/nats-server");
    if local.exists() { local } else { "nats-server".into() }
}

/// A running server; killed when dropped.
pub struct Server {
    folder: PathBuf,
    child: Child,
    pub port: u16,
}

impl Server {
    /// Starts on a random port of the loopback, with its store in `folder`.
    pub fn start(folder: &Path) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let config = format!(
            "jetstream {{ store_dir: {:?}, sync_interval: always, max_file_store: 1GB, max_memory_store: 16MB }}\n\
             max_payload: 1MB\n",
            folder.join("store")
        );
        std::fs::write(folder.join("nats.conf"), config).unwrap();
        let (child, port) = spawn(folder, None);
        Self { folder: folder.to_owned(), child, port }
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Ends it with SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on the same port.
    pub fn restart(&mut self) {
        let (child, _) = spawn(&self.folder, Some(self.port));
        self.child = child;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[allow(clippy::zombie_processes, reason = "the child is handed to a Server, which waits for it when dropped")]
fn spawn(folder: &Path, port: Option<u16>) -> (Child, u16) {
    let ports = folder.join("ports");
    let _ = std::fs::remove_dir_all(&ports);
    std::fs::create_dir_all(&ports).unwrap();
    let log = std::fs::File::options().create(true).append(true).open(folder.join("nats.log")).unwrap();
    let mut child = Command::new(binary())
        .args(["-a", "127.0.0.1", "-p", &port.map_or("-1".to_owned(), |port| port.to_string())])
        .arg("-c")
        .arg(folder.join("nats.conf"))
        .arg("--ports_file_dir")
        .arg(&ports)
        .env("GOMEMLIMIT", "64MiB")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap_or_else(|error| panic!("nats-server ({}): {error}; `make tools` installs it", binary().display()));
    let file = ports.join(format!("nats-server_{}.ports", child.id()));
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        if let Ok(value) = serde_json::from_str::<serde_json::Value>(&text) {
            let url = value["nats"][0].as_str().unwrap();
            return (child, url.rsplit(':').next().unwrap().parse().unwrap());
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            panic!("nats-server does not come up: see {}", folder.display());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
