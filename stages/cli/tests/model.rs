//! `eddy model` as it is run.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// A folder with an unsigned copy of the default bundle in `b`.
struct Setting(tempfile::TempDir);

impl Setting {
    fn new() -> Self {
        let setting = Self(tempfile::tempdir().unwrap());
        setting.copy("b");
        setting
    }

    fn copy(&self, name: &str) {
        fs::create_dir(self.path(name)).unwrap();
        for file in ["model.toml", "model.onnx"] {
            fs::copy(repository("fixtures/bundles/default").join(file), self.path(name).join(file)).unwrap();
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Replaces text of a bundle's manifest.
    fn alter(&self, bundle: &str, from: &str, to: &str) {
        let path = self.path(bundle).join("model.toml");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from}");
        fs::write(path, text.replacen(from, to, 1)).unwrap();
    }

    /// Exit code, standard output and error of `eddy model …`, with a password in the environment or none.
    fn model_with(&self, password: Option<&str>, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_eddy"));
        command.arg("model").args(arguments).current_dir(self.0.path()).env_remove("EDDY_MODEL_PASSWORD");
        command.stdin(std::process::Stdio::null());
        if let Some(password) = password {
            command.env("EDDY_MODEL_PASSWORD", password);
        }
        let ran = command.output().unwrap();
        (ran.status.code(), String::from_utf8(ran.stdout).unwrap(), String::from_utf8(ran.stderr).unwrap())
    }

    fn model(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        self.model_with(None, arguments)
    }

    /// The report of a command that does it.
    fn json(&self, arguments: &[&str]) -> Value {
        let (code, out, error) = self.model(&[arguments, &["--json"]].concat());
        assert_eq!(code, Some(0), "{arguments:?}: {error}");
        serde_json::from_str(&out).unwrap()
    }

    /// What a command that fails says.
    fn refused(&self, arguments: &[&str]) -> String {
        let (code, out, error) = self.model(arguments);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{arguments:?}: {error}");
        error
    }
}

fn digest_of(path: &Path) -> String {
    blake3::hash(&fs::read(path).unwrap()).to_hex().to_string()
}

#[test]
fn a_bundle_that_was_signed_verifies_and_the_signature_names_it() {
    let setting = Setting::new();
    let made = setting.json(&["keygen", "site", "--no-password"]);
    let mode = |name: &str| setting.path(name).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("site.key"), mode("site.pub")), (0o600, 0o644));
    let signed = setting.json(&["sign", "b", "--key", "site.key"]);
    let digest = digest_of(&setting.path("b/model.toml"));
    assert_eq!(signed["digest"], digest.as_str());
    assert_eq!(signed["trusted_comment"], format!("eddy bundle default 1.4.0 blake3:{digest}"));
    let committed = fs::read_to_string(repository("fixtures/bundles/default.pub")).unwrap();
    let other = committed.lines().last().unwrap();
    for trusted in [made["key"].as_str().unwrap(), "site.pub"] {
        let verified = setting.json(&["verify", "b", "--trusted", other, "--trusted", trusted]);
        assert_eq!((verified["trusted"].as_str(), &verified["key"]), (Some(trusted), &made["number"]));
        assert_eq!((&verified["digest"], &verified["heads"][0]), (&digest.as_str().into(), &"value".into()));
    }
    let (_, text, _) = setting.model(&["verify", "b", "--trusted", "site.pub"]);
    assert!(
        text.starts_with("good: default 1.4.0, signed by key ") && text.contains("heads: value, contrast"),
        "{text}"
    );
    // No other file was left behind.
    assert_eq!(setting.path("b").read_dir().unwrap().count(), 3);
}

#[test]
fn keys_have_a_password_and_are_never_overwritten() {
    let setting = Setting::new();
    assert!(setting.refused(&["keygen", "k"]).contains("EDDY_MODEL_PASSWORD"));
    assert_eq!(setting.model_with(Some(""), &["keygen", "k"]).0, Some(1));
    let (code, told, error) = setting.model_with(Some("secret"), &["keygen", "k"]);
    assert!(
        code == Some(0) && told.contains("k.key  signs bundles, encrypted") && told.contains("trusted_keys"),
        "{error}"
    );
    let key = fs::read(setting.path("k.key")).unwrap();
    for name in ["k", "k2"] {
        fs::write(setting.path("k2.pub"), "").unwrap();
        assert!(setting.refused(&["keygen", name, "--no-password"]).contains("never overwritten"));
    }
    assert!(!setting.path("k2.key").exists() && fs::read(setting.path("k.key")).unwrap() == key);
    let sign = |password| setting.model_with(password, &["sign", "b", "--key", "k.key"]);
    assert!(sign(None).2.contains("EDDY_MODEL_PASSWORD"));
    assert!(sign(Some("wrong")).2.contains("password is wrong"));
    assert!(!setting.path("b/model.toml.minisig").exists(), "nothing is written before the key is open");
    assert_eq!(sign(Some("secret")).0, Some(0));
    assert_eq!(setting.model(&["verify", "b", "--trusted", "k.pub"]).0, Some(0));
}

