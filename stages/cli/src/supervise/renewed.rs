//! Certificates of a server that runs: when their files change, and are good, it is told to read them again.
//!
//! nats-server does that on SIGHUP and keeps its old ones if the new ones are no good. They are looked at here first all the same, so
//! that what is wrong is said where an operator looks; and a signal is only given where it changes something.

use std::path::{Path, PathBuf};

use eddy_runtime::fresh::Fresh;
use rcgen::{KeyPair, PublicKeyData as _};
use x509_parser::pem::Pem;

use super::journal::Journal;

/// The keys of a server's config that name such files.
const KEYS: [&str; 3] = ["ca_file", "cert_file", "key_file"];

/// The files of one server.
pub struct Renewed {
    fresh: Option<Fresh<()>>,
    seen: Option<std::sync::Arc<()>>,
}

impl Renewed {
    /// Those that `config`, in the server's own words, names; what is wrong with new ones goes to `journal`.
    pub fn of(config: &str, journal: &Journal) -> Self {
        let files = named(config);
        let (journal, looked_at) = (journal.clone(), files.clone());
        let look = move || {
            good(&looked_at).inspect_err(|problem| {
                journal
                    .tell(&format!("nats-server: new certificates are no good, the old ones stay in use: {problem}"));
            })
        };
        // What is no good at its start the server itself says.
        let fresh = (!files.is_empty()).then(|| Fresh::new(files, look).ok()).flatten();
        let seen = fresh.as_ref().map(Fresh::get);
        Self { fresh, seen }
    }

    /// Whether there are new good ones since the last time.
    pub fn is_due(&mut self) -> bool {
        let now = self.fresh.as_ref().map(Fresh::get);
        let is_new = match (&now, &self.seen) {
            (Some(now), Some(seen)) => !std::sync::Arc::ptr_eq(now, seen),
            _ => false,
        };
        self.seen = now;
        is_new
    }
}

fn named(config: &str) -> Vec<PathBuf> {
    let file = |line: &str| {
        let (key, value) = line.trim().split_once(':')?;
        let path = serde_json::from_str::<String>(value.trim()).ok()?;
        KEYS.contains(&key.trim()).then(|| PathBuf::from(path))
    };
    config.lines().filter_map(file).collect()
}

/// Whether certificates are in the files, and each key is that of the certificate that is named before it.
fn good(files: &[PathBuf]) -> Result<(), String> {
    let mut first = None;
    for file in files {
        let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        if let Ok(key) = KeyPair::from_pem(&text) {
            if first.as_deref().is_some_and(|cert| !is_key_of(&key, cert)) {
                return Err(format!("{} is not the key of the certificate beside it", file.display()));
            }
            continue;
        }
        certificates(file, &text)?;
        first = Some(text);
    }
    Ok(())
}

fn certificates(file: &Path, text: &str) -> Result<(), String> {
    let mut any = false;
    for pem in Pem::iter_from_buffer(text.as_bytes()) {
        let pem = pem.map_err(|error| format!("{}: {error}", file.display()))?;
        let cert = pem.parse_x509().map_err(|error| format!("{}: {error}", file.display()))?;
        if !cert.validity().is_valid() {
            return Err(format!("{}: {} is not good now", file.display(), cert.subject()));
        }
        any = true;
    }
    if any { Ok(()) } else { Err(format!("{}: neither a certificate nor a key is in it", file.display())) }
}

fn is_key_of(key: &KeyPair, cert: &str) -> bool {
    let pem = Pem::iter_from_buffer(cert.as_bytes()).flatten().next();
    pem.as_ref()
        .and_then(|pem| pem.parse_x509().ok())
        .is_some_and(|cert| cert.public_key().raw == key.subject_public_key_info())
}

#[cfg(test)]
mod tests {
    use rcgen::CertificateParams;

    use super::*;

    fn pair() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(vec!["hub".to_owned()]).unwrap().self_signed(&key).unwrap();
        (cert.pem(), key.serialize_pem())
    }

    #[test]
    fn new_ones_are_due_once_and_bad_ones_are_told_and_left() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path(), "test.log", false).unwrap();
        let (cert, key) = (folder.path().join("c.pem"), folder.path().join("c.key"));
        let put = |(certificate, private): (String, String)| {
            std::fs::write(&cert, certificate).unwrap();
            std::fs::write(&key, private).unwrap();
        };
        put(pair());
        let config = format!("tls {{\n  cert_file: {cert:?}\n  key_file: {key:?}\n  timeout: 2\n}}\n");
        let mut renewed = Renewed::of(&config, &journal);
        assert!(!renewed.is_due());
        put(pair());
        assert!(renewed.is_due() && !renewed.is_due());
        put((pair().0, pair().1));
        assert!(!renewed.is_due());
        let told = std::fs::read_to_string(folder.path().join("logs/test.log")).unwrap();
        assert!(told.contains("is not the key"), "{told}");
        put(("rubbish".into(), pair().1));
        assert!(!renewed.is_due());
        put(pair());
        assert!(renewed.is_due());
    }

    #[test]
    fn a_server_without_certificates_has_none_to_renew() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path(), "test.log", false).unwrap();
        assert!(!Renewed::of("max_connections: 7\n", &journal).is_due());
    }
}
