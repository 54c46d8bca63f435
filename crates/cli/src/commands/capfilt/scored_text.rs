//! A text about an image, with its probability.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The field of a result with all texts.
pub(super) const SCORED_TEXTS: &str = "scored_texts";

/// The field of a result with the texts that passed.
pub(super) const PASSED_TEXTS: &str = "passed_texts";

/// Where a text comes from.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum TextSource {
    /// The record.
    Web,
    /// The caption model.
    Synthetic,
}

/// A text of a result.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct ScoredText {
    pub(super) text: String,
    pub(super) source: TextSource,
    /// The probability that the text describes the image, or `None` if the server rejected the
    /// text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) probability: Option<f64>,
    /// Whether the probability is above the threshold.
    pub(super) passed: bool,
    /// Why the server rejected the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<Value>,
}

/// Returns whether a text passes the filter.
pub(super) fn passes(probability: Option<f64>, threshold: f64) -> bool {
    probability.is_some_and(|probability| probability > threshold)
}