#[test]
fn only_a_whole_bundle_is_signed_and_its_digest_can_be_filled_in() {
    let setting = Setting::new();
    setting.json(&["keygen", "k", "--no-password"]);
    let sign = ["sign", "b", "--key", "k.key"];
    let digest = digest_of(&setting.path("b/model.onnx"));
    for wrong in ["", &"0".repeat(64)] {
        setting.alter("b", &digest, wrong);
        let told = setting.refused(&sign);
        assert!(told.contains("--set-digest") && told.contains("model.toml"), "{told}");
        setting.alter("b", &format!("\"{wrong}\""), &format!("\"{digest}\""));
    }
    setting.alter("b", &digest, "");
    let before = fs::read_to_string(setting.path("b/model.toml")).unwrap();
    setting.json(&[&sign[..], &["--set-digest"]].concat());
    let after = fs::read_to_string(setting.path("b/model.toml")).unwrap();
    assert_eq!(after, before.replacen("onnx_digest = \"\"", &format!("onnx_digest = \"{digest}\""), 1));
    setting.json(&["verify", "b", "--trusted", "k.pub"]);
    setting.alter("b", "window = 1\n", "window = 0\n");
    assert!(setting.refused(&sign).contains("window: expected 1 to"));
    assert!(setting.refused(&["sign", "b", "--key", "k.pub"]).contains("a public key, or damaged"));
    assert!(setting.refused(&["sign", "b", "--key", "nowhere.key"]).contains("nowhere.key"));
    assert!(setting.refused(&["sign", "nowhere", "--key", "k.key"]).contains("nowhere/model.toml"));
}

#[test]
fn each_way_of_failing_verification_says_its_own() {
    let setting = Setting::new();
    setting.json(&["keygen", "k", "--no-password"]);
    setting.json(&["keygen", "other", "--no-password"]);
    let verify = ["verify", "b", "--trusted", "k.pub"];
    assert!(setting.refused(&verify).contains("unsigned"));
    setting.json(&["sign", "b", "--key", "k.key"]);
    let told = setting.refused(&["verify", "b", "--trusted", "other.pub"]);
    assert!(told.contains("signed by none of the 1 trusted keys"), "{told}");
    assert!(setting.refused(&["verify", "b", "--trusted", "rubbish"]).contains("not a minisign public key"));
    let graph = fs::read(setting.path("b/model.onnx")).unwrap();
    fs::write(setting.path("b/model.onnx"), b"another graph").unwrap();
    assert!(setting.refused(&verify).contains("expected BLAKE3"));
    fs::write(setting.path("b/model.onnx"), graph).unwrap();
    setting.alter("b", "weight = 1.0", "weight = 9.0");
    assert!(setting.refused(&verify).contains("altered"));
    fs::write(setting.path("b/model.toml.minisig"), "rubbish").unwrap();
    assert!(setting.refused(&verify).contains("expected a minisign signature"));
    assert_eq!(setting.model(&["verify", "b"]).0, Some(64), "a key has to be named");
}

#[test]
fn a_bundle_is_shown_signed_or_not() {
    let setting = Setting::new();
    let (code, text, _) = setting.model(&["inspect", "b"]);
    assert!(code == Some(0) && text.contains("UNSIGNED"), "{text}");
    let rows = text.lines().skip_while(|line| !line.starts_with("head ")).skip(1);
    let names: Vec<&str> = rows.filter_map(|line| line.split_whitespace().next()).collect();
    let committed = repository("fixtures/bundles/default");
    let shown = setting.json(&["inspect", committed.to_str().unwrap()]);
    let heads = shown["heads"].as_array().unwrap();
    assert_eq!(names, heads.iter().map(|head| head["name"].as_str().unwrap()).collect::<Vec<_>>());
    assert_eq!((&shown["input_window"], &shown["signature"]["key"]), (&256.into(), &"ABBD5B3B77365AC8".into()));
    let history: u64 =
        heads.iter().filter(|head| head["input"] == "window").map(|head| head["history_bytes"].as_u64().unwrap()).sum();
    assert_eq!(shown["state_bytes_per_series"].as_u64(), Some(2_816 + history));
    assert_eq!(shown["graph_bytes"].as_u64(), Some(committed.join("model.onnx").metadata().unwrap().len()));
}

