//! TLS, with certificates that can be changed while connections are served.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject as _},
    server::WebPkiClientVerifier,
};

use crate::settings::TlsSettings;

/// What a listener speaks once the connection is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocols {
    /// HTTP/2, for gRPC.
    Http2,
    /// HTTP/2 or HTTP/1.1.
    Http,
}

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is missing or is no PEM.
    #[error("cannot read {what} from {path}: {cause}")]
    Unreadable {
        /// What it should hold.
        what: &'static str,
        /// The file.
        path: String,
        /// What is wrong.
        cause: pem::Error,
    },
    /// The files do not fit together.
    #[error("cannot use {path} for tls: {cause}")]
    Unusable {
        /// The file.
        path: String,
        /// What is wrong.
        cause: String,
    },
}

/// The certificates in force. Clones share them.
#[derive(Clone, Debug)]
pub struct Tls {
    files: Arc<Files>,
    in_force: Arc<ArcSwap<Configs>>,
}

#[derive(Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
}

#[derive(Debug)]
struct Configs {
    http2: Arc<ServerConfig>,
    http: Arc<ServerConfig>,
}

impl Tls {
    /// TLS as `settings` want it, if they do.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn new(settings: &TlsSettings) -> Result<Option<Self>, TlsError> {
        let (Some(certificate), Some(key)) = (&settings.tls_cert_file, &settings.tls_key_file) else {
            return Ok(None);
        };
        let files = Files {
            certificate: certificate.clone(),
            key: key.clone(),
            client_ca: settings.tls_client_ca_file.clone(),
        };
        let in_force = Arc::new(ArcSwap::from_pointee(files.load()?));
        Ok(Some(Self { files: Arc::new(files), in_force }))
    }

    /// Reads the files anew, for connections from now on.
    ///
    /// # Errors
    /// [`TlsError`]; then everything stays as it was.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.in_force.store(Arc::new(self.files.load()?));
        Ok(())
    }

    /// What a connection is to be accepted with.
    #[must_use]
    pub fn config(&self, protocols: Protocols) -> Arc<ServerConfig> {
        let configs = self.in_force.load();
        Arc::clone(match protocols {
            Protocols::Http2 => &configs.http2,
            Protocols::Http => &configs.http,
        })
    }
}

impl Files {
    fn load(&self) -> Result<Configs, TlsError> {
        let chain = certificates("a certificate", &self.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|cause| unreadable("a private key", &self.key, cause))?;
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|cause| unusable(&self.certificate, cause))?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates("a certificate authority", path)? {
                    roots.add(certificate).map_err(|cause| unusable(path, cause))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
                builder.with_client_cert_verifier(verifier.build().map_err(|cause| unusable(path, cause))?)
            }
        };
        let config = builder.with_single_cert(chain, key).map_err(|cause| unusable(&self.key, cause))?;
        let with = |protocols: &[&[u8]]| {
            let mut config = config.clone();
            config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
            Arc::new(config)
        };
        Ok(Configs { http2: with(&[b"h2"]), http: with(&[b"h2", b"http/1.1"]) })
    }
}

/// All certificates of a file, one at least.
fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(found) if found.is_empty() => Err(unreadable(what, path, pem::Error::NoItemsFound)),
        Ok(found) => Ok(found),
        Err(cause) => Err(unreadable(what, path, cause)),
    }
}

fn unreadable(what: &'static str, path: &Path, cause: pem::Error) -> TlsError {
    TlsError::Unreadable { what, path: path.display().to_string(), cause }
}

fn unusable(path: &Path, cause: impl ToString) -> TlsError {
    TlsError::Unusable { path: path.display().to_string(), cause: cause.to_string() }
}
