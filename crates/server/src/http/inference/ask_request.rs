//! The model card's JSON request, and what may be added to it.

use std::fmt;

use base64::{
    Engine as _,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error, Visitor},
};
use utoipa::ToSchema;

use crate::{
    error::{ErrorReason, RequestError},
    http::inference::{
        json_bounds::check_count,
        payload::{Options, Payload, Texts},
        questions::{QuestionJson, TextOrChoice, object},
    },
    request::{
        field_path::RequestFormat,
        generation::GenerationOptions,
        item::{ImageSource, Input},
        task::Task,
    },
};

/// Base64 with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Defines a JSON request: the fields that all requests share, and its own.
///
/// The fields are listed and not flattened, because serde cannot reject unknown fields of a flattened struct.
macro_rules! json_request {
    ($(#[$attribute:meta])* $name:ident {
        $($(#[$field_attribute:meta])* $field:ident: $type:ty,)*
    }) => {
        $(#[$attribute])*
        #[derive(serde::Deserialize, utoipa::ToSchema)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct $name {
            /// The API key, if the server requires one and no header carries it.
            pub(crate) secret_token: Option<String>,
            $($(#[$field_attribute])* pub(crate) $field: $type,)*
            /// Which requests go first when several clients wait.
            #[serde(default)]
            pub(crate) priority: $crate::priority::RequestPriority,
            /// The time limit, in milliseconds. Items that are not ready by then fail. The default is the server's
            /// limit.
            #[schema(value_type = Option<u32>, minimum = 1, maximum = 4_294_967_295_u32, format = "uint32")]
            pub(crate) timeout_ms: Option<$crate::http::inference::payload::Milliseconds>,
            /// The name of the model. The default is the first model for the task.
            #[serde(default)]
            pub(crate) model: String,
        }
    };
}
pub(crate) use json_request;

json_request! {
    /// Images with questions about them. `secret_token` and `inputs` are the model card's; the rest is optional.
    AskRequest {
        /// The images, and as many lists of questions.
        inputs: AskInputs,
        /// Whether the response has scores, token ids and timings.
        #[serde(default)]
        details: bool,
        /// Whether answers are sent as server-sent events as soon as they are ready. An `Accept` header with
        /// `text/event-stream` has the same effect.
        #[serde(default)]
        stream: bool,
        /// The generation options.
        #[serde(default, deserialize_with = "object")]
        generation: GenerationOptions,
    }
}

/// What is asked.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AskInputs {
    /// The questions: one list for each image, in the same order.
    #[schema(value_type = Vec<Vec<TextOrChoice>>, min_items = 1)]
    texts: Vec<Vec<QuestionJson>>,
    /// The images.
    #[schema(min_items = 1)]
    images: Vec<ImageJson>,
}

/// An image, by its address or by its bytes.
#[derive(Deserialize, ToSchema)]
#[serde(try_from = "ImageFields", untagged)]
pub(crate) enum ImageJson {
    /// By its address.
    Url(ImageByUrl),
    /// By its bytes.
    Base64(ImageByBytes),
}

/// An image that the server fetches.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImageByUrl {
    /// An `http`, `https` or `data` URL.
    #[schema(example = "https://example.com")]
    url: String,
}

/// An image in the request itself.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImageByBytes {
    /// A PNG, JPEG, WebP, GIF, BMP or TIFF file in base64.
    #[schema(value_type = String, format = Byte, content_encoding = "base64")]
    base64: Encoded,
}

/// An image as it is written, before it is known to be either.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ImageFields {
    url: Option<String>,
    base64: Option<Encoded>,
}

impl TryFrom<ImageFields> for ImageJson {
    type Error = &'static str;

    fn try_from(fields: ImageFields) -> Result<Self, &'static str> {
        match fields {
            ImageFields { url: Some(url), base64: None } => Ok(Self::Url(ImageByUrl { url })),
            ImageFields { url: None, base64: Some(base64) } => Ok(Self::Base64(ImageByBytes { base64 })),
            ImageFields { url: Some(_), base64: Some(_) } => {
                Err("both url and base64 are given, one is needed")
            }
            ImageFields { url: None, base64: None } => Err("neither url nor base64 is given, one is needed"),
        }
    }
}

