//! Who may connect and call: API keys, TLS, and the check against unintended public access.

use crate::{auth::Authenticator, config::Settings, listener::Tls};

/// The authentication and TLS configuration of a server.
#[derive(Clone, Debug)]
pub struct AccessPolicy {
    /// Authenticates clients.
    pub authenticator: Authenticator,
    /// The TLS configuration, if TLS is on.
    pub tls: Option<Tls>,
}

impl AccessPolicy {
    /// Reads the keys and certificates that `settings` name.
    ///
    /// # Errors
    /// An unusable file, or a public address without any authentication and without `--insecure`.
    pub fn new(settings: &Settings) -> anyhow::Result<Self> {
        let authenticator = Authenticator::new(&settings.auth)?;
        let tls = Tls::new(&settings.tls)?;
        let is_authenticated = !authenticator.is_open() || settings.tls.tls_client_ca_file.is_some();
        if !is_authenticated && !settings.auth.insecure {
            let addresses = [Some(settings.grpc.listen), settings.http.http_listen.address()];
            if let Some(public) = addresses.into_iter().flatten().find(|address| !address.ip().is_loopback())
            {
                anyhow::bail!(
                    "refusing to listen on {public} without authentication: set --auth-keys-file, --auth-keys or \
                     --tls-client-ca-file, or allow unauthenticated clients with --insecure"
                );
            }
        }
        Ok(Self { authenticator, tls })
    }
}