#[test]
fn two_bundles_differ_field_by_field() {
    let setting = Setting::new();
    setting.copy("new");
    let same = setting.json(&["diff", "b", "new"]);
    assert_eq!((&same["fields"], &same["heads"]), (&Value::Array(vec![]), &Value::Array(vec![])));
    assert_eq!((&same["vectors_comparable"], &same["graph_differs"]), (&true.into(), &false.into()));
    setting.alter("new", "version = \"1.4.0\"", "version = \"2.0.0\"");
    setting.alter("new", "name = \"contrast\"", "name = \"contrast2\"");
    setting.alter("new", "floor = ", "floor = 7");
    fs::write(setting.path("new/model.onnx"), b"another graph").unwrap();
    assert!(setting.refused(&["diff", "b", "new"]).contains("expected BLAKE3"));
    let digest = digest_of(&setting.path("b/model.onnx"));
    setting.alter("new", &digest, &digest_of(&setting.path("new/model.onnx")));
    let diff = setting.json(&["diff", "b", "new"]);
    assert_eq!(diff["fields"], serde_json::json!([{"field": "version", "old": "1.4.0", "new": "2.0.0"}]));
    let changes: Vec<(&str, &str)> = diff["heads"]
        .as_array()
        .unwrap()
        .iter()
        .map(|head| (head["head"].as_str().unwrap(), head["change"].as_str().unwrap()))
        .collect();
    assert_eq!(changes, [("value", "changed"), ("contrast", "removed"), ("contrast2", "added")]);
    assert_eq!(diff["heads"][0]["fields"][0]["field"], "floor");
    assert_eq!((&diff["vectors_comparable"], &diff["graph_differs"]), (&false.into(), &true.into()));
    let (_, text, _) = setting.model(&["diff", "b", "new"]);
    for part in
        ["version \"1.4.0\" -> \"2.0.0\"", "head contrast: removed", "graph: differs", "never compared across digests"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
}

/// The signer that makes the committed bundle, in Python: `argv` is what to do, a key file and a manifest.
const SIGNER: &str = "\
import base64, hashlib, sys
from minisign import Key
key = Key.read(sys.argv[1])
data = open(sys.argv[2], 'rb').read()
if sys.argv[3] == 'sign':
    open(sys.argv[2] + '.minisig', 'w').write(key.sign(data, 'signed in Python'))
else:
    lines = open(sys.argv[2] + '.minisig').read().splitlines()
    raw = base64.b64decode(lines[1])
    assert raw[:2] == b'ED' and raw[2:10] == key.key_id
    public = key.secret.public_key()
    public.verify(raw[10:], hashlib.blake2b(data).digest())
    public.verify(base64.b64decode(lines[3]), raw[10:] + lines[2].removeprefix('trusted comment: ').encode())
";

#[test]
fn keys_and_signatures_are_those_of_the_python_signer() {
    let python = |setting: &Setting, what: &str| {
        let mut command = Command::new(std::env::var("EDDY_TEST_PYTHON").unwrap_or_else(|_| "python3".into()));
        command.args(["-c", SIGNER]).args(["k.key", "b/model.toml", what]).current_dir(setting.0.path());
        command.env("PYTHONPATH", repository("fixtures/bundle")).env("PYTHONDONTWRITEBYTECODE", "1").output()
    };
    let setting = Setting::new();
    setting.json(&["keygen", "k", "--no-password"]);
    let has_cryptography = Command::new(std::env::var("EDDY_TEST_PYTHON").unwrap_or_else(|_| "python3".into()))
        .args(["-c", "import cryptography"])
        .output()
        .is_ok_and(|ran| ran.status.success());
    if !has_cryptography {
        eprintln!("SKIPPED: python3 with cryptography is not there");
        return;
    }
    let ran = python(&setting, "sign").unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let verified = setting.json(&["verify", "b", "--trusted", "k.pub"]);
    assert_eq!(verified["trusted_comment"], "signed in Python");
    setting.json(&["sign", "b", "--key", "k.key"]);
    let ran = python(&setting, "verify").unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}
