//! `eddy hub up` as people run it, with certificates of `eddy certs`.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use crate::stage::binary;

/// A hub machine; stopped when dropped.
pub struct Machine {
    pub folder: tempfile::TempDir,
    child: Child,
    url: String,
}

/// Runs `eddy` to its end.
pub fn eddy(arguments: &[&str]) -> Output {
    Command::new(binary("eddy")).args(arguments).env_remove("EDDY_SEED").output().unwrap()
}

/// The environment of a hub process that can be asked by others, with certificates in `folder`, which are made at the first time.
pub fn grpc(folder: &Path) -> Vec<(String, String)> {
    let certs = folder.join("certs");
    if !certs.is_dir() {
        let made = eddy(&["certs", "--out", certs.to_str().unwrap()]);
        assert!(made.status.success(), "{made:?}");
    }
    let file = |name: &str| certs.join(name).display().to_string();
    let pairs = [
        ("EDDY_HUB_GRPC_LISTEN", "127.0.0.1:0".to_owned()),
        ("EDDY_HUB_GRPC_CA_FILE", file("ca.pem")),
        ("EDDY_HUB_GRPC_CERT_FILE", file("hub.pem")),
        ("EDDY_HUB_GRPC_KEY_FILE", file("hub.key")),
    ];
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

impl Machine {
    /// With certificates, for these sites and an operator called `olga`.
    pub fn start(sites: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let certs = folder.path().join("certs");
        let mut arguments = vec!["certs", "--out", certs.to_str().unwrap(), "--operator", "olga"];
        sites.iter().for_each(|site| arguments.extend(["--site", site]));
        let made = eddy(&arguments);
        assert!(made.status.success(), "{made:?}");
        let file = |name: &str| certs.join(name);
        let config = folder.path().join("hub.toml");
        let text = format!(
            "[region]\nport = 0\nmonitor_port = 0\nrestart_wait_ms_max = 200\n\
             [region.tls]\nca_file = {:?}\ncert_file = {:?}\nkey_file = {:?}\n\
             [hub]\nsites = {sites:?}\nsite_mb = 64\nmap_mb = 512\n\
             [hub.roles]\noperator = [\"olga\"]\n",
            file("ca.pem"),
            file("hub.pem"),
            file("hub.key"),
        );
        std::fs::write(&config, text).unwrap();
        let dir = folder.path().join("hub");
        let log = std::fs::File::create(folder.path().join("up.log")).unwrap();
        let child = Command::new(binary("eddy"))
            .args(["hub", "up", "--dir"])
            .arg(&dir)
            .arg("--config")
            .arg(&config)
            .env_remove("EDDY_SEED")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut machine = Self { folder, child, url: String::new() };
        machine.url = machine.up();
        machine
    }

    /// Waits for its file.
    fn up(&mut self) -> String {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let text = std::fs::read(self.dir().join("hub.json")).unwrap_or_default();
            let file: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
            if file["http"]["hub-0"].is_string() {
                return file["url"].as_str().unwrap().to_owned();
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "{ended:?}: {}", self.said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What it says of its processes and addresses.
    pub fn file(&self) -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(self.dir().join("hub.json")).unwrap()).unwrap()
    }

    fn dir(&self) -> PathBuf {
        self.folder.path().join("hub")
    }

    /// What the supervisor and the hub process said.
    pub fn said(&self) -> String {
        let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
        read(&self.folder.path().join("up.log")) + &read(&self.dir().join("logs/hub-0.log"))
    }

    /// Where its server listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The certificates.
    pub fn certs(&self) -> PathBuf {
        self.folder.path().join("certs")
    }

    /// The hub process's audit log.
    pub fn audit(&self) -> PathBuf {
        self.dir().join("state/hub-0/hub")
    }

    /// The copy of the region's one shard.
    pub fn copy(&self) -> PathBuf {
        self.dir().join("state/hub-0/hub/0")
    }

    /// Connected with the certificate of `name`.
    pub async fn connect(&self, name: &str, inbox: &str) -> async_nats::Client {
        let file = |extension: &str| self.certs().join(format!("{name}.{extension}"));
        async_nats::ConnectOptions::new()
            .add_root_certificates(self.certs().join("ca.pem"))
            .add_client_certificate(file("pem"), file("key"))
            .require_tls(true)
            .custom_inbox_prefix(inbox)
            .request_timeout(Some(Duration::from_secs(5)))
            .connect(&self.url)
            .await
            .unwrap()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
    }
}
