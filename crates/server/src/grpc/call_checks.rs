//! Checks that a request is a gRPC call, and names methods that do not exist.
//!
//! tonic accepts any method and any media type. A page in a browser could therefore send a call
//! without the permission of the server.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use crate::{
    config::sections::http::CorsOrigin,
    error::{ErrorReason, RequestError},
};

/// The media type of every gRPC call.
const MEDIA_TYPE: &str = "application/grpc";

/// Rejects requests that are no gRPC calls, with the HTTP status of the error. Names unknown
/// methods.
pub(crate) async fn check_call(
    State(origins): State<Arc<[CorsOrigin]>>,
    request: Request,
    next: Next,
) -> Response {
    if let Err(error) = check(request.method(), request.headers(), &origins) {
        return refusal(&error);
    }
    let uri = request.uri().clone();
    let response = next.run(request).await;
    if is_unknown_method(response.headers()) {
        return RequestError::new(ErrorReason::MethodUnknown).value(uri.path()).to_status().into_http();
    }
    response
}

fn check(method: &Method, headers: &HeaderMap, origins: &[CorsOrigin]) -> Result<(), RequestError> {
    if method != Method::POST {
        return Err(RequestError::new(ErrorReason::MethodRefused).value(method.as_str()));
    }
    let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    if !content_type.is_some_and(is_grpc) {
        let value = content_type.map_or("missing".into(), String::from_utf8_lossy);
        return Err(RequestError::new(ErrorReason::MediaTypeRefused)
            .field("content-type")
            .value(value)
            .limit(MEDIA_TYPE));
    }
    // Only browsers and proxies of gRPC-Web send this header.
    match headers.get(header::ORIGIN) {
        Some(origin) if !origins.iter().any(|allowed| allowed.allows(origin)) => {
            let value = String::from_utf8_lossy(origin.as_bytes());
            Err(RequestError::new(ErrorReason::OriginRefused).value(value))
        }
        _ => Ok(()),
    }
}

/// Returns whether a media type is `application/grpc` or `application/grpc+proto`.
fn is_grpc(content_type: &[u8]) -> bool {
    let media_type = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    media_type.split_at_checked(MEDIA_TYPE.len()).is_some_and(|(media_type, subtype)| {
        media_type.eq_ignore_ascii_case(MEDIA_TYPE.as_bytes())
            && (subtype.is_empty() || subtype.eq_ignore_ascii_case(b"+proto"))
    })
}

/// Returns the error as a gRPC status, and as an HTTP status for clients that do not speak gRPC.
fn refusal(error: &RequestError) -> Response {
    let mut response: Response<Body> = error.to_status().into_http();
    if let Ok(status) = StatusCode::from_u16(error.reason().spec().http) {
        *response.status_mut() = status;
    }
    if error.reason() == ErrorReason::MethodRefused {
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
    }
    response
}

/// Returns whether tonic found no method. The errors of this crate have details.
fn is_unknown_method(headers: &HeaderMap) -> bool {
    headers.get("grpc-status").is_some_and(|status| status == "12")
        && !headers.contains_key("grpc-status-details-bin")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(content_type: &str, origin: Option<&str>) -> Option<ErrorReason> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(content_type).unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
        }
        let origins = ["https://example.org".parse().unwrap()];
        check(&Method::POST, &headers, &origins).err().map(|error| error.reason())
    }

    #[test]
    fn media_type_of_grpc_is_required() {
        for content_type in ["application/grpc", "Application/GRPC+proto", "application/grpc; x=y"] {
            assert_eq!(reason(content_type, None), None, "{content_type}");
        }
        let other = ["", "text/plain", "application/grpc-web", "application/grpc+json", "application/grpcx"];
        for content_type in other {
            assert_eq!(reason(content_type, None), Some(ErrorReason::MediaTypeRefused), "{content_type}");
        }
        let missing = check(&Method::POST, &HeaderMap::new(), &[]).unwrap_err();
        assert_eq!(missing.reason(), ErrorReason::MediaTypeRefused);
    }

    #[test]
    fn pages_of_other_origins_are_refused() {
        let grpc = "application/grpc";
        assert_eq!(reason(grpc, Some("https://example.org")), None);
        for origin in ["https://evil.example", "null", "http://localhost:50051"] {
            assert_eq!(reason(grpc, Some(origin)), Some(ErrorReason::OriginRefused), "{origin}");
        }
    }

    #[test]
    fn refused_method_has_the_status_405() {
        let error = check(&Method::GET, &HeaderMap::new(), &[]).unwrap_err();
        let response = refusal(&error);
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(response.headers().get(header::ALLOW).unwrap(), "POST");
        assert_eq!(response.headers().get("grpc-status").unwrap(), "12");
    }
}
