//! The model card's JSON response, and what may be added to it.

use futures::StreamExt as _;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    error::RequestError,
    pipeline::{
        item_result::{ItemResult, ItemResults},
        reply::{self, Reply},
        timing::Timing,
    },
};

/// The answers, in the order of the request.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct CardResponse {
    /// One for each image.
    captions: Vec<Caption>,
    /// The items that have no answer, if there are any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    errors: Vec<FailedItem>,
}

/// The answers about one image.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(crate) struct Caption {
    /// One for each question: the model's words, or `null` for an item that failed.
    image_results: Vec<Option<String>>,
    /// One for each question, where `details` were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    details: Option<Vec<Option<Details>>>,
}

/// What is known about an answer besides its words.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Details {
    /// Natural logarithm of the probability that the model gives this answer; at most 0.
    score: f32,
    /// The smallest lead of a chosen token over the next best one, in natural log-probability.
    margin: f32,
    /// The generated tokens as ids of the model's vocabulary.
    token_ids: Vec<u32>,
    /// Of an answer that was chosen among candidates: its part of their softmax.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    probability: Option<f32>,
    /// Of an answer that was chosen among candidates: its position among them, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    candidate_index: Option<u32>,
    /// The next best, if `generation.num_answers` asks for them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    alternatives: Vec<Alternative>,
    /// What the answer cost.
    timing: Timing,
}

/// An answer or a caption that was not the best.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Alternative {
    /// Its words.
    text: String,
    /// As that of the best.
    score: f32,
    /// As that of the best.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    probability: Option<f32>,
}

/// An item that has no answer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FailedItem {
    /// Position of the image in the request, from 0.
    pub(crate) image: u32,
    /// Position of the text among those about the image, from 0.
    pub(crate) question: u32,
    #[serde(flatten)]
    pub(crate) failure: Failure,
}

/// Why an item has no answer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Failure {
    /// The kind as a name, one of those at /docs/errors.
    #[schema(example = "URL_BAD_STATUS")]
    reason: &'static str,
    /// What happened, with its particulars.
    #[schema(example = "cannot fetch inputs.images[0].url: HTTP status 404 Not Found")]
    message: String,
    /// The part of the request at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    field: Option<String>,
    /// The HTTP status that the whole request would have if all of it had failed so.
    #[schema(example = 424, minimum = 400, maximum = 599)]
    status: u16,
    /// After how many seconds trying again can help.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    retry_after_s: Option<f64>,
}

impl CardResponse {
    /// Waits for all `results` of a request whose images have so many questions each.
    ///
    /// # Errors
    /// A [`RequestError`] of the whole request.
    pub(crate) async fn collect(
        mut results: ItemResults,
        counts: &[usize],
        details: bool,
    ) -> Result<Self, RequestError> {
        let unanswered = |count: &usize| Caption {
            image_results: vec![None; *count],
            details: details.then(|| vec![None; *count]),
        };
        let mut response = Self { captions: counts.iter().map(unanswered).collect(), errors: Vec::new() };
        while let Some(result) = results.next().await {
            response.put(result?);
        }
        response.errors.sort_by_key(|item| (item.image, item.question));
        Ok(response)
    }

    fn put(&mut self, result: ItemResult) {
        let ItemResult { image_index: image, text_index: question, reply, .. } = result;
        let reply = match reply {
            Err(refusal) => {
                let failure = Failure::from(&refusal);
                return self.errors.push(FailedItem { image, question, failure });
            }
            Ok(Reply::Chunk(_)) => return,
            Ok(reply) => reply,
        };
        let Some(caption) = self.captions.get_mut(image as usize) else { return };
        let Caption { image_results, details } = caption;
        if let Some(place) = details.as_mut().and_then(|details| details.get_mut(question as usize)) {
            *place = Details::of(&reply);
        }
        if let Some(place) = image_results.get_mut(question as usize) {
            *place = Some(reply.text().to_owned());
        }
    }
}

impl Details {
    /// Those of an answer or a caption.
    pub(crate) fn of(reply: &Reply) -> Option<Self> {
        let alternatives = |alternatives: &[reply::Alternative]| {
            let alternative = |other: &reply::Alternative| Alternative {
                text: other.text.clone(),
                score: other.score,
                probability: other.probability,
            };
            alternatives.iter().map(alternative).collect()
        };
        match reply {
            Reply::Answer(answer) => Some(Self {
                score: answer.score,
                margin: answer.margin,
                token_ids: answer.token_ids.clone(),
                probability: answer.probability,
                candidate_index: answer.candidate_index,
                alternatives: alternatives(&answer.alternatives),
                timing: answer.timing,
            }),
            Reply::Caption(caption) => Some(Self {
                score: caption.score,
                margin: caption.margin,
                token_ids: caption.token_ids.clone(),
                probability: None,
                candidate_index: None,
                alternatives: alternatives(&caption.alternatives),
                timing: caption.timing,
            }),
            Reply::Chunk(_) | Reply::Match(_) | Reply::Embedding(_) => None,
        }
    }
}

impl From<&RequestError> for Failure {
    fn from(refusal: &RequestError) -> Self {
        let row = refusal.reason().spec();
        let field = refusal.details().find(|(name, _)| *name == "field");
        Self {
            reason: row.name,
            message: refusal.message(),
            field: field.map(|(_, field)| field.to_owned()),
            status: row.http,
            retry_after_s: refusal.wait().map(|wait| wait.as_secs_f64()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::stream;
    use serde_json::json;

    use super::*;
    use crate::error::ErrorReason;

    fn result(image_index: u32, text_index: u32, answer: Result<&str, RequestError>) -> ItemResult {
        let answer = answer.map(|text| reply::Answer { text: text.to_owned(), ..Default::default() });
        ItemResult { image_index, text_index, ready: None, reply: answer.map(Reply::Answer) }
    }

    async fn collected(results: Vec<ItemResult>, counts: &[usize], details: bool) -> serde_json::Value {
        let results = stream::iter(results.into_iter().map(Ok)).boxed();
        serde_json::to_value(CardResponse::collect(results, counts, details).await.unwrap()).unwrap()
    }

    #[tokio::test]
    async fn answers_stand_in_the_order_of_the_request_and_nothing_else_is_there() {
        let results = vec![result(1, 0, Ok("c")), result(0, 1, Ok("b")), result(0, 0, Ok("a"))];
        let expected = json!({"captions": [{"image_results": ["a", "b"]}, {"image_results": ["c"]}]});
        assert_eq!(collected(results, &[2, 1], false).await, expected);
    }

    #[tokio::test]
    async fn a_failed_item_is_null_and_its_reason_is_told() {
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
