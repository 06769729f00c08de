//! Certificates and keys from PEM files.

use std::path::Path;

use reqwest::{Certificate, Identity};

/// Makes ring the process's cryptography. Again is no harm.
pub fn install() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The certificates in a file, at least one.
///
/// # Errors
/// That the file cannot be read, or has none.
pub fn authorities(path: &Path) -> Result<Vec<Certificate>, String> {
    let pem = std::fs::read(path).map_err(|error| error.to_string())?;
    let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| error.to_string())?;
    if certificates.is_empty() { Err("no PEM certificate is in it".into()) } else { Ok(certificates) }
}

/// A certificate and its key.
///
/// # Errors
/// That a file cannot be read, or is not PEM.
pub fn identity(certificate: &Path, key: &Path) -> Result<Identity, String> {
    let read = |path: &Path| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    let mut pem = read(key)?;
    pem.push(b'\n');
    pem.extend(read(certificate)?);
    Identity::from_pem(&pem).map_err(|error| error.to_string())
}
