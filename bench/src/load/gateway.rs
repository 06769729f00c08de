//! A real gateway to measure: `eddy up` with a config and a folder of its own.
//!
//! For what concerns single stages, a stage is *suspended*: it is stopped as by an operator, and started again with the
//! arguments and the environment that `eddy up` had given it. `eddy up` itself is told to wait an hour before it restarts
//! anything, so that it does not interfere (and a stage that crashes stays down and is noticed).

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt::Write as _,
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};
use eddy_runtime::{
    client::{Client, Endpoint},
    position::{HEADER, Position},
};
use serde::Deserialize;

use super::{
    binaries::Binaries,
    process::{self, Owned},
};

/// The site of all measurements.
pub(super) const SITE: &str = "bench";
/// How long a gateway may take to come up.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// A pipeline with something pending must move within this.
const STALL_TIMEOUT: Duration = Duration::from_secs(120);

/// How often it is looked whether a stage is through.
const POLL: Duration = Duration::from_millis(50);

/// One hop of the path to an alert.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hop {
    /// The stage.
    pub(super) stage: &'static str,
    /// The stream that it reads.
    pub(super) input: &'static str,
    /// The stream that it writes.
    pub(super) output: &'static str,
    /// The subject of its output begins so.
    prefix: &'static str,
}

impl Hop {
    /// The subject of its output.
    pub(super) fn subject(&self) -> String {
        format!("{}.{SITE}.0", self.prefix)
    }
}

/// The path to an alert.
pub(super) const HOPS: [Hop; 4] = [
    Hop { stage: "capture", input: "INGEST", output: "READINGS", prefix: "readings" },
    Hop { stage: "preprocess", input: "READINGS", output: "SAMPLES", prefix: "samples" },
    Hop { stage: "embed", input: "SAMPLES", output: "EMBEDDINGS", prefix: "embeddings" },
    Hop { stage: "detect", input: "EMBEDDINGS", output: "DETECTIONS", prefix: "scores" },
];

/// What differs from a gateway as it is shipped.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Series of the fleet: detect shares its alert budget among them.
    pub(super) series: usize,
    /// First rows of a series that set its scaling.
    pub(super) commissioning_rows: u64,
    /// Whether streams hold a whole measurement; else they are as shipped, and the janitor works.
    pub(super) roomy: bool,
    /// The folder in which the gateway's own is made.
    pub(super) parent: PathBuf,
}

impl Plan {
    fn config(&self) -> String {
        let mut text = format!(
            "[gateway]\nmonitor_port = 0\nrestart_wait_ms_min = 3600000\nrestart_wait_ms_max = 3600000\n\
             [embed]\ncommissioning_rows = {}\n[detect]\nfleet_series = {}.0\n",
            self.commissioning_rows, self.series
        );
        if self.roomy {
            text = text.replacen("[gateway]\n", "[gateway]\nstore_mb_max = 36864\n", 1);
            let megabytes = [
                ("ingest", 2048),
                ("control", 16),
                ("readings", 4096),
                ("samples", 4096),
                ("embeddings", 12288),
                ("detections", 4096),
                ("context", 64),
                ("health", 64),
                ("side", 1024),
            ];
            text.push_str("[gateway.streams]\n");
            for (stream, megabytes) in megabytes {
                // Writing to a string cannot fail.
                let _ = writeln!(text, "{stream}_mb = {megabytes}");
            }
        }
        text
    }
}

/// What `eddy up` tells of itself.
#[derive(Debug, Deserialize)]
struct GatewayFile {
    url: String,
    pids: BTreeMap<String, u32>,
    http: BTreeMap<String, String>,
}

/// A running gateway; ends when it is dropped.
#[derive(Debug)]
pub(super) struct Gateway {
    /// The bench's own connection to its bus.
    pub(super) client: Client,
    /// The bus.
    pub(super) url: String,
    pids: BTreeMap<String, u32>,
    suspended: BTreeMap<String, Start>,
    // Dropped in this order: stages, `eddy up` with all else, the folder.
    resumed: BTreeMap<String, Owned>,
    up: Owned,
    folder: tempfile::TempDir,
}

