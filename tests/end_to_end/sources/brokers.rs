//! MQTT brokers: Debian's Mosquitto, and nats-server's own.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::{
    clients::{program, run_with_input, tool},
    series::json,
    site::free_port,
};

/// A running Mosquitto with persistence; killed when dropped.
pub struct Mosquitto {
    binary: PathBuf,
    folder: PathBuf,
    child: Child,
    pub port: u16,
}

/// Anybody may connect.
pub const OPEN: &str = "allow_anonymous true\n";

impl Mosquitto {
    /// Starts on the loopback with these further lines of config; `None` if it is not installed.
    pub fn start(folder: &Path, config: &str) -> Option<Self> {
        let binary = tool("mosquitto")?;
        let folder = folder.join("mosquitto");
        std::fs::create_dir_all(&folder).unwrap();
        let port = free_port();
        // Without `user`, one that is started by root could not write its own folder. Without the two bounds, what waits
        // for capture beyond 1,000 messages would be dropped.
        let text = format!(
            "listener {port} 127.0.0.1\nuser root\npersistence true\npersistence_location {}/\n\
             max_queued_messages 0\n{config}",
            folder.display()
        );
        std::fs::write(folder.join("mosquitto.conf"), text).unwrap();
        let child = spawn(&binary, &folder, port);
        Some(Self { binary, folder, child, port })
    }

    /// Stops it as a service manager does, so that it saves what it holds, and starts it again.
    pub fn restart(&mut self) {
        self.stop();
        self.child = spawn(&self.binary, &self.folder, self.port);
    }

    fn stop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[allow(clippy::zombie_processes, reason = "the child is handed to a Mosquitto, which waits for it when dropped")]
fn spawn(binary: &Path, folder: &Path, port: u16) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(folder.join("mosquitto.log")).unwrap();
    let mut child = Command::new(binary)
        .arg("-c")
        .arg(folder.join("mosquitto.conf"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            let log = std::fs::read_to_string(folder.join("mosquitto.log")).unwrap_or_default();
            panic!("mosquitto does not come up:\n{log}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

/// Lines of nats-server's config with which it is an MQTT broker too.
pub fn nats_mqtt(port: u16) -> String {
    format!("server_name: gateway\nmqtt {{ host: 127.0.0.1, port: {port}, ack_wait: \"10s\", max_ack_pending: 100 }}\n")
}

/// mosquitto_pub with QoS 1 to a broker on this port; `None` if it is not installed.
pub fn publisher(port: u16, topic: &str) -> Option<tokio::process::Command> {
    let mut command = program(&tool("mosquitto_pub")?);
    command.args(["-V", "311", "-h", "127.0.0.1", "-p", &port.to_string(), "-q", "1", "-t", topic]);
    Some(command)
}

/// Publishes readings of a device, each in a message of its own, and returns once the broker has them all.
pub async fn publish(port: u16, device: &str, range: std::ops::Range<usize>) {
    let Some(mut command) = publisher(port, &format!("sensors/{device}")) else { return };
    let lines: String = range.map(|i| json(i) + "\n").collect();
    run_with_input(command.arg("-l"), &lines).await;
}
