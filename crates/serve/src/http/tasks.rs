//! The JSON requests for captions, matches and vectors: laid out as the model card's is.

use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    card::{CardImage, read_json},
    payload::{Class, Milliseconds, Options, Payload, Questions, plain},
    texts::{CardGeneration, object},
};
use crate::{errors::Refusal, place::Form, proto::Question, wanted::Wanted};

/// Images to describe.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CaptionRequest {
    /// The API key, if the server needs one and no header carries it.
    secret_token: Option<String>,
    /// The images, with what their captions begin with.
    inputs: CaptionInputs,
    /// Whether scores, token ids and timings are wanted beside the captions.
    #[serde(default)]
    details: bool,
    /// Whether captions are wanted as server-sent events, each as soon as it is ready.
    #[serde(default)]
    stream: bool,
    /// Of a stream: whether pieces of captions are wanted as they are written.
    #[serde(default)]
    stream_tokens: bool,
    /// Who goes first when several callers wait.
    #[serde(default)]
    priority: Class,
    /// How long the caller waits, in milliseconds.
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 4_294_967_295_u32, format = "uint32")]
    timeout_ms: Option<Milliseconds>,
    /// Which model is asked, by its name; the first that writes captions without.
    #[serde(default)]
    model: String,
    /// How captions are written.
    #[serde(default, deserialize_with = "object")]
    generation: CardGeneration,
}

/// What is to be described.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CaptionInputs {
    /// The images.
    #[schema(min_items = 1)]
    images: Vec<CardImage>,
    /// What captions begin with: one list for each image, in the same order. Without, each image has one caption, with
    /// nothing given; so has an image whose list is empty.
    #[serde(default)]
    #[schema(example = json!([["a picture of"]]))]
    texts: Option<Vec<Vec<String>>>,
}

/// Images and texts to compare.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MatchRequest {
    /// The API key, if the server needs one and no header carries it.
    secret_token: Option<String>,
    /// The images, and as many lists of texts.
    inputs: MatchInputs,
    /// Whether logits and timings are wanted beside the scores.
    #[serde(default)]
    details: bool,
    /// Whether scores are wanted as server-sent events, each as soon as it is ready.
    #[serde(default)]
    stream: bool,
    /// Who goes first when several callers wait.
    #[serde(default)]
    priority: Class,
    /// How long the caller waits, in milliseconds.
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 4_294_967_295_u32, format = "uint32")]
    timeout_ms: Option<Milliseconds>,
    /// Which model is asked, by its name; the first that matches without.
    #[serde(default)]
    model: String,
}

/// What is to be compared.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MatchInputs {
    /// The texts: one list for each image, in the same order.
    #[schema(min_items = 1, example = json!([["a person on a beach", "a dog"]]))]
    texts: Vec<Vec<String>>,
    /// The images.
    #[schema(min_items = 1)]
    images: Vec<CardImage>,
}

/// Images and texts to turn into vectors.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EmbedRequest {
    /// The API key, if the server needs one and no header carries it.
    secret_token: Option<String>,
    /// The images and texts.
    #[serde(deserialize_with = "object")]
    inputs: EmbedInputs,
    /// Who goes first when several callers wait.
    #[serde(default)]
    priority: Class,
    /// How long the caller waits, in milliseconds.
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 4_294_967_295_u32, format = "uint32")]
    timeout_ms: Option<Milliseconds>,
    /// Which model is asked, by its name; the first that matches without.
    #[serde(default)]
    model: String,
}

/// What is to be vectors; not both empty.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EmbedInputs {
    /// Texts.
    #[serde(default)]
    #[schema(example = json!(["a person on a beach"]))]
    texts: Vec<String>,
    /// Images.
    #[serde(default)]
    images: Vec<CardImage>,
}

