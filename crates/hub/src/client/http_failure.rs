//! Converts failed requests to errors and decides whether to retry them.

use reqwest::{Response, StatusCode};
use url::Url;

use crate::{
    client::retry::{RequestFailure, Retry, requested_delay},
    error::HubError,
};

/// Returns the host and port of `url`. Path and query may be signed and do not appear in errors.
pub(crate) fn host_of(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}{port}", url.host_str().unwrap_or_default())
}

/// Returns the failure of a request without a response.
pub(crate) fn unreachable(host: &str, resource: &str, reason: String) -> RequestFailure {
    let error = HubError::Unreachable { host: host.to_owned(), resource: resource.to_owned(), reason };
    RequestFailure { error, retry: Retry::AfterBackoff }
}

/// Returns the message of the innermost cause.
///
/// The messages of the outer causes contain the URL, which may be signed.
pub(crate) fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    if std::ptr::addr_eq(cause, error) {
        return if error.is_timeout() { "connection timed out" } else { "connection failed" }.to_owned();
    }
    cause.to_string()
}

/// Returns the failure of a response without a success status.
pub(crate) fn status_failure(response: &Response, host: &str, resource: &str) -> Option<RequestFailure> {
    let status = response.status();
    if status.is_success() {
        return None;
    }
    let retry = match status.as_u16() {
        408 | 429 | 500 | 502 | 503 | 504 => {
            requested_delay(response.headers()).map_or(Retry::AfterBackoff, Retry::After)
        }
        _ => Retry::Never,
    };
    let host = host.to_owned();
    if let Retry::After(wait) = retry
        && status == StatusCode::TOO_MANY_REQUESTS
    {
        return Some(RequestFailure { error: HubError::RateLimited { host, wait }, retry });
    }
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    let code = header("x-error-code").unwrap_or_default().to_owned();
    let message = header("x-error-message").map(|message| format!(": {message}")).unwrap_or_default();
    let error =
        HubError::Status { host, status: status.as_u16(), resource: resource.to_owned(), code, message };
    Some(RequestFailure { error, retry })
}
