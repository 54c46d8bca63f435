//! Settings of TLS.

use std::path::PathBuf;

use clap::{Args, ValueHint};

/// TLS on all listeners for questions.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "TLS")]
pub struct TlsSettings {
    /// The server's certificate with its chain, in PEM; with it, connections are by TLS only
    #[arg(long, value_name = "FILE", env = "BLIP_SERVE__TLS__CERT_FILE", value_hint = ValueHint::FilePath,
          requires = "tls_key_file")]
    pub tls_cert_file: Option<PathBuf>,

    /// The private key of the certificate, in PEM
    #[arg(long, value_name = "FILE", env = "BLIP_SERVE__TLS__KEY_FILE", value_hint = ValueHint::FilePath,
          requires = "tls_cert_file")]
    pub tls_key_file: Option<PathBuf>,

    /// The authorities whose client certificates are taken, in PEM; with it, clients without one are turned away
    #[arg(long, value_name = "FILE", env = "BLIP_SERVE__TLS__CLIENT_CA_FILE", value_hint = ValueHint::FilePath,
          requires = "tls_cert_file")]
    pub tls_client_ca_file: Option<PathBuf>,
}
