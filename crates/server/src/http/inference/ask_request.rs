//! The JSON of `/v1/ask`: the request of the model card, with optional fields.

use serde::{Deserialize, de::DeserializeOwned};
use utoipa::ToSchema;

use crate::{
    error::RequestError,
    http::{
        inference::{
            decoded_body::{CallOptions, DecodedBody, TextLists},
            image_json::ImageJson,
            question_json::{QuestionJson, QuestionSchema},
        },
        json::{object, read_json},
    },
    request::{field_path::RequestFormat, generation::GenerationOptions, item::Input, task::Task},
};

/// Defines a JSON request with the fields that all requests share and those of one route.
///
/// The shared fields are listed and not flattened, because serde cannot reject unknown fields of a
/// flattened struct.
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
            /// The time limit, in milliseconds. Items that are not ready by then fail. The default
            /// is the server's limit.
            #[schema(
                value_type = Option<u32>,
                minimum = 1,
                maximum = 4_294_967_295_u32,
                format = "uint32"
            )]
            pub(crate) timeout_ms: Option<$crate::http::inference::decoded_body::Milliseconds>,
            /// The name of the model. The default is the first model for the task.
            #[serde(default)]
            pub(crate) model: String,
        }
    };
}
pub(crate) use json_request;

json_request! {
    /// Images with questions about them. The model card defines `secret_token` and `inputs`. The
    /// other fields are optional.
    AskRequest {
        /// The images, and a list of questions for each image.
        inputs: AskInputs,
        /// Whether the response has scores, token ids and timings.
        #[serde(default)]
        details: bool,
        /// Whether answers are sent as server-sent events as soon as they are ready. An `Accept`
        /// header with `text/event-stream` has the same effect.
        #[serde(default)]
        stream: bool,
        /// The generation options.
        #[serde(default, deserialize_with = "object")]
        generation: GenerationOptions,
        /// Whether each answer has an attention map, which shows where the model looked. The
        /// response then has details.
        #[serde(default)]
        explain: bool,
    }
}

/// The images and questions of a request.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AskInputs {
    /// The questions: one list for each image, in the same order.
    #[schema(value_type = Vec<Vec<QuestionSchema>>, min_items = 1)]
    texts: Vec<Vec<QuestionJson>>,
    /// The images.
    #[schema(min_items = 1)]
    images: Vec<ImageJson>,
}

impl From<AskRequest> for DecodedBody {
    fn from(request: AskRequest) -> Self {
        let AskRequest { secret_token, inputs, details, stream, priority, timeout_ms, model, .. } = request;
        let lists = inputs.texts.into_iter();
        let lists = lists.map(|list| list.into_iter().map(|question| question.0).collect());
        Self {
            secret_token,
            images: inputs.images.into_iter().map(Into::into).collect(),
            texts: TextLists::PerImage(lists.collect()),
            task: Task::Answer { generation: request.generation, explain: request.explain },
            model,
            options: CallOptions { details, stream, priority, timeout_ms },
            format: RequestFormat::Json,
        }
    }
}

/// Decodes the JSON request `T`.
///
/// # Errors
/// A [`RequestError`] that names the invalid field of `body`.
pub(crate) fn decode_json<T>(body: &[u8]) -> Result<DecodedBody, RequestError>
where
    T: DeserializeOwned + Into<DecodedBody>,
{
    read_json::<T>(body, "the body").map(Into::into)
}

