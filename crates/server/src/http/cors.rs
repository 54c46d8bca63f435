//! Which pages in a browser may call (cross-origin resource sharing): none, unless their origins are named.

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
    request_id::REQUEST_ID,
};

/// What a page may send.
const REQUEST_HEADERS: [HeaderName; 10] = [
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
];

/// What a page may read of a response.
const RESPONSE_HEADERS: [HeaderName; 5] = [
    header::RETRY_AFTER,
    HeaderName::from_static("grpc-status"),
    HeaderName::from_static("grpc-message"),
    HeaderName::from_static("grpc-status-details-bin"),
    REQUEST_ID,
];

/// Lets pages of `origins` call. No cookies or other credentials of the browser are ever asked for.
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

/// Refuses what a page of another origin sends without being named. A browser keeps the response from such a page, but
/// for a form it asks nobody before it sends the request.
pub(crate) async fn only_named(
    State(origins): State<Arc<[CorsOrigin]>>,
    request: Request,
    next: Next,
) -> Result<Response, RequestError> {
    let headers = request.headers();
    if let Some(origin) = headers.get(header::ORIGIN).filter(|_| request.method() == Method::POST) {
        let named = origins.iter().any(|known| match known {
            CorsOrigin::Any => true,
            CorsOrigin::Named(known) => known == origin,
        });
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let host = host.or_else(|| request.uri().authority().map(|authority| authority.as_str()));
        let origin = String::from_utf8_lossy(origin.as_bytes());
        let own = origin.split_once("://").is_some_and(|(_, authority)| Some(authority) == host);
        if !named && !own {
            return Err(RequestError::new(ErrorReason::OriginRefused).value(origin));
        }
    }
    Ok(next.run(request).await)
}
