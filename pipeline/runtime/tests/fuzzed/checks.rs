//! What holds for what the runtime reads: positions, dead letters, config, bundles. The property tests, the replay of the
//! committed corpus and the fuzz targets in `pipeline/runtime/fuzz` (which take this file in by its path) all run these
//! same checks.
//!
//! What is read, written and read again is the same; the same bytes give the same result; what is refused says why, at a
//! length that its bytes bound; nothing that is not signed is opened.

use std::{collections::BTreeMap, fs, path::Path};

use eddy_runtime::{
    bundle::{self, Bundle, BundleError, HeadInput, Manifest},
    config,
    dead_letter::DeadLetter,
    position::{Place, Position},
};
use serde::Deserialize;
use tempfile::TempDir;

/// Bytes of a reason beside those of the input that it cites.
const REASON_BYTES_MAX: usize = 64 * 1024;

thread_local! {
    static FOLDER: TempDir = tempfile::tempdir().expect("a temporary folder");
}

/// A position as it stands in a header, and each of its places.
pub fn position(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(place) = text.parse::<Place>() {
        assert_eq!(place.to_string().parse::<Place>().ok(), Some(place.clone()));
        let next = place.next_sequence();
        // No stream has a message u64::MAX.
        let after = place.sequence.checked_add(1);
        assert!(next >= place.sequence && after.is_none_or(|after| !place.covers(after, 0)));
        assert_eq!(place.covers(place.sequence, 0), place.row > 0);
    }
    match text.parse::<Position>() {
        Ok(position) => {
            let written = position.to_string();
            assert_eq!(written.parse::<Position>().ok(), Some(position.clone()), "{written:?}");
            assert!(!position.is_ahead_of(&position));
        }
        Err(error) => assert!(error.to_string().len() <= 8 * text.len() + REASON_BYTES_MAX),
    }
}

/// A message of dead letters.
pub fn dead_letter(data: &[u8]) {
    let Ok(letters) = DeadLetter::read(data) else { return };
    let json = serde_json::to_vec(&letters).expect("letters have string keys only");
    assert_eq!(DeadLetter::read(&json).ok().as_ref(), Some(&letters));
    for letter in letters {
        if let Ok(original) = letter.original() {
            assert!(original.len() <= data.len());
        }
    }
}

/// A stage's own table, with a value of every kind.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "compared as a whole")]
struct Own {
    ratio: f64,
    names: Vec<String>,
    on: bool,
    #[serde(default)]
    rule: Vec<Rule>,
    units: BTreeMap<String, String>,
    window: Window,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "compared as a whole")]
struct Window {
    rows_max: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "compared as a whole")]
struct Rule {
    period_s: f64,
}

const OWN: &str = "# The stage.\n[detect]\n# A ratio.\nratio = 0.5\nnames = [\n  # none\n]\non = false\nrule = []\n\
    [detect.units]\n[detect.window]\nrows_max = 9 # rows\n";

/// A file; behind a NUL, the environment, a variable a line.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (file, environment) = text.split_once('\0').unwrap_or((text, ""));
    let pair = |line: &str| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    let environment: Vec<_> = environment.lines().filter_map(pair).collect();
    FOLDER.with(|folder| {
        let path = folder.path().join("eddy.toml");
        fs::write(&path, file).expect("a temporary file");
        let load = |environment: &[(String, String)]| {
            config::load::<Own>("detect", OWN, Some(&path), environment.iter().cloned())
                .map(|loaded| format!("{loaded:?}"))
                .map_err(|error| error.problems)
        };
        let loaded = load(&environment);
        assert_eq!(loaded, load(&environment), "the same file, another result");
        match loaded {
            Ok(loaded) => {
                let printed = config::print("detect", OWN, Some(&path), environment.iter().cloned());
                fs::write(&path, printed.expect("what is loaded can be printed")).expect("a temporary file");
                assert_eq!(load(&[]), Ok(loaded), "printed and read again");
            }
            Err(problems) => {
                assert!(!problems.is_empty() && problems.iter().all(|problem| !problem.is_empty()));
                let bytes: usize = problems.iter().map(String::len).sum();
                // Each key that is wrong is named with its path and value.
                assert!(bytes <= 256 * data.len() + REASON_BYTES_MAX, "{bytes} bytes for {}", data.len());
            }
        }
    });
}

