//! A refusal as a problem document (RFC 9457), from the one table of errors.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{
    HeaderValue, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    error::{ErrorReason, RequestError},
    request_id::RequestId,
};

/// The media type of a problem document.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// Why a request as a whole was refused (RFC 9457).
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// Where this kind of problem is described, relative to this server.
    #[serde(rename = "type")]
    #[schema(format = "uri-reference", example = "/docs/errors#API_KEY_INVALID")]
    pub(crate) kind: String,
    /// The kind in words; the same for every problem of this kind.
    #[schema(example = "api key invalid")]
    pub(crate) title: String,
    /// The HTTP status.
    #[schema(example = 401, minimum = 400, maximum = 599)]
    pub(crate) status: u16,
    /// What happened, with its particulars.
    #[schema(example = "unknown api key")]
    pub(crate) detail: String,
    /// The kind as a name, the same as in gRPC's `google.rpc.ErrorInfo`.
    #[schema(example = "API_KEY_INVALID")]
    pub(crate) reason: &'static str,
    /// The part of the request at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) field: Option<String>,
    /// What was found there.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) value: Option<String>,
    /// What would be allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) limit: Option<String>,
    /// After how many seconds trying again can help; also in the header `Retry-After`, in whole seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) retry_after_s: Option<f64>,
    /// The request, as in the header `x-request-id`: whoever looks into it can find it in the server's log.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) request_id: Option<String>,
}

impl From<&RequestError> for Problem {
    fn from(refusal: &RequestError) -> Self {
        let row = refusal.reason().spec();
        let particular = |wanted: &str| {
            refusal.details().find(|(name, _)| *name == wanted).map(|(_, text)| text.to_owned())
        };
        Self {
            kind: kind(refusal.reason()),
            title: title(refusal.reason()),
            status: row.http,
            detail: refusal.message(),
            reason: row.name,
            field: particular("field"),
            value: particular("value"),
            limit: particular("limit"),
            retry_after_s: refusal.wait().map(|wait| wait.as_secs_f64()),
            request_id: RequestId::current().map(|id| id.to_string()),
        }
    }
}

/// The URI reference that stands for a reason.
fn kind(reason: ErrorReason) -> String {
    format!("/docs/errors#{}", reason.spec().name)
}

/// A reason in words.
pub(crate) fn title(reason: ErrorReason) -> String {
    reason.spec().name.to_lowercase().replace('_', " ")
}

impl IntoResponse for RequestError {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.reason().spec().http).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(Problem::from(&self))).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(wait) = self.wait() {
            // Whole seconds, and never too early.
            headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_millis().div_ceil(1000) as u64));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"blip-serve\""));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;

    async fn document(refusal: RequestError) -> (http::response::Parts, Value) {
        let (parts, body) = refusal.into_response().into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        (parts, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn a_problem_names_reason_field_value_and_limit_and_nothing_that_is_not_known() {
        let refusal = RequestError::new(ErrorReason::TooManyImages)
            .field("inputs.images")
            .value("65 images")
            .limit("64 images");
        let (parts, problem) = document(refusal).await;
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
    async fn the_headers_say_when_to_come_back_and_how_to_authenticate() {
        let busy = RequestError::new(ErrorReason::ServerBusy).retry_after(Duration::from_millis(1001));
        let (parts, problem) = document(busy).await;
        assert_eq!(
            (&parts.headers[RETRY_AFTER], &problem["retry_after_s"]),
            (&"2".parse().unwrap(), &json!(1.001))
        );
        let (parts, _) = document(RequestError::new(ErrorReason::ApiKeyMissing)).await;
        assert!(parts.headers.contains_key(WWW_AUTHENTICATE));
        assert!(!parts.headers.contains_key(RETRY_AFTER));
    }

    #[tokio::test]
    async fn every_row_of_the_table_is_a_problem_with_the_status_of_its_row() {
        for reason in ErrorReason::ALL {
            let (parts, problem) = document(RequestError::new(*reason)).await;
            assert_eq!(parts.status.as_u16(), reason.spec().http);
            assert_eq!(problem["status"], reason.spec().http);
            assert_eq!(problem["type"], format!("/docs/errors#{}", reason.spec().name));
        }
    }
}
