//! compose/demo.yaml, as a project of the test's own.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::engine::{Engine, done, root, said, until};

/// A program of this build.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().unwrap().parent().unwrap().join(name);
    assert!(path.exists(), "{} is not built: run `cargo build --workspace --bins` (make test does)", path.display());
    path
}

/// The `docker-compose` programs here: 1.29 and 2, or those that there are.
pub fn composers() -> Vec<(PathBuf, String)> {
    let second = root().join(".tools/docker-compose");
    let plugin = "/usr/libexec/docker/cli-plugins/docker-compose";
    let mut found: Vec<(PathBuf, String)> = Vec::new();
    for path in [Path::new("docker-compose"), &second, Path::new(plugin)] {
        let Ok(ran) = Command::new(path).args(["version", "--short"]).output() else { continue };
        let version = String::from_utf8_lossy(&ran.stdout).trim().to_owned();
        let major = |version: &str| version.split('.').next().unwrap_or_default().to_owned();
        if ran.status.success() && found.iter().all(|(_, other)| major(other) != major(&version)) {
            found.push((path.to_owned(), version));
        }
    }
    found
}

/// What the project's files say by way of variables: an image of this build's programs, on ports that are free.
pub struct Stack<'a> {
    engine: &'a Engine,
    composer: PathBuf,
    project: String,
    pub bus_port: u16,
    s3_port: u16,
    pub console_port: u16,
    more: Option<PathBuf>,
}

/// This build's programs, laid out as `make dist` lays its own out, and the images that all stands on.
pub fn build(engine: &Engine) {
    let laid = root().join("compose/dist/test");
    let _ = std::fs::remove_dir_all(&laid);
    let stripped = tempfile::NamedTempFile::new().unwrap();
    done(Command::new("strip").arg("-o").arg(stripped.path()).arg(binary("eddy-all")));
    let server = std::env::var_os("EDDY_NATS_SERVER").map_or(root().join(".tools/py/bin/nats-server"), PathBuf::from);
    let mut lay = Command::new(root().join("compose/lay-out.sh"));
    lay.arg(stripped.path()).arg("/etc/ssl/certs/ca-certificates.crt").arg(&laid).arg(server);
    done(&mut lay);
    let mut bases = Command::new(root().join("compose/bases.sh"));
    engine.reach(&mut bases);
    done(bases.args(["debian", "seaweedfs"]));
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl<'a> Stack<'a> {
    /// Nothing is started yet. `more`: a file that changes what the project's own says.
    pub fn new(engine: &'a Engine, composer: &Path, name: &str, more: Option<PathBuf>) -> Self {
        let project = format!("eddytest{name}{}", std::process::id());
        let [bus_port, s3_port, console_port] = std::array::from_fn(|_| free_port());
        Self { engine, composer: composer.to_owned(), project, bus_port, s3_port, console_port, more }
    }

    fn compose(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.composer);
        command.current_dir(root()).args(["-p", &self.project, "-f", "compose/demo.yaml"]);
        if let Some(more) = &self.more {
            command.arg("-f").arg(more);
        }
        self.engine.reach(&mut command);
        command.env("EDDY_BUILD", "prebuilt").env("EDDY_ARCH", "test").env("EDDY_IMAGE", "eddy:test");
        command.env("BASE_IMAGE", "debian:bookworm-slim");
        command.env("EDDY_BUS_PORT", self.bus_port.to_string()).env("EDDY_S3_PORT", self.s3_port.to_string());
        command.env("EDDY_CONSOLE_PORT", self.console_port.to_string());
        command.args(arguments);
        command
    }

    /// `docker-compose ARGUMENTS`.
    pub fn composed(&self, arguments: &[&str]) -> String {
        done(&mut self.compose(arguments))
    }

    /// `docker ARGUMENTS`.
    pub fn docker(&self, arguments: &[&str]) -> String {
        done(self.engine.docker().args(arguments)).trim().to_owned()
    }

    /// A service's container.
    pub fn container(&self, service: &str) -> String {
        let label = |key: &str, value: &str| format!("label=com.docker.compose.{key}={value}");
        let filters = [label("project", &self.project), label("service", service)];
        self.docker(&["ps", "-aq", "--filter", &filters[0], "--filter", &filters[1]])
    }

    /// The project's containers.
    pub fn containers(&self) -> Vec<String> {
        let ours = format!("label=com.docker.compose.project={}", self.project);
        self.docker(&["ps", "-aq", "--filter", &ours]).lines().map(str::to_owned).collect()
    }

    /// One value of what `docker inspect` says.
    pub fn inspect(&self, container: &str, format: &str) -> String {
        self.docker(&["inspect", "-f", format, container])
    }

    /// What a program in a service's container says; an error while it cannot be asked.
    pub fn ask(&self, service: &str, arguments: &[&str]) -> Result<String, String> {
        let ran = self.engine.docker().args(["exec", &self.container(service)]).args(arguments).output().unwrap();
        if ran.status.success() { Ok(String::from_utf8_lossy(&ran.stdout).into_owned()) } else { Err(said(&ran)) }
    }

    /// SIGKILL, as by the kernel: `docker kill` would be an operator's wish, after which nothing starts again.
    pub fn kill(&self, service: &str) {
        let pid = self.inspect(&self.container(service), "{{.State.Pid}}").parse().unwrap_or(0);
        if pid > 0 {
            // It may have ended by itself.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
    }

    /// Waits until the health check of each service says that it is well.
    pub fn healthy(&self, services: &[&str]) {
        for service in services {
            until(&format!("{service} is well"), Duration::from_secs(240), || {
                match self.inspect(&self.container(service), "{{.State.Health.Status}}").as_str() {
                    "healthy" => Ok(()),
                    other => Err(other.to_owned()),
                }
            });
        }
    }

    /// Waits until the gateway has raised these alerts and no others: how many.
    pub fn alerts_are(&self, expected: &str) -> u64 {
        until("the alerts are the demo's", Duration::from_secs(240), || {
            let told = self.ask("bus", &["eddy", "alerts", "--hash"])?;
            let (count, hash) = told.trim().split_once(" alerts_hash=").unwrap();
            if hash == expected { Ok(count.parse().unwrap()) } else { Err(format!("{told} for {expected}")) }
        })
    }

    /// Waits until the region has all that the gateway has.
    pub fn receipts_are_complete(&self) {
        until("the receipts are complete", Duration::from_secs(240), || self.ask("bus", &["eddy", "receipts"]));
    }

    /// Waits until all that was asked to be exported lies in S3, as it was written.
    pub fn exports_are_complete(&self, alerts: u64) {
        until("the exports are complete", Duration::from_secs(240), || {
            let told = self.ask("export", &["eddy-export", "receipts", "--to", "s3://eddy/demo", "--json"])?;
            let told: serde_json::Value = serde_json::from_str(&told).map_err(|error| format!("{error}: {told}"))?;
            let classes = told["classes"].as_array().unwrap();
            let found = classes.iter().find(|it| it["class"] == "alerts").map(|it| &it["found"]["rows"]);
            if found == Some(&alerts.into()) { Ok(()) } else { Err(told.to_string()) }
        });
    }
}

impl Drop for Stack<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.compose(&["ps"]).status();
            let _ = self.compose(&["logs", "--no-color", "--tail=15"]).status();
        }
        let _ = self.compose(&["down", "--volumes", "--timeout", "5"]).output();
    }
}
