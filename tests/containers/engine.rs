//! A Docker engine: the one that DOCKER_HOST names, or one of the test's own, which keeps its images from run to run.

use std::{
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

/// The project's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A program's output, once it has succeeded.
pub fn done(command: &mut Command) -> String {
    let ran = command.stdin(Stdio::null()).output().unwrap();
    assert!(ran.status.success(), "{command:?}: {}", said(&ran));
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

/// All that it printed.
pub fn said(ran: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr))
}

/// Looks until it is so.
pub fn until<T>(what: &str, patience: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let begun = Instant::now();
    let deadline = begun + patience;
    loop {
        match look() {
            Ok(found) => {
                eprintln!("{what}: after {:.0?}", begun.elapsed());
                return found;
            }
            Err(last) => assert!(Instant::now() < deadline, "{what}: not within {patience:?}: {last}"),
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// The engine; what the test started ends with it.
pub struct Engine {
    host: String,
    /// With its socket and what it keeps while it runs.
    own: Option<(Child, tempfile::TempDir)>,
}

impl Engine {
    /// One that answers; otherwise what is missing.
    pub fn start() -> Result<Self, String> {
        if let Ok(host) = std::env::var("DOCKER_HOST") {
            let engine = Self { host, own: None };
            return if engine.answers() { Ok(engine) } else { Err(format!("no engine answers at {}", engine.host)) };
        }
        if !nix::unistd::geteuid().is_root() {
            return Err("an engine of the test's own needs root; DOCKER_HOST names another".into());
        }
        if Command::new("dockerd").arg("--version").output().is_err() {
            return Err("no dockerd (apt-get install docker.io)".into());
        }
        // A socket's path must be short.
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let host = format!("unix://{}", at("socket"));
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let data = Path::new(env!("CARGO_TARGET_TMPDIR")).join("docker");
        let mut command = Command::new("dockerd");
        command.arg("--data-root").arg(data).args(["--exec-root", &at("exec"), "--pidfile", &at("pid"), "-H", &host]);
        // A group of its own: what interrupts the test ends it through Drop, after its containers.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0);
        let child = command.spawn().unwrap();
        let mut engine = Self { host, own: Some((child, folder)) };
        let deadline = Instant::now() + Duration::from_secs(60);
        while !engine.answers() {
            let (child, folder) = engine.own.as_mut().unwrap();
            let log = || std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
            if child.try_wait().unwrap().is_some() || Instant::now() > deadline {
                let log = log();
                return Err(format!("dockerd does not start here: {}", log.lines().last().unwrap_or_default()));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        engine.sweep();
        Ok(engine)
    }

    fn answers(&self) -> bool {
        self.docker().args(["version", "-f", "{{.Server.Version}}"]).output().is_ok_and(|ran| ran.status.success())
    }

    /// What a killed run left in the test's own engine.
    fn sweep(&self) {
        let left = done(self.docker().args(["ps", "-aq"]));
        if !left.trim().is_empty() {
            done(self.docker().args(["rm", "-f"]).args(left.split_whitespace()));
        }
        for kind in ["volume", "network", "image"] {
            done(self.docker().args([kind, "prune", "-f"]));
        }
    }

    /// `docker`, of Debian's package where there are several: a client must not be newer than its engine likes.
    pub fn docker(&self) -> Command {
        let packaged = Path::new("/usr/bin/docker");
        let mut command = Command::new(if packaged.exists() { packaged } else { Path::new("docker") });
        command.env("DOCKER_HOST", &self.host).env("DOCKER_BUILDKIT", "0");
        command
    }

    /// Sets what any client of the engine needs.
    pub fn reach(&self, command: &mut Command) {
        command.env("DOCKER_HOST", &self.host).env("DOCKER_BUILDKIT", "0").env("COMPOSE_DOCKER_CLI_BUILD", "0");
        // docker-compose 1.29 calls `docker` where it builds.
        command.env("PATH", format!("/usr/bin:{}", std::env::var("PATH").unwrap_or_default()));
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.own {
            let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
            // SIGTERM ends its containerd and its containers too.
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
            let _ = child.wait();
        }
    }
}