impl ImageJson {
    /// Where its bytes come from.
    pub(crate) fn source(self) -> ImageSource {
        match self {
            Self::Url(ImageByUrl { url }) => ImageSource::Remote(url),
            Self::Base64(ImageByBytes { base64 }) => ImageSource::Inline(base64.0),
        }
    }
}

/// Bytes that are written in base64: decoded out of the body itself, with no copy of the text in between.
struct Encoded(Bytes);

impl<'de> Deserialize<'de> for Encoded {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Encoded;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string of base64")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Encoded, E> {
                let invalid = |error| E::custom(format_args!("invalid base64: {error}"));
                BASE64.decode(text).map(|bytes| Encoded(bytes.into())).map_err(invalid)
            }
        }

        deserializer.deserialize_str(Text)
    }
}

/// Reads a request.
///
/// # Errors
/// A [`RequestError`] that says where in `body` what is wrong.
pub(crate) fn read_ask(body: &[u8]) -> Result<Payload, RequestError> {
    let request: AskRequest = read_json(body, "the body")?;
    let AskRequest { secret_token, inputs, details, stream, priority, timeout_ms, model, generation } =
        request;
    let lists = inputs.texts.into_iter();
    let lists = lists.map(|list| list.into_iter().map(|question| question.0).collect());
    Ok(Payload {
        secret_token,
        images: inputs.images.into_iter().map(ImageJson::source).collect(),
        texts: Texts::Each(lists.collect()),
        task: Task::Answer(generation),
        model,
        options: Options { details, stream, priority, timeout_ms },
        format: RequestFormat::Json,
    })
}

/// The images of a request in the model card's JSON, each with its questions, unchecked but for their shape.
///
/// # Errors
/// A [`RequestError`] that says where in `body` what is wrong.
pub fn card_inputs(body: &[u8]) -> Result<Vec<Input>, RequestError> {
    let Payload { images, texts, format, .. } = read_ask(body)?;
    Payload::inputs(images, texts, format, body.len())
}

