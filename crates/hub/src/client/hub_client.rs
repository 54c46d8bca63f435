//! Requests to the hub: redirects, the token, time limits, and what an answer that is no success means.

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

/// A resolve of a renamed model, its new name, a cache, the CDN: four, and some to spare.
const MAX_REDIRECTS: usize = 8;

/// How much of an answer to a question is read, in bytes.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// An HTTP client that shows its token to the hub alone.
#[derive(Debug)]
pub(crate) struct HubClient {
    http: reqwest::Client,
    config: Config,
}

/// A file's content, or its rest.
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
            tracing::warn!(endpoint = %config.endpoint, "the access token goes over the network unencrypted");
        }
        Ok(Self { http, config })
    }

    /// The hub's address with these parts of a path behind it, each encoded.
    pub(crate) fn url<'a>(&self, parts: impl IntoIterator<Item = &'a str>) -> Url {
        let mut url = self.config.endpoint.clone();
        // An http address always has a path.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(parts);
        }
        url
    }

    /// The hub's address, for people.
    pub(crate) fn endpoint(&self) -> &str {
        self.config.endpoint.as_str().trim_end_matches('/')
    }

    pub(crate) fn is_signed_in(&self) -> bool {
        self.config.token.is_some()
    }

    /// The body of an answer to a question.
    pub(crate) async fn get(&self, url: Url, what: &str) -> Result<Vec<u8>, RequestFailure> {
        let limit = self.config.metadata_timeout;
        let (response, _) = self.send(Method::GET, url, None, limit, what).await?;
        let host = host_of(response.url());
        let mut body = Body { response, host: host.clone(), limit };
        let mut bytes = Vec::new();
        while let Some(chunk) = body.chunk(what).await? {
            if bytes.len() + chunk.as_ref().len() > MAX_ANSWER_BYTES {
                let reason = format!("it has more than {MAX_ANSWER_BYTES} bytes");
                return Err(HubError::Protocol { host, what: what.to_owned(), reason }.into());
            }
            bytes.extend_from_slice(chunk.as_ref());
        }
        Ok(bytes)
    }

    /// The hub's headers about a file, those of the hub's own redirects among them.
    pub(crate) async fn head(&self, url: Url, what: &str) -> Result<HeaderMap, RequestFailure> {
        let limit = self.config.metadata_timeout;
        Ok(self.send(Method::HEAD, url, None, limit, what).await?.1)
    }

    /// A file's content from byte `from` on.
    pub(crate) async fn open(&self, url: Url, from: u64, what: &str) -> Result<Body, RequestFailure> {
        let limit = self.config.download_timeout;
        let range = (from > 0).then(|| format!("bytes={from}-"));
        let (response, _) = self.send(Method::GET, url, range, limit, what).await?;
        let host = host_of(response.url());
        Ok(Body { response, host, limit })
    }

    /// Follows redirects to the end; of a HEAD, only as long as the hub itself is asked.
    async fn send(
        &self,
        method: Method,
        mut url: Url,
        range: Option<String>,
        limit: Duration,
        what: &str,
    ) -> Result<(Response, HeaderMap), RequestFailure> {
        let mut hub_headers = HeaderMap::new();
        for _ in 0..=MAX_REDIRECTS {
            let mut request = self.http.request(method.clone(), url.clone());
            // Compressed bodies have another length and no ranges.
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
                    unreachable(&host_of(&url), what, format!("no answer within {} s", limit.as_secs_f32()))
                })?
                .map_err(|error| unreachable(&host_of(&url), what, root_cause(&error)))?;
            let redirect = redirect(&response);
            if is_hub {
                // A redirect speaks of the file in these alone; its other headers are about itself.
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
                return match status_failure(&response, &host_of(&url), what) {
                    Some(failure) => Err(failure),
                    None => Ok((response, hub_headers)),
                };
            };
            let protocol_error = |reason: &str| HubError::Protocol {
                host: host_of(&url),
                what: what.to_owned(),
                reason: reason.to_owned(),
            };
            let target = url.join(target).map_err(|_| protocol_error("it redirects to no address"))?;
            if !matches!(target.scheme(), "http" | "https")
                || (url.scheme() == "https" && target.scheme() == "http")
            {
                return Err(protocol_error("it redirects from https to something else").into());
            }
            if method == Method::HEAD && target.origin() != self.config.endpoint.origin() {
                return Ok((response, hub_headers));
            }
            url = target;
        }
        let reason = format!("it redirects more than {MAX_REDIRECTS} times");
        Err(HubError::Protocol { host: host_of(&url), what: what.to_owned(), reason }.into())
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

    /// What comes next, or nothing at the end.
    pub(crate) async fn chunk(
        &mut self,
        what: &str,
    ) -> Result<Option<impl AsRef<[u8]> + use<>>, RequestFailure> {
        let limit = self.limit;
        let chunk = timeout(limit, self.response.chunk()).await;
        chunk
            .map_err(|_| {
                unreachable(&self.host, what, format!("nothing came for {} s", limit.as_secs_f32()))
            })?
            .map_err(|error| unreachable(&self.host, what, root_cause(&error)))
    }
}

/// The operating system's authorities, for hubs inside a company, besides the public ones; proxies as the environment
/// has them.
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
