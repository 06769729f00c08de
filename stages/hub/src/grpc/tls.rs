//! Certificates: the server's TLS, and the hub's own as a client of other hub processes.

use std::{path::Path, sync::Arc, time::Duration};

use eddy_runtime::fresh::Fresh;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use super::config::GrpcConfig;

/// A hub process that does not shake hands within so long is not there.
const HANDSHAKE_MAX: Duration = Duration::from_secs(2);

/// TLS, both ways.
#[derive(Clone)]
pub struct Tls {
    /// Takes nobody without a certificate of the CA.
    pub server: Arc<ServerConfig>,
    /// Shows the hub's own.
    pub client: ClientTlsConfig,
    /// The CN of the hub's own: whoever shows it too is another process of this hub.
    pub cn: String,
}

impl Tls {
    /// Follows the files that the config names: new connections see new ones. Under another name the hub would be no hub any more to
    /// its other processes, which takes a restart.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn follow(config: &GrpcConfig) -> Result<Fresh<Self>, String> {
        let cn = Self::load(config)?.cn;
        let files = vec![config.ca_file.clone(), config.cert_file.clone(), config.key_file.clone()];
        let config = config.clone();
        Fresh::new(files, move || {
            let new = Self::load(&config)?;
            if new.cn == cn { Ok(new) } else { Err(format!("its CN is {:?} in place of {cn:?}", new.cn)) }
        })
    }

    /// Reads the files that the config names.
    ///
    /// # Errors
    /// The key, the file, and what is wrong with it.
    pub fn load(config: &GrpcConfig) -> Result<Self, String> {
        // With a second provider somewhere in the process rustls would not know which one is meant.
        let _ = ring::default_provider().install_default();
        let (ca, cert, key) = (&config.ca_file, &config.cert_file, &config.key_file);
        let mut roots = RootCertStore::empty();
        for root in certificates("ca_file", ca)? {
            roots.add(root).map_err(|error| wrong("ca_file", ca, error))?;
        }
        let chain = certificates("cert_file", cert)?;
        let cn = common_name(&chain[0]).map_err(|problem| wrong("cert_file", cert, problem))?;
        let private = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong("key_file", key, error))?;
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .map_err(|error| wrong("ca_file", ca, error))?;
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let mut server = builder
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, private)
            .map_err(|error| wrong("key_file", key, format!("{error} (with {})", cert.display())))?;
        server.alpn_protocols = vec![b"h2".to_vec()];
        // A resumed session would not look at the certificate again, which may have expired since.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        let read = |what: &str, path: &Path| std::fs::read(path).map_err(|error| wrong(what, path, error));
        let client = ClientTlsConfig::new()
            .timeout(HANDSHAKE_MAX)
            .ca_certificate(Certificate::from_pem(read("ca_file", ca)?))
            .identity(Identity::from_pem(read("cert_file", cert)?, read("key_file", key)?));
        Ok(Self { server: Arc::new(server), client, cn })
    }
}

fn wrong(key: &str, path: &Path, problem: impl std::fmt::Display) -> String {
    format!("hub.grpc.{key} = {path:?}: {problem}")
}

fn certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path).map_err(|error| wrong(key, path, error))?;
    let all: Vec<_> = read.collect::<Result<_, _>>().map_err(|error| wrong(key, path, error))?;
    if all.is_empty() { Err(wrong(key, path, "no certificate in PEM is in it")) } else { Ok(all) }
}

/// The CN of a certificate's subject.
///
/// # Errors
/// That there is none, or several.
pub(super) fn common_name(certificate: &CertificateDer<'_>) -> Result<String, String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).map_err(|error| error.to_string())?;
    let mut names = certificate.subject().iter_common_name();
    let name = match (names.next(), names.next()) {
        (Some(name), None) => name.as_str().map_err(|error| format!("its subject's CN is no text: {error}"))?,
        (None, _) => return Err("its subject has no CN".into()),
        _ => return Err("its subject has several CNs".into()),
    };
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err(format!("its subject's CN is {name:?}"));
    }
    Ok(name.to_owned())
}
