//! Failed items in JSON.

use serde::Serialize;
use utoipa::ToSchema;

use crate::error::RequestError;

/// A failed item of a response.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FailedItem {
    /// The position of the image in the request, from 0.
    image: u32,
    /// The position of the text among the texts about the image, from 0.
    question: u32,
    #[serde(flatten)]
    error: ItemError,
}

/// The error of an item.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ItemError {
    /// The name of the reason. The page `/docs/errors` lists all reasons.
    #[schema(example = "URL_BAD_STATUS")]
    reason: &'static str,
    /// The message.
    #[schema(example = "cannot fetch inputs.images[0].url: HTTP status 404 Not Found")]
    message: String,
    /// The invalid field of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    field: Option<String>,
    /// The HTTP status of a request that fails as a whole for this reason.
    #[schema(example = 424, minimum = 400, maximum = 599)]
    status: u16,
    /// The time after which a retry can succeed, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    retry_after_s: Option<f64>,
}

impl FailedItem {
    pub(crate) fn new(image: u32, question: u32, error: &RequestError) -> Self {
        Self { image, question, error: ItemError::from(error) }
    }
}

impl From<&RequestError> for ItemError {
    fn from(error: &RequestError) -> Self {
        let spec = error.reason().spec();
        let field = error.details().find(|(name, _)| *name == "field");
        Self {
            reason: spec.name,
            message: error.message(),
            field: field.map(|(_, field)| field.to_owned()),
            status: spec.http,
            retry_after_s: error.wait().map(|wait| wait.as_secs_f64()),
        }
    }
}
