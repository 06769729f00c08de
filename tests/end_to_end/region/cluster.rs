//! A region of three machines, `eddy hub up` on each: while one of them is dead, the others are the region.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use super::machine::eddy;
use crate::{
    bundles::commands::{Up, wait_for},
    stage::binary,
};

/// Its ports: for gateways, for the others.
struct Ports {
    client: u16,
    route: u16,
}

/// One of the machines; killed, with all that it started, when dropped.
struct Node {
    dir: PathBuf,
    child: Child,
}

impl Node {
    fn start(folder: &Path, number: usize, ports: &[Ports]) -> Self {
        let routes: Vec<String> = ports.iter().map(|ports| format!("tls://127.0.0.1:{}", ports.route)).collect();
        let certs = folder.join("certs");
        let text = format!(
            "[region]\nport = {}\nmonitor_port = 0\nrestart_wait_ms_max = 200\n\
             [region.cluster]\nname = \"hub-{number}\"\nport = {}\nroutes = {routes:?}\n\
             [region.tls]\nca_file = {:?}\ncert_file = {:?}\nkey_file = {:?}\n\
             [hub]\nname = \"hub-{number}\"\nsites = [\"demo\"]\nreplicas = 3\nsite_mb = 64\nmap_mb = 512\n",
            ports[number].client,
            ports[number].route,
            certs.join("ca.pem"),
            certs.join("hub.pem"),
            certs.join("hub.key"),
        );
        let config = folder.join(format!("hub-{number}.toml"));
        std::fs::write(&config, text).unwrap();
        let dir = folder.join(format!("hub-{number}"));
        let mut command = Command::new(binary("eddy"));
        command.args(["hub", "up", "--dir"]).arg(&dir).arg("--config").arg(&config).env_remove("EDDY_SEED");
        let log = std::fs::File::create(folder.join(format!("hub-{number}.log"))).unwrap();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        Self { dir, child }
    }

    fn is_well(&self) -> bool {
        eddy(&["health", "--dir", self.dir.to_str().unwrap()]).status.success()
    }

    /// As when its power fails: its server and its hub process too.
    fn kill(&mut self) {
        let text = std::fs::read(self.dir.join("hub.json")).unwrap_or_default();
        let file: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
        let started =
            file["pids"].as_object().into_iter().flat_map(|pids| pids.values().filter_map(|pid| pid.as_i64()));
        let _ = self.child.kill();
        for pid in started {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
            // It may have ended with its parent.
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sets of ports that nobody has.
fn free_ports() -> Vec<Ports> {
    let held: Vec<TcpListener> = (0..6).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let port = |number: usize| held[number].local_addr().unwrap().port();
    (0..3).map(|number| Ports { client: port(number), route: port(number + 3) }).collect()
}

/// What the region has of the gateway's alerts: `alerts: nothing missing from 1 to N`.
fn alerts_received(up: &Up) -> Option<u64> {
    let said = String::from_utf8(up.eddy(&["receipts"]).stdout).unwrap();
    let line = said.lines().find(|line| line.trim_start().starts_with("alerts: nothing missing from 1 to "))?;
    line.split(" to ").nth(1)?.split(' ').next()?.parse().ok()
}

#[test]
fn while_a_machine_is_dead_the_others_are_the_region() {
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path().join("certs");
    let made = eddy(&["certs", "--out", certs.to_str().unwrap(), "--host", "127.0.0.1", "--site", "demo"]);
    assert!(made.status.success(), "{made:?}");
    let ports = free_ports();
    let mut nodes: Vec<Node> = (0..3).map(|number| Node::start(folder.path(), number, &ports)).collect();
    for node in &nodes {
        wait_for("a hub of the cluster", || node.is_well());
    }

    let urls: Vec<String> = ports.iter().map(|ports| format!("tls://127.0.0.1:{}", ports.client)).collect();
    let config = folder.path().join("gateway.toml");
    let text = format!(
        "[site]\nname = \"demo\"\n[sync.hub]\nurl = {:?}\ntls_ca_file = {:?}\ntls_cert_file = {:?}\ntls_key_file = {:?}\n",
        urls.join(","),
        certs.join("ca.pem"),
        certs.join("site-demo.pem"),
        certs.join("site-demo.key"),
    );
    std::fs::write(&config, text).unwrap();
    let up = Up::start(&folder.path().join("gateway"), &config);
    let fleet = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/fleet");
    up.done(&["replay", fleet.join("harbour-1.csv.gz").to_str().unwrap(), "--speed", "max"]);
    let mut before = 0;
    wait_for("the first alerts in the region", || {
        before = alerts_received(&up).unwrap_or(0);
        before > 0
    });

    // One after the other: whichever the gateway is connected to and whichever leads, each is among them once.
    for (number, node) in nodes.iter_mut().enumerate() {
        node.kill();
        if number == 0 {
            up.done(&["replay", fleet.to_str().unwrap(), "--speed", "max"]);
        }
        wait_for("all alerts in what is left of the region", || {
            let raised: u64 = up.done(&["alerts", "--hash"]).split(' ').next().unwrap().parse().unwrap();
            raised > before && alerts_received(&up) == Some(raised)
        });
        *node = Node::start(folder.path(), number, &ports);
        wait_for("it is back", || node.is_well());
    }
}
