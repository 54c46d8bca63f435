//! Requests that went wrong: what is said of them, and whether another attempt may end better.

use reqwest::{Response, StatusCode};
use url::Url;

use crate::{
    client::retry::{RequestFailure, Retry, requested_delay},
    error::HubError,
};

/// Who was asked, without a path or a query, which may be signed.
pub(crate) fn host_of(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}{port}", url.host_str().unwrap_or_default())
}

pub(crate) fn unreachable(host: &str, what: &str, reason: String) -> RequestFailure {
    let error = HubError::Unreachable { host: host.to_owned(), what: what.to_owned(), reason };
    RequestFailure { error, retry: Retry::AfterBackoff }
}

/// The cause that says most; the outer ones name the address, which may be signed.
pub(crate) fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    if std::ptr::addr_eq(cause, error) {
        return if error.is_timeout() { "no connection in time" } else { "the connection failed" }.to_owned();
    }
    cause.to_string()
}

/// What a response says that is no success.
pub(crate) fn status_failure(response: &Response, host: &str, what: &str) -> Option<RequestFailure> {
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
    let said = |name: &str| response.headers().get(name).and_then(|said| said.to_str().ok());
    let code = said("x-error-code").unwrap_or_default().to_owned();
    let message = said("x-error-message").map(|said| format!(": {said}")).unwrap_or_default();
    let error = HubError::Status { host, status: status.as_u16(), what: what.to_owned(), code, message };
    Some(RequestFailure { error, retry })
}
