//! Errors of a whole request as problem documents (RFC 9457), from the error table.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{
    HeaderValue, StatusCode,
    header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    error::{ErrorReason, RequestError},
    request_id::RequestId,
};

/// The media type of a problem document.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// The error of a whole request (RFC 9457).
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// The URL of the description of the reason, relative to this server.
    #[serde(rename = "type")]
    #[schema(format = "uri-reference", example = "/docs/errors#API_KEY_INVALID")]
    pub(crate) type_uri: String,
    /// The reason in words.
    #[schema(example = "api key invalid")]
    pub(crate) title: String,
    /// The HTTP status.
    #[schema(example = 401, minimum = 400, maximum = 599)]
    pub(crate) status: u16,
    /// The message.
    #[schema(example = "unknown api key")]
    pub(crate) detail: String,
    /// The name of the reason, as in `google.rpc.ErrorInfo` over gRPC.
    #[schema(example = "API_KEY_INVALID")]
    pub(crate) reason: &'static str,
    /// The invalid field of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) field: Option<String>,
    /// The value that was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) value: Option<String>,
    /// The value that is allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) limit: Option<String>,
    /// The time after which a retry can succeed, in seconds. The header `Retry-After` has it in
    /// whole seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) retry_after_s: Option<f64>,
    /// The id of the request, as in the header `x-request-id`. Log lines of the server have it too.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) request_id: Option<String>,
}

impl From<&RequestError> for Problem {
    fn from(error: &RequestError) -> Self {
        let spec = error.reason().spec();
        let detail =
            |name: &str| error.details().find(|(detail, _)| *detail == name).map(|(_, text)| text.to_owned());
        Self {
            type_uri: format!("/docs/errors#{}", spec.name),
            title: title(error.reason()),
            status: spec.http,
            detail: error.message(),
            reason: spec.name,
            field: detail("field"),
            value: detail("value"),
            limit: detail("limit"),
            retry_after_s: error.wait().map(|wait| wait.as_secs_f64()),
            request_id: RequestId::current().map(|id| id.to_string()),
        }
    }
}

/// Returns a reason in words.
pub(crate) fn title(reason: ErrorReason) -> String {
    reason.spec().name.to_lowercase().replace('_', " ")
}

impl IntoResponse for RequestError {
    fn into_response(self) -> Response {
        error_response(&self, PROBLEM_JSON, &Problem::from(&self))
    }
}

/// Returns the response to a request that failed with `error`: its status and headers, with `body`
/// of the media type `content_type`.
pub(crate) fn error_response(
    error: &RequestError,
    content_type: &'static str,
    body: &impl Serialize,
) -> Response {
    let status =
        StatusCode::from_u16(error.reason().spec().http).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, Json(body)).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Some(wait) = error.wait() {
        // Rounded up, so that the client does not retry too early.
        headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_millis().div_ceil(1000) as u64));
    }
    if error.reason() == ErrorReason::MediaTypeRefused
        && error.details().any(|detail| detail == ("field", CONTENT_ENCODING.as_str()))
    {
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"blip-serve\""));
    }
    response
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;

    async fn document(error: RequestError) -> (http::response::Parts, Value) {
        let (parts, body) = error.into_response().into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        (parts, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn problem_has_reason_and_details_without_empty_fields() {
        let error = RequestError::new(ErrorReason::TooManyImages)
            .field("inputs.images")
            .value("65 images")
            .limit("64 images");
        let (parts, problem) = document(error).await;
        assert_eq!(parts.headers[CONTENT_TYPE], PROBLEM_JSON);
        assert_eq!(
            problem,
            json!({
                "type": "/docs/errors#TOO_MANY_IMAGES", "title": "too many images", "status": 400,
                "detail": "too many images in inputs.images: 65 images, 64 images allowed", "reason": "TOO_MANY_IMAGES",
                "field": "inputs.images", "value": "65 images", "limit": "64 images",
            })
        );
    }

    #[tokio::test]
    async fn headers_have_delay_authentication_and_encoding() {
        let busy = RequestError::new(ErrorReason::ServerBusy).retry_after(Duration::from_millis(1001));
        let (parts, problem) = document(busy).await;
        assert_eq!(
            (&parts.headers[RETRY_AFTER], &problem["retry_after_s"]),
            (&"2".parse().unwrap(), &json!(1.001))
        );
        let (parts, _) = document(RequestError::new(ErrorReason::ApiKeyMissing)).await;
        assert!(parts.headers.contains_key(WWW_AUTHENTICATE));
        assert!(!parts.headers.contains_key(RETRY_AFTER));
        let gzip = RequestError::new(ErrorReason::MediaTypeRefused).field(CONTENT_ENCODING).value("gzip");
        let (parts, _) = document(gzip).await;
        assert_eq!(parts.headers[ACCEPT_ENCODING], "identity");
    }

    #[tokio::test]
    async fn every_reason_is_a_problem_with_its_status() {
        for reason in ErrorReason::ALL {
            let (parts, problem) = document(RequestError::new(*reason)).await;
            assert_eq!(parts.status.as_u16(), reason.spec().http);
            assert_eq!(problem["status"], reason.spec().http);
            assert_eq!(problem["type"], format!("/docs/errors#{}", reason.spec().name));
        }
    }
}
