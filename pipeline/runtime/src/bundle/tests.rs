//! A bundle is opened whole or refused with what was expected and found.

use minisign::KeyPair;

use super::*;

const HEAD: &str = r#"
[[head]]
name = "value"
output = "value"
dimensions = 1
window = 1
min_rows = 1
metric = "euclidean"
exclusion = 8
scope = "series"
spread = "series"
weight = 1.0
evidence = 1.0
floor = 0.0
history_bytes = 1024
memory = "gated"
learned = false
leaves_gateway = false
"#;

fn manifest(onnx: &[u8]) -> String {
    format!(
        "format = 1\nname = \"m\"\nversion = \"1.0.0\"\nonnx_digest = \"{}\"\ninput_window = 64\ncommissioning_rows = 400\n{HEAD}",
        blake3::hash(onnx).to_hex()
    )
}

/// A bundle of `manifest` and `onnx`, signed by `key`.
fn bundle(manifest: &str, onnx: &[u8], key: &KeyPair) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("model.toml"), manifest).unwrap();
    fs::write(dir.path().join("model.onnx"), onnx).unwrap();
    let signature = minisign::sign(None, &key.sk, manifest.as_bytes(), None, None).unwrap();
    fs::write(dir.path().join("model.toml.minisig"), signature.to_string()).unwrap();
    dir
}

fn key() -> (KeyPair, String) {
    let pair = KeyPair::generate_unencrypted_keypair().unwrap();
    let text = pair.pk.to_base64();
    (pair, text)
}

#[test]
fn a_signed_bundle_opens_and_is_known_by_its_manifests_digest() {
    let (pair, text) = key();
    let manifest = manifest(b"graph");
    let dir = bundle(&manifest, b"graph", &pair);
    let opened = Bundle::open(dir.path(), &[key().1, text], false).unwrap();
    assert_eq!(opened.digest, blake3::hash(manifest.as_bytes()).to_hex().to_string());
    assert_eq!((opened.onnx.as_slice(), opened.manifest.heads.len()), (&b"graph"[..], 1));
    let file = dir.path().join("key.pub");
    fs::write(&file, pair.pk.to_box().unwrap().to_string()).unwrap();
    Bundle::open(dir.path(), &[file.display().to_string()], false).unwrap();
}

#[test]
fn an_unsigned_bundle_is_refused_unless_told_otherwise() {
    let (pair, text) = key();
    let dir = bundle(&manifest(b"graph"), b"graph", &pair);
    fs::remove_file(dir.path().join("model.toml.minisig")).unwrap();
    let error = Bundle::open(dir.path(), &[text], false).unwrap_err();
    assert!(matches!(error, BundleError::Unsigned { .. }), "{error}");
    assert!(Bundle::open(dir.path(), &[], true).is_ok());
}

#[test]
fn an_altered_manifest_or_signature_is_refused() {
    let (pair, text) = key();
    let dir = bundle(&manifest(b"graph"), b"graph", &pair);
    let path = dir.path().join("model.toml");
    fs::write(&path, fs::read_to_string(&path).unwrap().replace("weight = 1.0", "weight = 9.0")).unwrap();
    let error = Bundle::open(dir.path(), std::slice::from_ref(&text), false).unwrap_err();
    assert!(matches!(error, BundleError::Altered { .. }), "{error}");
    fs::write(dir.path().join("model.toml.minisig"), "rubbish").unwrap();
    let error = Bundle::open(dir.path(), &[text], false).unwrap_err();
    assert!(matches!(error, BundleError::Signature { .. }), "{error}");
}

#[test]
fn a_key_that_is_not_trusted_or_not_a_key_is_named() {
    let dir = bundle(&manifest(b"graph"), b"graph", &key().0);
    for keys in [vec![], vec![key().1]] {
        let error = Bundle::open(dir.path(), &keys, false).unwrap_err();
        assert!(matches!(error, BundleError::Untrusted { trusted, .. } if trusted == keys.len()), "{error}");
    }
    let error = Bundle::open(dir.path(), &["rubbish".into()], false).unwrap_err();
    assert!(matches!(&error, BundleError::Key { key, .. } if key == "rubbish"), "{error}");
}

#[test]
fn another_graph_than_the_signed_one_is_refused_even_when_unsigned_bundles_are_taken() {
    let (pair, text) = key();
    let dir = bundle(&manifest(b"graph"), b"another", &pair);
    for allow_unsigned in [false, true] {
        let error = Bundle::open(dir.path(), std::slice::from_ref(&text), allow_unsigned).unwrap_err();
        let found = blake3::hash(b"another").to_hex().to_string();
        assert!(matches!(&error, BundleError::OnnxDigest { found: f, .. } if *f == found), "{error}");
    }
}

