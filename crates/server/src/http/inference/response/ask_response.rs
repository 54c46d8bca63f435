//! The JSON of answers and captions: the response of the model card, with optional fields.

use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    http::inference::response::{item_error::FailedItem, json_body::Layout, json_writer::JsonWriter},
    pipeline::{
        reply::{self, Reply},
        timing::Timing,
    },
};

/// The answers or captions, in the order of the request.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the response in the OpenAPI document; AnswerLayout writes it")]
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
    /// The details for each question or prompt, if the request has `details` or `explain`.
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
    /// Where the model looked for this answer, if the request has `explain`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    attention: Option<AttentionMap>,
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

/// How much an answer attends to each patch of its image. The weights show what the model read,
/// which is not always the reason of the answer.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct AttentionMap {
    /// The number of rows of patches.
    rows: u32,
    /// The number of patches in a row.
    columns: u32,
    /// The weight of each patch, row by row, top left first. Each is at least 0, and their sum is
    /// 1.
    weights: Vec<f32>,
}

/// Writes an [`AskResponse`], one image at a time.
#[derive(Debug)]
pub(crate) struct AnswerLayout {
    /// The number of texts of each image.
    counts: Vec<usize>,
    details: bool,
    /// The answers of the current image.
    current: ImageAnswers,
}

impl AnswerLayout {
    /// Creates the layout for images with these numbers of texts.
    pub(crate) fn new(counts: Vec<usize>, details: bool) -> Self {
        Self { counts, details, current: ImageAnswers::new(details) }
    }
}

impl Layout for AnswerLayout {
    const LISTS: &'static [&'static str] = &["captions"];

    fn add(&mut self, image: usize, text: usize, reply: Option<Reply>, json: &mut JsonWriter) {
        self.current.add(reply);
        if self.counts.get(image) == Some(&(text + 1)) {
            json.element(0, &std::mem::replace(&mut self.current, ImageAnswers::new(self.details)));
        }
    }
}

impl ImageAnswers {
    fn new(details: bool) -> Self {
        Self { image_results: Vec::new(), details: details.then(Vec::new) }
    }

    fn add(&mut self, reply: Option<Reply>) {
        if let Some(details) = &mut self.details {
            details.push(reply.as_ref().and_then(AnswerDetails::of));
        }
        self.image_results.push(reply.map(|reply| reply.text().to_owned()));
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
                attention: answer.attention.as_ref().map(AttentionMap::from),
                timing: answer.timing,
            }),
            Reply::Caption(caption) => Some(Self {
                score: caption.score,
                margin: caption.margin,
                token_ids: caption.token_ids.clone(),
                probability: None,
                candidate_index: None,
                alternatives: caption.alternatives.iter().map(Alternative::from).collect(),
                attention: None,
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

impl From<&blip::AttentionMap> for AttentionMap {
    fn from(map: &blip::AttentionMap) -> Self {
        Self { rows: map.rows, columns: map.columns, weights: map.weights.clone() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Returns the response to images with these answers.
    fn response(images: &[&[Option<&str>]], details: bool) -> serde_json::Value {
        let mut layout = AnswerLayout::new(images.iter().map(|texts| texts.len()).collect(), details);
        let mut json = JsonWriter::new(AnswerLayout::LISTS);
        for (image, texts) in images.iter().enumerate() {
            for (index, text) in texts.iter().enumerate() {
                let answer = |text: &str| reply::Answer { text: text.to_owned(), ..Default::default() };
                layout.add(image, index, text.map(answer).map(Reply::Answer), &mut json);
            }
        }
        json.end(&[]);
        serde_json::from_slice(&json.take()).unwrap()
    }

    #[test]
    fn answers_have_the_lists_of_their_images() {
        let expected = json!({"captions": [{"image_results": ["a", null]}, {"image_results": ["c"]}]});
        assert_eq!(response(&[&[Some("a"), None], &[Some("c")]], false), expected);
    }

    #[test]
    fn failed_item_has_no_details() {
        let response = response(&[&[Some("a"), None], &[None]], true);
        assert_eq!(response["captions"][0]["image_results"], json!(["a", null]));
        assert_eq!(response["captions"][0]["details"][0]["timing"]["batch_images"], 0);
        assert_eq!(response["captions"][1], json!({"image_results": [null], "details": [null]}));
    }

    #[test]
    fn attention_is_in_details_of_explained_answers_only() {
        let details = |attention| {
            let answer = reply::Answer { attention, ..Default::default() };
            serde_json::to_value(AnswerDetails::of(&Reply::Answer(answer))).unwrap()
        };
        let map = blip::AttentionMap { rows: 1, columns: 2, weights: vec![0.25, 0.75] };
        let expected = json!({"rows": 1, "columns": 2, "weights": [0.25, 0.75]});
        assert_eq!(details(Some(map))["attention"], expected);
        assert_eq!(details(None).get("attention"), None);
    }
}