/// Reads a request for captions.
///
/// # Errors
/// A [`Refusal`] that says where in `body` what is wrong.
pub(super) fn read_captions(body: &[u8]) -> Result<Payload, Refusal> {
    let request: CaptionRequest = read_json(body, "the body")?;
    let CaptionRequest { secret_token, inputs, details, stream, stream_tokens, .. } = request;
    let CaptionInputs { images, texts } = inputs;
    let questions = match texts {
        Some(lists) => Questions::Each(lists.into_iter().map(prompts).collect()),
        None => Questions::Shared(prompts(Vec::new())),
    };
    Ok(Payload {
        secret_token,
        images: images.into_iter().map(CardImage::source).collect(),
        questions,
        wanted: Wanted::Captions { generation: request.generation.into(), pieces: stream_tokens },
        model: request.model,
        options: Options { details, stream, priority: request.priority, timeout_ms: request.timeout_ms },
        form: Form::Card,
    })
}

/// Reads a request for matches.
///
/// # Errors
/// A [`Refusal`] that says where in `body` what is wrong.
pub(super) fn read_matches(body: &[u8]) -> Result<Payload, Refusal> {
    let request: MatchRequest = read_json(body, "the body")?;
    let MatchRequest { secret_token, inputs, details, stream, priority, timeout_ms, model } = request;
    let lists = inputs.texts.into_iter();
    Ok(Payload {
        secret_token,
        images: inputs.images.into_iter().map(CardImage::source).collect(),
        questions: Questions::Each(lists.map(|list| list.into_iter().map(plain).collect()).collect()),
        wanted: Wanted::Matches,
        model,
        options: Options { details, stream, priority, timeout_ms },
        form: Form::Card,
    })
}

/// Reads a request for vectors.
///
/// # Errors
/// A [`Refusal`] that says where in `body` what is wrong.
pub(super) fn read_vectors(body: &[u8]) -> Result<Payload, Refusal> {
    let request: EmbedRequest = read_json(body, "the body")?;
    let EmbedRequest { secret_token, inputs, priority, timeout_ms, model } = request;
    Ok(Payload {
        secret_token,
        images: inputs.images.into_iter().map(CardImage::source).collect(),
        questions: Questions::Alone(inputs.texts.into_iter().map(plain).collect()),
        wanted: Wanted::Vectors,
        model,
        options: Options { priority, timeout_ms, ..Options::default() },
        form: Form::CardVectors,
    })
}

/// What the captions of an image begin with: nothing, if nothing is said.
pub(super) fn prompts(texts: Vec<String>) -> Vec<Question> {
    if texts.is_empty() { vec![Question::default()] } else { texts.into_iter().map(plain).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(payload: Payload) -> Vec<Vec<String>> {
        let inputs = Payload::inputs(payload.images, payload.questions, payload.form, 1 << 20).unwrap();
        let texts = inputs.into_iter().map(|input| input.questions);
        texts.map(|texts| texts.into_iter().map(|question| question.text).collect()).collect()
    }

    const IMAGES: &str = r#""images": [{"base64": "YQ=="}, {"url": "https://example.com/b.png"}]"#;

    #[test]
    fn captions_begin_with_what_is_given_or_with_nothing() {
        let read = |texts: &str| {
            read_captions(format!(r#"{{"inputs": {{{IMAGES}{texts}}}}}"#).as_bytes()).ok().unwrap()
        };
        assert_eq!(texts(read("")), [[""], [""]]);
        assert_eq!(texts(read(r#", "texts": [["a picture of"], []]"#)), [["a picture of"], [""]]);
    }

    #[test]
    fn texts_to_embed_stand_behind_the_images_and_either_may_be_missing() {
        let read = |inputs: &str| {
            texts(read_vectors(format!(r#"{{"inputs": {{{inputs}}}}}"#).as_bytes()).ok().unwrap())
        };
        assert_eq!(read(&format!(r#"{IMAGES}, "texts": ["a", "b"]"#)), [vec![""], vec![""], vec!["a", "b"]]);
        assert_eq!(read(r#""texts": ["a"]"#), [["a"]]);
        assert!(read("").is_empty());
    }

    #[test]
    fn what_a_task_has_no_use_for_is_refused_by_its_name() {
        let body = format!(r#"{{"inputs": {{{IMAGES}, "texts": [["a"], ["b"]]}}, "generation": {{}}}}"#);
        assert!(read_captions(body.as_bytes()).is_ok());
        assert!(read_captions(body.replace("{}}", "[]}").as_bytes()).is_err());
        let message = read_matches(body.as_bytes()).err().unwrap().to_string();
        assert!(message.contains("unknown field `generation`"), "{message}");
    }
}
