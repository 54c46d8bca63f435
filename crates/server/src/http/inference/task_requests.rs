//! The JSON of `/v1/caption`, `/v1/match` and `/v1/embed`, laid out like that of `/v1/ask`.

use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    http::{
        inference::{
            ask_request::json_request,
            decoded_body::{CallOptions, DecodedBody, TextLists},
            image_json::ImageJson,
        },
        json::object,
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
        /// Whether a stream has the text of each caption while it is generated.
        #[serde(default)]
        stream_tokens: bool,
        /// The generation options.
        #[serde(default, deserialize_with = "object")]
        generation: GenerationOptions,
    }
}

/// The images and prompts of a request.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CaptionInputs {
    /// The images.
    #[schema(min_items = 1)]
    images: Vec<ImageJson>,
    /// The prompts with which captions begin: one list for each image, in the same order. An image
    /// without prompts has one caption without a prompt.
    #[serde(default)]
    #[schema(example = json!([["a picture of"]]))]
    texts: Option<Vec<Vec<String>>>,
}

json_request! {
    /// Images and texts to compare.
    MatchRequest {
        /// The images, and a list of texts for each image.
        inputs: MatchInputs,
        /// Whether the response has logits and timings.
        #[serde(default)]
        details: bool,
        /// Whether scores are sent as server-sent events as soon as they are ready.
        #[serde(default)]
        stream: bool,
    }
}

/// The images and texts of a request.
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

/// The images and texts to embed. At least one of the two lists has an element.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EmbedInputs {
    /// The texts.
    #[serde(default)]
    #[schema(example = json!(["a person on a beach"]))]
    texts: Vec<String>,
    /// The images.
    #[serde(default)]
    images: Vec<ImageJson>,
}

impl From<CaptionRequest> for DecodedBody {
    fn from(request: CaptionRequest) -> Self {
        let CaptionRequest { secret_token, inputs, details, stream, stream_tokens, .. } = request;
        let CaptionInputs { images, texts: lists } = inputs;
        let texts = match lists {
            Some(lists) => TextLists::PerImage(lists.into_iter().map(prompts).collect()),
            None => TextLists::Shared(prompts(Vec::new())),
        };
        Self {
            secret_token,
            images: images.into_iter().map(Into::into).collect(),
            texts,
            task: Task::Caption { generation: request.generation, stream_tokens },
            model: request.model,
            options: CallOptions {
                details,
                stream,
                priority: request.priority,
                timeout_ms: request.timeout_ms,
            },
            format: RequestFormat::Json,
        }
    }
}

impl From<MatchRequest> for DecodedBody {
    fn from(request: MatchRequest) -> Self {
        let MatchRequest { secret_token, inputs, details, stream, priority, timeout_ms, model } = request;
        Self {
            secret_token,
            images: inputs.images.into_iter().map(Into::into).collect(),
            texts: TextLists::PerImage(inputs.texts.into_iter().map(texts).collect()),
            task: Task::Match,
            model,
            options: CallOptions { details, stream, priority, timeout_ms },
            format: RequestFormat::Json,
        }
    }
}

impl From<EmbedRequest> for DecodedBody {
    fn from(request: EmbedRequest) -> Self {
        let EmbedRequest { secret_token, inputs, priority, timeout_ms, model } = request;
        Self {
            secret_token,
            images: inputs.images.into_iter().map(Into::into).collect(),
            texts: TextLists::WithoutImage(texts(inputs.texts)),
            task: Task::Embed,
            model,
            options: CallOptions { priority, timeout_ms, ..CallOptions::default() },
            format: RequestFormat::JsonEmbed,
        }
    }
}

/// Returns texts without candidates.
pub(crate) fn texts(texts: Vec<String>) -> Vec<TextInput> {
    texts.into_iter().map(TextInput::from).collect()
}

/// Returns the prompts of an image: one empty prompt if there is none.
pub(crate) fn prompts(prompts: Vec<String>) -> Vec<TextInput> {
    if prompts.is_empty() { vec![TextInput::default()] } else { texts(prompts) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{error::RequestError, http::inference::ask_request::decode_json};

    fn decode<T>(body: &str) -> Result<DecodedBody, RequestError>
    where
        T: serde::de::DeserializeOwned + Into<DecodedBody>,
    {
        decode_json::<T>(body.as_bytes())
    }

    fn lists(body: DecodedBody) -> Vec<Vec<String>> {
        let inputs = DecodedBody::inputs(body.images, body.texts, body.format, 1 << 20).unwrap();
        let texts = inputs.into_iter().map(|input| input.texts);
        texts.map(|texts| texts.into_iter().map(|text| text.text).collect()).collect()
    }

    const IMAGES: &str = r#""images": [{"base64": "YQ=="}, {"url": "https://example.com/b.png"}]"#;

    #[test]
    fn image_without_prompts_has_one_empty_prompt() {
        let read = |texts: &str| {
            decode::<CaptionRequest>(&format!(r#"{{"inputs": {{{IMAGES}{texts}}}}}"#)).ok().unwrap()
        };
        assert_eq!(lists(read("")), [[""], [""]]);
        assert_eq!(lists(read(r#", "texts": [["a picture of"], []]"#)), [["a picture of"], [""]]);
    }

    #[test]
    fn texts_to_embed_follow_images_and_both_are_optional() {
        let read = |inputs: &str| {
            lists(decode::<EmbedRequest>(&format!(r#"{{"inputs": {{{inputs}}}}}"#)).ok().unwrap())
        };
        assert_eq!(read(&format!(r#"{IMAGES}, "texts": ["a", "b"]"#)), [vec![""], vec![""], vec!["a", "b"]]);
        assert_eq!(read(r#""texts": ["a"]"#), [["a"]]);
        assert!(read("").is_empty());
    }

    #[test]
    fn option_of_another_task_is_rejected_by_name() {
        let body = format!(r#"{{"inputs": {{{IMAGES}, "texts": [["a"], ["b"]]}}, "generation": {{}}}}"#);
        assert!(decode::<CaptionRequest>(&body).is_ok());
        assert!(decode::<CaptionRequest>(&body.replace("{}}", "[]}")).is_err());
        let message = decode::<MatchRequest>(&body).err().unwrap().to_string();
        assert!(message.contains("unknown field `generation`"), "{message}");
    }
}
