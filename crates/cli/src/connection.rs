//! The way to a running server, for the commands that speak to one.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use clap::{Args, ValueHint};
use tonic::{
    Request,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

/// How long to try to reach the server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a server that says nothing is asked whether it is there, and how long it has to say so.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));

/// Where the server is, and how to get in.
#[derive(Args, Debug)]
pub(crate) struct ConnectionOptions {
    /// The server
    #[arg(long, value_name = "URL", env = "BLIP_SERVE__SERVER", default_value = "http://127.0.0.1:50051")]
    pub(crate) server: String,

    /// The API key, if the server wants one; better given by the environment, where others cannot read it
    #[arg(long, value_name = "KEY", env = "BLIP_SERVE__API_KEY", hide_env_values = true)]
    api_key: Option<String>,

    /// The authorities whose server certificates are trusted, in PEM [default: the public ones]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    ca_file: Option<PathBuf>,

    /// A certificate of one's own with its chain, in PEM, for a server that wants one
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "key_file")]
    cert_file: Option<PathBuf>,

    /// The private key of that certificate, in PEM
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "cert_file")]
    key_file: Option<PathBuf>,
}

impl ConnectionOptions {
    /// A connection.
    pub(crate) async fn connect(&self) -> anyhow::Result<Channel> {
        self.endpoint().await?.connect().await.map_err(|error| {
            anyhow::anyhow!(
                "cannot reach {}: {} (is blip-serve serve running there?)",
                self.server,
                root(&error)
            )
        })
    }

    /// Puts the key into a call.
    pub(crate) fn sign<T>(&self, request: &mut Request<T>) -> anyhow::Result<()> {
        if let Some(key) = &self.api_key {
            let value = key.parse().ok().context("the API key holds characters that no header can")?;
            request.metadata_mut().insert("x-api-key", value);
        }
        Ok(())
    }

    /// A signed request without a message, that ends after so many seconds if it is to.
    pub(crate) fn template(&self, timeout_s: Option<u64>) -> anyhow::Result<Request<()>> {
        let mut template = Request::new(());
        self.sign(&mut template)?;
        if let Some(seconds) = timeout_s {
            template.set_timeout(Duration::from_secs(seconds));
        }
        Ok(template)
    }

    /// The key, if there is one.
    pub(crate) fn key(&self) -> Option<String> {
        self.api_key.clone()
    }

    async fn endpoint(&self) -> anyhow::Result<Endpoint> {
        let endpoint = Endpoint::from_shared(self.server.clone())
            .with_context(|| format!("server {:?} is not a URL", self.server))?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE.0)
            .keep_alive_timeout(KEEPALIVE.1);
        if endpoint.uri().scheme_str() != Some("https") {
            return Ok(endpoint);
        }
        let mut tls = ClientTlsConfig::new();
        tls = match &self.ca_file {
            Some(file) => tls.ca_certificate(Certificate::from_pem(pem(file).await?)),
            None => tls.with_webpki_roots(),
        };
        if let (Some(certificate), Some(key)) = (&self.cert_file, &self.key_file) {
            tls = tls.identity(Identity::from_pem(pem(certificate).await?, pem(key).await?));
        }
        endpoint.tls_config(tls).context("cannot set up TLS")
    }
}

async fn pem(path: &Path) -> anyhow::Result<Vec<u8>> {
    tokio::fs::read(path).await.with_context(|| format!("cannot read {}", path.display()))
}

/// What lies at the bottom of an error: transport errors say nothing themselves.
fn root(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
