//! The connection of a client command to a running server.

mod mismatch;
mod status;
mod address;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use clap::{Args, ValueHint};
use proto::{ListModelsRequest, blip_service_client::BlipServiceClient};
use tokio::time::timeout;
use tonic::{
    Extensions, Request,
    metadata::MetadataMap,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Uri},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

pub(crate) use address::ServerAddress;
pub(crate) use status::describe_status;

/// The server of a command that names none.
pub(crate) const DEFAULT_SERVER: &str = "http://127.0.0.1:50051";

/// The environment variable that names the server.
pub(crate) const SERVER_VARIABLE: &str = "BLIP_SERVE__SERVER";

/// Time limit for opening a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Interval of HTTP/2 pings, and the time limit for the reply to one.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));

/// The address of the server, and the credentials of the client.
#[derive(Args, Debug)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ConnectionArgs {
    /// Address of the server: HOST:PORT or a URL [default: http://127.0.0.1:50051]
    ///
    /// An address without a scheme is https if a certificate option is set, and http otherwise.
    #[arg(short, long, value_name = "ADDRESS", env = SERVER_VARIABLE)]
    pub(crate) server: Option<ServerAddress>,

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

    /// Opens a connection to a server that speaks gRPC.
    pub(crate) async fn connect(&self) -> anyhow::Result<Channel> {
        let endpoint = self.endpoint().await?;
        let url = endpoint.uri();
        let connected = endpoint.connect().await;
        let channel = connected.map_err(|error| anyhow::anyhow!(mismatch::explain(url, &error)))?;
        self.check_protocol(url, channel.clone()).await?;
        Ok(channel)
    }

    /// Checks that the server speaks gRPC. Without TLS, a connection opens before the server has
    /// sent anything.
    ///
    /// Any answer of a gRPC server will do. A slow or lost server is not an error.
    async fn check_protocol(&self, url: &Uri, channel: Channel) -> anyhow::Result<()> {
        let mut health = HealthClient::new(channel.clone());
        let check = health.check(HealthCheckRequest::default());
        let Ok(Err(status)) = timeout(CONNECT_TIMEOUT, check).await else { return Ok(()) };
        if mismatch::is_broken_transport(&status) {
            let is_plain = url.scheme_str() != Some("https");
            let mismatch = if is_plain { mismatch::probe(url).await } else { None };
            return mismatch.map_or(Ok(()), |mismatch| Err(anyhow::anyhow!(mismatch)));
        }
        // A proxy may pass the methods of one service only.
        if mismatch::is_http(&status) {
            let mut request = Request::new(ListModelsRequest {});
            self.sign(&mut request)?;
            let mut stub = BlipServiceClient::new(channel);
            if let Ok(Err(status)) = timeout(CONNECT_TIMEOUT, stub.list_models(request)).await
                && mismatch::is_http(&status)
            {
                anyhow::bail!(mismatch::not_grpc(url, status.message()));
            }
        }
        Ok(())
    }

    /// Returns whether the command line names a server. One in the environment is only a default.
    pub(crate) fn is_server_named(&self) -> bool {
        let variable = std::env::var(SERVER_VARIABLE).ok().and_then(|server| server.parse().ok());
        self.server.is_some() && self.server != variable
    }

    /// Returns the URL of the server.
    pub(crate) fn url(&self) -> String {
        let is_tls = self.ca_file.is_some() || self.cert_file.is_some();
        self.server.as_ref().map_or_else(|| DEFAULT_SERVER.to_owned(), |server| server.url(is_tls))
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
        let url = self.url();
        let endpoint = Endpoint::from_shared(url.clone())
            .with_context(|| format!("invalid server {url:?}"))?
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

/// A client of a server, with the metadata of its calls: API key and time limit.
#[derive(Clone, Debug)]
pub(crate) struct RpcClient {
    channel: Channel,
    metadata: MetadataMap,
}

impl RpcClient {
    pub(crate) fn new(channel: Channel, metadata: MetadataMap) -> Self {
        Self { channel, metadata }
    }

    /// Returns the generated client. It shares the connection with its clones.
    pub(crate) fn stub(&self) -> BlipServiceClient<Channel> {
        BlipServiceClient::new(self.channel())
    }

    /// Returns the connection, for other services.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Returns the request of a call.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        Request::from_parts(self.metadata.clone(), Extensions::default(), message)
    }
}

async fn read_pem(path: &Path) -> anyhow::Result<Vec<u8>> {
    tokio::fs::read(path).await.with_context(|| format!("cannot read {}", path.display()))
}
