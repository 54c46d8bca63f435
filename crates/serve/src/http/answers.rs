//! The model card's JSON response, and what may be added to it.

use futures::StreamExt as _;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    errors::Refusal,
    frontend::{Outcome, Outcomes},
    proto,
    reply::Reply,
};

/// The answers, in the order of the request.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct CardResponse {
    /// One for each image.
    captions: Vec<Caption>,
    /// The items that have no answer, if there are any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    errors: Vec<FailedItem>,
}

/// The answers about one image.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(super) struct Caption {
    /// One for each question: the model's words, or `null` for an item that failed.
    image_results: Vec<Option<String>>,
    /// One for each question, where `details` were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    details: Option<Vec<Option<Details>>>,
}

/// What is known about an answer besides its words.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(super) struct Details {
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
    timing: Ledger,
}

/// An answer or a caption that was not the best.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(super) struct Alternative {
    /// Its words.
    text: String,
    /// As that of the best.
    score: f32,
    /// As that of the best.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    probability: Option<f32>,
}

/// The ledger of one answer, in milliseconds of wall time. Work that was shared is charged in full to each of those
/// that waited for it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub(super) struct Ledger {
    /// Fetching the image by its URL.
    fetch_ms: f64,
    /// Decoding the image file and scaling it to the model's size.
    preprocess_ms: f64,
    /// From admission to the start of the batch that answered the question.
    queue_ms: f64,
    /// The vision encoder; 0 when the image's features were reused.
    vision_ms: f64,
    /// The question encoder.
    text_ms: f64,
    /// Generating the answer, token by token.
    decode_ms: f64,
    /// From the arrival of the whole request to this answer.
    total_ms: f64,
    /// Distinct images in the batch that answered this question.
    batch_images: u32,
    /// Questions in that batch.
    batch_questions: u32,
    /// Whether the image's features came from the cache.
    image_reused: bool,
    /// Whether the answer was computed once for this and an identical question in flight.
    answer_shared: bool,
    /// Whether the answer was kept from an earlier request for the same: nothing was computed, and the times of what was not
    /// done are 0.
    answer_reused: bool,
}

/// An item that has no answer.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FailedItem {
    /// Position of the image in the request, from 0.
    pub(super) image: u32,
    /// Position of the text among those about the image, from 0.
    pub(super) question: u32,
    #[serde(flatten)]
    pub(super) failure: Failure,
}

/// Why an item has no answer.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Failure {
    /// The kind as a name, one of those at /docs/errors.
    #[schema(example = "URL_BAD_STATUS")]
    reason: &'static str,
    /// What happened, with its particulars.
    #[schema(example = "inputs.images[0].url was answered with HTTP status 404 Not Found")]
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
    /// Waits for all `outcomes` of a request whose images have so many questions each.
    ///
    /// # Errors
    /// A [`Refusal`] of the whole request.
    pub(super) async fn collect(
        mut outcomes: Outcomes,
        counts: &[usize],
        details: bool,
    ) -> Result<Self, Refusal> {
        let unanswered = |count: &usize| Caption {
            image_results: vec![None; *count],
            details: details.then(|| vec![None; *count]),
        };
        let mut response = Self { captions: counts.iter().map(unanswered).collect(), errors: Vec::new() };
        while let Some(outcome) = outcomes.next().await {
            response.put(outcome?);
        }
        response.errors.sort_by_key(|item| (item.image, item.question));
        Ok(response)
    }

    fn put(&mut self, outcome: Outcome) {
        let Outcome { image_index: image, question_index: question, reply, .. } = outcome;
        let reply = match reply {
            Err(refusal) => {
                let failure = Failure::from(&refusal);
                return self.errors.push(FailedItem { image, question, failure });
            }
            Ok(Reply::Piece(_)) => return,
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
    pub(super) fn of(reply: &Reply) -> Option<Self> {
        let alternatives = |alternatives: &[proto::Alternative]| {
            let alternative = |other: &proto::Alternative| Alternative {
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
                timing: answer.timing.unwrap_or_default().into(),
            }),
            Reply::Caption(caption) => Some(Self {
                score: caption.score,
                margin: caption.margin,
                token_ids: caption.token_ids.clone(),
                probability: None,
                candidate_index: None,
                alternatives: alternatives(&caption.alternatives),
                timing: caption.timing.unwrap_or_default().into(),
            }),
            Reply::Piece(_) | Reply::Match(_) | Reply::Embedding(_) => None,
        }
    }
}

impl From<proto::Timing> for Ledger {
    fn from(timing: proto::Timing) -> Self {
        Self {
            fetch_ms: timing.fetch_ms,
            preprocess_ms: timing.preprocess_ms,
            queue_ms: timing.queue_ms,
            vision_ms: timing.vision_ms,
            text_ms: timing.text_ms,
            decode_ms: timing.decode_ms,
            total_ms: timing.total_ms,
            batch_images: timing.batch_images,
            batch_questions: timing.batch_questions,
            image_reused: timing.image_reused,
            answer_shared: timing.answer_shared,
            answer_reused: timing.answer_reused,
        }
    }
}

impl From<&Refusal> for Failure {
    fn from(refusal: &Refusal) -> Self {
        let row = refusal.reason().row();
        let field = refusal.particulars().find(|(name, _)| *name == "field");
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
    use crate::errors::Reason;

    fn outcome(image_index: u32, question_index: u32, answer: Result<&str, Refusal>) -> Outcome {
        let answer = answer.map(|text| proto::Answer { text: text.to_owned(), ..Default::default() });
        Outcome { image_index, question_index, ready: None, reply: answer.map(Reply::Answer) }
    }

    async fn collected(outcomes: Vec<Outcome>, counts: &[usize], details: bool) -> serde_json::Value {
        let outcomes = stream::iter(outcomes.into_iter().map(Ok)).boxed();
        serde_json::to_value(CardResponse::collect(outcomes, counts, details).await.unwrap()).unwrap()
    }

    #[tokio::test]
    async fn answers_stand_in_the_order_of_the_request_and_nothing_else_is_there() {
        let outcomes = vec![outcome(1, 0, Ok("c")), outcome(0, 1, Ok("b")), outcome(0, 0, Ok("a"))];
        let expected = json!({"captions": [{"image_results": ["a", "b"]}, {"image_results": ["c"]}]});
        assert_eq!(collected(outcomes, &[2, 1], false).await, expected);
    }

    #[tokio::test]
    async fn a_failed_item_is_null_and_its_reason_is_told() {
        let busy = Refusal::new(Reason::PreprocessingBusy).retry_after(Duration::from_millis(500));
        let empty = Refusal::new(Reason::QuestionEmpty).field("inputs.texts[0][1]");
        let outcomes = vec![outcome(1, 0, Err(busy)), outcome(0, 1, Err(empty)), outcome(0, 0, Ok("a"))];
        let response = collected(outcomes, &[2, 1], true).await;
        assert_eq!(response["captions"][0]["image_results"], json!(["a", null]));
        assert_eq!(response["captions"][0]["details"][0]["timing"]["batch_images"], 0);
        assert_eq!(response["captions"][1], json!({"image_results": [null], "details": [null]}));
        let reasons = json!([
            {"image": 0, "question": 1, "reason": "QUESTION_EMPTY", "status": 400, "field": "inputs.texts[0][1]",
             "message": "inputs.texts[0][1] holds no text"},
            {"image": 1, "question": 0, "reason": "PREPROCESSING_BUSY", "status": 429, "retry_after_s": 0.5,
             "message": "too many images wait to be decoded"},
        ]);
        assert_eq!(response["errors"], reasons);
    }
}
