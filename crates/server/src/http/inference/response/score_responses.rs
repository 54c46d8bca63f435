//! The JSON of matches and embeddings.

use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    http::inference::response::{item_error::FailedItem, json_body::Layout, json_writer::JsonWriter},
    pipeline::{
        reply::{MatchScores, Reply},
        timing::Timing,
    },
};

/// The match scores, in the order of the request.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the response in the OpenAPI document; MatchLayout writes it")]
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
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the response in the OpenAPI document; EmbeddingLayout writes it")]
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

/// Writes a [`MatchResponse`], one image at a time.
#[derive(Debug)]
pub(crate) struct MatchLayout {
    /// The number of texts of each image.
    counts: Vec<usize>,
    details: bool,
    /// The scores of the current image.
    current: ImageMatches,
}

impl MatchLayout {
    /// Creates the layout for images with these numbers of texts.
    pub(crate) fn new(counts: Vec<usize>, details: bool) -> Self {
        Self { counts, details, current: ImageMatches::default() }
    }
}

impl Layout for MatchLayout {
    const LISTS: &'static [&'static str] = &["matches"];

    fn add(&mut self, image: usize, text: usize, reply: Option<Reply>, json: &mut JsonWriter) {
        self.current.image_results.push(match reply {
            Some(Reply::Match(scores)) => Some(MatchResult::new(&scores, self.details)),
            _ => None,
        });
        if self.counts.get(image) == Some(&(text + 1)) {
            json.element(0, &std::mem::take(&mut self.current));
        }
    }
}

/// Writes an [`EmbedResponse`], one embedding at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EmbeddingLayout {
    /// The number of images. Texts follow them.
    pub(crate) images: usize,
}

impl Layout for EmbeddingLayout {
    const LISTS: &'static [&'static str] = &["images", "texts"];

    fn add(&mut self, image: usize, _: usize, reply: Option<Reply>, json: &mut JsonWriter) {
        let vector = match reply {
            Some(Reply::Embedding(embedding)) => Some(Vector(embedding.values)),
            _ => None,
        };
        json.element(usize::from(image >= self.images), &vector);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::pipeline::reply::Embedding;

    /// Returns the response with replies at these positions.
    fn response<L: Layout>(mut layout: L, replies: Vec<(usize, usize, Option<Reply>)>) -> Value {
        let mut json = JsonWriter::new(L::LISTS);
        for (image, text, reply) in replies {
            layout.add(image, text, reply, &mut json);
        }
        json.end(&[]);
        serde_json::from_slice(&json.take()).unwrap()
    }

    #[test]
    fn scores_have_the_lists_of_their_images() {
        let scores = MatchScores { probability: 0.75, cosine: 0.5, ..MatchScores::default() };
        let replies = vec![(0, 0, Some(Reply::Match(scores))), (0, 1, None), (1, 0, None)];
        let expected = json!({"matches": [
            {"image_results": [{"probability": 0.75, "cosine": 0.5}, null]},
            {"image_results": [null]},
        ]});
        assert_eq!(response(MatchLayout::new(vec![2, 1], false), replies), expected);
    }

    #[test]
    fn embeddings_of_images_and_texts_are_separate() {
        let vector = |values: &[f32]| {
            Some(Reply::Embedding(Embedding { values: values.to_vec(), ..Embedding::default() }))
        };
        let replies = vec![(0, 0, vector(&[0.5])), (1, 0, vector(&[1.0])), (1, 1, None)];
        let expected = json!({"images": [[0.5]], "texts": [[1.0], null]});
        assert_eq!(response(EmbeddingLayout { images: 1 }, replies), expected);
        let without_texts = response(EmbeddingLayout { images: 1 }, vec![(0, 0, None)]);
        assert_eq!(without_texts, json!({"images": [null], "texts": []}));
    }
}
