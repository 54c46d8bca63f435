//! Requests that went wrong: what is said of them, and whether another attempt may end better.

use reqwest::{Response, StatusCode};
use url::Url;

use crate::{
    client::retry::{Again, Failure, asked_pause},
    error::HubError,
};

/// Who was asked, without a path or a query, which may be signed.
pub(crate) fn host(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}{port}", url.host_str().unwrap_or_default())
}

pub(crate) fn no_answer(host: &str, what: &str, reason: String) -> Failure {
    let error = HubError::Unreachable { host: host.to_owned(), what: what.to_owned(), reason };
    Failure { error, again: Again::Later }
}

/// The cause that says most; the outer ones name the address, which may be signed.
pub(crate) fn innermost(error: &reqwest::Error) -> String {
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
pub(crate) fn failure(response: &Response, host: &str, what: &str) -> Option<Failure> {
    let status = response.status();
    if status.is_success() {
        return None;
    }
    let again = match status.as_u16() {
        408 | 429 | 500 | 502 | 503 | 504 => {
            asked_pause(response.headers()).map_or(Again::Later, Again::After)
        }
        _ => Again::Never,
    };
    let host = host.to_owned();
    if let Again::After(wait) = again
        && status == StatusCode::TOO_MANY_REQUESTS
    {
        return Some(Failure { error: HubError::RateLimited { host, wait }, again });
    }
    let said = |name: &str| response.headers().get(name).and_then(|said| said.to_str().ok());
    let code = said("x-error-code").unwrap_or_default().to_owned();
    let message = said("x-error-message").map(|said| format!(": {said}")).unwrap_or_default();
    let error = HubError::Status { host, status: status.as_u16(), what: what.to_owned(), code, message };
    Some(Failure { error, again })
}
