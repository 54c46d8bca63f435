//! Errors in the shape that several inference servers share: an object with a text.

use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    error::RequestError,
    http::{media_type::JSON, problem::error_response},
};

/// An error of a whole request.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorText {
    /// The message.
    #[schema(example = "unknown api key")]
    error: String,
}

/// The error of a whole request, as a response.
#[derive(Debug)]
pub(crate) struct TextFailure(pub(crate) RequestError);

impl From<RequestError> for TextFailure {
    fn from(error: RequestError) -> Self {
        Self(error)
    }
}

impl From<&RequestError> for ErrorText {
    fn from(error: &RequestError) -> Self {
        Self { error: error.message() }
    }
}

impl IntoResponse for TextFailure {
    fn into_response(self) -> Response {
        error_response(&self.0, JSON, &ErrorText::from(&self.0))
    }
}
