//! Errors in the shape of OpenAI's API.

use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    error::{ErrorReason, RequestError},
    http::problem::error_response,
};

/// An error of OpenAI's API.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OpenAiError {
    error: ErrorBody,
}

/// The fields of an error.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    /// The message.
    #[schema(example = "unknown api key")]
    message: String,
    /// The kind of the error: `invalid_request_error`, `rate_limit_error` or `server_error`.
    #[serde(rename = "type")]
    #[schema(example = "invalid_request_error")]
    kind: &'static str,
    /// The invalid field of the request.
    param: Option<String>,
    /// The name of the reason. The page `/docs/errors` lists all reasons.
    #[schema(example = "API_KEY_INVALID")]
    code: &'static str,
}

impl From<&RequestError> for OpenAiError {
    fn from(error: &RequestError) -> Self {
        let spec = error.reason().spec();
        let kind = match spec.http {
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        };
        let field = error.details().find(|(name, _)| *name == "field");
        let param = field.map(|(_, field)| field.to_owned());
        Self { error: ErrorBody { message: error.message(), kind, param, code: spec.name } }
    }
}

/// The error of a whole request, as a response of OpenAI's API.
#[derive(Debug)]
pub(crate) struct OpenAiFailure(RequestError);

impl From<RequestError> for OpenAiFailure {
    fn from(error: RequestError) -> Self {
        Self(error)
    }
}

impl IntoResponse for OpenAiFailure {
    fn into_response(self) -> Response {
        error_response(&self.0, "application/json", &OpenAiError::from(&self.0))
    }
}

/// Returns the error of a field whose value a BLIP model cannot use, for this reason.
pub(crate) fn invalid(field: &str, cause: &str) -> RequestError {
    RequestError::new(ErrorReason::PayloadInvalid).field(field).cause(cause)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn error_names_reason_and_field() {
        let error = invalid("tools", "a BLIP model calls no tools");
        let expected = json!({"error": {
            "message": "tools is invalid: a BLIP model calls no tools",
            "type": "invalid_request_error", "param": "tools", "code": "PAYLOAD_INVALID",
        }});
        assert_eq!(serde_json::to_value(OpenAiError::from(&error)).unwrap(), expected);
    }

    #[test]
    fn kind_follows_the_status() {
        for (reason, kind) in [
            (ErrorReason::QueueFull, "rate_limit_error"),
            (ErrorReason::ModelLoading, "server_error"),
            (ErrorReason::ModelUnknown, "invalid_request_error"),
        ] {
            assert_eq!(OpenAiError::from(&RequestError::new(reason)).error.kind, kind);
        }
    }
}