#[test]
fn every_missing_file_is_named() {
    for name in ["model.toml", "model.onnx"] {
        let (pair, text) = key();
        let dir = bundle(&manifest(b"graph"), b"graph", &pair);
        fs::remove_file(dir.path().join(name)).unwrap();
        let error = Bundle::open(dir.path(), &[text], false).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn an_unknown_missing_or_mistyped_key_is_named() {
    let good = manifest(b"graph");
    for (from, to, part) in [
        ("version =", "verison =", "verison"),
        ("floor = 0.0", "floor = 0.0\ncolour = 1", "colour"),
        ("window = 1\n", "", "window"),
        ("metric = \"euclidean\"", "metric = \"cosine\"", "cosine"),
        ("format = 1", "format = ", "format"),
    ] {
        let (pair, text) = key();
        let dir = bundle(&good.replacen(from, to, 1), b"graph", &pair);
        let error = Bundle::open(dir.path(), &[text], false).unwrap_err();
        assert!(matches!(&error, BundleError::Syntax { problem, .. } if problem.contains(part)), "{part}: {error}");
    }
}

#[test]
fn all_problems_are_listed_at_once() {
    let mut wrong: Manifest = toml::from_str(&manifest(b"graph")).unwrap();
    assert_eq!(wrong.validate(), Vec::<String>::new());
    wrong.format = 7;
    wrong.name = "a b".into();
    wrong.version.clear();
    wrong.onnx_digest = "XYZ".into();
    wrong.commissioning_rows = 1;
    let head = &mut wrong.heads[0];
    head.dimensions = 0;
    head.window = 65;
    head.min_rows = 0;
    head.exclusion = 0;
    head.weight = f64::NAN;
    head.evidence = -1.0;
    head.history_bytes = 9000;
    head.leaves_gateway = true;
    wrong.heads.push(wrong.heads[0].clone());
    let problems = wrong.validate().join("\n");
    for part in [
        "format",
        "name",
        "version",
        "onnx_digest",
        "commissioning_rows",
        "dimensions",
        "window: expected 1 to 64, found 65",
        "min_rows",
        "exclusion",
        "weight",
        "evidence",
        "history_bytes",
        "leaves_gateway",
        "stands twice",
        "has a head already",
    ] {
        assert!(problems.contains(part), "{part} in\n{problems}");
    }
    wrong.heads[0].input = HeadInput::Spectrum;
    wrong.heads[1].input = HeadInput::Spectrum;
    let problems = wrong.validate().join("\n");
    for part in [
        "input: expected window = 1",
        "spread: expected \"distances\"",
        "heads of input \"spectrum\": expected at most 3072 in all, found 18000",
        "at least one head of input \"window\"",
    ] {
        assert!(problems.contains(part), "{part} in\n{problems}");
    }
    wrong.heads.clear();
    assert!(wrong.validate().iter().any(|problem| problem.contains("[[head]]")));
}

#[test]
fn a_library_takes_what_is_verified_and_finds_it_by_its_digest() {
    let (pair, text) = key();
    let dir = bundle(&manifest(b"graph"), b"graph", &pair);
    let digest = Bundle::open(dir.path(), std::slice::from_ref(&text), false).unwrap().digest;
    let folder = tempfile::tempdir().unwrap();
    let library = Library::new(folder.path(), std::slice::from_ref(&text), false);
    assert!(!library.has(&digest) && library.digests().unwrap().is_empty());
    assert!(matches!(library.open(&digest), Err(BundleError::Read { .. })));
    assert!(matches!(Library::new(folder.path(), &[], false).install(dir.path()), Err(BundleError::Untrusted { .. })));
    for _ in 0..2 {
        assert_eq!(library.install(dir.path()).unwrap().digest, digest);
        assert!(library.has(&digest));
        assert_eq!(library.digests().unwrap(), std::slice::from_ref(&digest));
    }
    // What was damaged there is made good; what is another one under its name is told.
    fs::write(folder.path().join(&digest).join("model.onnx"), b"damaged").unwrap();
    assert!(matches!(library.open(&digest), Err(BundleError::OnnxDigest { .. })));
    library.install(dir.path()).unwrap();
    library.open(&digest).unwrap();
    let other = "0".repeat(64);
    fs::rename(folder.path().join(&digest), folder.path().join(&other)).unwrap();
    assert!(matches!(library.open(&other), Err(BundleError::Another { .. })));
    // The configured one is found where it lies, and without a folder no other is.
    let configured = Library::new(Path::new(""), &[text], false).with_configured(dir.path(), &digest);
    configured.open(&digest).unwrap();
    assert!(matches!(configured.open(&other), Err(BundleError::NoFolder { .. })));
}

#[test]
fn what_detection_cannot_use_is_refused_as_the_manifest_is_read() {
    let (pair, text) = key();
    let two =
        HEAD.replace("learned = false", "learned = true").replace("leaves_gateway = false", "leaves_gateway = true");
    let second = two.replace("\"value\"", "\"other\"");
    let text_of = manifest(b"graph").replace(HEAD, &format!("{two}{second}"));
    let dir = bundle(&text_of, b"graph", &pair);
    let error = Bundle::open(dir.path(), &[text], false).unwrap_err().to_string();
    assert!(error.contains("at most one head that leaves the gateway, found 2"), "{error}");
}
