use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::Path,
};

use clap::Parser;
use eddy_schemas::Timestamp;
use x509_parser::{extensions::GeneralName, pem::parse_x509_pem};

use super::{
    authority::{Authority, Kind},
    files::{Made, Pair},
    *,
};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: CertsArgs,
}

fn certs(folder: &Path, line: &str) -> anyhow::Result<()> {
    let arguments = ["certs", "--out", folder.to_str().unwrap()].into_iter().chain(line.split_whitespace());
    run(&Line::try_parse_from(arguments).unwrap().args)
}

fn read(folder: &Path, file: &str) -> String {
    fs::read_to_string(folder.join(file)).unwrap()
}

/// CN, hosts, and whether it is good as a server's.
fn look(folder: &Path, file: &str) -> (String, Vec<String>, bool) {
    let text = read(folder, file);
    let (_, pem) = parse_x509_pem(text.as_bytes()).unwrap();
    let cert = pem.parse_x509().unwrap();
    let cn = cert.subject().iter_common_name().next().unwrap().as_str().unwrap().to_owned();
    let names =
        cert.subject_alternative_name().unwrap().map(|names| names.value.general_names.clone()).unwrap_or_default();
    let host = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => (*name).to_owned(),
        GeneralName::IPAddress(bytes) => bytes.iter().map(u8::to_string).collect::<Vec<_>>().join("."),
        other => panic!("{other}"),
    };
    let usage = cert.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth);
    (cn, names.iter().map(host).collect(), usage.server_auth)
}

#[test]
fn a_region_has_all_of_its_certificates_and_keys_are_private() {
    let folder = tempfile::tempdir().unwrap();
    let out = &folder.path().join("new");
    certs(out, "--site plant-1 --site a.b --reader console --labeler alice --operator alice").unwrap();
    for name in ["ca", "hub", "site-plant-1", "site-a%2Eb", "console", "alice"] {
        let mode = |file: String| fs::metadata(out.join(file)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(format!("{name}.key")), 0o600, "{name}");
        assert_eq!(mode(format!("{name}.pem")) & 0o133, 0, "{name}");
    }
    assert_eq!(fs::read_dir(out).unwrap().count(), 12);
    let (cn, hosts, is_server) = look(out, "hub.pem");
    assert_eq!((cn.as_str(), is_server), ("hub", true));
    assert_eq!(hosts[..2], ["localhost", "127.0.0.1"]);
    assert_eq!(look(out, "site-a%2Eb.pem"), ("site-a.b".into(), vec![], false));
}

#[test]
fn a_second_run_adds_and_keeps() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path();
    certs(out, "--reader console").unwrap();
    let before = ["ca.pem", "ca.key", "hub.pem", "console.pem"].map(|file| read(out, file));
    certs(out, "--reader console --site plant-1").unwrap();
    assert_eq!(before, ["ca.pem", "ca.key", "hub.pem", "console.pem"].map(|file| read(out, file)));
    assert_eq!(look(out, "site-plant-1.pem").0, "site-plant-1");
    // Hosts that are asked for are in it, and nothing else changes.
    certs(out, "--host hub.example --host 10.0.0.7").unwrap();
    assert_eq!(look(out, "hub.pem").1, ["hub.example", "10.0.0.7"]);
    assert_eq!(before[3], read(out, "console.pem"));
    // A key that was lost.
    fs::remove_file(out.join("console.key")).unwrap();
    certs(out, "--reader console").unwrap();
    assert_ne!(before[3], read(out, "console.pem"));
}

#[test]
fn what_has_expired_or_is_another_cas_is_made_anew() {
    const DAY: Timestamp = 86_400_000_000_000;
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let at = |folder: &Path, day: Timestamp| Authority::open(folder, day * DAY).map(|(authority, _)| authority);
    let provide = |day: Timestamp| at(folder.path(), day).unwrap().provide("alice", Kind::Client, 10).unwrap();
    assert_eq!([20_000, 20_009, 20_011].map(provide), [Made::New, Made::Kept, Made::Again]);
    at(other.path(), 20_000).unwrap().provide("alice", Kind::Client, 3_000).unwrap();
    let (mine, theirs) = (Pair::of(folder.path(), "alice"), Pair::of(other.path(), "alice"));
    fs::copy(theirs.cert, mine.cert).unwrap();
    assert_eq!(provide(20_012), Made::Again);
    let expired = at(folder.path(), 24_000).err().unwrap().to_string();
    assert!(expired.contains("expired"), "{expired}");
}

#[test]
fn what_cannot_be_is_told() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let out = folder.path();
    let refused = |line: &str| format!("{:#}", certs(out, line).unwrap_err());
    for line in ["--reader hub", "--operator site-plant-1", "--labeler ca"] {
        assert!(refused(line).contains("no person's"), "{line}");
    }
    assert!(refused(&format!("--site {}", "x".repeat(60))).contains("up to 64 bytes"));
    assert!(refused("--host b\u{e4}h").contains("\"hub\""));
    certs(out, "").unwrap();
    certs(other.path(), "").unwrap();
    fs::copy(other.path().join("ca.key"), out.join("ca.key")).unwrap();
    assert!(refused("").contains("is not the key of"));
    fs::remove_file(out.join("ca.key")).unwrap();
    assert!(refused("").contains("ca.key belongs to"));
    fs::copy(other.path().join("hub.pem"), out.join("ca.pem")).unwrap();
    fs::copy(other.path().join("hub.key"), out.join("ca.key")).unwrap();
    assert!(refused("").contains("is no CA's certificate"));
}

#[test]
fn what_expires_soon_is_renewed_as_it_was_with_a_new_key() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path();
    certs(out, "--host hub.example --host 10.1.2.3 --host ::1 --site plant-1 --days 20").unwrap();
    certs(out, "--reader console --days 300").unwrap();
    let before = ["ca", "hub", "site-plant-1", "console"]
        .map(|name| (name, read(out, &format!("{name}.pem")), read(out, &format!("{name}.key"))));
    let hub = look(out, "hub.pem");
    certs(out, "--renew").unwrap();
    for (name, cert, key) in before {
        let is_new = read(out, &format!("{name}.pem")) != cert && read(out, &format!("{name}.key")) != key;
        assert_eq!(is_new, ["hub", "site-plant-1"].contains(&name), "{name}");
    }
    assert_eq!(look(out, "hub.pem").0, hub.0);
    assert_eq!(look(out, "hub.pem").1.len(), 3);
    assert_eq!(look(out, "hub.pem").1[..2], ["hub.example", "10.1.2.3"]);
    assert_eq!(look(out, "site-plant-1.pem"), ("site-plant-1".into(), vec![], false));
    let stranger = read(out, "console.pem");
    certs(out, "--renew=400").unwrap();
    assert_ne!(read(out, "console.pem"), stranger);
}

#[test]
fn what_is_renewed_is_read_by_whoever_read_it_before() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path();
    certs(out, "--days 20").unwrap();
    let key = out.join("hub.key");
    let before = read(out, "hub.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    // Only root gives files away.
    let is_given = chown(&key, Some(10_001), Some(10_002)).is_ok();
    certs(out, "--renew").unwrap();
    let now = fs::metadata(&key).unwrap();
    assert_ne!(before, read(out, "hub.key"));
    assert_eq!(now.mode() & 0o777, 0o640);
    if is_given {
        assert_eq!((now.uid(), now.gid()), (10_001, 10_002));
    }
}
