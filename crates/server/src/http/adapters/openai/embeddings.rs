//! The JSON of `/v1/embeddings`.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, IgnoredAny, SeqAccess, Visitor, value::SeqAccessDeserializer},
};
use utoipa::ToSchema;

use crate::{
    error::{ErrorReason, RequestError},
    http::adapters::openai::error::invalid,
    pipeline::{item_result::ItemResult, reply::Reply},
    request::{
        item::{Input, TextInput},
        whole_number::whole_number,
    },
};

/// Texts to embed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EmbeddingsRequest {
    /// A text, or a list of texts. Token ids are not accepted.
    #[schema(value_type = TextsSchema)]
    input: Texts,
    /// The name of the model. The default is the first model that compares images with texts.
    #[serde(default)]
    model: Option<String>,
    /// The encoding of an embedding.
    #[serde(default)]
    encoding_format: Option<EncodingFormat>,
    /// The length of an embedding. Only the length of the model's embeddings is accepted.
    #[serde(default, deserialize_with = "whole_number")]
    #[schema(minimum = 1, maximum = 4_294_967_295_u32, format = "uint32")]
    dimensions: Option<u32>,
    /// A name of the user. It has no effect.
    #[serde(rename = "user")]
    #[schema(value_type = Option<serde_json::Value>)]
    _user: Option<IgnoredAny>,
}

/// The encoding of an embedding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EncodingFormat {
    /// A list of numbers.
    #[default]
    Float,
    /// The 32-bit numbers in little-endian order, in base64.
    Base64,
}

/// The two forms of `input`.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes the texts in the OpenAPI document; Texts decodes them")]
pub(crate) enum TextsSchema {
    /// A text.
    One(String),
    /// Several texts.
    Many(Vec<String>),
}

struct Texts(Vec<TextInput>);

/// A text of a list.
struct Text(String);

/// The embeddings, in the order of the request.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Embeddings {
    /// `list`.
    #[schema(example = "list")]
    object: &'static str,
    /// The embeddings.
    data: Vec<EmbeddingJson>,
    /// The name of the model.
    model: String,
    /// The number of tokens.
    usage: EmbeddingUsage,
}

/// An embedding.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EmbeddingJson {
    /// `embedding`.
    #[schema(example = "embedding")]
    object: &'static str,
    /// The position of the text, from 0.
    index: usize,
    /// The embedding, a vector of length 1.
    embedding: Encoded,
}

/// The two encodings of an embedding.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Encoded {
    /// The numbers.
    Float(Vec<f32>),
    /// The numbers in base64.
    Base64(String),
}

/// The number of tokens of texts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EmbeddingUsage {
    /// The number of tokens of all texts, with those that begin and end a text.
    prompt_tokens: usize,
    /// As `prompt_tokens`.
    total_tokens: usize,
}

/// A request whose fields were checked.
#[derive(Debug)]
pub(crate) struct EmbeddingsCall {
    /// All texts, without an image.
    pub(crate) input: Input,
    /// The name of the model, or an empty string.
    pub(crate) model: String,
    /// The encoding of embeddings.
    pub(crate) encoding: EncodingFormat,
    /// The requested length of embeddings.
    pub(crate) dimensions: Option<u32>,
}

impl From<EmbeddingsRequest> for EmbeddingsCall {
    fn from(request: EmbeddingsRequest) -> Self {
        let EmbeddingsRequest { input: Texts(texts), model, encoding_format, dimensions, .. } = request;
        Self {
            input: Input { image: None, texts },
            model: model.unwrap_or_default(),
            encoding: encoding_format.unwrap_or_default(),
            dimensions,
        }
    }
}

impl EmbeddingsCall {
    /// Checks the requested length against that of the model.
    ///
    /// # Errors
    /// A [`RequestError`] with both.
    pub(crate) fn check_dimensions(&self, embedding_size: u32) -> Result<(), RequestError> {
        match self.dimensions {
            Some(dimensions) if dimensions != embedding_size => {
                let cause = format!("{dimensions}, the embeddings of the model have {embedding_size}");
                Err(invalid("dimensions", &cause))
            }
            _ => Ok(()),
        }
    }
}