const MANIFEST: &str = include_str!("../../../../fixtures/bundles/default/model.toml");
const SIGNATURE: &str = include_str!("../../../../fixtures/bundles/default/model.toml.minisig");
const ONNX: &[u8] = include_bytes!("../../../../fixtures/bundles/default/model.onnx");
const KEY: &str = include_str!("../../../../fixtures/bundles/default.pub");

fn open(manifest: &str, signature: &str, key: &str, allow_unsigned: bool) -> Result<Bundle, BundleError> {
    FOLDER.with(|folder| {
        let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).expect("a temporary file");
        write("model.toml", manifest.as_bytes());
        write("model.toml.minisig", signature.as_bytes());
        if !Path::new(&folder.path().join("model.onnx")).exists() {
            write("model.onnx", ONNX);
        }
        Bundle::open(folder.path(), &[key.to_owned()], allow_unsigned)
    })
}

/// The fixture's key, without its comment.
fn key() -> &'static str {
    KEY.lines().nth(1).expect("a key file has two lines")
}

/// A first byte that says what the text is: a manifest, the signature of the fixture's, a key.
pub fn bundle(data: &[u8]) {
    let Some((kind, text)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    match kind % 3 {
        0 => manifest(text),
        1 => {
            if let Ok(opened) = open(MANIFEST, text, key(), false) {
                assert_eq!(opened.digest, blake3::hash(MANIFEST.as_bytes()).to_hex().to_string());
                let comment = |text: &str| text.lines().nth(2).map(str::to_owned);
                assert_eq!(comment(text), comment(SIGNATURE), "a trusted comment that nobody signed");
            }
        }
        // What ends in .pub is the name of a file.
        _ if text.ends_with(".pub") => {}
        _ => {
            let (opened, is_key) = (open(MANIFEST, SIGNATURE, text, false), text == key());
            assert!(opened.is_ok() == is_key || text.trim() == key(), "opened with {text:?}");
        }
    }
}

fn manifest(text: &str) {
    let parsed = toml::from_str::<Manifest>(text);
    let problems = parsed.as_ref().map(Manifest::validate).unwrap_or_default();
    if let (Ok(manifest), true) = (&parsed, problems.is_empty()) {
        assert!((1..=bundle::HEADS_MAX).contains(&manifest.heads.len()));
        for (input, most) in [
            (HeadInput::Window, bundle::STATE_BYTES_MAX - bundle::FIXED_STATE_BYTES),
            (HeadInput::Spectrum, bundle::BURST_STATE_BYTES_MAX - bundle::BURST_FIXED_STATE_BYTES),
        ] {
            let heads = manifest.heads.iter().filter(|head| head.input == input);
            assert!(heads.map(|head| head.history_bytes).sum::<u32>() <= most, "{input:?}");
        }
        let heads = || manifest.heads.iter();
        assert!(heads().all(|head| head.dimensions <= bundle::DIMENSIONS_MAX && head.window <= manifest.input_window));
        assert!(heads().all(|head| head.weight.is_finite() && head.evidence.is_finite() && head.floor.is_finite()));
    }
    let opened = open(text, SIGNATURE, key(), true);
    match (&parsed, &opened) {
        (Err(_), Err(BundleError::Syntax { .. })) => {}
        (Ok(_), Err(BundleError::Fields { problems: told, .. })) => assert_eq!(told, &problems),
        (Ok(_), Err(BundleError::OnnxDigest { .. })) => assert!(problems.is_empty()),
        (Ok(manifest), Ok(bundle)) => assert!(problems.is_empty() && bundle.manifest == *manifest),
        _ => panic!("{parsed:?} but {:?}", opened.map(|bundle| bundle.manifest)),
    }
    assert_eq!(open(text, SIGNATURE, key(), false).is_ok(), text == MANIFEST, "opened what was not signed");
}
