//! Settings of TLS.

use std::path::PathBuf;

use clap::{Args, ValueHint};

/// TLS of the gRPC and HTTP listeners.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "TLS")]
pub struct TlsSettings {
    /// Certificate of the server with its chain, in PEM
    ///
    /// With a certificate, the gRPC and HTTP listeners accept TLS only.
    #[arg(long, value_name = "FILE", env = "BLIP_SERVE__TLS__CERT_FILE", value_hint = ValueHint::FilePath,
          requires = "tls_key_file")]
    pub tls_cert_file: Option<PathBuf>,

    /// Private key of the certificate, in PEM
    #[arg(long, value_name = "FILE", env = "BLIP_SERVE__TLS__KEY_FILE", value_hint = ValueHint::FilePath,
          requires = "tls_cert_file")]
    pub tls_key_file: Option<PathBuf>,

    /// Authorities of accepted client certificates, in PEM
    ///
    /// With this setting, the server rejects clients without a certificate.
    #[arg(long, value_name = "FILE", env = "BLIP_SERVE__TLS__CLIENT_CA_FILE", value_hint = ValueHint::FilePath,
          requires = "tls_cert_file")]
    pub tls_client_ca_file: Option<PathBuf>,
}
