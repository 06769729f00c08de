//! Certificates are replaced under a gateway and its region, down to the CA, and nothing is restarted; bad ones are not taken.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use eddy_fixtures::link::Link;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, Stream,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use serde_json::Value;

use crate::{
    recording::{fleet, send},
    stage::binary,
    up::{Up, config},
};

const PATIENCE: Duration = Duration::from_secs(120);

/// `eddy hub up`, killed when dropped.
struct Region {
    dir: PathBuf,
    child: Child,
}

impl Region {
    fn start(folder: &Path, certs: &Path, grpc: SocketAddr) -> Self {
        let at = |name: &str| certs.join(name).display().to_string();
        let text = format!(
            "[region]\nport = 0\nmonitor_port = 0\nhealth_interval_ms = 200\n[region.tls]\nca_file = {:?}\ncert_file = {:?}\n\
             key_file = {:?}\n[hub]\nsites = [\"plant\"]\nmap_mb = 64\n[hub.grpc]\nlisten = \"{grpc}\"\n[hub.roles]\noperator = [\"me\"]\n",
            at("ca.pem"),
            at("hub.pem"),
            at("hub.key")
        );
        let path = folder.join("hub.toml");
        fs::write(&path, text).unwrap();
        let dir = folder.join("hub");
        let child = Command::new(binary("eddy"))
            .args(["hub", "up", "--dir"])
            .arg(&dir)
            .arg("--config")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.join("hub.up.log")).unwrap())
            .spawn()
            .unwrap();
        let region = Self { dir, child };
        wait("the region", || region.file()["http"].as_object().is_some_and(|all| !all.is_empty()));
        region
    }

    fn file(&self) -> Value {
        fs::read(self.dir.join("hub.json")).ok().and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default()
    }

    fn address(&self) -> SocketAddr {
        let url = self.file()["url"].as_str().unwrap().to_owned();
        let port = url.rsplit(':').next().unwrap().parse().unwrap();
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn journal(&self) -> String {
        fs::read_to_string(self.dir.join("logs/hub.log")).unwrap()
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Certificates of a CA of their own.
fn certs(folder: &Path) -> PathBuf {
    let ran = Command::new(binary("eddy"))
        .args(["certs", "--site", "plant", "--operator", "me", "--out"])
        .arg(folder)
        .output();
    assert!(ran.unwrap().status.success());
    folder.to_owned()
}

/// Puts one folder's files in the places of another's, as an operator does: one after the other.
fn replace(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let draft = to.join("draft");
        fs::copy(entry.path(), &draft).unwrap();
        fs::rename(&draft, to.join(entry.file_name())).unwrap();
    }
}

/// The certificate that the hub shows by gRPC to somebody of these certificates, who is let in.
fn shown(grpc: SocketAddr, certs: &Path) -> Result<Vec<u8>, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certs.join("ca.pem")).unwrap()).unwrap();
    let chain = vec![CertificateDer::from_pem_file(certs.join("me.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(certs.join("me.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_client_auth_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let mut tls = ClientConnection::new(Arc::new(config), ServerName::from(grpc.ip())).unwrap();
    let mut socket = TcpStream::connect(grpc).map_err(|error| text(&error))?;
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut stream = Stream::new(&mut tls, &mut socket);
    // HTTP/2's opening words; the server answers with its settings once it has taken the certificate.
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").map_err(|error| text(&error))?;
    let mut settings = [0; 9];
    stream.read_exact(&mut settings).map_err(|error| text(&error))?;
    Ok(tls.peer_certificates().unwrap()[0].to_vec())
}

fn of_hub(certs: &Path) -> Vec<u8> {
    CertificateDer::from_pem_file(certs.join("hub.pem")).unwrap().to_vec()
}

/// How many times files were no good, by sync's word; and how often it has connected.
fn metric(up: &Up, name: &str) -> u64 {
    let address = up.file()["http"]["sync"].as_str().unwrap().strip_prefix("http://").unwrap().to_owned();
    let mut stream = TcpStream::connect(&address).unwrap();
    stream.write_all(format!("GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} in {text}"));
    line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64
}

/// Readings go through, and the region has all that came of them.
async fn goes_on(up: &Up, what: &str, devices: &[&str]) {
    let client = up.client().await;
    send(&client, &fleet(devices, 1_500), 500).await;
    up.wait_until_through(&client).await;
    let nothing_waits = || {
        let status = up.eddy(&["status"]);
        let text = String::from_utf8_lossy(&status.stdout).into_owned();
        text.lines()
            .any(|line| line.starts_with("region: ") && line.contains(" connected") && line.contains("nothing waits"))
    };
    tokio::task::block_in_place(|| wait(what, nothing_waits));
    let said = tokio::task::block_in_place(|| up.ends(0, &["receipts"]));
    assert!(said.contains("alerts: nothing missing") && said.contains("deltas: nothing missing"), "{what}: {said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_replaced_down_to_the_ca_and_nothing_is_restarted() {
    let folder = tempfile::tempdir().unwrap();
    let used = certs(&folder.path().join("used"));
    let old = folder.path().join("old");
    fs::create_dir(&old).unwrap();
    replace(&used, &old);
    let grpc = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let region = Region::start(folder.path(), &used, grpc);
    let link = Link::to(region.address(), 1).unwrap();
    let at = |name: &str| used.join(name).display().to_string();
    let more = format!(
        "[sync]\nlinger_s = 0.2\n[sync.hub]\nurl = \"tls://{}\"\ntls_ca_file = {:?}\ntls_cert_file = {:?}\ntls_key_file = {:?}\n",
        link.address(),
        at("ca.pem"),
        at("site-plant.pem"),
        at("site-plant.key")
    );
    let up = Up::start(&folder.path().join("gateway"), &config(folder.path(), &more));
    goes_on(&up, "with the first certificates", &["harbour-1"]).await;
    assert_eq!(shown(grpc, &old).unwrap(), of_hub(&old));
    let doctor = tokio::task::block_in_place(|| up.ends(0, &["doctor", "--json", "--interval", "1"]));
    let doctor: Value = serde_json::from_str(doctor.lines().next().unwrap()).unwrap();
    assert!(!doctor["unchecked"].to_string().contains("the hub's"), "its clock was asked for: {doctor:#}");
    let pids = (up.file()["pids"].clone(), region.file()["pids"].clone());

    // A new CA and all that it signs: who still used an old file would know nobody.
    let new = certs(&folder.path().join("new"));
    replace(&new, &used);
    tokio::task::block_in_place(|| {
        wait("the server's reload", || region.journal().contains("certificates have changed: read again"));
        wait("the new certificate by gRPC", || shown(grpc, &new).is_ok_and(|shown| shown == of_hub(&new)));
    });
    assert!(shown(grpc, &old).is_err(), "the old CA's are nobody's any more");
    link.reset();
    goes_on(&up, "with the new certificates", &["school-east"]).await;
    assert_eq!(metric(&up, "eddy_files_refused_total"), 0);

    // What is no good is told, and what is in use stays so, also for new connections.
    let good = ["hub.pem", "site-plant.pem", "ca.pem"].map(|name| (name, fs::read(used.join(name)).unwrap()));
    for (name, _) in &good {
        fs::write(used.join(name), "rubbish").unwrap();
    }
    tokio::task::block_in_place(|| {
        wait("the server's word", || region.journal().contains("new certificates are no good"));
    });
    assert_eq!(shown(grpc, &new).unwrap(), of_hub(&new));
    link.reset();
    goes_on(&up, "with bad files", &["market"]).await;
    assert!(metric(&up, "eddy_files_refused_total") > 0);
    for (name, text) in good {
        fs::write(used.join(name), text).unwrap();
    }
    link.reset();
    goes_on(&up, "with good files again", &["university"]).await;
    assert_eq!((up.file()["pids"].clone(), region.file()["pids"].clone()), pids, "nothing was restarted");
    up.stop();
}
