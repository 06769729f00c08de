//! A real gateway to measure: `eddy up` with a config and a folder of its own.
//!
//! For what concerns single stages, a stage is *suspended*: it is stopped as by an operator, and started again with the
//! arguments and the environment that `eddy up` had given it. `eddy up` itself is told to wait an hour before it restarts
//! anything, so that it does not interfere (and a stage that crashes stays down and is noticed).

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};
use eddy_runtime::{
    client::{Client, Endpoint},
    position::{HEADER, Position},
};
use nix::sys::signal::Signal;
use serde::Deserialize;

use super::{
    binaries::Binaries,
    plan::Plan,
    process::{self, Owned},
    start::Start,
};

/// The site of all measurements.
pub(super) const SITE: &str = "bench";
/// How long a gateway may take to come up.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a process may take to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
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
    /// The subjects of its output, of every shard.
    pub(super) fn subject(&self) -> String {
        format!("{}.{SITE}.*", self.prefix)
    }

    /// The subject of one shard's output.
    fn subject_of(&self, shard: u32) -> String {
        format!("{}.{SITE}.{shard}", self.prefix)
    }

    /// Whether each shard has a process of its own.
    fn is_sharded(&self) -> bool {
        self.stage != HOPS[0].stage
    }
}

/// The path to an alert.
pub(super) const HOPS: [Hop; 4] = [
    Hop { stage: "capture", input: "INGEST", output: "READINGS", prefix: "readings" },
    Hop { stage: "preprocess", input: "READINGS", output: "SAMPLES", prefix: "samples" },
    Hop { stage: "embed", input: "SAMPLES", output: "EMBEDDINGS", prefix: "embeddings" },
    Hop { stage: "detect", input: "EMBEDDINGS", output: "DETECTIONS", prefix: "scores" },
];

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
    shards: u32,
    eddy: PathBuf,
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
        std::fs::write(folder.path().join("bench.toml"), plan.config())?;
        let (eddy, shards) = (binaries.path("eddy"), plan.shards);
        let Launched { up, told, client } = launch(&eddy, folder.path(), shards).await?;
        let (resumed, suspended) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { client, url: told.url, shards, eddy, pids: told.pids, suspended, resumed, up, folder })
    }

    /// Kills everything at once, the server and the supervisor too, and starts it again on what is there.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub(super) async fn kill_all(&mut self) -> Result<()> {
        let pids: Vec<u32> = self.pids().into_values().chain([self.up.pid()]).collect();
        pids.iter().for_each(|pid| process::signal(*pid, Signal::SIGKILL));
        for pid in pids {
            until_gone("gateway", pid).await?;
        }
        (self.resumed, self.suspended) = Default::default();
        std::fs::remove_file(self.folder.path().join("gateway/gateway.json")).context("what the dead gateway told")?;
        let Launched { up, told, client } = launch(&self.eddy, self.folder.path(), self.shards).await?;
        (self.up, self.url, self.pids, self.client) = (up, told.url, told.pids, client);
        Ok(())
    }

    /// Every process of the gateway that runs, by name; `eddy` is the supervisor.
    pub(super) fn pids(&self) -> BTreeMap<String, u32> {
        let mut pids = self.pids.clone();
        pids.retain(|name, _| !self.suspended.contains_key(name));
        pids.extend(self.resumed.iter().map(|(name, process)| (name.clone(), process.pid())));
        pids
    }

    /// Stops a stage, all its shards, and keeps what it was started with.
    ///
    /// # Errors
    /// If it is not there, or does not stop.
    pub(super) async fn suspend(&mut self, stage: &str) -> Result<()> {
        self.stop(&[stage], Signal::SIGTERM).await
    }

    /// The same by SIGKILL, of several at once.
    ///
    /// # Errors
    /// As [`Self::suspend`].
    pub(super) async fn kill(&mut self, stages: &[&str]) -> Result<()> {
        self.stop(stages, Signal::SIGKILL).await
    }

    async fn stop(&mut self, stages: &[&str], signal: Signal) -> Result<()> {
        let running = self.pids();
        let mut stopping = Vec::new();
        for name in stages.iter().flat_map(|stage| instances(stage, self.shards)) {
            let pid = *running.get(&name).ok_or_else(|| anyhow!("no stage {name} among {running:?}"))?;
            stopping.push((Start::of(pid)?, name, pid));
        }
        stopping.iter().for_each(|(_, _, pid)| process::signal(*pid, signal));
        for (start, name, pid) in stopping {
            until_gone(&name, pid).await?;
            self.resumed.remove(&name);
            self.suspended.insert(name, start);
        }
        Ok(())
    }

    /// The same, with these in place of all variables of its environment that begin with `prefix`.
    ///
    /// # Errors
    /// As [`Self::resume`].
    pub(super) fn resume_with(&mut self, stage: &str, prefix: &str, variables: &[(&str, String)]) -> Result<()> {
        for name in instances(stage, self.shards) {
            if let Some(start) = self.suspended.get_mut(&name) {
                start.set(prefix, variables);
            }
        }
        self.resume(stage)
    }

    /// Starts a stage that was suspended.
    ///
    /// # Errors
    /// If it was not, or cannot be started.
    pub(super) fn resume(&mut self, stage: &str) -> Result<()> {
        for name in instances(stage, self.shards) {
            let start = self.suspended.get(&name).ok_or_else(|| anyhow!("stage {name} is not suspended"))?;
            let log = self.folder.path().join(format!("{name}.log"));
            let process = start.again(std::fs::File::options().append(true).create(true).open(log)?)?;
            self.suspended.remove(&name);
            self.resumed.insert(name, process);
        }
        Ok(())
    }

    /// Waits until the first `hops` stages have nothing left to do: hop by hop, and cheaply, so that the waiting is no load.
    ///
    /// # Errors
    /// That nothing moves although something is pending, or that the server does not answer.
    pub(super) async fn settle(&mut self, hops: usize) -> Result<()> {
        for (at, hop) in HOPS.iter().enumerate().take(hops) {
            for shard in 0..if hop.is_sharded() { self.shards } else { 1 } {
                self.settle_one(at, shard).await?;
            }
        }
        Ok(())
    }

    /// Waits for one stage of one shard, or for one that serves all.
    async fn settle_one(&mut self, at: usize, shard: u32) -> Result<()> {
        let (hop, mut last, mut moved) = (HOPS[at], 0, Instant::now());
        loop {
            let end = self.end(at, shard).await?;
            let delivered = self.delivered(&hop, shard).await?;
            // The last output says for certain how far the stage is; it may be a megabyte, so it is asked for last.
            if delivered >= end && self.next_sequence(&hop, shard).await? > end {
                return Ok(());
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

    /// The newest message that a stage has to read.
    async fn end(&self, at: usize, shard: u32) -> Result<u64> {
        if self.shards == 1 || !HOPS[at].is_sharded() {
            return self.last_sequence(HOPS[at].input).await;
        }
        let last = self.client.last(HOPS[at].input, &HOPS[at - 1].subject_of(shard)).await?;
        Ok(last.map_or(0, |last| last.sequence))
    }

    /// The newest message that a stage was handed.
    async fn delivered(&self, hop: &Hop, shard: u32) -> Result<u64> {
        let consumers = self.client.consumers(hop.input).await?;
        let name = if hop.is_sharded() { format!("{}-{shard}", hop.stage) } else { hop.stage.to_owned() };
        Ok(consumers.iter().find(|consumer| consumer.name == name).map_or(0, |consumer| consumer.delivered))
    }

    /// The newest sequence of a stream.
    ///
    /// # Errors
    /// If there is no such stream.
    pub(super) async fn last_sequence(&self, stream: &str) -> Result<u64> {
        let info = self.client.stream(stream).await?;
        Ok(info.ok_or_else(|| anyhow!("no stream {stream}"))?.last_sequence)
    }

    /// The message after the newest one that a stage's output covers.
    async fn next_sequence(&self, hop: &Hop, shard: u32) -> Result<u64> {
        // Of the one stage that writes for all shards the newest output counts.
        let shards = if hop.is_sharded() { shard..shard + 1 } else { 0..self.shards };
        let mut next = 1;
        for shard in shards {
            let last = self.client.last(hop.output, &hop.subject_of(shard)).await?;
            let header = last.as_ref().and_then(|last| last.header(HEADER)).unwrap_or_default();
            let position: Position = header.parse()?;
            next = next.max(position.place(hop.input).map_or(1, |place| place.next_sequence()));
        }
        Ok(next)
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

/// What `eddy up` calls a stage's processes.
fn instances(stage: &str, shards: u32) -> Vec<String> {
    let is_sharded = HOPS.iter().any(|hop| hop.stage == stage && hop.is_sharded());
    if shards > 1 && is_sharded {
        return (0..shards).map(|shard| format!("{stage}-{shard}")).collect();
    }
    vec![stage.to_owned()]
}

/// Waits until a process is gone; a child that nobody waited for yet is.
async fn until_gone(name: &str, pid: u32) -> Result<()> {
    let deadline = Instant::now() + STOP_TIMEOUT;
    while Path::new(&format!("/proc/{pid}/exe")).exists() {
        if Instant::now() > deadline {
            bail!("{name}, process {pid}, does not stop");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// `eddy up`, once all stages have told where they listen.
struct Launched {
    up: Owned,
    told: GatewayFile,
    client: Client,
}

async fn launch(eddy: &Path, folder: &Path, shards: u32) -> Result<Launched> {
    let (dir, log) = (folder.join("gateway"), folder.join("up.log"));
    let file = std::fs::File::options().append(true).create(true).open(&log)?;
    let mut up = Owned::start(
        Command::new(eddy)
            .args(["up", "--site", SITE, "--port", "0", "--dir"])
            .arg(&dir)
            .arg("--config")
            .arg(folder.join("bench.toml"))
            .env_remove("EDDY_GATEWAY_DIR")
            .env_remove("EDDY_CONFIG")
            .env_remove("EDDY_DATA")
            .stdout(file.try_clone()?)
            .stderr(file),
    )?;
    let wanted: Vec<String> = HOPS.iter().flat_map(|hop| instances(hop.stage, shards)).collect();
    let told = async {
        loop {
            tokio::time::sleep(Duration::from_millis(10)).await;
            if let Some(status) = up.ended() {
                bail!("`eddy up` ended: {status}");
            }
            let text = std::fs::read(dir.join("gateway.json")).unwrap_or_default();
            if let Ok(told) = serde_json::from_slice::<GatewayFile>(&text)
                && wanted.iter().all(|name| told.http.contains_key(name))
            {
                return Ok(told);
            }
        }
    };
    let told = tokio::time::timeout(START_TIMEOUT, told).await.context("`eddy up` is not up in time");
    let told = told.and_then(|told| told).with_context(|| std::fs::read_to_string(&log).unwrap_or_default())?;
    let client = Client::connect(&Endpoint::new(&told.url, "eddy-bench")).await?;
    Ok(Launched { up, told, client })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_on_the_path_have_a_process_a_shard_and_capture_serves_all() {
        assert_eq!(instances("embed", 1), ["embed"]);
        assert_eq!(instances("embed", 2), ["embed-0", "embed-1"]);
        assert_eq!((instances("capture", 2), instances("index", 2)), (vec!["capture".into()], vec!["index".into()]));
    }
}
