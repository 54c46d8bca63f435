//! An HTTP client for the hub: redirects, access token, timeouts and failed responses.

use std::{sync::Arc, time::Duration};

use reqwest::{
    Method, Response, StatusCode,
    header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderName, LOCATION, RANGE},
};
use rustls::{ClientConfig, RootCertStore};
use tokio::time::timeout;
use url::Url;

use crate::{
    client::{
        http_failure::{host_of, root_cause, status_failure, unreachable},
        retry::RequestFailure,
    },
    config::Config,
    error::HubError,
};

/// A renamed model, its new name, a cache and the CDN need four redirects.
const MAX_REDIRECTS: usize = 8;

/// Largest accepted body of a metadata response, in bytes.
const MAX_METADATA_BYTES: usize = 16 << 20;

/// An HTTP client that sends the access token to the hub only.
#[derive(Debug)]
pub(crate) struct HubClient {
    http: reqwest::Client,
    config: Config,
}

/// The body of a response with the content of a file, or the rest of it.
#[derive(Debug)]
pub(crate) struct Body {
    response: Response,
    host: String,
    limit: Duration,
}

impl HubClient {
    pub(crate) fn new(config: Config) -> Result<Self, HubError> {
        let http = build_http_client(&config)
            .map_err(|reason| HubError::Setup { endpoint: config.endpoint.to_string(), reason })?;
        if config.token.is_some() && config.endpoint.scheme() == "http" && !is_loopback(&config.endpoint) {
            tracing::warn!(endpoint = %config.endpoint, "access token sent unencrypted");
        }
        Ok(Self { http, config })
    }

    /// Returns the endpoint with the path segments `parts` appended, each percent-encoded.
    pub(crate) fn url<'a>(&self, parts: impl IntoIterator<Item = &'a str>) -> Url {
        let mut url = self.config.endpoint.clone();
        // An http URL always has a path.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(parts);
        }
        url
    }

    /// Returns the endpoint for messages.
    pub(crate) fn endpoint(&self) -> &str {
        self.config.endpoint.as_str().trim_end_matches('/')
    }

    pub(crate) fn has_token(&self) -> bool {
        self.config.token.is_some()
    }

    /// Requests metadata and returns the body.
    pub(crate) async fn get(&self, url: Url, resource: &str) -> Result<Vec<u8>, RequestFailure> {
        let limit = self.config.metadata_timeout;
        let (response, _) = self.send(Method::GET, url, None, limit, resource).await?;
        let host = host_of(response.url());
        let mut body = Body { response, host: host.clone(), limit };
        let mut bytes = Vec::new();
        while let Some(chunk) = body.chunk(resource).await? {
            if bytes.len() + chunk.as_ref().len() > MAX_METADATA_BYTES {
                let reason = format!("more than {MAX_METADATA_BYTES} bytes");
                return Err(HubError::Protocol { host, resource: resource.to_owned(), reason }.into());
            }
            bytes.extend_from_slice(chunk.as_ref());
        }
        Ok(bytes)
    }

    /// Requests the headers of a file, including the headers of the hub's redirects.
    pub(crate) async fn head(&self, url: Url, resource: &str) -> Result<HeaderMap, RequestFailure> {
        let limit = self.config.metadata_timeout;
        Ok(self.send(Method::HEAD, url, None, limit, resource).await?.1)
    }

    /// Requests the content of a file from byte `from` to the end.
    pub(crate) async fn open(&self, url: Url, from: u64, resource: &str) -> Result<Body, RequestFailure> {
        let limit = self.config.download_timeout;
        let range = (from > 0).then(|| format!("bytes={from}-"));
        let (response, _) = self.send(Method::GET, url, range, limit, resource).await?;
        let host = host_of(response.url());
        Ok(Body { response, host, limit })
    }

    /// Sends a request and follows redirects. A HEAD request ends at a redirect to another origin.
    async fn send(
        &self,
        method: Method,
        mut url: Url,
        range: Option<String>,
        limit: Duration,
        resource: &str,
    ) -> Result<(Response, HeaderMap), RequestFailure> {
        let mut hub_headers = HeaderMap::new();
        for _ in 0..=MAX_REDIRECTS {
            let mut request = self.http.request(method.clone(), url.clone());
            // A compressed body would have another length and no ranges.
            request = request.header(ACCEPT_ENCODING, "identity");
            if let Some(range) = &range {
                request = request.header(RANGE, range);
            }
            let is_hub = url.origin() == self.config.endpoint.origin();
            if is_hub && let Some(token) = &self.config.token {
                request = request.header(AUTHORIZATION, token.header());
            }
            let sent = timeout(limit, request.send()).await;
            let response = sent
                .map_err(|_| {
                    unreachable(
                        &host_of(&url),
                        resource,
                        format!("no response within {} s", limit.as_secs_f32()),
                    )
                })?
                .map_err(|error| unreachable(&host_of(&url), resource, root_cause(&error)))?;
            let redirect = redirect(&response);
            if is_hub {
                // Of a redirect, only the x- headers describe the file.
                let about_file = |name: &&HeaderName| redirect.is_none() || name.as_str().starts_with("x-");
                for name in response.headers().keys().filter(about_file) {
                    if let (false, Some(value)) =
                        (hub_headers.contains_key(name), response.headers().get(name))
                    {
                        hub_headers.insert(name.clone(), value.clone());
                    }
                }
            }
            let Some(target) = redirect else {
                return match status_failure(&response, &host_of(&url), resource) {
                    Some(failure) => Err(failure),
                    None => Ok((response, hub_headers)),
                };
            };
            let protocol_error = |reason: &str| HubError::Protocol {
                host: host_of(&url),
                resource: resource.to_owned(),
                reason: reason.to_owned(),
            };
            let target = url.join(target).map_err(|_| protocol_error("redirect to an invalid url"))?;
            if !matches!(target.scheme(), "http" | "https")
                || (url.scheme() == "https" && target.scheme() == "http")
            {
                return Err(protocol_error("redirect to an insecure or unsupported scheme").into());
            }
            if method == Method::HEAD && target.origin() != self.config.endpoint.origin() {
                return Ok((response, hub_headers));
            }
            url = target;
        }
        let reason = format!("more than {MAX_REDIRECTS} redirects");
        Err(HubError::Protocol { host: host_of(&url), resource: resource.to_owned(), reason }.into())
    }
}

impl Body {
    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Returns the next chunk, or `None` at the end.
    pub(crate) async fn chunk(
        &mut self,
        resource: &str,
    ) -> Result<Option<impl AsRef<[u8]> + use<>>, RequestFailure> {
        let limit = self.limit;
        let chunk = timeout(limit, self.response.chunk()).await;
        chunk
            .map_err(|_| unreachable(&self.host, resource, format!("no data for {} s", limit.as_secs_f32())))?
            .map_err(|error| unreachable(&self.host, resource, root_cause(&error)))
    }
}

/// Builds the HTTP client.
///
/// It trusts the public certificate authorities and, for private hubs, those of the operating
/// system. It uses the proxies of the environment.
fn build_http_client(config: &Config) -> Result<reqwest::Client, String> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .user_agent(concat!("blip-serve/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(config.metadata_timeout)
        .build()
        .map_err(|error| root_cause(&error))
}

fn redirect(response: &Response) -> Option<&str> {
    response.status().is_redirection().then(|| response.headers().get(LOCATION)?.to_str().ok()).flatten()
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}
