//! Certificates of all kinds.

use std::{fs, path::PathBuf, sync::Arc};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio::{io::AsyncReadExt as _, net::TcpStream};
use tokio_rustls::TlsConnector;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use crate::grpc::GrpcConfig;

/// A CA.
pub(crate) struct Ca {
    pub(crate) folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key.
pub(crate) struct Pair {
    pub(crate) cert: String,
    pub(crate) key: String,
}

/// When a certificate is good.
#[derive(Clone, Copy)]
pub(crate) enum Good {
    Now,
    Before,
    Later,
}

impl Ca {
    pub(crate) fn new() -> Self {
        Self::named("test CA")
    }

    pub(crate) fn named(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { folder: tempfile::tempdir().unwrap(), issuer: Issuer::new(params, key), pem }
    }

    pub(crate) fn sign(&self, names: &[&str], good: Good) -> Pair {
        let mut params = CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        // A name of each type can be there once; the second CN goes by its number.
        let types = [DnType::CommonName, DnType::CustomDnType(vec![2, 5, 4, 3])];
        names.iter().zip(types).for_each(|(name, kind)| params.distinguished_name.push(kind, *name));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let (from, to) = match good {
            Good::Now => (2020, 2120),
            Good::Before => (2010, 2011),
            Good::Later => (2119, 2120),
        };
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        let key = KeyPair::generate().unwrap();
        Pair { cert: params.signed_by(&key, &self.issuer).unwrap().pem(), key: key.serialize_pem() }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// A server's config, with this CA's `hub`.
    pub(crate) fn config(&self) -> GrpcConfig {
        let hub = self.sign(&["hub"], Good::Now);
        GrpcConfig {
            listen: "127.0.0.1:0".into(),
            advertise: String::new(),
            ca_file: self.file("ca.pem", &self.pem),
            cert_file: self.file("hub.pem", &hub.cert),
            key_file: self.file("hub.key", &hub.key),
            connections_max: 16,
            request_bytes_max: 4_096,
            calls_max: 16,
            searches_max: 4,
            deadline_ms: 60_000,
            recall: 1.0,
        }
    }

    /// What a client shows that trusts this CA; `None`: nothing.
    pub(crate) fn client(&self, shown: Option<&Pair>) -> ClientTlsConfig {
        let trusting = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&self.pem)).domain_name("localhost");
        match shown {
            Some(pair) => trusting.identity(Identity::from_pem(&pair.cert, &pair.key)),
            None => trusting,
        }
    }

    /// What a TLS client hears that trusts this CA, shows this, and says nothing.
    pub(crate) async fn hears(&self, address: &str, shown: Option<&Pair>) -> String {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let trusting = versions.with_root_certificates(roots);
        let config = match shown {
            Some(Pair { cert, key }) => {
                let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()];
                trusting.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
            }
            None => trusting.with_no_client_auth(),
        };
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let heard = match TlsConnector::from(Arc::new(config)).connect(name, stream).await {
            // By TLS 1.3 a client is through before the server has looked at its certificate.
            Ok(mut tls) => tls.read_to_end(&mut Vec::new()).await.map(drop),
            Err(error) => Err(error),
        };
        heard.map_or_else(|error| error.to_string(), |()| "nothing".to_owned())
    }
}
