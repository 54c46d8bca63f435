//! What forms of HTML may hold, for `/openapi.json`: they are read field by field.

use bytes::Bytes;
use utoipa::ToSchema;

use crate::priority::RequestPriority;

/// Image files, with questions that all of them share (`question`,
/// `questions`) or a list for each (`texts`).
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it is there to be described")]
pub(crate) struct CardForm {
    /// A PNG, JPEG, WebP, GIF, BMP or TIFF file; as many fields of this name as there are images.
    #[schema(value_type = Vec<String>, format = Binary, min_items = 1)]
    image: Vec<Bytes>,
    /// A question about all images; may be repeated.
    #[schema(nullable = false)]
    question: Option<Vec<String>>,
    /// Questions about all images, as a JSON list of strings.
    #[schema(
        nullable = false,
        content_media_type = "application/json",
        example = r#"["Is it a person?", "What skin color?"]"#
    )]
    questions: Option<String>,
    /// In place of both: a JSON list of one list of questions for each image, as in the JSON request.
    #[schema(nullable = false, content_media_type = "application/json")]
    texts: Option<String>,
    /// The API key, if the server needs one and no header carries it.
    #[schema(nullable = false)]
    secret_token: Option<String>,
    /// `true` for scores, token ids and timings beside the answers.
    #[schema(nullable = false)]
    details: Option<bool>,
    /// `true` for server-sent events.
    #[schema(nullable = false)]
    stream: Option<bool>,
    /// Which model is asked, by its name.
    #[schema(nullable = false)]
    model: Option<String>,
    /// How answers or captions are written, as JSON.
    #[schema(nullable = false, content_media_type = "application/json", example = r#"{"num_beams": 3}"#)]
    generation: Option<String>,
    /// Who goes first when several callers wait.
    #[schema(nullable = false)]
    priority: Option<RequestPriority>,
    /// How long the caller waits, in milliseconds.
    #[schema(nullable = false, minimum = 1, maximum = 4_294_967_295_u32, format = "uint32")]
    timeout_ms: Option<u32>,
}

/// Image files, with texts that all of them are compared with (`text`) or a list for each (`texts`).
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it is there to be described")]
pub(crate) struct MatchForm {
    /// A PNG, JPEG, WebP, GIF, BMP or TIFF file; as many fields of this name as there are images.
    #[schema(value_type = Vec<String>, format = Binary, min_items = 1)]
    image: Vec<Bytes>,
    /// A text to compare all images with; may be repeated.
    #[schema(nullable = false)]
    text: Option<Vec<String>>,
    /// In its place: a JSON list of one list of texts for each image, as in the JSON request.
    #[schema(nullable = false, content_media_type = "application/json")]
    texts: Option<String>,
    /// The API key, if the server needs one and no header carries it.
    #[schema(nullable = false)]
    secret_token: Option<String>,
    /// `true` for logits and timings beside the scores.
    #[schema(nullable = false)]
    details: Option<bool>,
    /// `true` for server-sent events.
    #[schema(nullable = false)]
    stream: Option<bool>,
    /// Which model is asked, by its name.
    #[schema(nullable = false)]
    model: Option<String>,
    /// Who goes first when several callers wait.
    #[schema(nullable = false)]
    priority: Option<RequestPriority>,
    /// How long the caller waits, in milliseconds.
    #[schema(nullable = false, minimum = 1, maximum = 4_294_967_295_u32, format = "uint32")]
    timeout_ms: Option<u32>,
}
