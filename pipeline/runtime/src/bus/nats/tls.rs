//! Certificates of a connection, from files that may be replaced while it lasts.
//!
//! The client reads such files anew at each connection by itself, but bad ones would then keep it from connecting. So it is given a TLS
//! config of ours, which asks for the files' newest good state at each handshake.

use std::{path::Path, sync::Arc};

use async_nats::ConnectOptions;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        ResolvesClientCert, Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    sign::CertifiedKey,
};

use crate::{config::BusConfig, fresh::Fresh};

/// Adds what `config` says of certificates.
///
/// # Errors
/// The key, the file, and what is wrong with it.
pub(super) fn identify(options: ConnectOptions, config: &BusConfig) -> Result<ConnectOptions, String> {
    if is_set(&config.tls_ca_file) {
        return Ok(options.tls_client_config(client(config)?).require_tls(true));
    }
    if is_set(&config.tls_cert_file) {
        // The system's roots are the client's business.
        return Ok(options.add_client_certificate(config.tls_cert_file.clone(), config.tls_key_file.clone()));
    }
    Ok(options)
}

fn is_set(path: &Path) -> bool {
    !path.as_os_str().is_empty()
}

fn wrong(key: &str, path: &Path, problem: impl std::fmt::Display) -> String {
    format!("bus.{key} {path:?}: {problem}")
}

fn client(config: &BusConfig) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let (ca, of_ca) = (config.tls_ca_file.clone(), provider.clone());
    let verifier = Fresh::new(vec![ca.clone()], move || verifier(&ca, of_ca.clone()));
    let verifier = verifier.map_err(|problem| wrong("tls_ca_file", &config.tls_ca_file, problem))?;
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier(verifier)));
    let mut client = if is_set(&config.tls_cert_file) {
        let (cert, key) = (config.tls_cert_file.clone(), config.tls_key_file.clone());
        let pair = Fresh::new(vec![cert.clone(), key.clone()], move || certified(&cert, &key, &provider));
        let pair = pair.map_err(|problem| wrong("tls_cert_file", &config.tls_cert_file, problem))?;
        builder.with_client_cert_resolver(Arc::new(Resolver(pair)))
    } else {
        builder.with_no_client_auth()
    };
    // A session that is resumed would show no certificate.
    client.resumption = Resumption::disabled();
    Ok(client)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let all = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let all = all.map_err(|error| format!("{}: {error}", file.display()))?;
    if all.is_empty() { Err(format!("{}: no certificate in PEM is in it", file.display())) } else { Ok(all) }
}

fn verifier(ca: &Path, provider: Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for root in certificates(ca)? {
        roots.add(root).map_err(|error| error.to_string())?;
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().map_err(|error| error.to_string())
}

fn certified(cert: &Path, key: &Path, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, String> {
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| format!("{}: {error}", key.display()))?;
    // Refuses a key that is another certificate's.
    let pair = CertifiedKey::from_der(certificates(cert)?, private, provider);
    pair.map(Arc::new).map_err(|error| format!("{} with {}: {error}", cert.display(), key.display()))
}

/// Judges the server by the newest good authorities.
#[derive(Debug)]
struct Verifier(Fresh<Arc<WebPkiServerVerifier>>);

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verifier = self.0.get();
        let judged = verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        // Nothing is let in that the authorities do not vouch for; what they say is only told.
        judged.inspect_err(|error| {
            if matches!(
                error,
                rustls::Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. })
            ) {
                tracing::error!("the server's certificate has expired: put a new one there");
            }
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.get().verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.get().verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.get().supported_verify_schemes()
    }
}

/// Shows the newest good certificate.
#[derive(Debug)]
struct Resolver(Fresh<Arc<CertifiedKey>>);

impl ResolvesClientCert for Resolver {
    fn resolve(&self, _issuers: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.get()))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_no_good_at_the_start_are_told_with_their_keys() {
        let folder = tempfile::tempdir().unwrap();
        let rubbish = folder.path().join("rubbish");
        std::fs::write(&rubbish, "rubbish").unwrap();
        let told = verifier(&rubbish, Arc::new(ring::default_provider())).unwrap_err();
        assert!(told.contains("no certificate"), "{told}");
        assert!(certified(&rubbish, &rubbish, &ring::default_provider()).is_err());
        assert!(verifier(Path::new("/nowhere"), Arc::new(ring::default_provider())).is_err());
    }
}
