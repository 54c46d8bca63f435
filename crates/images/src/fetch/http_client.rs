//! Sends one request, follows its redirects and reads the body.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, HeaderMap, LOCATION};
use reqwest::{Response, StatusCode};
use rustls::{ClientConfig, RootCertStore};
use tokio::time::timeout;
use url::Url;

use crate::fetch::{
    account::{Account, BodyMemory, FetchCall},
    body_buffer::BodyBuffer,
    config::FetchConfig,
    error::{FetchError, FetchPhase, SetupError},
    freshness::lifetime,
    resolver::{CheckedResolver, ResolveError, Resolver},
    url_policy::UrlPolicy,
};

/// The largest number of headers of a response. Browsers limit only their size.
const MAX_HEADERS: usize = 256;

/// The codings that change the bytes of a body: those that IANA registers, and their old names.
const COMPRESSIONS: [&str; 12] = [
    "gzip",
    "x-gzip",
    "deflate",
    "compress",
    "x-compress",
    "br",
    "zstd",
    "dcb",
    "dcz",
    "exi",
    "aes128gcm",
    "pack200-gzip",
];

/// An HTTP client that requests only URLs and addresses that the policy allows.
#[derive(Debug)]
pub(super) struct HttpClient {
    http: reqwest::Client,
    policy: UrlPolicy,
    max_bytes: usize,
    max_redirects: usize,
    first_byte_timeout: Duration,
}

/// A body with its memory and its remaining cache lifetime.
#[derive(Clone, Debug)]
pub(super) struct FetchedBody {
    pub(super) body: Bytes,
    pub(super) memory: Arc<dyn BodyMemory>,
    pub(super) lifetime: Duration,
}

/// Whether a fetch waits for its turn, rather than for a server.
#[derive(Debug, Default)]
pub(super) struct Turn(AtomicBool);

impl Turn {
    pub(super) fn is_awaited(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) async fn wait_for<T>(&self, turn: impl Future<Output = T>) -> T {
        self.0.store(true, Ordering::Relaxed);
        let permit = turn.await;
        self.0.store(false, Ordering::Relaxed);
        permit
    }
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
            // As other clients do. No part of such a header decides what is fetched.
            .http1_allow_obsolete_multiline_headers_in_responses(true)
            .http1_allow_spaces_after_header_name_in_responses(true)
            .http1_ignore_invalid_headers_in_responses(true)
            .http1_max_headers(MAX_HEADERS)
            .user_agent(concat!("blip-serve/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(config.connect_timeout)
            .build()
            .map_err(|error| SetupError(error.to_string()))?;
        Ok(Self {
            http,
            policy,
            max_bytes: config.max_bytes,
            max_redirects: config.max_redirects,
            first_byte_timeout: config.first_byte_timeout,
        })
    }

    pub(super) fn policy(&self) -> &UrlPolicy {
        &self.policy
    }

    /// Fetches the body of `url`, which the policy has checked, for `call`. `turn` records whether
    /// the fetch waits for its turn.
    pub(super) async fn get(
        &self,
        mut url: Url,
        call: &FetchCall,
        turn: &Turn,
    ) -> Result<FetchedBody, FetchError> {
        let origin = url.origin();
        let mut shortest_lifetime = Duration::MAX;
        for _ in 0..=self.max_redirects {
            let host = url.host_str().unwrap_or_default().to_owned();
            if !call.requests.take_request(&host) {
                return Err(FetchError::TooManyRequests { limit: call.requests.requests_per_host() });
            }
            // A fetch that waits for its turn at a host occupies nothing.
            let _permit = turn.wait_for(call.account.request(&host)).await;
            let headers = if url.origin() == origin { call.headers.clone() } else { HeaderMap::new() };
            let response = self.send(&url, &host, headers).await?;
            shortest_lifetime = shortest_lifetime.min(lifetime(response.headers()));
            let status = response.status();
            if is_redirect(status) {
                url = self.redirect_target(&url, &response)?;
                continue;
            }
            if !matches!(status, StatusCode::OK | StatusCode::NON_AUTHORITATIVE_INFORMATION) {
                return Err(FetchError::Status { status: status.as_u16() });
            }
            let (body, memory) = self.read_body(response, &host, &*call.account, turn).await?;
            return Ok(FetchedBody { body, memory: memory.into(), lifetime: shortest_lifetime });
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
        let location = response.headers().get(LOCATION).ok_or(FetchError::InvalidRedirect)?;
        let target = from.join(&ascii(location.as_bytes())).map_err(|_| FetchError::InvalidRedirect)?;
        self.policy.parse(target.as_str())
    }

    async fn read_body(
        &self,
        mut response: Response,
        host: &str,
        account: &dyn Account,
        turn: &Turn,
    ) -> Result<(Bytes, Box<dyn BodyMemory>), FetchError> {
        let limit = self.max_bytes;
        if let Some(encoding) = compression(response.headers()) {
            return Err(FetchError::Encoded { encoding });
        }
        let declared = response.content_length().map(|length| usize::try_from(length).unwrap_or(usize::MAX));
        let expected = declared.unwrap_or(limit);
        if expected > limit {
            return Err(FetchError::TooManyBytes { limit });
        }
        // The declared length is not trusted: memory grows with the bytes that arrive.
        let memory = turn.wait_for(account.body(expected)).await;
        let mut body = BodyBuffer::new(memory, expected);
        while let Some(part) = response.chunk().await.map_err(|error| fetch_error(&error, host))? {
            body.push(&part, limit)?;
        }
        Ok(body.complete())
    }
}

/// Returns the text of a header with bytes beyond ASCII escaped, as browsers do in a `Location`.
fn ascii(value: &[u8]) -> String {
    let escaped = value.iter().map(|&byte| match byte {
        0..=0x7F => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    });
    escaped.collect()
}

/// Returns the first coding in `content-encoding` that changes the bytes of a body.
///
/// Others say nothing of the body, such as `identity`, `none`, `utf-8` or `aws-chunked`.
fn compression(headers: &HeaderMap) -> Option<String> {
    headers.get_all(CONTENT_ENCODING).iter().find_map(|value| {
        let list = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
        let mut codings = list.split(',').map(str::trim);
        codings.find(|coding| COMPRESSIONS.contains(coding)).map(str::to_owned)
    })
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
