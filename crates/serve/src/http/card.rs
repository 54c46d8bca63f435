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

use super::{
    count::check_count,
    payload::{Class, Milliseconds, Options, Payload, Questions},
    texts::{CardGeneration, CardQuestion, TextOrChoice, object},
};
use crate::{
    errors::{Reason, Refusal},
    place::Form,
    proto::{ImageQuestions, image::Source},
    wanted::Wanted,
};

/// Base64 with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Images with questions about them. `secret_token` and `inputs` are the model card's; the rest is optional.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CardRequest {
    /// The API key, if the server needs one and no header carries it.
    secret_token: Option<String>,
    /// The images, and as many lists of questions.
    inputs: CardInputs,
    /// Whether scores, token ids and timings are wanted beside the answers.
    #[serde(default)]
    details: bool,
    /// Whether the answers are wanted as server-sent events, each as soon as it is ready. So they are, too, for a
    /// request whose `Accept` header names `text/event-stream`.
    #[serde(default)]
    stream: bool,
    /// Who goes first when several callers wait.
    #[serde(default)]
    priority: Class,
    /// How long the caller waits, in milliseconds; what is not answered by then is a failed item. Without it the
    /// server's own limit holds.
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 4_294_967_295_u32, format = "uint32")]
    timeout_ms: Option<Milliseconds>,
    /// Which model is asked, by its name; the first that answers questions without.
    #[serde(default)]
    model: String,
    /// How answers are written.
    #[serde(default, deserialize_with = "object")]
    generation: CardGeneration,
}

/// What is asked.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CardInputs {
    /// The questions: one list for each image, in the same order.
    #[schema(value_type = Vec<Vec<TextOrChoice>>, min_items = 1)]
    texts: Vec<Vec<CardQuestion>>,
    /// The images.
    #[schema(min_items = 1)]
    images: Vec<CardImage>,
}

/// An image, by its address or by its bytes.
#[derive(Deserialize, ToSchema)]
#[serde(try_from = "ImageFields", untagged)]
pub(super) enum CardImage {
    /// By its address.
    Url(ImageByUrl),
    /// By its bytes.
    Base64(ImageByBytes),
}

/// An image that the server fetches.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ImageByUrl {
    /// An `http`, `https` or `data` URL.
    #[schema(example = "https://example.com")]
    url: String,
}

/// An image in the request itself.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ImageByBytes {
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

