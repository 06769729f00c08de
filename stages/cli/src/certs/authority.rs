//! The CA, and what it signs.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use eddy_schemas::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData as _, date_time_ymd,
};
use x509_parser::{
    certificate::X509Certificate, extensions::GeneralName, pem::parse_x509_pem, x509::SubjectPublicKeyInfo,
};

use super::files::{Made, Pair};

const CA_DAYS: u32 = 3_650;
const DAY: i64 = 86_400;
/// Clocks that are a little behind take a certificate that is just made.
const BEFORE_S: i64 = 3_600;

/// What a certificate is for.
pub(super) enum Kind {
    /// The hub: a server, and a client of other hubs.
    Hub {
        /// Names and addresses by which it is reached.
        hosts: Vec<String>,
        /// Whatever there is.
        anew: bool,
    },
    /// A gateway, a person, a tool.
    Client,
}

/// A certificate that is there.
struct Known {
    name: String,
    hosts: Vec<String>,
    is_server: bool,
    /// Seconds since the Unix epoch.
    until: i64,
}

/// A CA that signs.
pub(super) struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    cert: String,
    /// Seconds since the Unix epoch.
    now: i64,
    /// Its own certificate ends then.
    until: i64,
}

impl Authority {
    /// The CA in a folder, or a new one there.
    pub(super) fn open(folder: &Path, now: Timestamp) -> anyhow::Result<(Self, Made)> {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let now = now / 1_000_000_000;
        let files = Pair::of(folder, "ca");
        let (cert, key, made) = match files.read()? {
            Some((cert, key)) => (cert, key, Made::Kept),
            None => {
                let (cert, key) = make(now)?;
                files.write(&cert, &key)?;
                (cert, key, Made::New)
            }
        };
        let name = files.cert.display();
        let key = KeyPair::from_pem(&key).with_context(|| files.key.display().to_string())?;
        let until = inspect(&cert, |ca| {
            anyhow::ensure!(ca.is_ca(), "{name} is no CA's certificate: use another --out");
            let is_its_key = ca.public_key().raw == key.subject_public_key_info();
            anyhow::ensure!(is_its_key, "{} is not the key of {name}", files.key.display());
            Ok(ca.validity().not_after.timestamp())
        })
        .with_context(|| files.cert.display().to_string())?;
        anyhow::ensure!(
            until > now,
            "{name} has expired: use another --out for a new CA, and give out its certificates"
        );
        let issuer = Issuer::from_ca_cert_pem(&cert, key).with_context(|| files.cert.display().to_string())?;
        Ok((Self { folder: folder.to_owned(), issuer, cert, now, until }, made))
    }

    /// Keeps a certificate that is good, or makes it.
    pub(super) fn provide(&self, name: &str, kind: Kind, days: u32) -> anyhow::Result<Made> {
        let files = Pair::of(&self.folder, name);
        // A key that is lost leaves a certificate that is no good.
        let known = files.read().unwrap_or(Some(Default::default()));
        let anew = matches!(kind, Kind::Hub { anew: true, .. });
        if !anew && known.as_ref().is_some_and(|(cert, _)| self.is_good(cert)) {
            return Ok(Made::Kept);
        }
        let (cert, key) = self.sign(name, kind, days).with_context(|| format!("the certificate of {name:?}"))?;
        files.write(&cert, &key)?;
        Ok(if known.is_some() { Made::Again } else { Made::New })
    }

    /// Makes anew every certificate of this CA in the folder that ends within `within_days`: the same subject, hosts and uses, with a
    /// new key. Returns their names.
    pub(super) fn renew(&self, within_days: u32, days: u32) -> anyhow::Result<Vec<String>> {
        let mut renewed = Vec::new();
        let mut files: Vec<_> = fs::read_dir(&self.folder)?.flatten().map(|entry| entry.path()).collect();
        files.sort();
        for file in files.iter().filter(|path| path.extension().is_some_and(|extension| extension == "pem")) {
            let cert = fs::read_to_string(file).with_context(|| file.display().to_string())?;
            let Some(known) = self.known(&cert).filter(|_| within_days > 0) else { continue };
            if known.until - self.now >= i64::from(within_days) * DAY {
                continue;
            }
            let kind = if known.is_server { Kind::Hub { hosts: known.hosts, anew: true } } else { Kind::Client };
            let (cert, key) = self.sign(&known.name, kind, days).with_context(|| file.display().to_string())?;
            Pair::of(&self.folder, &known.name).write(&cert, &key)?;
            renewed.push(known.name);
        }
        Ok(renewed)
    }

