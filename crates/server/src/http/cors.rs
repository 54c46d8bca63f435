//! Cross-origin requests of pages in a browser: only origins in the settings are allowed.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::{HeaderName, Method, header};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::{
    config::sections::http::CorsOrigin,
    error::{ErrorReason, RequestError},
    http::adapters::open_inference::infer_request::JSON_LENGTH,
    request_id::REQUEST_ID,
};

/// The headers that a page may send: those that the server reads, and those that clients of the
/// adapters send from a browser.
const REQUEST_HEADERS: [HeaderName; 25] = [
    header::ACCEPT,
    header::AUTHORIZATION,
    header::CONTENT_TYPE,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("x-grpc-web"),
    HeaderName::from_static("x-user-agent"),
    HeaderName::from_static("grpc-timeout"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    REQUEST_ID,
    JSON_LENGTH,
    header::USER_AGENT,
    HeaderName::from_static("openai-beta"),
    HeaderName::from_static("openai-organization"),
    HeaderName::from_static("openai-project"),
    HeaderName::from_static("x-hf-bill-to"),
    HeaderName::from_static("x-stainless-arch"),
    HeaderName::from_static("x-stainless-helper-method"),
    HeaderName::from_static("x-stainless-lang"),
    HeaderName::from_static("x-stainless-os"),
    HeaderName::from_static("x-stainless-package-version"),
    HeaderName::from_static("x-stainless-retry-count"),
    HeaderName::from_static("x-stainless-runtime"),
    HeaderName::from_static("x-stainless-runtime-version"),
    HeaderName::from_static("x-stainless-timeout"),
];

/// The response headers that a page may read.
const RESPONSE_HEADERS: [HeaderName; 6] = [
    header::RETRY_AFTER,
    JSON_LENGTH,
    HeaderName::from_static("grpc-status"),
    HeaderName::from_static("grpc-message"),
    HeaderName::from_static("grpc-status-details-bin"),
    REQUEST_ID,
];

/// Returns the layer that allows requests of pages of `origins`, without cookies or other
/// credentials of the browser.
pub(crate) fn cors(origins: &[CorsOrigin]) -> CorsLayer {
    let named = origins.iter().filter_map(|origin| match origin {
        CorsOrigin::Any => None,
        CorsOrigin::Named(origin) => Some(origin.clone()),
    });
    let allowed =
        if origins.contains(&CorsOrigin::Any) { AllowOrigin::any() } else { AllowOrigin::list(named) };
    CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers(REQUEST_HEADERS)
        .expose_headers(RESPONSE_HEADERS)
}

/// Rejects requests of pages of other origins that can change something.
///
/// A browser hides the response from such a page, but it sends the request of a form without a
/// preflight request.
pub(crate) async fn check_origin(
    State(origins): State<Arc<[CorsOrigin]>>,
    request: Request,
    next: Next,
) -> Result<Response, RequestError> {
    let headers = request.headers();
    if let Some(origin) = headers.get(header::ORIGIN).filter(|_| !request.method().is_safe()) {
        let is_allowed = origins.iter().any(|allowed| allowed.allows(origin));
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let host = host.or_else(|| request.uri().authority().map(|authority| authority.as_str()));
        let origin = String::from_utf8_lossy(origin.as_bytes());
        let is_same_origin = origin.split_once("://").is_some_and(|(_, authority)| Some(authority) == host);
        if !is_allowed && !is_same_origin {
            return Err(RequestError::new(ErrorReason::OriginRefused).value(origin));
        }
    }
    Ok(next.run(request).await)
}
