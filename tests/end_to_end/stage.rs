//! A real stage process.

use std::{
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

/// Where cargo put the stage binaries: beside this test's own.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().unwrap().parent().unwrap().join(name);
    assert!(path.exists(), "{} is not built: run `cargo build --workspace --bins` (make test does)", path.display());
    path
}

/// A stage process; killed when dropped.
pub struct StageProcess {
    name: String,
    environment: Vec<(String, String)>,
    log: PathBuf,
    child: Child,
}

impl StageProcess {
    /// Starts `eddy-<name> run` with this environment; its log goes to `folder`.
    pub fn start(name: &str, folder: &Path, environment: &[(String, String)]) -> Self {
        let log = folder.join(format!("{name}.log"));
        let child = spawn(name, environment, &log);
        Self { name: name.to_owned(), environment: environment.to_vec(), log, child }
    }

    /// Kills it with SIGKILL and starts it again.
    pub fn kill_and_restart(&mut self) {
        self.kill();
        self.restart();
    }

    /// Starts it again after it ended.
    pub fn restart(&mut self) {
        self.child = spawn(&self.name, &self.environment, &self.log);
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to stop with SIGTERM and waits.
    pub fn stop(&mut self) -> ExitStatus {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        self.child.wait().unwrap()
    }

    /// Its exit status, if it ended by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Everything that it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// A metric of a class, as it tells it now; 0 where it tells none.
    pub fn metric(&self, name: &str, class: &str) -> u64 {
        let log = self.log();
        let running = log.lines().rfind(|line| line.contains("running")).unwrap();
        let address = running.rsplit("address=").next().unwrap().trim();
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        write!(stream, "GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let class = format!("class=\"{class}\"");
        let of = |line: &&str| line.starts_with(name) && line.contains(&class);
        text.lines().find(of).map_or(0, |line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64)
    }

    /// The environment that it runs with.
    pub fn environment(&self) -> &[(String, String)] {
        &self.environment
    }
}

impl Drop for StageProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(name: &str, environment: &[(String, String)], log: &Path) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
    Command::new(binary(&format!("eddy-{name}")))
        .arg("run")
        .envs(environment.iter().cloned())
        // The tests' own; a stage takes it for a config key that it does not know.
        .env_remove("EDDY_SEED")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}