    /// What a certificate is, if this CA signed it and it is not the CA's own.
    fn known(&self, cert: &str) -> Option<Known> {
        let of = |cert: &X509Certificate<'_>| {
            let name = cert.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
            let hosts = cert
                .subject_alternative_name()?
                .map(|names| names.value.general_names.iter().filter_map(host).collect());
            let is_server = cert.extended_key_usage()?.is_some_and(|usage| usage.value.server_auth);
            let until = cert.validity().not_after.timestamp();
            Ok((!cert.is_ca())
                .then(|| Some(Known { name: name?.to_owned(), hosts: hosts.unwrap_or_default(), is_server, until }))
                .flatten())
        };
        let is_ours = inspect(&self.cert, |ca| {
            let issuer: &SubjectPublicKeyInfo<'_> = ca.public_key();
            inspect(cert, |cert| Ok(cert.verify_signature(Some(issuer)).is_ok()))
        });
        inspect(cert, of).ok().flatten().filter(|_| is_ours.unwrap_or(false))
    }

    /// Whether this CA signed it, and it has not expired.
    fn is_good(&self, cert: &str) -> bool {
        let good = inspect(&self.cert, |ca| {
            let issuer: &SubjectPublicKeyInfo<'_> = ca.public_key();
            inspect(cert, |cert| {
                let signed = cert.verify_signature(Some(issuer)).is_ok();
                Ok(signed && cert.validity().not_after.timestamp() > self.now)
            })
        });
        good.unwrap_or(false)
    }

    fn sign(&self, name: &str, kind: Kind, days: u32) -> anyhow::Result<(String, String)> {
        let (hosts, usages) = match kind {
            Kind::Hub { hosts, .. } => {
                (hosts, vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth])
            }
            Kind::Client => (Vec::new(), vec![ExtendedKeyUsagePurpose::ClientAuth]),
        };
        let mut params = CertificateParams::new(hosts)?;
        subject(&mut params, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages;
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        period(&mut params, self.now, (self.now + i64::from(days) * DAY).min(self.until));
        let key = KeyPair::generate()?;
        Ok((params.signed_by(&key, &self.issuer)?.pem(), key.serialize_pem()))
    }
}

fn host(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => Some(std::net::Ipv4Addr::from(<[u8; 4]>::try_from(*bytes).ok()?).to_string()),
            _ => Some(std::net::Ipv6Addr::from(<[u8; 16]>::try_from(*bytes).ok()?).to_string()),
        },
        _ => None,
    }
}

fn make(now: i64) -> anyhow::Result<(String, String)> {
    let mut params = CertificateParams::new(Vec::new())?;
    subject(&mut params, "eddy development CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    period(&mut params, now, now + i64::from(CA_DAYS) * DAY);
    let key = KeyPair::generate()?;
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

fn subject(params: &mut CertificateParams, name: &str) {
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
}

fn period(params: &mut CertificateParams, now: i64, until: i64) {
    let at = |seconds: i64| date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds.max(0).unsigned_abs());
    (params.not_before, params.not_after) = (at(now - BEFORE_S), at(until));
}

/// Looks into a certificate.
fn inspect<T>(pem: &str, look: impl FnOnce(&X509Certificate<'_>) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let (_, pem) = parse_x509_pem(pem.as_bytes()).context("no certificate in PEM")?;
    let cert = pem.parse_x509().context("no X.509 certificate")?;
    look(&cert)
}
