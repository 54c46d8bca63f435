//! TLS configuration of the listeners. Certificates can be reloaded while the server runs.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::UNIX_EPOCH,
};

use arc_swap::ArcSwap;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem, pem::PemObject as _},
    server::WebPkiClientVerifier,
    time_provider::TimeProvider,
};

use crate::config::sections::tls::TlsSettings;

/// The maximum size of a file with certificates or a key, in bytes.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// The protocols that a listener offers during the TLS handshake (ALPN).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocols {
    /// HTTP/2, for gRPC.
    Http2,
    /// HTTP/2 or HTTP/1.1.
    Http,
}

/// Unusable TLS files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is missing or is not PEM.
    #[error("cannot read {what} from {path}: {cause}")]
    Unreadable {
        /// The expected content.
        what: &'static str,
        /// Path of the file.
        path: String,
        /// The error.
        cause: pem::Error,
    },
    /// The files do not match.
    #[error("cannot use {path} for TLS: {cause}")]
    Unusable {
        /// Path of the file.
        path: String,
        /// The error.
        cause: String,
    },
}

/// The current certificates. Clones share them.
#[derive(Clone, Debug)]
pub struct Tls {
    files: Arc<Files>,
    current: Arc<ArcSwap<Configs>>,
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
    /// Reads the files that `settings` name, or returns `None` if TLS is off.
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
        let current = Arc::new(ArcSwap::from_pointee(files.load()?));
        Ok(Some(Self { files: Arc::new(files), current }))
    }

    /// Reloads the files for later connections.
    ///
    /// # Errors
    /// [`TlsError`]. The current certificates then remain in use.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.current.store(Arc::new(self.files.load()?));
        Ok(())
    }

    /// Returns the configuration for a handshake that offers `protocols`.
    #[must_use]
    pub fn config(&self, protocols: Protocols) -> Arc<ServerConfig> {
        let configs = self.current.load();
        Arc::clone(match protocols {
            Protocols::Http2 => &configs.http2,
            Protocols::Http => &configs.http,
        })
    }
}

impl Files {
    fn load(&self) -> Result<Configs, TlsError> {
        let chain = certificates("a certificate", &self.certificate)?;
        let key = read_pem(&self.key)
            .and_then(|pem| PrivateKeyDer::from_pem_slice(&pem))
            .map_err(|cause| unreadable("a private key", &self.key, cause))?;
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_details(Arc::clone(&provider), Arc::new(WallClock))
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

/// The wall clock. It does not go back beyond 1970, where the clock of rustls panics.
#[derive(Debug)]
struct WallClock;

impl TimeProvider for WallClock {
    #[expect(clippy::disallowed_types, reason = "certificates are valid in wall-clock time")]
    fn current_time(&self) -> Option<UnixTime> {
        let since_1970 = std::time::SystemTime::now().duration_since(UNIX_EPOCH);
        Some(UnixTime::since_unix_epoch(since_1970.unwrap_or_default()))
    }
}

/// Reads all certificates of a file, which must contain at least one.
fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read =
        read_pem(path).and_then(|pem| CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>());
    match read {
        Ok(found) if found.is_empty() => Err(unreadable(what, path, pem::Error::NoItemsFound)),
        Ok(found) => Ok(found),
        Err(cause) => Err(unreadable(what, path, cause)),
    }
}

fn read_pem(path: &Path) -> Result<Vec<u8>, pem::Error> {
    regular_file::read(path, MAX_FILE_BYTES).map_err(pem::Error::Io)
}

fn unreadable(what: &'static str, path: &Path, cause: pem::Error) -> TlsError {
    TlsError::Unreadable { what, path: path.display().to_string(), cause }
}

fn unusable(path: &Path, cause: impl ToString) -> TlsError {
    TlsError::Unusable { path: path.display().to_string(), cause: cause.to_string() }
}
