//! Errors of fetching an image.

use std::{fmt, time::Duration};

/// The reason why one image was not fetched.
///
/// The messages contain parts of the URL. They never contain resolved addresses, which would
/// disclose the internal network to untrusted clients.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The text is not a valid URL.
    #[error("invalid image url: {0}")]
    InvalidUrl(String),
    /// The scheme is not `http`, `https` or `data`, or it is disabled.
    #[error("scheme of the image url is not allowed: {scheme}")]
    SchemeRefused {
        /// The scheme.
        scheme: String,
    },
    /// The URL contains a user name or password.
    #[error("credentials in the image url are not allowed")]
    Credentials,
    /// The port is not in `allow_ports`.
    #[error("port of the image url is not allowed: {port}")]
    PortRefused {
        /// The port.
        port: u16,
    },
    /// The host is not in `allow_domains`.
    #[error("host of the image url is not allowed: {host}")]
    HostRefused {
        /// The host.
        host: String,
    },
    /// The host is, or resolves to, addresses that are not public.
    #[error("host of the image url has no public address: {host}")]
    AddressRefused {
        /// The host.
        host: String,
    },
    /// The call has sent too many requests to one host, because of redirects.
    #[error("too many requests of a call to the host of the image url: at most {limit} allowed")]
    TooManyRequests {
        /// The largest allowed number of requests.
        limit: usize,
    },
    /// The URL redirects too often.
    #[error("too many redirects of the image url: at most {limit} allowed")]
    TooManyRedirects {
        /// The largest allowed number of redirects.
        limit: usize,
    },
    /// The target of a redirect is not a valid URL.
    #[error("image url redirects to an invalid url")]
    InvalidRedirect,
    /// The host name does not exist.
    #[error("host of the image url not found: {host}")]
    NotFound {
        /// The host.
        host: String,
    },
    /// The connection could not be opened, or it failed.
    #[error("cannot read the image url from {host}: {cause}")]
    Connection {
        /// The host.
        host: String,
        /// What failed.
        cause: &'static str,
    },
    /// The fetch found no free request or no free memory in time.
    #[error("too many images are fetched")]
    Busy,
    /// The fetch exceeded a timeout.
    #[error("image url timed out: {phase} is limited to {} ms", limit.as_millis())]
    Timeout {
        /// The phase that timed out.
        phase: FetchPhase,
        /// The timeout.
        limit: Duration,
    },
    /// The server responded with a status other than 200 and 203.
    #[error("unexpected http status of the image url: {status}, expected 200 or 203")]
    Status {
        /// The HTTP status.
        status: u16,
    },
    /// The server compressed the body although the request accepts only `identity`.
    #[error("content-encoding of the image url is not allowed: {encoding}")]
    Encoded {
        /// The encoding.
        encoding: String,
    },
    /// The body is too large, by its declared or its actual length.
    #[error("body of the image url is too large: at most {limit} bytes allowed")]
    TooManyBytes {
        /// The largest allowed size.
        limit: usize,
    },
}

/// A phase of a fetch that has a timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchPhase {
    /// From the request to the response headers.
    FirstByte,
    /// The complete fetch, including redirects and retries.
    Total,
}

impl fmt::Display for FetchPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FirstByte => "the head of the response",
            Self::Total => "the whole image",
        })
    }
}

impl FetchError {
    /// Returns the stable, machine-readable name of this error.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::InvalidUrl(_) => "URL_INVALID",
            Self::SchemeRefused { .. } => "URL_SCHEME_REFUSED",
            Self::Credentials => "URL_CREDENTIALS_REFUSED",
            Self::PortRefused { .. } => "URL_PORT_REFUSED",
            Self::HostRefused { .. } => "URL_HOST_REFUSED",
            Self::AddressRefused { .. } => "URL_ADDRESS_REFUSED",
            Self::TooManyRedirects { .. } | Self::TooManyRequests { .. } => "URL_TOO_MANY_REDIRECTS",
            Self::InvalidRedirect => "URL_INVALID_REDIRECT",
            Self::NotFound { .. } => "URL_HOST_NOT_FOUND",
            Self::Connection { .. } => "URL_CONNECTION_FAILED",
            Self::Busy => "FETCHING_BUSY",
            Self::Timeout { .. } => "URL_TIMEOUT",
            Self::Status { .. } => "URL_BAD_STATUS",
            Self::Encoded { .. } => "URL_ENCODED",
            Self::TooManyBytes { .. } => "URL_TOO_MANY_BYTES",
        }
    }

    /// Whether a retry may succeed.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Connection { .. } => true,
            Self::Timeout { phase, .. } => matches!(phase, FetchPhase::FirstByte),
            Self::Status { status } => matches!(status, 429 | 500 | 502 | 503 | 504),
            _ => false,
        }
    }
}

/// The HTTP client of the fetcher could not be created.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot create the http client: {0}")]
pub struct SetupError(pub(super) String);
