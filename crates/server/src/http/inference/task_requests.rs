//! The JSON requests for captions, matches and vectors: laid out as the model card's is.

use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    error::RequestError,
    http::inference::{
        ask_request::{ImageJson, json_request, read_json},
        payload::{Options, Payload, Texts},
        questions::object,
    },
    request::{field_path::RequestFormat, generation::GenerationOptions, item::TextInput, task::Task},
};

json_request! {
    /// Images to describe.
    CaptionRequest {
        /// The images, with the beginnings of their captions.
        inputs: CaptionInputs,
        /// Whether the response has scores, token ids and timings.
        #[serde(default)]
        details: bool,
        /// Whether captions are sent as server-sent events as soon as they are ready.
        #[serde(default)]
        stream: bool,
        /// Of a stream: whether pieces of captions are sent while they are generated.
        #[serde(default)]
        stream_tokens: bool,
        /// The generation options.
        #[serde(default, deserialize_with = "object")]
        generation: GenerationOptions,
    }
}

/// What is to be described.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CaptionInputs {
    /// The images.
    #[schema(min_items = 1)]
    images: Vec<ImageJson>,
    /// What captions begin with: one list for each image, in the same order. Without, each image has one caption, with
    /// nothing given; so has an image whose list is empty.
    #[serde(default)]
    #[schema(example = json!([["a picture of"]]))]
    texts: Option<Vec<Vec<String>>>,
}

json_request! {
    /// Images and texts to compare.
    MatchRequest {
        /// The images, and as many lists of texts.
        inputs: MatchInputs,
        /// Whether the response has logits and timings.
        #[serde(default)]
        details: bool,
        /// Whether scores are sent as server-sent events as soon as they are ready.
        #[serde(default)]
        stream: bool,
    }
}

/// What is to be compared.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MatchInputs {
    /// The texts: one list for each image, in the same order.
    #[schema(min_items = 1, example = json!([["a person on a beach", "a dog"]]))]
    texts: Vec<Vec<String>>,
    /// The images.
    #[schema(min_items = 1)]
    images: Vec<ImageJson>,
}

json_request! {
    /// Images and texts to embed.
    EmbedRequest {
        /// The images and texts.
        #[serde(deserialize_with = "object")]
        inputs: EmbedInputs,
    }
}

/// What is to be vectors; not both empty.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EmbedInputs {
    /// Texts.
    #[serde(default)]
    #[schema(example = json!(["a person on a beach"]))]
    texts: Vec<String>,
    /// Images.
    #[serde(default)]
    images: Vec<ImageJson>,
}

/// Reads a request for captions.
///
/// # Errors
/// A [`RequestError`] that says where in `body` what is wrong.
pub(crate) fn read_captions(body: &[u8]) -> Result<Payload, RequestError> {
    let request: CaptionRequest = read_json(body, "the body")?;
    let CaptionRequest { secret_token, inputs, details, stream, stream_tokens, .. } = request;
    let CaptionInputs { images, texts } = inputs;
    let texts = match texts {
        Some(lists) => Texts::Each(lists.into_iter().map(prompts).collect()),
        None => Texts::Shared(prompts(Vec::new())),
    };
    Ok(Payload {
        secret_token,
        images: images.into_iter().map(ImageJson::source).collect(),
        texts,
        task: Task::Caption { generation: request.generation, stream_tokens },
        model: request.model,
        options: Options { details, stream, priority: request.priority, timeout_ms: request.timeout_ms },
        format: RequestFormat::Json,
    })
}

/// Reads a request for matches.
///
/// # Errors
/// A [`RequestError`] that says where in `body` what is wrong.
pub(crate) fn read_matches(body: &[u8]) -> Result<Payload, RequestError> {
    let request: MatchRequest = read_json(body, "the body")?;
    let MatchRequest { secret_token, inputs, details, stream, priority, timeout_ms, model } = request;
    let lists = inputs.texts.into_iter();
    Ok(Payload {
        secret_token,
        images: inputs.images.into_iter().map(ImageJson::source).collect(),
        texts: Texts::Each(lists.map(|list| list.into_iter().map(TextInput::from).collect()).collect()),
        task: Task::Match,
        model,
        options: Options { details, stream, priority, timeout_ms },
        format: RequestFormat::Json,
    })
}

/// Reads a request for vectors.
///
/// # Errors
/// A [`RequestError`] that says where in `body` what is wrong.
pub(crate) fn read_vectors(body: &[u8]) -> Result<Payload, RequestError> {
    let request: EmbedRequest = read_json(body, "the body")?;
    let EmbedRequest { secret_token, inputs, priority, timeout_ms, model } = request;
    Ok(Payload {
        secret_token,
        images: inputs.images.into_iter().map(ImageJson::source).collect(),
        texts: Texts::Alone(inputs.texts.into_iter().map(TextInput::from).collect()),
        task: Task::Embed,
        model,
        options: Options { priority, timeout_ms, ..Options::default() },
        format: RequestFormat::JsonEmbed,
    })
}

/// What the captions of an image begin with: nothing, if nothing is said.
pub(crate) fn prompts(texts: Vec<String>) -> Vec<TextInput> {
    if texts.is_empty() { vec![TextInput::default()] } else { texts.into_iter().map(TextInput::from).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(payload: Payload) -> Vec<Vec<String>> {
        let inputs = Payload::inputs(payload.images, payload.texts, payload.format, 1 << 20).unwrap();
        let texts = inputs.into_iter().map(|input| input.texts);
        texts.map(|texts| texts.into_iter().map(|text| text.text).collect()).collect()
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
