//! A real Mosquitto of a test's own, and a client that sees what it keeps.

use std::{
    collections::BTreeMap,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rumqttc::{AsyncClient, Broker as Address, Event, MqttOptions, Packet, QoS};

/// Mosquitto's binary, if it is installed.
pub fn binary() -> Option<PathBuf> {
    ["/usr/sbin/mosquitto", "/usr/bin/mosquitto", "/usr/local/sbin/mosquitto"]
        .into_iter()
        .map(PathBuf::from)
        .find(|path| path.exists())
}

/// A running broker; killed when dropped.
pub struct Broker {
    folder: PathBuf,
    child: Child,
    pub port: u16,
}

impl Broker {
    /// Starts on a free port, with its files in `folder` and `more` lines of config (`FOLDER` is the folder).
    pub fn start(folder: &Path, more: &str) -> Self {
        let folder = folder.join("broker");
        std::fs::create_dir_all(&folder).unwrap();
        // Mosquitto cannot take a free port by itself.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "listener {port} 127.0.0.1\npersistence true\npersistence_location {}/\nautosave_on_changes true\n\
             autosave_interval 1\nuser root\n{}\n",
            folder.display(),
            more.replace("FOLDER", &folder.display().to_string()),
        );
        std::fs::write(folder.join("mosquitto.conf"), config).unwrap();
        let child = spawn(&folder);
        wait_for(port);
        Self { folder, child, port }
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again on its port; what it kept is there, or not.
    pub fn restart(&mut self, keep: bool) {
        self.kill();
        if !keep {
            let _ = std::fs::remove_file(self.folder.join("mosquitto.db"));
        }
        self.child = spawn(&self.folder);
        wait_for(self.port);
    }

    /// What a client that comes now is shown of `filter`: topic and payload.
    pub async fn retained(&self, filter: &str) -> BTreeMap<String, serde_json::Value> {
        let mut kept = BTreeMap::new();
        let mut watcher = Watcher::new(self.port, filter);
        // What is published while it looks is not marked as retained to it, and is kept all the same.
        while let Some((topic, payload)) = watcher.next(Duration::from_millis(500)).await {
            kept.insert(topic, serde_json::from_slice(&payload).unwrap());
        }
        kept
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(folder: &Path) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(folder.join("broker.log")).unwrap();
    Command::new(binary().unwrap())
        .arg("-c")
        .arg(folder.join("mosquitto.conf"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

fn wait_for(port: u16) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "mosquitto does not come up on {port}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A subscriber.
pub struct Watcher {
    events: rumqttc::EventLoop,
    client: AsyncClient,
    filter: String,
}

impl Watcher {
    pub fn new(port: u16, filter: &str) -> Self {
        let id = format!("watcher-{}-{filter}", std::process::id()).replace(['/', '#', '+'], "-");
        let mut options = MqttOptions::new(id, Address::tcp("127.0.0.1", port));
        options.set_max_packet_size(1 << 20, 1 << 20);
        let (client, events) = AsyncClient::builder(options).capacity(10).build();
        Self { events, client, filter: filter.to_owned() }
    }

    /// The next message; `None` if there is none for so long.
    pub async fn next(&mut self, quiet: Duration) -> Option<(String, Vec<u8>)> {
        loop {
            match tokio::time::timeout(quiet, self.events.poll()).await {
                Err(_) => return None,
                Ok(Ok(Event::Incoming(Packet::ConnAck(_)))) => {
                    self.client.subscribe(self.filter.clone(), QoS::AtLeastOnce).await.unwrap();
                }
                Ok(Ok(Event::Incoming(Packet::Publish(publish)))) => {
                    let topic = String::from_utf8(publish.topic.to_vec()).unwrap();
                    return Some((topic, publish.payload.to_vec()));
                }
                Ok(Ok(_)) => {}
                Ok(Err(_)) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
}
