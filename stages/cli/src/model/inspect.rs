//! `eddy model inspect`.

use std::{
    fmt, fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use clap::Args;
use eddy_runtime::bundle::{
    BURST_FIXED_STATE_BYTES, Bundle, FIXED_STATE_BYTES, Head, HeadInput, HeadScope, Memory, Metric, Spread,
};
use minisign::SignatureBox;
use serde::Serialize;

use super::keys;
use crate::output::printable;

/// Larger files are no signatures.
const SIGNATURE_BYTES_MAX: u64 = 1 << 20;

/// What is looked at.
#[derive(Args, Clone, Debug)]
pub struct InspectArgs {
    /// Folder of the bundle
    pub dir: PathBuf,
    /// As one line of JSON
    #[arg(long)]
    pub json: bool,
}

/// What a signature says of itself: nothing of it is checked.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Signature {
    /// The key's number.
    key: String,
    pub(super) trusted_comment: Option<String>,
}

impl Signature {
    /// That of the bundle in `dir`; `None` if it is unsigned.
    pub(super) fn read(dir: &Path) -> anyhow::Result<Option<Self>> {
        let path = dir.join("model.toml.minisig");
        let bytes = match fs::metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            metadata => metadata.with_context(|| path.display().to_string())?.len(),
        };
        ensure!(bytes <= SIGNATURE_BYTES_MAX, "{}: {bytes} bytes are no signature", path.display());
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let signature = SignatureBox::from_string(&text).with_context(|| path.display().to_string())?;
        Ok(Some(Self { key: keys::number(signature.keynum()), trusted_comment: signature.trusted_comment().ok() }))
    }
}

#[derive(Serialize)]
struct HeadReport {
    name: String,
    output: String,
    input: &'static str,
    dimensions: usize,
    window: usize,
    min_rows: usize,
    metric: &'static str,
    exclusion: usize,
    scope: &'static str,
    spread: &'static str,
    weight: f64,
    evidence: f64,
    floor: f64,
    history_bytes: u32,
    memory: &'static str,
    learned: bool,
    leaves_gateway: bool,
}

#[derive(Serialize)]
struct Inspected {
    bundle: String,
    version: String,
    digest: String,
    /// `None`: unsigned. What it says is not checked.
    signature: Option<Signature>,
    graph_bytes: usize,
    onnx_digest: String,
    input_window: usize,
    commissioning_rows: usize,
    /// What is kept of a series at most; of one with bursts so much more.
    state_bytes_per_series: u32,
    burst_state_bytes_per_series: u32,
    heads: Vec<HeadReport>,
}

pub(super) fn run(args: &InspectArgs) -> anyhow::Result<()> {
    let Bundle { manifest, digest, onnx } = Bundle::open(&args.dir, &[], true)?;
    let history = |input: HeadInput| -> u32 {
        manifest.heads.iter().filter(|head| head.input == input).map(|head| head.history_bytes).sum()
    };
    let bursts = manifest.heads.iter().any(|head| head.input == HeadInput::Spectrum);
    let burst_bytes = if bursts { BURST_FIXED_STATE_BYTES + history(HeadInput::Spectrum) } else { 0 };
    let inspected = Inspected {
        digest,
        signature: Signature::read(&args.dir)?,
        graph_bytes: onnx.len(),
        state_bytes_per_series: FIXED_STATE_BYTES + history(HeadInput::Window),
        burst_state_bytes_per_series: burst_bytes,
        heads: manifest.heads.iter().map(HeadReport::of).collect(),
        bundle: manifest.name,
        version: manifest.version,
        onnx_digest: manifest.onnx_digest,
        input_window: manifest.input_window,
        commissioning_rows: manifest.commissioning_rows,
    };
    super::tell(args.json, &inspected)
}

impl HeadReport {
    fn of(head: &Head) -> Self {
        Self {
            name: head.name.clone(),
            output: head.output.clone(),
            input: match head.input {
                HeadInput::Window => "window",
                HeadInput::Spectrum => "spectrum",
            },
            dimensions: head.dimensions,
            window: head.window,
            min_rows: head.min_rows,
            metric: match head.metric {
                Metric::Euclidean => "euclidean",
            },
            exclusion: head.exclusion,
            scope: match head.scope {
                HeadScope::Series => "series",
                HeadScope::Device => "device",
            },
            spread: match head.spread {
                Spread::Series => "series",
                Spread::Distances => "distances",
                Spread::Commissioned => "commissioned",
            },
            weight: head.weight,
            evidence: head.evidence,
            floor: head.floor,
            history_bytes: head.history_bytes,
            memory: match head.memory {
                Memory::Gated => "gated",
                Memory::Frozen => "frozen",
                Memory::Slow => "slow",
            },
            learned: head.learned,
            leaves_gateway: head.leaves_gateway,
        }
    }
}

impl fmt::Display for Inspected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {}", self.bundle, printable(&self.version))?;
        writeln!(f, "digest: {}", self.digest)?;
        match &self.signature {
            None => writeln!(f, "UNSIGNED: a gateway refuses it; `eddy model sign` signs it")?,
            Some(Signature { key, trusted_comment }) => {
                let comment = printable(trusted_comment.as_deref().unwrap_or("none"));
                writeln!(f, "signed by key {key}, as the signature says (not checked here); its comment: {comment}")?;
            }
        }
        writeln!(f, "graph: {} bytes, BLAKE3 {}", self.graph_bytes, self.onnx_digest)?;
        writeln!(f, "input: {} samples; a series commissions on {}", self.input_window, self.commissioning_rows)?;
        write!(f, "state of a series: at most {} bytes", self.state_bytes_per_series)?;
        if self.burst_state_bytes_per_series > 0 {
            write!(f, ", with bursts {} more", self.burst_state_bytes_per_series)?;
        }
        writeln!(f, "\n")?;
        let widest = self.heads.iter().map(|head| head.name.len()).max().unwrap_or(0).max(4);
        write!(
            f,
            "{:widest$}  input     dims  window  min_rows  scope   memory  weight  evidence  history  leaves",
            "head"
        )?;
        for head in &self.heads {
            let HeadReport { name, input, dimensions, window, min_rows, scope, memory, .. } = head;
            let HeadReport { weight, evidence, history_bytes, .. } = head;
            let leaves = if head.leaves_gateway { "yes" } else { "no" };
            write!(
                f,
                "\n{name:widest$}  {input:8}  {dimensions:>4}  {window:>6}  {min_rows:>8}  {scope:6}  {memory:6}  \
                 {weight:>6}  {evidence:>8}  {history_bytes:>7}  {leaves}"
            )?;
        }
        Ok(())
    }
}