/// Returns the images of a `/v1/ask` request with their questions. Only their shape was checked.
///
/// # Errors
/// A [`RequestError`] that names the invalid field of `body`.
pub fn ask_inputs(body: &[u8]) -> Result<Vec<Input>, RequestError> {
    let DecodedBody { images, texts, format, .. } = decode_json::<AskRequest>(body)?;
    DecodedBody::inputs(images, texts, format, body.len())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::{
        error::ErrorReason, http::inference::decoded_body::Milliseconds, priority::RequestPriority,
        request::item::ImageSource,
    };

    const EXAMPLE: &str = include_str!("../examples/model_card_request.json");

    fn read_ask(body: &[u8]) -> Result<DecodedBody, RequestError> {
        decode_json::<AskRequest>(body)
    }

    fn error_of(body: &str) -> (ErrorReason, String) {
        let error = read_ask(body.as_bytes()).err().unwrap();
        (error.reason(), error.to_string())
    }

    fn with_image(image: &str) -> String {
        format!(r#"{{"inputs": {{"texts": [["what?"]], "images": [{image}]}}}}"#)
    }

    #[test]
    fn request_of_the_model_card_is_accepted() {
        let DecodedBody { secret_token, images, texts, options, .. } =
            read_ask(EXAMPLE.as_bytes()).ok().unwrap();
        assert_eq!(secret_token.as_deref(), Some("optional"));
        assert_eq!(images, [ImageSource::Remote("https://example.com".to_owned())]);
        let TextLists::PerImage(texts) = texts else { panic!() };
        assert_eq!(texts.len(), 1);
        assert_eq!((texts[0].len(), texts[0][5].text.as_str()), (6, "What is person doing?"));
        assert_eq!(options, CallOptions::default());
    }

    #[test]
    fn optional_fields_are_decoded() {
        let body = r#"{"inputs": {"texts": [["what?"]], "images": [{"base64": "aGVsbG8="}]},
            "details": true, "stream": true, "priority": "low", "timeout_ms": 250, "explain": true}"#;
        let DecodedBody { images, options, task, .. } = read_ask(body.as_bytes()).ok().unwrap();
        assert!(task.explains());
        assert_eq!(images, [ImageSource::Inline(Bytes::from("hello"))]);
        let timeout_ms = Some(Milliseconds(250));
        let expected =
            CallOptions { details: true, stream: true, priority: RequestPriority::Low, timeout_ms };
        assert_eq!(options, expected);
    }

    #[test]
    fn timeout_is_a_whole_number_of_milliseconds() {
        let timeout = |timeout: &str| {
            let body = with_image(r#"{"url": "x"}"#);
            let body = read_ask(body.replacen('{', &format!(r#"{{"timeout_ms": {timeout}, "#), 1).as_bytes());
            body.map(|body| body.options.timeout_ms.map(|timeout| timeout.0)).ok()
        };
        assert_eq!(
            (timeout("null"), timeout("250"), timeout("250.0")),
            (Some(None), Some(Some(250)), Some(Some(250)))
        );
        assert_eq!(timeout("4294967295"), Some(Some(u32::MAX)));
        for invalid in ["0", "-1", "0.5", "4294967296", "1e400", "\"250\""] {
            assert_eq!(timeout(invalid), None, "{invalid}");
        }
    }

    #[test]
    fn malformed_json_is_rejected_with_line_and_column() {
        let (reason, message) = error_of("{\"inputs\":\n  {,}}");
        assert_eq!(reason, ErrorReason::BodyUnreadable);
        assert!(message.ends_with("line 2 column 4"), "{message}");
        for body in ["", "{", "\u{feff}{}", &format!("{}x", with_image(r#"{"url": "x"}"#))] {
            assert_eq!(error_of(body).0, ErrorReason::BodyUnreadable, "{body}");
        }
        // A missing field is reported before the text after the object.
        assert_eq!(error_of("{}x").0, ErrorReason::PayloadInvalid);
    }

    #[test]
    fn invalid_field_is_rejected_with_its_path() {
        for (body, expected) in [
            (
                r#"{"input": {}}"#.to_owned(),
                "unknown field `input`, expected one of `secret_token`, `inputs`",
            ),
            (with_image(r#"{"url": 5}"#), "inputs.images[0]"),
            (with_image(r#"{"uri": "x"}"#), "unknown field `uri`, expected `url` or `base64`"),
            (with_image("{}"), "inputs.images[0] is invalid: neither url nor base64 is set"),
            (with_image(r#"{"url": "x", "base64": "eA=="}"#), "both url and base64 are set"),
            (
                r#"{"inputs": {"texts": [["a", 5]], "images": []}}"#.to_owned(),
                "inputs.texts[0][1] is invalid",
            ),
            (r#"{"inputs": {"texts": []}}"#.to_owned(), "missing field `images`"),
            ("[]".to_owned(), "the body is invalid"),
        ] {
            let (reason, message) = error_of(&body);
            assert_eq!(reason, ErrorReason::PayloadInvalid, "{body}");
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn invalid_base64_fails_its_image_alone() {
        let images = r#"{"base64": "a*"}, {"base64": "aGVs\nbG8="}"#;
        let body = with_image(images).replace(r#"[["what?"]]"#, r#"[["what?"], ["who?"]]"#);
        let DecodedBody { images, .. } = read_ask(body.replace('\n', "\\n").as_bytes()).ok().unwrap();
        let undecodable = ImageSource::Undecodable("invalid base64: Invalid symbol 42, offset 1.".to_owned());
        assert_eq!(images, [undecodable, ImageSource::Inline(Bytes::from("hello"))]);
    }

    #[test]
    fn deep_nesting_is_rejected() {
        let deep = "[".repeat(100_000);
        assert_eq!(error_of(&format!(r#"{{"inputs": {{"texts": {deep}"#)).0, ErrorReason::PayloadInvalid);
    }

    proptest! {
        #[test]
        fn any_bytes_decode_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read_ask(&bytes);
        }

        #[test]
        fn damaged_request_decodes_without_panic(
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        ) {
            let mut bytes = EXAMPLE.as_bytes().to_vec();
            for (index, byte) in damage {
                let index = index.index(bytes.len());
                bytes[index] = byte;
            }
            let _ = read_ask(&bytes);
        }
    }
}
