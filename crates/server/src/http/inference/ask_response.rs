//! The JSON of answers and captions: the response of the model card, with optional fields.

use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    error::RequestError,
    http::inference::item_error::{self, FailedItem},
    pipeline::{
        item_result::ItemResults,
        reply::{self, Reply},
        timing::Timing,
    },
};

/// The answers or captions, in the order of the request.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct AskResponse {
    /// The results of each image.
    captions: Vec<ImageAnswers>,
    /// The failed items. The field is missing if no item failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    errors: Vec<FailedItem>,
}

/// The answers or captions of one image.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(crate) struct ImageAnswers {
    /// The generated text for each question or prompt. A failed item is `null`.
    image_results: Vec<Option<String>>,
    /// The details for each question or prompt, if the request has `details`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    details: Option<Vec<Option<AnswerDetails>>>,
}

/// The scores and timings of an answer or a caption.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct AnswerDetails {
    /// The natural logarithm of the probability that the model gives this answer. At most 0.
    score: f32,
    /// The smallest lead of a chosen token over the second best, in natural log-probability.
    margin: f32,
    /// The generated tokens as ids of the model's vocabulary.
    token_ids: Vec<u32>,
    /// The probability of a candidate: the softmax of its score among the candidates.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    probability: Option<f32>,
    /// The position of a candidate in the list of candidates, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    candidate_index: Option<u32>,
    /// The next best results, if `generation.num_answers` requests them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    alternatives: Vec<Alternative>,
    /// The time that each stage took.
    timing: Timing,
}

/// An answer or a caption that was not the best.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Alternative {
    /// The generated text.
    text: String,
    /// The score, as that of the best.
    score: f32,
    /// The probability, as that of the best.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    probability: Option<f32>,
}

impl AskResponse {
    /// Waits for all `results`. `counts` has the number of texts of each image.
    ///
    /// # Errors
    /// A [`RequestError`] of the whole request.
    pub(crate) async fn collect(
        results: ItemResults,
        counts: &[usize],
        details: bool,
    ) -> Result<Self, RequestError> {
        let empty = |count: &usize| ImageAnswers {
            image_results: vec![None; *count],
            details: details.then(|| vec![None; *count]),
        };
        let mut captions: Vec<ImageAnswers> = counts.iter().map(empty).collect();
        let errors = item_error::collect(results, |image, text, reply| {
            if let Some(answers) = captions.get_mut(image) {
                answers.insert(text, &reply);
            }
        });
        let errors = errors.await?;
        Ok(Self { captions, errors })
    }
}

impl ImageAnswers {
    fn insert(&mut self, text: usize, reply: &Reply) {
        if matches!(reply, Reply::Chunk(_)) {
            return;
        }
        if let Some(details) = self.details.as_mut().and_then(|details| details.get_mut(text)) {
            *details = AnswerDetails::of(reply);
        }
        if let Some(result) = self.image_results.get_mut(text) {
            *result = Some(reply.text().to_owned());
        }
    }
}

impl AnswerDetails {
    /// Returns the details of an answer or a caption.
    pub(crate) fn of(reply: &Reply) -> Option<Self> {
        match reply {
            Reply::Answer(answer) => Some(Self {
                score: answer.score,
                margin: answer.margin,
                token_ids: answer.token_ids.clone(),
                probability: answer.probability,
                candidate_index: answer.candidate_index,
                alternatives: answer.alternatives.iter().map(Alternative::from).collect(),
                timing: answer.timing,
            }),
            Reply::Caption(caption) => Some(Self {
                score: caption.score,
                margin: caption.margin,
                token_ids: caption.token_ids.clone(),
                probability: None,
                candidate_index: None,
                alternatives: caption.alternatives.iter().map(Alternative::from).collect(),
                timing: caption.timing,
            }),
            Reply::Chunk(_) | Reply::Match(_) | Reply::Embedding(_) => None,
        }
    }
}

impl From<&reply::Alternative> for Alternative {
    fn from(other: &reply::Alternative) -> Self {
        Self { text: other.text.clone(), score: other.score, probability: other.probability }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::{StreamExt as _, stream};
    use serde_json::json;

    use super::*;
    use crate::{error::ErrorReason, pipeline::item_result::ItemResult};

    fn result(image_index: u32, text_index: u32, answer: Result<&str, RequestError>) -> ItemResult {
        let answer = answer.map(|text| reply::Answer { text: text.to_owned(), ..Default::default() });
        ItemResult { image_index, text_index, ready: None, reply: answer.map(Reply::Answer) }
    }

    async fn collected(results: Vec<ItemResult>, counts: &[usize], details: bool) -> serde_json::Value {
        let results = stream::iter(results.into_iter().map(Ok)).boxed();
        serde_json::to_value(AskResponse::collect(results, counts, details).await.unwrap()).unwrap()
    }

    #[tokio::test]
    async fn answers_are_in_request_order_without_optional_fields() {
        let results = vec![result(1, 0, Ok("c")), result(0, 1, Ok("b")), result(0, 0, Ok("a"))];
        let expected = json!({"captions": [{"image_results": ["a", "b"]}, {"image_results": ["c"]}]});
        assert_eq!(collected(results, &[2, 1], false).await, expected);
    }

    #[tokio::test]
    async fn failed_item_is_null_and_listed_with_its_reason() {
        let busy = RequestError::new(ErrorReason::PreprocessingBusy).retry_after(Duration::from_millis(500));
        let empty = RequestError::new(ErrorReason::QuestionEmpty).field("inputs.texts[0][1]");
        let results = vec![result(1, 0, Err(busy)), result(0, 1, Err(empty)), result(0, 0, Ok("a"))];
        let response = collected(results, &[2, 1], true).await;
        assert_eq!(response["captions"][0]["image_results"], json!(["a", null]));
        assert_eq!(response["captions"][0]["details"][0]["timing"]["batch_images"], 0);
        assert_eq!(response["captions"][1], json!({"image_results": [null], "details": [null]}));
        let reasons = json!([
            {"image": 0, "question": 1, "reason": "QUESTION_EMPTY", "status": 400, "field": "inputs.texts[0][1]",
             "message": "inputs.texts[0][1] has no text"},
            {"image": 1, "question": 0, "reason": "PREPROCESSING_BUSY", "status": 429, "retry_after_s": 0.5,
             "message": "too many images wait for preprocessing"},
        ]);
        assert_eq!(response["errors"], reasons);
    }
}