impl Gateway {
    /// Starts everything and returns when all stages have told where they listen.
    ///
    /// # Errors
    /// That it does not come up: with what it said.
    pub(super) async fn start(binaries: &Binaries, plan: &Plan) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("eddy-bench-").tempdir_in(&plan.parent)?;
        let dir = folder.path().join("gateway");
        let (config, log) = (folder.path().join("bench.toml"), folder.path().join("up.log"));
        std::fs::write(&config, plan.config())?;
        let file = std::fs::File::create(&log)?;
        let mut up = Owned::start(
            Command::new(binaries.path("eddy"))
                .args(["up", "--site", SITE, "--port", "0", "--dir"])
                .arg(&dir)
                .arg("--config")
                .arg(&config)
                .env_remove("EDDY_GATEWAY_DIR")
                .env_remove("EDDY_CONFIG")
                .stdout(file.try_clone()?)
                .stderr(file),
        )?;
        let told = async {
            loop {
                tokio::time::sleep(Duration::from_millis(50)).await;
                if let Some(status) = up.ended() {
                    bail!("`eddy up` ended: {status}");
                }
                let text = std::fs::read(dir.join("gateway.json")).unwrap_or_default();
                if let Ok(told) = serde_json::from_slice::<GatewayFile>(&text)
                    && HOPS.iter().all(|hop| told.http.contains_key(hop.stage))
                {
                    return Ok(told);
                }
            }
        };
        let told = tokio::time::timeout(START_TIMEOUT, told).await.context("`eddy up` is not up in time");
        let told = told.and_then(|told| told).with_context(|| std::fs::read_to_string(&log).unwrap_or_default())?;
        let client = Client::connect(&Endpoint::new(&told.url, "eddy-bench")).await?;
        let (resumed, suspended) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { client, url: told.url, pids: told.pids, suspended, resumed, up, folder })
    }

    /// Every process of the gateway that runs, by name; `eddy` is the supervisor.
    pub(super) fn pids(&self) -> BTreeMap<String, u32> {
        let mut pids = self.pids.clone();
        pids.retain(|name, _| !self.suspended.contains_key(name));
        pids.extend(self.resumed.iter().map(|(name, process)| (name.clone(), process.pid())));
        pids
    }

    /// Stops a stage and keeps what it was started with.
    ///
    /// # Errors
    /// If it is not there, or does not stop.
    pub(super) async fn suspend(&mut self, stage: &str) -> Result<()> {
        if let Some(process) = self.resumed.remove(stage) {
            let start = Start::of(process.pid())?;
            drop(process);
            self.suspended.insert(stage.to_owned(), start);
            return Ok(());
        }
        let pid = *self.pids.get(stage).ok_or_else(|| anyhow!("no stage {stage} among {:?}", self.pids))?;
        let start = Start::of(pid)?;
        process::terminate(pid);
        let deadline = Instant::now() + Duration::from_secs(20);
        while Path::new(&format!("/proc/{pid}/exe")).exists() {
            if Instant::now() > deadline {
                bail!("stage {stage}, process {pid}, does not stop");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.suspended.insert(stage.to_owned(), start);
        Ok(())
    }

    /// The same, with these in place of all variables of its environment that begin with `prefix`.
    ///
    /// # Errors
    /// As [`Self::resume`].
    pub(super) fn resume_with(&mut self, stage: &str, prefix: &str, variables: &[(&str, String)]) -> Result<()> {
        if let Some(start) = self.suspended.get_mut(stage) {
            start.environment.retain(|(name, _)| !name.to_string_lossy().starts_with(prefix));
            start.environment.extend(variables.iter().map(|(name, value)| (name.into(), value.into())));
        }
        self.resume(stage)
    }

    /// Starts a stage that was suspended.
    ///
    /// # Errors
    /// If it was not, or cannot be started.
    pub(super) fn resume(&mut self, stage: &str) -> Result<()> {
        let start = self.suspended.get(stage).ok_or_else(|| anyhow!("stage {stage} is not suspended"))?;
        let log =
            std::fs::File::options().append(true).create(true).open(self.folder.path().join(format!("{stage}.log")))?;
        let mut command = Command::new(&start.binary);
        command.args(&start.arguments).env_clear().envs(start.environment.iter().map(|(k, v)| (k, v)));
        let process = Owned::start(command.stdout(log.try_clone()?).stderr(log))?;
        self.suspended.remove(stage);
        self.resumed.insert(stage.to_owned(), process);
        Ok(())
    }

    /// Waits until the first `hops` stages have nothing left to do: hop by hop, and cheaply, so that the waiting is no load.
    ///
    /// # Errors
    /// That nothing moves although something is pending, or that the server does not answer.
    pub(super) async fn settle(&mut self, hops: usize) -> Result<()> {
        for hop in HOPS.into_iter().take(hops) {
            let (mut last, mut moved) = (0, Instant::now());
            loop {
                let end = self.last_sequence(hop.input).await?;
                let delivered = self.delivered(&hop).await?;
                // The last output says for certain how far the stage is; it may be a megabyte, so it is asked for last.
                if delivered >= end && self.next_sequence(&hop).await? > end {
                    break;
                }
                if delivered != last {
                    (last, moved) = (delivered, Instant::now());
                }
                if moved.elapsed() > STALL_TIMEOUT || self.up.ended().is_some() {
                    bail!("{} does not move from {last} of {end}; {}", hop.stage, self.last_words(hop.stage));
                }
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(())
    }

    /// The newest message that a stage was handed.
    async fn delivered(&self, hop: &Hop) -> Result<u64> {
        let consumers = self.client.consumers(hop.input).await?;
        let own = consumers.iter().filter(|consumer| consumer.name.starts_with(hop.stage));
        Ok(own.map(|consumer| consumer.delivered).max().unwrap_or(0))
    }

    /// The newest sequence of a stream.
    ///
    /// # Errors
    /// If there is no such stream.
    pub(super) async fn last_sequence(&self, stream: &str) -> Result<u64> {
        let info = self.client.stream(stream).await?;
        Ok(info.ok_or_else(|| anyhow!("no stream {stream}"))?.last_sequence)
    }

    async fn next_sequence(&self, hop: &Hop) -> Result<u64> {
        let last = self.client.last(hop.output, &hop.subject()).await?;
        let header = last.as_ref().and_then(|last| last.header(HEADER)).unwrap_or_default();
        let position: Position = header.parse()?;
        Ok(position.place(hop.input).map_or(1, |place| place.next_sequence()))
    }

    /// What a stage and the supervisor logged last.
    pub(super) fn last_words(&self, stage: &str) -> String {
        let own = self.folder.path().join(format!("{stage}.log"));
        let logs = self.folder.path().join("gateway/logs");
        let of_stage = if own.exists() { own } else { logs.join(format!("{stage}.log")) };
        let tail = |path: PathBuf| {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(6)..].join("\n")
        };
        format!("it said:\n{}\nthe gateway said:\n{}", tail(of_stage), tail(logs.join("gateway.log")))
    }
}

/// How a process was started.
#[derive(Debug)]
struct Start {
    binary: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
}

impl Start {
    /// As the kernel tells it of a process that runs.
    fn of(pid: u32) -> Result<Self> {
        let read = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).context(format!("process {pid}: {name}"));
        let binary = std::fs::read_link(format!("/proc/{pid}/exe")).context(format!("process {pid}: exe"))?;
        Ok(Self {
            binary,
            arguments: pieces(&read("cmdline")?).skip(1).collect(),
            environment: pieces(&read("environ")?).filter_map(pair).collect(),
        })
    }
}

fn pieces(bytes: &[u8]) -> impl Iterator<Item = OsString> + '_ {
    let bytes = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    bytes.split(|byte| *byte == 0).map(|piece| OsString::from_vec(piece.to_vec()))
}

