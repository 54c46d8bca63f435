//! Sends one request, follows its redirects and reads the body.

use std::{error::Error, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, HeaderMap, LOCATION};
use reqwest::{Response, StatusCode};
use rustls::{ClientConfig, RootCertStore};
use tokio::time::timeout;
use url::Url;

use crate::fetch::{
    config::FetchConfig,
    error::{FetchError, FetchPhase, SetupError},
    freshness::lifetime,
    host_limits::HostLimits,
    resolver::{CheckedResolver, ResolveError, Resolver},
    url_policy::UrlPolicy,
};

/// An HTTP client that requests only URLs and addresses that the policy allows.
#[derive(Debug)]
pub(super) struct HttpClient {
    http: reqwest::Client,
    policy: UrlPolicy,
    host_limits: HostLimits,
    max_bytes: usize,
    max_redirects: usize,
    first_byte_timeout: Duration,
}

/// A body with its remaining cache lifetime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FetchedBody {
    pub(super) body: Bytes,
    pub(super) lifetime: Duration,
}

impl HttpClient {
    pub(super) fn new(config: &FetchConfig, resolver: Arc<dyn Resolver>) -> Result<Self, SetupError> {
        let policy = UrlPolicy::new(config);
        let resolver = CheckedResolver { inner: resolver, policy: policy.addresses().clone() };
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for authority in &config.extra_authorities {
            roots.add(authority.clone()).map_err(|error| SetupError(error.to_string()))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| SetupError(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .dns_resolver(Arc::new(resolver))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false)
            .http1_only()
            .http1_max_headers(64)
            .user_agent(concat!("blip-serve/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(config.connect_timeout)
            .build()
            .map_err(|error| SetupError(error.to_string()))?;
        Ok(Self {
            http,
            policy,
            host_limits: HostLimits::new(config.max_requests_per_host),
            max_bytes: config.max_bytes,
            max_redirects: config.max_redirects,
            first_byte_timeout: config.first_byte_timeout,
        })
    }

    pub(super) fn policy(&self) -> &UrlPolicy {
        &self.policy
    }

    /// Fetches the body of `url`, which the policy has checked.
    ///
    /// `headers` are sent to the origin of `url` only.
    pub(super) async fn get(&self, mut url: Url, headers: &HeaderMap) -> Result<FetchedBody, FetchError> {
        let origin = url.origin();
        let mut shortest_lifetime = Duration::MAX;
        for _ in 0..=self.max_redirects {
            let host = url.host_str().unwrap_or_default().to_owned();
            let _permit = self.host_limits.acquire(&host).await;
            let headers = if url.origin() == origin { headers.clone() } else { HeaderMap::new() };
            let response = self.send(&url, &host, headers).await?;
            shortest_lifetime = shortest_lifetime.min(lifetime(response.headers()));
            let status = response.status();
            if is_redirect(status) {
                url = self.redirect_target(&url, &response)?;
                continue;
            }
            if status != StatusCode::OK {
                return Err(FetchError::Status { status: status.as_u16() });
            }
            let body = self.read_body(response, &host).await?;
            return Ok(FetchedBody { body, lifetime: shortest_lifetime });
        }
        Err(FetchError::TooManyRedirects { limit: self.max_redirects })
    }

    async fn send(&self, url: &Url, host: &str, headers: HeaderMap) -> Result<Response, FetchError> {
        let request = self.http.get(url.clone()).headers(headers);
        let request = request.header(ACCEPT, "image/*").header(ACCEPT_ENCODING, "identity");
        let limit = self.first_byte_timeout;
        let sent = timeout(limit, request.send()).await;
        sent.map_err(|_| FetchError::Timeout { phase: FetchPhase::FirstByte, limit })?
            .map_err(|error| fetch_error(&error, host))
    }

    /// Returns the target of a redirect, after a check of the policy.
    fn redirect_target(&self, from: &Url, response: &Response) -> Result<Url, FetchError> {
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let target =
            location.and_then(|location| from.join(location).ok()).ok_or(FetchError::InvalidRedirect)?;
        self.policy.parse(target.as_str())
    }

    async fn read_body(&self, mut response: Response, host: &str) -> Result<Bytes, FetchError> {
        let limit = self.max_bytes;
        if let Some(encoding) = response.headers().get(CONTENT_ENCODING)
            && encoding != "identity"
        {
            let encoding = String::from_utf8_lossy(encoding.as_bytes()).into_owned();
            return Err(FetchError::Encoded { encoding });
        }
        let declared = response.content_length().unwrap_or_default();
        if declared > limit as u64 {
            return Err(FetchError::TooManyBytes { limit });
        }
        // The declared length is not trusted: memory grows with the bytes that arrive.
        let mut body = BytesMut::new();
        while let Some(part) = response.chunk().await.map_err(|error| fetch_error(&error, host))? {
            if body.len() + part.len() > limit {
                return Err(FetchError::TooManyBytes { limit });
            }
            body.extend_from_slice(&part);
        }
        Ok(body.freeze())
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Converts an error of the HTTP client. The message discloses nothing about the internal network.
fn fetch_error(error: &reqwest::Error, host: &str) -> FetchError {
    let host = host.to_owned();
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(current) = cause {
        match current.downcast_ref::<ResolveError>() {
            Some(ResolveError::Refused) => return FetchError::AddressRefused { host },
            Some(ResolveError::NotFound) => return FetchError::NotFound { host },
            None => cause = current.source(),
        }
    }
    let cause = match error {
        error if error.is_timeout() => "connection timed out",
        error if error.is_connect() => "no connection",
        error if error.is_body() || error.is_decode() => "connection closed before the end of the body",
        _ => "connection failed",
    };
    FetchError::Connection { host, cause }
}
