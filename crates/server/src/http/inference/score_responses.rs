//! The JSON responses with numbers instead of words: how well texts and images fit, and vectors.

use futures::StreamExt as _;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    error::RequestError,
    http::inference::ask_response::{FailedItem, Failure},
    pipeline::{
        item_result::{ItemResult, ItemResults},
        reply::{MatchScores, Reply},
        timing::Timing,
    },
};

/// How well texts and images fit, in the order of the request.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct MatchResponse {
    /// One for each image.
    matches: Vec<ImageMatches>,
    /// The items that failed, if there are any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    errors: Vec<FailedItem>,
}

/// The scores of one image.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(crate) struct ImageMatches {
    /// One for each text; `null` for an item that failed.
    image_results: Vec<Option<MatchResult>>,
}

/// How well a text describes an image.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct MatchResult {
    /// Probability that the text describes the image, by the head that reads both together.
    probability: f32,
    /// Cosine of the image's and the text's vector.
    cosine: f32,
    /// The head's logits of "does not describe" and "describes", where `details` were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    logits: Option<Vec<f32>>,
    /// What it cost, where `details` were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    timing: Option<Timing>,
}

/// Vectors, in the order of the request.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct EmbedResponse {
    /// One for each image; `null` for one that failed.
    images: Vec<Option<Vector>>,
    /// One for each text; `null` for one that failed.
    texts: Vec<Option<Vector>>,
    /// The items that failed, if there are any: `image` counts on to the texts, which are one more input.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    errors: Vec<FailedItem>,
}

/// A vector of length 1.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Vector(pub(crate) Vec<f32>);

impl MatchResult {
    pub(crate) fn new(scores: &MatchScores, details: bool) -> Self {
        Self {
            probability: scores.probability,
            cosine: scores.cosine,
            logits: details.then(|| scores.logits.clone()),
            timing: details.then(|| scores.timing),
        }
    }
}

impl MatchResponse {
    /// Waits for all `results` of a request whose images have so many texts each.
    ///
    /// # Errors
    /// A [`RequestError`] of the whole request.
    pub(crate) async fn collect(
        mut results: ItemResults,
        counts: &[usize],
        details: bool,
    ) -> Result<Self, RequestError> {
        let unanswered = |count: &usize| ImageMatches { image_results: vec![None; *count] };
        let mut response = Self { matches: counts.iter().map(unanswered).collect(), errors: Vec::new() };
        while let Some(result) = results.next().await {
            let ItemResult { image_index: image, text_index: question, reply, .. } = result?;
            let results = response.matches.get_mut(image as usize);
            let place = results.and_then(|matches| matches.image_results.get_mut(question as usize));
            match (reply, place) {
                (Ok(Reply::Match(scores)), Some(place)) => *place = Some(MatchResult::new(&scores, details)),
                (Err(refusal), _) => response.errors.push(failed(image, question, &refusal)),
                _ => {}
            }
        }
        response.errors.sort_by_key(|item| (item.image, item.question));
        Ok(response)
    }
}

impl EmbedResponse {
    /// Waits for all `results` of a request with so many `images`, and as many texts as an input behind them has.
    ///
    /// # Errors
    /// A [`RequestError`] of the whole request.
    pub(crate) async fn collect(
        mut results: ItemResults,
        counts: &[usize],
        images: usize,
    ) -> Result<Self, RequestError> {
        let texts = counts.get(images).copied().unwrap_or_default();
        let mut response = Self { images: vec![None; images], texts: vec![None; texts], errors: Vec::new() };
        while let Some(result) = results.next().await {
            let ItemResult { image_index: image, text_index: question, reply, .. } = result?;
            let place = match response.images.get_mut(image as usize) {
                Some(place) => Some(place),
                None => response.texts.get_mut(question as usize),
            };
            match (reply, place) {
                (Ok(Reply::Embedding(embedding)), Some(place)) => *place = Some(Vector(embedding.values)),
                (Err(refusal), _) => response.errors.push(failed(image, question, &refusal)),
                _ => {}
            }
        }
        response.errors.sort_by_key(|item| (item.image, item.question));
        Ok(response)
    }
}

fn failed(image: u32, question: u32, refusal: &RequestError) -> FailedItem {
    FailedItem { image, question, failure: Failure::from(refusal) }
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use serde_json::{Value, json};

    use super::*;
    use crate::{error::ErrorReason, pipeline::reply::Embedding};

    fn results(replies: Vec<(u32, u32, Result<Reply, RequestError>)>) -> ItemResults {
        let result = |(image_index, text_index, reply)| {
            Ok(ItemResult { image_index, text_index, ready: None, reply })
        };
        stream::iter(replies.into_iter().map(result)).boxed()
    }

    fn refused() -> Result<Reply, RequestError> {
        Err(RequestError::new(ErrorReason::QuestionEmpty).field("inputs.texts[1]"))
    }

    #[tokio::test]
    async fn scores_stand_in_the_order_of_the_request() {
        let scores = MatchScores { probability: 0.75, cosine: 0.5, ..MatchScores::default() };
        let replies = vec![(0, 1, refused()), (0, 0, Ok(Reply::Match(scores)))];
        let response = MatchResponse::collect(results(replies), &[2], false).await.unwrap();
        let response = serde_json::to_value(response).unwrap();
        let expected = json!([{"image_results": [{"probability": 0.75, "cosine": 0.5}, null]}]);
        assert_eq!(response["matches"], expected);
        assert_eq!(response["errors"][0]["reason"], "QUESTION_EMPTY");
    }

    #[tokio::test]
    async fn vectors_of_images_and_of_texts_stand_apart() {
        let vector = |values: &[f32]| {
            Ok(Reply::Embedding(Embedding { values: values.to_vec(), ..Embedding::default() }))
        };
        let replies = vec![(1, 1, refused()), (1, 0, vector(&[1.0])), (0, 0, vector(&[0.5]))];
        let response = EmbedResponse::collect(results(replies), &[1, 2], 1).await.unwrap();
        let response: Value = serde_json::to_value(response).unwrap();
        assert_eq!((&response["images"], &response["texts"]), (&json!([[0.5]]), &json!([[1.0], null])));
        let alone = EmbedResponse::collect(results(Vec::new()), &[1], 1).await.unwrap();
        assert!(alone.texts.is_empty());
    }
}
