//! Why an image was not fetched.

use std::{fmt, time::Duration};

/// A refusal or failure to fetch, on one image only. The texts name what the caller wrote, never
/// what a name resolves to: that would tell strangers about the inside of the network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// No URL.
    #[error("image url is invalid: {0}")]
    InvalidUrl(String),
    /// Neither `http`, `https` nor `data`, or one that is switched off.
    #[error("image url has scheme {scheme}, which is not allowed")]
    SchemeRefused {
        /// The scheme.
        scheme: String,
    },
    /// A user name or password in the URL.
    #[error("image url has credentials, which are not allowed")]
    Credentials,
    /// A port outside of `allow_ports`.
    #[error("image url has port {port}, which is not allowed")]
    PortRefused {
        /// The port.
        port: u16,
    },
    /// A host outside of `allow_domains`.
    #[error("image url has host {host}, which is not allowed")]
    HostRefused {
        /// The host.
        host: String,
    },
    /// A host that is, or resolves to, nothing but addresses that are not public.
    #[error("image url has host {host}, which has no public address")]
    AddressRefused {
        /// The host.
        host: String,
    },
    /// Too many redirects.
    #[error("image url redirects more than {limit} times")]
    TooManyRedirects {
        /// Redirects that are followed.
        limit: usize,
    },
    /// A redirect that says no valid place.
    #[error("image url redirects to no valid url")]
    InvalidRedirect,
    /// The host's name was not found.
    #[error("host {host} of the image url is not found")]
    NotFound {
        /// The host.
        host: String,
    },
    /// No connection, or it broke.
    #[error("image url could not be read from {host}: {cause}")]
    Connection {
        /// The host.
        host: String,
        /// What broke.
        cause: &'static str,
    },
    /// A ceiling on time was passed.
    #[error("image url took too long: {phase} is limited to {} ms", limit.as_millis())]
    Timeout {
        /// Which ceiling.
        phase: FetchPhase,
        /// The ceiling.
        limit: Duration,
    },
    /// The server answered with another status than 200.
    #[error("image url answered with status {status}")]
    Status {
        /// The HTTP status.
        status: u16,
    },
    /// The server sent the body compressed although it was asked not to.
    #[error("image url answered with content-encoding {encoding}, which is not allowed")]
    Encoded {
        /// The encoding.
        encoding: String,
    },
    /// The body is longer than the limit, by its header or by count.
    #[error("image url has more than {limit} bytes")]
    TooManyBytes {
        /// The limit.
        limit: usize,
    },
}

/// A wait that has a ceiling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchPhase {
    /// To the head of a response.
    FirstByte,
    /// To the whole image.
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
    /// The stable, machine-readable name of this failure.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::InvalidUrl(_) => "URL_INVALID",
            Self::SchemeRefused { .. } => "URL_SCHEME_REFUSED",
            Self::Credentials => "URL_CREDENTIALS_REFUSED",
            Self::PortRefused { .. } => "URL_PORT_REFUSED",
            Self::HostRefused { .. } => "URL_HOST_REFUSED",
            Self::AddressRefused { .. } => "URL_ADDRESS_REFUSED",
            Self::TooManyRedirects { .. } => "URL_TOO_MANY_REDIRECTS",
            Self::InvalidRedirect => "URL_INVALID_REDIRECT",
            Self::NotFound { .. } => "URL_HOST_NOT_FOUND",
            Self::Connection { .. } => "URL_CONNECTION_FAILED",
            Self::Timeout { .. } => "URL_TIMEOUT",
            Self::Status { .. } => "URL_BAD_STATUS",
            Self::Encoded { .. } => "URL_ENCODED",
            Self::TooManyBytes { .. } => "URL_TOO_MANY_BYTES",
        }
    }

    /// Whether another attempt may well succeed.
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

/// The HTTP client could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("http client could not be made: {0}")]
pub struct SetupError(pub(super) String);
