//! The JSON of matches and embeddings.

use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    error::RequestError,
    http::inference::item_error::{self, FailedItem},
    pipeline::{
        item_result::ItemResults,
        reply::{MatchScores, Reply},
        timing::Timing,
    },
};

/// The match scores, in the order of the request.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct MatchResponse {
    /// The scores of each image.
    matches: Vec<ImageMatches>,
    /// The failed items. The field is missing if no item failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    errors: Vec<FailedItem>,
}

/// The scores of one image.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(crate) struct ImageMatches {
    /// The scores for each text. A failed item is `null`.
    image_results: Vec<Option<MatchResult>>,
}

/// How well a text describes an image.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct MatchResult {
    /// The probability that the text describes the image, from the head that reads both together.
    probability: f32,
    /// The cosine of the embeddings of image and text.
    cosine: f32,
    /// The logits of the head for "does not describe" and "describes", if the request has
    /// `details`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    logits: Option<Vec<f32>>,
    /// The time that each stage took, if the request has `details`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    timing: Option<Timing>,
}

/// The embeddings, in the order of the request.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct EmbedResponse {
    /// The embedding of each image. A failed one is `null`.
    images: Vec<Option<Vector>>,
    /// The embedding of each text. A failed one is `null`.
    texts: Vec<Option<Vector>>,
    /// The failed items. The field is missing if no item failed. All texts together count as one
    /// more image after the images.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    errors: Vec<FailedItem>,
}

/// An embedding: a vector of length 1.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Vector(pub(crate) Vec<f32>);

impl MatchResult {
    pub(crate) fn new(scores: &MatchScores, details: bool) -> Self {
        Self {
            probability: scores.probability,
            cosine: scores.cosine,
            logits: details.then(|| scores.logits.clone()),
            timing: details.then_some(scores.timing),
        }
    }
}

impl MatchResponse {
    /// Waits for all `results`. `counts` has the number of texts of each image.
    ///
    /// # Errors
    /// A [`RequestError`] of the whole request.
    pub(crate) async fn collect(
        results: ItemResults,
        counts: &[usize],
        details: bool,
    ) -> Result<Self, RequestError> {
        let empty = |count: &usize| ImageMatches { image_results: vec![None; *count] };
        let mut matches: Vec<ImageMatches> = counts.iter().map(empty).collect();
        let errors = item_error::collect(results, |image, text, reply| {
            let result = matches.get_mut(image).and_then(|image| image.image_results.get_mut(text));
            if let (Reply::Match(scores), Some(result)) = (reply, result) {
                *result = Some(MatchResult::new(&scores, details));
            }
        });
        let errors = errors.await?;
        Ok(Self { matches, errors })
    }
}

impl EmbedResponse {
    /// Waits for all `results`. The first `images` elements of `counts` belong to images. The next
    /// one is the number of texts.
    ///
    /// # Errors
    /// A [`RequestError`] of the whole request.
    pub(crate) async fn collect(
        results: ItemResults,
        counts: &[usize],
        images: usize,
    ) -> Result<Self, RequestError> {
        let mut texts = vec![None; counts.get(images).copied().unwrap_or_default()];
        let mut images = vec![None; images];
        let errors = item_error::collect(results, |image, text, reply| {
            let vector = match images.get_mut(image) {
                Some(vector) => Some(vector),
                None => texts.get_mut(text),
            };
            if let (Reply::Embedding(embedding), Some(vector)) = (reply, vector) {
                *vector = Some(Vector(embedding.values));
            }
        });
        let errors = errors.await?;
        Ok(Self { images, texts, errors })
    }
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt as _, stream};
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        error::ErrorReason,
        pipeline::{item_result::ItemResult, reply::Embedding},
    };

    fn results(replies: Vec<(u32, u32, Result<Reply, RequestError>)>) -> ItemResults {
        let result =
            |(image_index, text_index, reply)| Ok(ItemResult { image_index, text_index, ready: None, reply });
        stream::iter(replies.into_iter().map(result)).boxed()
    }

    fn failed() -> Result<Reply, RequestError> {
        Err(RequestError::new(ErrorReason::QuestionEmpty).field("inputs.texts[1]"))
    }

    #[tokio::test]
    async fn scores_are_in_request_order() {
        let scores = MatchScores { probability: 0.75, cosine: 0.5, ..MatchScores::default() };
        let replies = vec![(0, 1, failed()), (0, 0, Ok(Reply::Match(scores)))];
        let response = MatchResponse::collect(results(replies), &[2], false).await.unwrap();
        let response = serde_json::to_value(response).unwrap();
        let expected = json!([{"image_results": [{"probability": 0.75, "cosine": 0.5}, null]}]);
        assert_eq!(response["matches"], expected);
        assert_eq!(response["errors"][0]["reason"], "QUESTION_EMPTY");
    }

    #[tokio::test]
    async fn embeddings_of_images_and_texts_are_separate() {
        let vector = |values: &[f32]| {
            Ok(Reply::Embedding(Embedding { values: values.to_vec(), ..Embedding::default() }))
        };
        let replies = vec![(1, 1, failed()), (1, 0, vector(&[1.0])), (0, 0, vector(&[0.5]))];
        let response = EmbedResponse::collect(results(replies), &[1, 2], 1).await.unwrap();
        let response: Value = serde_json::to_value(response).unwrap();
        assert_eq!((&response["images"], &response["texts"]), (&json!([[0.5]]), &json!([[1.0], null])));
        let without_texts = EmbedResponse::collect(results(Vec::new()), &[1], 1).await.unwrap();
        assert!(without_texts.texts.is_empty());
    }
}
