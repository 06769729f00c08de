//! The certificates and keys that the config names: good for how long, belonging together, and to be read by nobody else.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use rcgen::{KeyPair, PublicKeyData as _};
use x509_parser::pem::Pem;

use super::{Patient, finding::Check};
use crate::config_files::{self, Named};

/// So long before it expires a certificate is told.
const WARN_DAYS: i64 = 30;
const DAY_S: i64 = 86_400;

const RENEW: &str = "`eddy certs --out FOLDER --renew` makes those of its CA anew; put new files in the places of the old ones, nothing needs a restart";

pub fn look(patient: &Patient, check: &mut Check<'_>) {
    let Some(file) = &patient.config_file else { return };
    match config_files::named(file) {
        Ok(named) => {
            let named: Vec<_> = named.into_iter().map(|one| one.below(&patient.cwd)).collect();
            named.iter().for_each(|one| of(one, &named, crate::now() / 1_000_000_000, check));
        }
        Err(problem) => check.unchecked(problem),
    }
}

fn of(named: &Named, all: &[Named], now: i64, check: &mut Check<'_>) {
    let place = format!("{} = {}", named.key, named.path.display());
    let text = match std::fs::read_to_string(&named.path) {
        Ok(text) => text,
        Err(problem) => {
            return check.error(
                place,
                problem,
                "put the file there, or correct the config; who runs the stages must read it",
            );
        }
    };
    if named.key.ends_with("ca_file") || named.key.ends_with("cert_file") {
        expiry(&place, &text, now, check);
    }
    if named.key.ends_with("cert_file") {
        // The key stands beside it in the same table.
        let key = named.key.replace("cert_file", "key_file");
        let key = all.iter().find(|other| other.key == key && is_beside(named, other, all));
        if let Some(key) = key.and_then(|key| std::fs::read_to_string(&key.path).ok()) {
            belongs(&place, &text, &key, check);
        }
    }
    let is_secret = [
        "key_file",
        "secret_file",
        "token_file",
        "password_file",
        "credentials_file",
        "authorization_file",
        "nkey_file",
    ];
    if is_secret.iter().any(|end| named.key.ends_with(end)) {
        secrecy(&place, &named.path, check);
    }
}

/// Of several tables of a list, the n-th certificate belongs to the n-th key.
fn is_beside(cert: &Named, key: &Named, all: &[Named]) -> bool {
    let nth = |one: &Named| all.iter().filter(|other| other.key == one.key).position(|other| std::ptr::eq(other, one));
    nth(cert) == nth(key)
}

/// When the first of the certificates in a PEM file expires, in seconds since 1970; `None` if there is none.
pub(crate) fn expires(text: &str) -> Option<i64> {
    let all = Pem::iter_from_buffer(text.as_bytes()).flatten();
    all.filter_map(|pem| pem.parse_x509().ok().map(|cert| cert.validity().not_after.timestamp())).min()
}

fn expiry(place: &str, text: &str, now: i64, check: &mut Check<'_>) {
    let mut any = false;
    for pem in Pem::iter_from_buffer(text.as_bytes()).flatten() {
        let Ok(cert) = pem.parse_x509() else { continue };
        any = true;
        let subject = cert.subject();
        let (from, until) = (cert.validity().not_before.timestamp(), cert.validity().not_after.timestamp());
        let at = |seconds: i64| eddy_schemas::rfc3339(seconds.saturating_mul(1_000_000_000));
        if until <= now {
            check.error(place, format!("{subject} expired at {}", at(until)), RENEW);
        } else if until - now < WARN_DAYS * DAY_S {
            let days = (until - now) / DAY_S;
            check.warning(place, format!("{subject} expires in {days} days, at {}", at(until)), RENEW);
        } else if from > now {
            check.error(
                place,
                format!("{subject} is good only from {} on", at(from)),
                "is the clock right? `timedatectl status`",
            );
        }
    }
    if !any {
        check.error(place, "no certificate in PEM", "put a certificate there");
    }
}

fn belongs(place: &str, cert: &str, key: &str, check: &mut Check<'_>) {
    let Ok(key) = KeyPair::from_pem(key) else {
        return check.unchecked(format!("{place}: its key is of a kind that is not read here"));
    };
    let first = Pem::iter_from_buffer(cert.as_bytes()).flatten().next();
    let Some(is_its_key) = first
        .as_ref()
        .and_then(|pem| pem.parse_x509().ok())
        .map(|cert| cert.public_key().raw == key.subject_public_key_info())
    else {
        return;
    };
    if !is_its_key {
        check.error(place, "the key beside it is not its key", "put certificate and key there that were made together");
    }
}

fn secrecy(place: &str, path: &Path, check: &mut Check<'_>) {
    let Ok(metadata) = path.metadata() else { return };
    if metadata.mode() & 0o007 != 0 {
        let what = format!("everybody on this machine can read it (mode {:o})", metadata.mode() & 0o777);
        check.error(
            place,
            what,
            format!("`chmod 600 {}`, and make a new one if others may have read it", PathBuf::from(path).display()),
        );
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, date_time_ymd};

    use super::*;
    use crate::doctor::finding::{Report, found};

    /// 2026-01-01.
    const NOW: i64 = 1_767_225_600;

    fn made(year: i32, month: u8) -> (String, String) {
        let mut params = CertificateParams::new(vec!["hub".to_owned()]).unwrap();
        params.not_before = date_time_ymd(2025, 1, 1);
        params.not_after = date_time_ymd(year, month, 1);
        let key = KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn all(cert: &str, key: &str, mode: u32) -> Report {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
            path
        };
        let named = [
            Named { key: "sync.hub.tls_cert_file".into(), path: at("c", cert) },
            Named { key: "sync.hub.tls_key_file".into(), path: at("k", key) },
        ];
        found(|check| named.iter().for_each(|one| of(one, &named, NOW, check)))
    }

    #[test]
    fn each_thing_that_is_wrong_is_told_and_a_good_pair_is_not() {
        let (cert, key) = made(2030, 1);
        assert_eq!(all(&cert, &key, 0o600).findings, []);
        let soon = all(&made(2026, 1).0, &key, 0o600);
        assert!(soon.findings.iter().any(|finding| finding.what.contains("expired at 2026-01-01")), "{soon:?}");
        let (cert_soon, key_soon) = {
            let (mut params, key) =
                (CertificateParams::new(vec!["hub".to_owned()]).unwrap(), KeyPair::generate().unwrap());
            params.not_after = date_time_ymd(2026, 1, 20);
            (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
        };
        let soon = all(&cert_soon, &key_soon, 0o600);
        assert!(soon.is_sound(false) && soon.findings[0].what.contains("expires in 19 days"), "{soon:?}");
        let stranger = all(&cert, &made(2030, 1).1, 0o600);
        assert!(stranger.findings[0].what.contains("is not its key"), "{stranger:?}");
        let open = all(&cert, &key, 0o644);
        assert!(open.findings.len() == 1 && open.findings[0].place.contains("key_file"), "{open:?}");
        assert!(all("rubbish", &key, 0o600).findings[0].what.contains("no certificate"));
    }

    #[test]
    fn a_file_that_is_not_there_is_told() {
        let named = [Named { key: "capture.http.token_file".into(), path: "/nowhere".into() }];
        assert!(!found(|check| of(&named[0], &named, NOW, check)).is_sound(false));
    }
}