impl TryFrom<ImageFields> for CardImage {
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

impl CardImage {
    /// Where its bytes come from.
    pub(super) fn source(self) -> Source {
        match self {
            Self::Url(ImageByUrl { url }) => Source::Url(url),
            Self::Base64(ImageByBytes { base64 }) => Source::Data(base64.0),
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
/// A [`Refusal`] that says where in `body` what is wrong.
pub(super) fn read_card(body: &[u8]) -> Result<Payload, Refusal> {
    let request: CardRequest = read_json(body, "the body")?;
    let CardRequest { secret_token, inputs, details, stream, priority, timeout_ms, model, generation } =
        request;
    let lists = inputs.texts.into_iter();
    let lists = lists.map(|list| list.into_iter().map(|question| question.0).collect());
    Ok(Payload {
        secret_token,
        images: inputs.images.into_iter().map(CardImage::source).collect(),
        questions: Questions::Each(lists.collect()),
        wanted: Wanted::Answers(generation.into()),
        model,
        options: Options { details, stream, priority, timeout_ms },
        form: Form::Card,
    })
}

/// The images of a request in the model card's JSON, each with its questions, unchecked but for their shape.
///
/// # Errors
/// A [`Refusal`] that says where in `body` what is wrong.
pub fn card_inputs(body: &[u8]) -> Result<Vec<ImageQuestions>, Refusal> {
    let Payload { images, questions, form, .. } = read_card(body)?;
    Payload::inputs(images, questions, form, body.len())
}

/// Reads JSON of a bounded number of values; `name` is what it is called in messages.
///
/// # Errors
/// A [`Refusal`] that says where in `json` what is wrong.
pub(super) fn read_json<T: DeserializeOwned>(json: &[u8], name: &str) -> Result<T, Refusal> {
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
            Refusal::new(Reason::PayloadInvalid).field(field).cause(error)
        } else {
            Refusal::new(Reason::BodyUnreadable).cause(format_args!("{name} is no json, {error}"))
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CARD: &str = include_str!("examples/card_request.json");

    fn refused(body: &str) -> (Reason, String) {
        let refusal = read_card(body.as_bytes()).err().unwrap();
        (refusal.reason(), refusal.to_string())
    }

    fn with_image(image: &str) -> String {
        format!(r#"{{"inputs": {{"texts": [["what?"]], "images": [{image}]}}}}"#)
    }

    #[test]
    fn the_model_cards_payload_is_read_to_the_letter() {
        let Payload { secret_token, images, questions, options, .. } =
            read_card(CARD.as_bytes()).ok().unwrap();
        assert_eq!(secret_token.as_deref(), Some("optional"));
        assert_eq!(images, [Source::Url("https://example.com".to_owned())]);
        let Questions::Each(texts) = questions else { panic!() };
        assert_eq!(texts.len(), 1);
        assert_eq!((texts[0].len(), texts[0][5].text.as_str()), (6, "What is person doing?"));
        assert_eq!(options, Options::default());
    }

    #[test]
    fn what_may_be_added_is_read() {
        let body = r#"{"inputs": {"texts": [["what?"]], "images": [{"base64": "aGVsbG8="}]},
            "details": true, "stream": true, "priority": "low", "timeout_ms": 250}"#;
        let Payload { images, options, .. } = read_card(body.as_bytes()).ok().unwrap();
        assert_eq!(images, [Source::Data(Bytes::from("hello"))]);
        let timeout_ms = Some(Milliseconds(250));
        assert_eq!(options, Options { details: true, stream: true, priority: Class::Low, timeout_ms });
    }

    #[test]
    fn a_timeout_is_a_whole_number_of_milliseconds_however_it_is_written() {
        let card = |timeout: &str| {
            let card = with_image(r#"{"url": "x"}"#);
            let payload =
                read_card(card.replacen('{', &format!(r#"{{"timeout_ms": {timeout}, "#), 1).as_bytes());
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
        assert_eq!(reason, Reason::BodyUnreadable);
        assert!(message.ends_with("line 2 column 4"), "{message}");
        for body in ["", "{", "{}x", "\u{feff}{}"] {
            assert_eq!(
                refused(body).0,
                if body == "{}x" { Reason::PayloadInvalid } else { Reason::BodyUnreadable }
            );
        }
        assert_eq!(refused(&format!("{}{}", with_image(r#"{"url": "x"}"#), "x")).0, Reason::BodyUnreadable);
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
            (with_image("{}"), "inputs.images[0] is not as expected: neither url nor base64 is given"),
            (with_image(r#"{"url": "x", "base64": "eA=="}"#), "both url and base64 are given"),
            (with_image(r#"{"base64": "a*"}"#), "invalid base64"),
            (
                r#"{"inputs": {"texts": [["a", 5]], "images": []}}"#.to_owned(),
                "inputs.texts[0][1] is not as expected",
            ),
            (r#"{"inputs": {"texts": []}}"#.to_owned(), "missing field `images`"),
            ("[]".to_owned(), "the body is not as expected"),
        ] {
            let (reason, message) = refused(&body);
            assert_eq!(reason, Reason::PayloadInvalid, "{body}");
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn deep_nesting_is_refused() {
        let deep = "[".repeat(100_000);
        assert_eq!(refused(&format!(r#"{{"inputs": {{"texts": {deep}"#)).0, Reason::PayloadInvalid);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read_card(&bytes);
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
            let _ = read_card(&bytes);
        }
    }
}