/// Reads JSON of a bounded number of values; `name` is what it is called in messages.
///
/// # Errors
/// A [`RequestError`] that says where in `json` what is wrong.
pub(crate) fn read_json<T: DeserializeOwned>(json: &[u8], name: &str) -> Result<T, RequestError> {
    check_count(json, name)?;
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let read = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let known = error.path().iter().next().is_some() && path != ".";
        (known.then_some(path), error.into_inner())
    });
    let read = read.and_then(|value| deserializer.end().map(|()| value).map_err(|error| (None, error)));
    read.map_err(|(path, error)| {
        if error.is_data() {
            let field = path.unwrap_or_else(|| name.to_owned());
            RequestError::new(ErrorReason::PayloadInvalid).field(field).cause(error)
        } else {
            RequestError::new(ErrorReason::BodyUnreadable).cause(format_args!("{name} is no json, {error}"))
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{http::inference::payload::Milliseconds, priority::RequestPriority};

    const CARD: &str = include_str!("../examples/card_request.json");

    fn refused(body: &str) -> (ErrorReason, String) {
        let refusal = read_ask(body.as_bytes()).err().unwrap();
        (refusal.reason(), refusal.to_string())
    }

    fn with_image(image: &str) -> String {
        format!(r#"{{"inputs": {{"texts": [["what?"]], "images": [{image}]}}}}"#)
    }

    #[test]
    fn the_model_cards_payload_is_read_to_the_letter() {
        let Payload { secret_token, images, texts, options, .. } =
            read_ask(CARD.as_bytes()).ok().unwrap();
        assert_eq!(secret_token.as_deref(), Some("optional"));
        assert_eq!(images, [ImageSource::Remote("https://example.com".to_owned())]);
        let Texts::Each(texts) = texts else { panic!() };
        assert_eq!(texts.len(), 1);
        assert_eq!((texts[0].len(), texts[0][5].text.as_str()), (6, "What is person doing?"));
        assert_eq!(options, Options::default());
    }

    #[test]
    fn what_may_be_added_is_read() {
        let body = r#"{"inputs": {"texts": [["what?"]], "images": [{"base64": "aGVsbG8="}]},
            "details": true, "stream": true, "priority": "low", "timeout_ms": 250}"#;
        let Payload { images, options, .. } = read_ask(body.as_bytes()).ok().unwrap();
        assert_eq!(images, [ImageSource::Inline(Bytes::from("hello"))]);
        let timeout_ms = Some(Milliseconds(250));
        assert_eq!(options, Options { details: true, stream: true, priority: RequestPriority::Low, timeout_ms });
    }

    #[test]
    fn a_timeout_is_a_whole_number_of_milliseconds_however_it_is_written() {
        let card = |timeout: &str| {
            let card = with_image(r#"{"url": "x"}"#);
            let payload =
                read_ask(card.replacen('{', &format!(r#"{{"timeout_ms": {timeout}, "#), 1).as_bytes());
            payload.map(|payload| payload.options.timeout_ms.map(|timeout| timeout.0)).ok()
        };
        assert_eq!(
            (card("null"), card("250"), card("250.0")),
            (Some(None), Some(Some(250)), Some(Some(250)))
        );
        assert_eq!(card("4294967295"), Some(Some(u32::MAX)));
        for refused in ["0", "-1", "0.5", "4294967296", "1e400", "\"250\""] {
            assert_eq!(card(refused), None, "{refused}");
        }
    }

    #[test]
    fn what_is_no_json_is_refused_by_line_and_column() {
        let (reason, message) = refused("{\"inputs\":\n  {,}}");
        assert_eq!(reason, ErrorReason::BodyUnreadable);
        assert!(message.ends_with("line 2 column 4"), "{message}");
        for body in ["", "{", "{}x", "\u{feff}{}"] {
            assert_eq!(
                refused(body).0,
                if body == "{}x" { ErrorReason::PayloadInvalid } else { ErrorReason::BodyUnreadable }
            );
        }
        assert_eq!(
            refused(&format!("{}{}", with_image(r#"{"url": "x"}"#), "x")).0,
            ErrorReason::BodyUnreadable
        );
    }

    #[test]
    fn what_has_another_shape_is_refused_by_its_path() {
        for (body, expected) in [
            (
                r#"{"input": {}}"#.to_owned(),
                "unknown field `input`, expected one of `secret_token`, `inputs`",
            ),
            (with_image(r#"{"url": 5}"#), "inputs.images[0]"),
            (with_image(r#"{"uri": "x"}"#), "unknown field `uri`, expected `url` or `base64`"),
            (with_image("{}"), "inputs.images[0] is invalid: neither url nor base64 is given"),
            (with_image(r#"{"url": "x", "base64": "eA=="}"#), "both url and base64 are given"),
            (with_image(r#"{"base64": "a*"}"#), "invalid base64"),
            (
                r#"{"inputs": {"texts": [["a", 5]], "images": []}}"#.to_owned(),
                "inputs.texts[0][1] is invalid",
            ),
            (r#"{"inputs": {"texts": []}}"#.to_owned(), "missing field `images`"),
            ("[]".to_owned(), "the body is invalid"),
        ] {
            let (reason, message) = refused(&body);
            assert_eq!(reason, ErrorReason::PayloadInvalid, "{body}");
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn deep_nesting_is_refused() {
        let deep = "[".repeat(100_000);
        assert_eq!(refused(&format!(r#"{{"inputs": {{"texts": {deep}"#)).0, ErrorReason::PayloadInvalid);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read_ask(&bytes);
        }

        #[test]
        fn no_damaged_card_makes_the_reader_panic(
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        ) {
            let mut bytes = CARD.as_bytes().to_vec();
            for (place, byte) in damage {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            let _ = read_ask(&bytes);
        }
    }
}
