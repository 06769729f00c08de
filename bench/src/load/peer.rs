//! The same design in Python, on the same samples: `bench/peers/`.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use async_nats::jetstream::{self, stream::Config};
use serde::Deserialize;

use super::{
    gateway::{Gateway, SITE},
    process::Owned,
    say,
};

/// Where its scores go.
const STREAM: &str = "PEER";
const STREAM_BYTES_MAX: i64 = 1 << 30;
/// How long making its environment may take: some 100 MB from PyPI.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(600);
/// How long it may take beside the time that it is given to score.
const EXTRA_TIMEOUT: Duration = Duration::from_secs(300);

/// What it scored.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Scored {
    /// How many windows.
    pub(super) windows: u64,
    /// How long that took.
    pub(super) seconds: f64,
}

/// What it reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Samples {
    /// The first message of SAMPLES that it scores; those before set its scaling.
    pub(super) scored_from: u64,
    /// The last message.
    pub(super) last: u64,
    /// It stops after so many seconds of scoring.
    pub(super) seconds: f64,
    /// Row by row; else all rows of a message at once.
    pub(super) singly: bool,
}

/// Where the peers' programs lie.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers")
}

/// A Python with the packages that a peer needs.
#[derive(Clone, Debug)]
pub(crate) struct Environment {
    /// The interpreter.
    pub(crate) python: PathBuf,
    /// Packages that could not be had, and why.
    pub(crate) skipped: Vec<String>,
}

/// How packages are installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Install {
    /// All, or there is no environment.
    All,
    /// One by one: what cannot be had is left out.
    Each,
}

/// The environment `.tools/<name>` with the packages of a file of `bench/peers`, made if it is not there.
///
/// # Errors
/// If it cannot be made: no Python, no packages.
pub(crate) async fn environment(name: &str, requirements: &str, install: Install) -> Result<Environment> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools");
    let venv = tools.join(name);
    let mut environment = Environment { python: venv.join("bin/python"), skipped: Vec::new() };
    let (wanted, made) = (folder().join(requirements), venv.join("requirements.txt"));
    let wanted_text = std::fs::read_to_string(&wanted).with_context(|| wanted.display().to_string())?;
    if std::fs::read_to_string(&made).is_ok_and(|made| made == wanted_text) {
        return Ok(environment);
    }
    std::fs::create_dir_all(&tools).with_context(|| tools.display().to_string())?;
    say(&format!("making {} for the Python peer (once)", venv.display()));
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv)).await?;
    let pip = || {
        let mut pip = Command::new(venv.join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        pip
    };
    match install {
        Install::All => run(pip().arg("-r").arg(&wanted)).await?,
        Install::Each => {
            for package in wanted_text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
                if let Err(problem) = run(pip().arg(package)).await {
                    environment.skipped.push(format!("{package} does not install: {problem:#}"));
                }
            }
        }
    }
    // Only now is it complete; else it is tried again.
    if environment.skipped.is_empty() {
        std::fs::write(&made, wanted_text).with_context(|| made.display().to_string())?;
    }
    Ok(environment)
}

/// Runs a command to its end; its standard output goes nowhere.
async fn run(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}");
    let mut child = Owned::start(command.stdout(Stdio::null()))?;
    let status = ended(&mut child, INSTALL_TIMEOUT).await.context(shown.clone())?;
    if !status.success() {
        bail!("{shown}: {status}");
    }
    Ok(())
}

/// Runs a command to its end, and reads the one JSON object that it prints.
///
/// # Errors
/// If it fails, takes too long, or prints something else.
pub(crate) async fn figures<T: serde::de::DeserializeOwned>(
    command: &mut Command,
    timeout: Duration,
    parent: &Path,
) -> Result<T> {
    let output = tempfile::NamedTempFile::new_in(parent)?;
    let mut child = Owned::start(command.stdout(output.reopen()?))?;
    let status = ended(&mut child, timeout).await?;
    if !status.success() {
        bail!("it ended: {status}");
    }
    let text = std::fs::read_to_string(output.path())?;
    serde_json::from_str(text.trim()).with_context(|| format!("it said {text:?}"))
}

async fn ended(child: &mut Owned, timeout: Duration) -> Result<std::process::ExitStatus> {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(status) = child.ended() {
            return Ok(status);
        }
        if Instant::now() > deadline {
            bail!("not done within {} s", timeout.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Lets the peer score `samples` of the gateway, whose own stages should be idle.
///
/// # Errors
/// If it fails.
pub(super) async fn score(gateway: &Gateway, python: &Path, samples: Samples, parent: &Path) -> Result<Scored> {
    let context = jetstream::new(async_nats::connect(gateway.url.as_str()).await.context("connecting for the peer")?);
    let config = Config {
        name: STREAM.into(),
        subjects: vec!["peer.>".into()],
        max_bytes: STREAM_BYTES_MAX,
        ..Default::default()
    };
    context.get_or_create_stream(config).await.context("making the peer's stream")?;
    let mut command = Command::new(python);
    command.arg(folder().join("scores.py")).args(["--url", &gateway.url, "--output", "peer.scores"]);
    command.arg("--bundle").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/bundles/default"));
    command.args(["--subject", &format!("samples.{SITE}.0"), "--scored-from", &samples.scored_from.to_string()]);
    command.args(["--last", &samples.last.to_string(), "--seconds", &samples.seconds.to_string()]);
    if samples.singly {
        command.arg("--singly");
    }
    let timeout = EXTRA_TIMEOUT + Duration::from_secs_f64(samples.seconds);
    figures(&mut command, timeout, parent).await.context("the peer")
}