impl Embeddings {
    /// Creates the response with `results`.
    ///
    /// # Errors
    /// The error of the first failed item.
    pub(crate) fn new(
        results: Vec<ItemResult>,
        model: &str,
        encoding: EncodingFormat,
    ) -> Result<Self, RequestError> {
        let mut prompt_tokens = 0;
        let embedding = |(index, result): (usize, ItemResult)| match result.reply? {
            Reply::Embedding(embedding) => {
                prompt_tokens += embedding.timing.text_tokens as usize;
                let embedding = Encoded::new(embedding.values, encoding);
                Ok(EmbeddingJson { object: "embedding", index, embedding })
            }
            _ => Err(RequestError::new(ErrorReason::InternalError).cause("reply without embedding")),
        };
        let data = results.into_iter().enumerate().map(embedding).collect::<Result<_, RequestError>>()?;
        let usage = EmbeddingUsage { prompt_tokens, total_tokens: prompt_tokens };
        Ok(Self { object: "list", data, model: model.to_owned(), usage })
    }
}

impl Encoded {
    fn new(values: Vec<f32>, encoding: EncodingFormat) -> Self {
        match encoding {
            EncodingFormat::Float => Self::Float(values),
            EncodingFormat::Base64 => {
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                Self::Base64(STANDARD.encode(bytes))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextsVisitor;

        impl<'de> Visitor<'de> for TextsVisitor {
            type Value = Texts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, or a list of texts")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Texts, E> {
                Ok(Texts(vec![text.to_owned().into()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, texts: A) -> Result<Texts, A::Error> {
                let texts: Vec<Text> = Deserialize::deserialize(SeqAccessDeserializer::new(texts))?;
                Ok(Texts(texts.into_iter().map(|Text(text)| text.into()).collect()))
            }
        }

        deserializer.deserialize_any(TextsVisitor)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl Visitor<'_> for TextVisitor {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // LangChain sends token ids unless check_embedding_ctx_length is false.
                f.write_str("a text: token ids are not accepted")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.to_owned()))
            }
        }

        deserializer.deserialize_any(TextVisitor)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{http::json::read_json, pipeline::reply::Embedding};

    fn request(body: Value) -> Result<EmbeddingsCall, String> {
        let request = read_json::<EmbeddingsRequest>(body.to_string().as_bytes(), "the body");
        request.map(EmbeddingsCall::from).map_err(|error| error.to_string())
    }

    #[test]
    fn input_is_a_text_or_a_list_and_no_token_ids() {
        let texts = |input: Value| request(json!({"input": input})).map(|call| call.input.texts.len());
        assert_eq!((texts(json!("a")), texts(json!(["a", "b"])), texts(json!([]))), (Ok(1), Ok(2), Ok(0)));
        for (ids, field) in [(json!([1, 2]), "input[0]"), (json!([[1, 2]]), "input[0]")] {
            let error = texts(ids).unwrap_err();
            assert!(error.starts_with(field) && error.contains("token ids are not accepted"), "{error}");
        }
        assert!(texts(json!(5)).unwrap_err().contains("expected a text, or a list of texts"));
    }

    #[test]
    fn other_length_than_that_of_the_model_is_rejected() {
        let call = request(json!({"input": "a", "dimensions": 256})).unwrap();
        assert_eq!(call.check_dimensions(256), Ok(()));
        let error = call.check_dimensions(64).unwrap_err().to_string();
        assert_eq!(error, "dimensions is invalid: 256, the embeddings of the model have 64");
    }

    #[test]
    fn base64_has_the_little_endian_bytes() {
        let result = || {
            let reply = Ok(Reply::Embedding(Embedding { values: vec![1.0, -0.5], ..Embedding::default() }));
            vec![ItemResult { image_index: 0, text_index: 0, ready: None, reply }]
        };
        let json =
            |encoding| serde_json::to_value(Embeddings::new(result(), "m", encoding).unwrap()).unwrap();
        assert_eq!(json(EncodingFormat::Float)["data"][0]["embedding"], json!([1.0, -0.5]));
        assert_eq!(json(EncodingFormat::Base64)["data"][0]["embedding"], "AACAPwAAAL8=");
    }

    #[test]
    fn failed_text_fails_the_request() {
        let reply = Err(RequestError::new(ErrorReason::QuestionEmpty).field("input[0]"));
        let results = vec![ItemResult { image_index: 0, text_index: 0, ready: None, reply }];
        let error = Embeddings::new(results, "m", EncodingFormat::Float).unwrap_err();
        assert_eq!(error.to_string(), "input[0] has no text");
    }
}