fn pair(piece: OsString) -> Option<(OsString, OsString)> {
    let bytes = piece.into_vec();
    let at = bytes.iter().position(|byte| *byte == b'=')?;
    Some((OsString::from_vec(bytes[..at].to_vec()), OsString::from_vec(bytes[at + 1..].to_vec())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_started_again_as_it_was() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "while :; do /bin/sleep 0.05; done", "", "a b"]).env("EDDY_BENCH_TEST", "x=y\nz");
        let owned = Owned::start(&mut command).unwrap();
        // Between fork and exec the process is still the test itself.
        let start = loop {
            let start = Start::of(owned.pid()).unwrap();
            if start.arguments.first().is_some_and(|first| first == "-c") {
                break start;
            }
        };
        assert_eq!(start.arguments[2..], ["", "a b"]);
        assert!(start.environment.contains(&("EDDY_BENCH_TEST".into(), "x=y\nz".into())));
    }

    #[test]
    fn the_config_is_toml_with_or_without_room() {
        let plan = |roomy| Plan { series: 30, commissioning_rows: 64, roomy, parent: PathBuf::new() };
        for roomy in [false, true] {
            let table: toml::Table = plan(roomy).config().parse().unwrap();
            assert_eq!(table["detect"]["fleet_series"].as_float(), Some(30.0));
            assert_eq!(table["gateway"].get("streams").is_some(), roomy);
        }
    }
}
