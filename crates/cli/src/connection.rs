//! The connection of a client command to a running server.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use clap::{Args, ValueHint};
use proto::blip_service_client::BlipServiceClient;
use tonic::{
    Extensions, Request,
    metadata::MetadataMap,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

/// Time limit for opening a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Interval of HTTP/2 pings, and the time limit for the reply to one.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));

/// The address of the server, and the credentials of the client.
#[derive(Args, Debug)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ConnectionArgs {
    /// URL of the server
    #[arg(long, value_name = "URL", env = "BLIP_SERVE__SERVER", default_value = "http://127.0.0.1:50051")]
    pub(crate) server: String,

    /// API key, if the server requires one
    ///
    /// Other users of this machine can read a command line. Prefer the environment variable.
    #[arg(long, value_name = "KEY", env = "BLIP_SERVE__API_KEY", hide_env_values = true)]
    pub(crate) api_key: Option<String>,

    /// Trusted certificate authorities of the server, in PEM [default: public ones]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    ca_file: Option<PathBuf>,

    /// Client certificate with its chain, in PEM, if the server requires one
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "key_file")]
    cert_file: Option<PathBuf>,

    /// Private key of the client certificate, in PEM
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "cert_file")]
    key_file: Option<PathBuf>,
}

impl ConnectionArgs {
    /// Connects to the server. The time limit of each call is `timeout`.
    pub(crate) async fn client(&self, timeout: Option<Duration>) -> anyhow::Result<RpcClient> {
        let mut template = Request::new(());
        self.sign(&mut template)?;
        if let Some(timeout) = timeout {
            template.set_timeout(timeout);
        }
        let (metadata, ..) = template.into_parts();
        Ok(RpcClient::new(self.connect().await?, metadata))
    }

    /// Opens a connection.
    pub(crate) async fn connect(&self) -> anyhow::Result<Channel> {
        self.endpoint().await?.connect().await.map_err(|error| {
            let cause = root_cause(&error);
            anyhow::anyhow!("cannot reach {}: {cause} (check that blip-serve serve is running)", self.server)
        })
    }

    /// Adds the API key to a call.
    pub(crate) fn sign<T>(&self, request: &mut Request<T>) -> anyhow::Result<()> {
        if let Some(key) = &self.api_key {
            let value =
                key.parse().ok().context("invalid API key: a character is not allowed in a header")?;
            request.metadata_mut().insert("x-api-key", value);
        }
        Ok(())
    }

    async fn endpoint(&self) -> anyhow::Result<Endpoint> {
        let endpoint = Endpoint::from_shared(self.server.clone())
            .with_context(|| format!("invalid server {:?}: expected a URL", self.server))?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE.0)
            .keep_alive_timeout(KEEPALIVE.1);
        if endpoint.uri().scheme_str() != Some("https") {
            return Ok(endpoint);
        }
        let mut tls = ClientTlsConfig::new();
        tls = match &self.ca_file {
            Some(file) => tls.ca_certificate(Certificate::from_pem(read_pem(file).await?)),
            None => tls.with_webpki_roots(),
        };
        if let (Some(certificate), Some(key)) = (&self.cert_file, &self.key_file) {
            tls = tls.identity(Identity::from_pem(read_pem(certificate).await?, read_pem(key).await?));
        }
        endpoint.tls_config(tls).context("cannot set up TLS")
    }
}

/// A client of the BLIP service, with the metadata of its calls: API key and time limit.
#[derive(Clone, Debug)]
pub(crate) struct RpcClient {
    stub: BlipServiceClient<Channel>,
    metadata: MetadataMap,
}

impl RpcClient {
    pub(crate) fn new(channel: Channel, metadata: MetadataMap) -> Self {
        Self { stub: BlipServiceClient::new(channel), metadata }
    }

    /// Returns the generated client. It shares the connection with its clones.
    pub(crate) fn stub(&self) -> BlipServiceClient<Channel> {
        self.stub.clone()
    }

    /// Returns the request of a call.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        Request::from_parts(self.metadata.clone(), Extensions::default(), message)
    }
}

async fn read_pem(path: &Path) -> anyhow::Result<Vec<u8>> {
    tokio::fs::read(path).await.with_context(|| format!("cannot read {}", path.display()))
}

/// Returns the innermost cause of a transport error, the only one with a meaningful message.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
