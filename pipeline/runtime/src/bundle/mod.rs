//! Model bundles: a folder of `model.onnx`, `model.toml` and `model.toml.minisig`.
//!
//! `model.toml` is the [`Manifest`]: which heads the graph has and how their distances are judged. It pins `model.onnx` by
//! BLAKE3, and is itself signed with Ed25519 in minisign's format, so one signature covers both. A vector is known by the
//! bundle that made it: the *bundle digest* is the lower-case hex BLAKE3 of `model.toml`'s bytes.
//!
//! A bundle comes from outside: the signature is checked before a byte is parsed, and every file has a bound (INV-5).

mod error;
mod library;

use std::{collections::HashSet, fs, io, path::Path};

use minisign_verify::{PublicKey, Signature};
use serde::Deserialize;

pub use error::BundleError;
pub use library::Library;

/// The manifest format that this release reads.
pub const FORMAT: u32 = 1;
/// All that the stages keep of one series, histories included, in bytes.
pub const STATE_BYTES_MAX: u32 = 8192;
/// What of [`STATE_BYTES_MAX`] is not history: a window of 256 samples, scaling, running statistics, calibration, as measured with the
/// default bundle.
pub const FIXED_STATE_BYTES: u32 = 2816;
/// What is kept of a series of bursts beside that, in bytes.
pub const BURST_STATE_BYTES_MAX: u32 = 4096;
/// What of [`BURST_STATE_BYTES_MAX`] is not history: the scaling of its spectra, calibration, vectors that wait or are held.
pub const BURST_FIXED_STATE_BYTES: u32 = 1024;
/// Longest window that a graph may take, in rows.
pub const INPUT_WINDOW_MAX: usize = 4096;
/// Largest vector that a head may give.
pub const DIMENSIONS_MAX: usize = 1024;
/// Most heads of one bundle.
pub const HEADS_MAX: usize = 16;
/// Longest commissioning, in rows: the samples of that time are held in memory.
pub const COMMISSIONING_ROWS_MAX: usize = 2000;

const MANIFEST_BYTES_MAX: u64 = 1 << 20;
const ONNX_BYTES_MAX: u64 = 64 << 20;

/// How far apart two vectors of a head are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// The Euclidean distance.
    Euclidean,
}

/// What of a row a head looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeadInput {
    /// The window that ends at the row: the graph's input `window`.
    #[default]
    Window,
    /// The spectrum of the burst that the row was made from: the graph's input `spectrum`. Rows without one lack the head.
    Spectrum,
}

/// Whose vector it is that is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeadScope {
    /// Each series' own.
    Series,
    /// The vectors of all channels of a device at one event time, joined; for devices of two or more channels.
    Device,
}

/// What a distance is divided by before heads are compared with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spread {
    /// The running standard deviation of the series' value.
    Series,
    /// Not a division but a z-score: against the running mean and deviation of the head's own distances.
    Distances,
    /// The 0.99 quantile of the head's distances during commissioning.
    Commissioned,
}

/// What may enter a head's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Memory {
    /// What does not look anomalous.
    Gated,
    /// Nothing past commissioning.
    Frozen,
    /// Past commissioning few of what is surely ordinary: a season, but no fault.
    Slow,
}

/// One output of the graph and how its distances are judged.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// As it stands in batches and alerts: letters, digits, `-`, `_`.
    pub name: String,
    /// The ONNX output.
    pub output: String,
    /// What it looks at; the window, if the key is left out.
    #[serde(default)]
    pub input: HeadInput,
    /// Length of its vectors, 1 to [`DIMENSIONS_MAX`].
    pub dimensions: usize,
    /// How many of the last rows the vector depends on, 1 to the manifest's `input_window`.
    pub window: usize,
    /// Scored only when the window holds at least that many real samples; 1 to `input_window`.
    pub min_rows: usize,
    /// How far apart two vectors are.
    pub metric: Metric,
    /// Rows that lie less than that many rows apart are not compared: they share samples.
    pub exclusion: usize,
    /// Whose vector it is.
    pub scope: HeadScope,
    /// What a distance is divided by.
    pub spread: Spread,
    /// The anomaly score is the maximum over the heads of weight x standardised distance; at least 0.
    pub weight: f64,
    /// Weight in the harmonic-mean fusion of tail probabilities; at least 0.
    pub evidence: f64,
    /// Standardised distances below this are never evidence; at least 0.
    pub floor: f64,
    /// Budget of the head's history, per series.
    pub history_bytes: u32,
    /// What may enter the history.
    pub memory: Memory,
    /// Whether it is a learned encoder, from which readings cannot be read off.
    pub learned: bool,
    /// Whether its vectors may leave the gateway: learned heads only (INV-7).
    pub leaves_gateway: bool,
}

/// `model.toml`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// The bundle's name.
    pub name: String,
    /// The bundle's version.
    pub version: String,
    /// Lower-case hex BLAKE3 of `model.onnx`.
    pub onnx_digest: String,
    /// How many samples the graph's input `window` takes; 1 to [`INPUT_WINDOW_MAX`].
    pub input_window: usize,
    /// How many first samples of a series set its scaling; 2 to [`COMMISSIONING_ROWS_MAX`].
    pub commissioning_rows: usize,
    /// The outputs, in the order in which they stand in EMBEDDINGS.
    #[serde(rename = "head")]
    pub heads: Vec<Head>,
}

/// A bundle that was opened and found whole.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// `model.toml`.
    pub manifest: Manifest,
    /// Lower-case hex BLAKE3 of `model.toml`'s bytes.
    pub digest: String,
    /// The bytes of `model.onnx`.
    pub onnx: Vec<u8>,
}

impl Manifest {
    /// Every field that holds what it cannot; empty for a manifest that can be used.
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut need = |holds: bool, problem: String| {
            if !holds {
                problems.push(problem);
            }
        };
        need(self.format == FORMAT, format!("format: expected {FORMAT}, found {}", self.format));
        need(is_token(&self.name), format!("name: expected letters, digits, - and _, found {:?}", self.name));
        need(!self.version.is_empty(), "version: expected text like \"1.0.0\", found \"\"".into());
        let digest = &self.onnx_digest;
        let is_hex = digest.len() == 64 && digest.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        need(is_hex, format!("onnx_digest: expected 64 lower-case hex digits, found {digest:?}"));
        in_range(&mut need, "input_window", self.input_window, 1, INPUT_WINDOW_MAX);
        in_range(&mut need, "commissioning_rows", self.commissioning_rows, 2, COMMISSIONING_ROWS_MAX);
        in_range(&mut need, "number of [[head]] tables", self.heads.len(), 1, HEADS_MAX);
        let (mut names, mut outputs) = (HashSet::new(), HashSet::new());
        for head in &self.heads {
            head.validate(self.input_window, &mut need);
            need(names.insert(&head.name), format!("head {:?} stands twice", head.name));
            need(
                outputs.insert(&head.output),
                format!("head {:?}: output {:?} has a head already", head.name, head.output),
            );
        }
        for (input, of, most) in [
            (HeadInput::Window, "window", STATE_BYTES_MAX - FIXED_STATE_BYTES),
            (HeadInput::Spectrum, "spectrum", BURST_STATE_BYTES_MAX - BURST_FIXED_STATE_BYTES),
        ] {
            let heads = self.heads.iter().filter(|head| head.input == input);
            let history: u64 = heads.map(|head| u64::from(head.history_bytes)).sum();
            need(
                history <= u64::from(most),
                format!(
                    "history_bytes of all heads of input \"{of}\": expected at most {most} in all, found {history}"
                ),
            );
        }
        need(
            self.heads.iter().any(|head| head.input == HeadInput::Window),
            "input: expected at least one head of input \"window\", found none".into(),
        );
        problems.extend(self.detection_problems());
        problems
    }

    /// What detection cannot do with the heads; [`Self::validate`] has it too, so that no such bundle is let in anywhere.
    pub fn detection_problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let scoped = |scope| self.heads.iter().filter(move |head| head.scope == scope);
        let (series, joint) = (scoped(HeadScope::Series).count(), scoped(HeadScope::Device).count());
        if series == 0 || series > HEADS_MAX {
            problems.push(format!("expected 1 to {HEADS_MAX} heads of scope \"series\", found {series}"));
        }
        if joint > 1 {
            problems.push(format!("expected at most one head of scope \"device\", found {joint}"));
        }
        let leaving = scoped(HeadScope::Series).filter(|head| head.leaves_gateway).count();
        if leaving > 1 {
            problems.push(format!("expected at most one head that leaves the gateway, found {leaving}"));
        }
        if !scoped(HeadScope::Device).all(|head| head.spread == Spread::Commissioned) {
            problems.push("a head of scope \"device\" needs spread = \"commissioned\"".into());
        }
        if scoped(HeadScope::Series).any(|head| head.memory == Memory::Slow) {
            problems.push("memory = \"slow\" is for the head of scope \"device\"".into());
        }
        problems
    }
}

impl Head {
    fn validate(&self, input_window: usize, need: &mut impl FnMut(bool, String)) {
        let at = |field: &str| format!("head {:?} {field}", self.name);
        need(is_token(&self.name), format!("{}: expected letters, digits, - and _", at("name")));
        need(!self.output.is_empty(), format!("{}: expected the name of an ONNX output, found \"\"", at("output")));
        in_range(need, &at("dimensions"), self.dimensions, 1, DIMENSIONS_MAX);
        in_range(need, &at("window"), self.window, 1, input_window);
        in_range(need, &at("min_rows"), self.min_rows, 1, input_window);
        in_range(need, &at("exclusion"), self.exclusion, 1, INPUT_WINDOW_MAX);
        for (field, value) in [("weight", self.weight), ("evidence", self.evidence), ("floor", self.floor)] {
            let holds = value.is_finite() && value >= 0.0;
            need(holds, format!("{}: expected a finite number of at least 0, found {value}", at(field)));
        }
        if self.input == HeadInput::Spectrum {
            // One row is one spectrum: no rows share samples, and other channels' rows have other times.
            let fits = self.window == 1 && self.min_rows == 1 && self.scope == HeadScope::Series;
            let problem = "window = 1, min_rows = 1 and scope = \"series\" with input = \"spectrum\"";
            need(fits, format!("{}: expected {problem}", at("input")));
            let problem = "\"distances\" or \"commissioned\" with input = \"spectrum\", found \"series\"";
            need(self.spread != Spread::Series, format!("{}: expected {problem}", at("spread")));
        }
        need(
            self.learned || !self.leaves_gateway,
            format!(
                "{}: only a learned head may leave the gateway, readings could be read off this one",
                at("leaves_gateway")
            ),
        );
    }
}

fn in_range(need: &mut impl FnMut(bool, String), field: &str, value: usize, least: usize, most: usize) {
    need((least..=most).contains(&value), format!("{field}: expected {least} to {most}, found {value}"));
}

fn is_token(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

impl Bundle {
    /// Opens the bundle in folder `dir`.
    ///
    /// `trusted_keys` are minisign public keys as base64, or paths ending in `.pub` of files that minisign writes them to;
    /// any one of them must have signed the manifest. `allow_unsigned` leaves the signature out, not the ONNX digest.
    ///
    /// # Errors
    /// See [`BundleError`].
    pub fn open(dir: &Path, trusted_keys: &[String], allow_unsigned: bool) -> Result<Self, BundleError> {
        let path = dir.join("model.toml");
        let bytes = read(&path, MANIFEST_BYTES_MAX)?;
        if !allow_unsigned {
            verify(&path, &bytes, trusted_keys)?;
        }
        let syntax = |problem: String| BundleError::Syntax { path: path.clone(), problem };
        let text = std::str::from_utf8(&bytes).map_err(|error| syntax(format!("not UTF-8: {error}")))?;
        let manifest: Manifest =
            toml::from_str(text).map_err(|error| syntax(error.to_string().trim_end().to_owned()))?;
        let problems = manifest.validate();
        if !problems.is_empty() {
            return Err(BundleError::Fields { path, problems });
        }
        let onnx_path = dir.join("model.onnx");
        let onnx = read(&onnx_path, ONNX_BYTES_MAX)?;
        let found = blake3::hash(&onnx).to_hex().to_string();
        if found != manifest.onnx_digest {
            return Err(BundleError::OnnxDigest { path: onnx_path, expected: manifest.onnx_digest, found });
        }
        Ok(Self { manifest, digest: blake3::hash(&bytes).to_hex().to_string(), onnx })
    }
}

fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, BundleError> {
    let error = |error| BundleError::Read { path: path.to_owned(), error };
    let bytes = fs::metadata(path).map_err(error)?.len();
    if bytes > bytes_max {
        return Err(BundleError::TooLarge { path: path.to_owned(), bytes, bytes_max });
    }
    fs::read(path).map_err(error)
}

fn verify(manifest: &Path, bytes: &[u8], trusted_keys: &[String]) -> Result<(), BundleError> {
    let keys = trusted_keys.iter().map(|key| public_key(key)).collect::<Result<Vec<_>, _>>()?;
    let path = manifest.with_extension("toml.minisig");
    let text = match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(BundleError::Unsigned { path }),
        _ => read(&path, MANIFEST_BYTES_MAX)?,
    };
    let signature = Signature::decode(&String::from_utf8_lossy(&text))
        .map_err(|error| BundleError::Signature { path: path.clone(), problem: error.to_string().to_lowercase() })?;
    for key in &keys {
        match key.verify(bytes, &signature, false) {
            Ok(()) => return Ok(()),
            Err(minisign_verify::Error::UnexpectedKeyId) => {}
            Err(minisign_verify::Error::InvalidSignature) => {
                return Err(BundleError::Altered { path: manifest.to_owned() });
            }
            Err(error) => return Err(BundleError::Signature { path, problem: error.to_string().to_lowercase() }),
        }
    }
    Err(BundleError::Untrusted { path, trusted: keys.len(), comment: signature.untrusted_comment().to_owned() })
}

fn public_key(entry: &str) -> Result<PublicKey, BundleError> {
    let wrong = |problem: String| BundleError::Key { key: entry.to_owned(), problem };
    if entry.ends_with(".pub") {
        let text = read(Path::new(entry), MANIFEST_BYTES_MAX)?;
        PublicKey::decode(&String::from_utf8_lossy(&text)).map_err(|error| wrong(error.to_string().to_lowercase()))
    } else {
        PublicKey::from_base64(entry).map_err(|error| wrong(error.to_string().to_lowercase()))
    }
}

#[cfg(test)]
mod tests;
