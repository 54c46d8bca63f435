//! The forms in the OpenAPI document. [`multipart`](super::multipart) decodes them field by field.

use bytes::Bytes;
use utoipa::ToSchema;

use crate::priority::RequestPriority;

/// Defines a form with the fields that all forms share and those of one route.
///
/// Swagger UI fills each field with its example, or else with a value of its type. It omits empty
/// fields. It shows a field whose schema has a media type as a field for a file.
macro_rules! form_schema {
    ($(#[$attribute:meta])* $name:ident {
        $($(#[$field_attribute:meta])* $field:ident: $type:ty,)*
    }) => {
        $(#[$attribute])*
        #[derive(ToSchema)]
        #[serde(deny_unknown_fields)]
        #[expect(dead_code, reason = "describes the form in the OpenAPI document")]
        pub(crate) struct $name {
            /// A PNG, JPEG, WebP, GIF, BMP or TIFF file. The form has one such field for each
            /// image.
            #[schema(value_type = Vec<String>, format = Binary, min_items = 1)]
            image: Vec<Bytes>,
            $($(#[$field_attribute])* $field: $type,)*
            /// The API key, if the server requires one and no header carries it.
            #[schema(nullable = false, example = "")]
            secret_token: Option<String>,
            /// Whether the response is a stream of server-sent events.
            #[schema(nullable = false, example = false)]
            stream: Option<bool>,
            /// The name of the model. The default is the first model for the task.
            #[schema(nullable = false, example = "")]
            model: Option<String>,
            /// Which requests go first when several clients wait.
            #[schema(nullable = false)]
            priority: Option<RequestPriority>,
            /// The time limit, in milliseconds.
            #[schema(
                nullable = false,
                minimum = 1,
                maximum = 4_294_967_295_u32,
                format = "uint32",
                example = 30_000
            )]
            timeout_ms: Option<u32>,
        }
    };
}

form_schema! {
    /// Image files, with questions that all images share (`question`, `questions`) or with a list
    /// for each image (`texts`).
    AskForm {
        /// A question about all images. May be repeated.
        #[schema(
            nullable = false,
            example = json!(["how many things are in the image?", "what shape is to the left of the rectangle?"])
        )]
        question: Option<Vec<String>>,
        /// Questions about all images, as a JSON list of strings.
        #[schema(nullable = false, example = "")]
        questions: Option<String>,
        /// In place of both: a JSON list with one list of questions for each image, as in the JSON
        /// request.
        #[schema(nullable = false, example = "")]
        texts: Option<String>,
        /// Whether the response has scores, token ids and timings.
        #[schema(nullable = false, example = false)]
        details: Option<bool>,
        /// The generation options, as JSON.
        #[schema(nullable = false, example = r#"{"num_beams": 3}"#)]
        generation: Option<String>,
        /// Whether each answer has an attention map, as in the JSON request.
        #[schema(nullable = false, example = false)]
        explain: Option<bool>,
    }
}

form_schema! {
    /// Image files, with beginnings of captions that all images share (`question`, `questions`) or
    /// with a list for each image (`texts`).
    CaptionForm {
        /// The beginning of a caption of all images. May be repeated.
        #[schema(nullable = false, example = json!([]))]
        question: Option<Vec<String>>,
        /// Beginnings of captions of all images, as a JSON list of strings.
        #[schema(nullable = false, example = "")]
        questions: Option<String>,
        /// In place of both: a JSON list with one list of beginnings for each image, as in the JSON
        /// request.
        #[schema(nullable = false, example = "")]
        texts: Option<String>,
        /// Whether the response has scores, token ids and timings.
        #[schema(nullable = false, example = false)]
        details: Option<bool>,
        /// Whether a stream has the text of each caption while it is generated.
        #[schema(nullable = false, example = false)]
        stream_tokens: Option<bool>,
        /// The generation options, as JSON.
        #[schema(nullable = false, example = r#"{"num_beams": 3}"#)]
        generation: Option<String>,
    }
}

form_schema! {
    /// Image files, with texts that all images are compared with (`text`) or with a list for each
    /// image (`texts`).
    MatchForm {
        /// A text to compare all images with. May be repeated.
        #[schema(nullable = false, example = json!(["a red triangle", "two blue circles"]))]
        text: Option<Vec<String>>,
        /// In its place: a JSON list with one list of texts for each image, as in the JSON request.
        #[schema(nullable = false, example = "")]
        texts: Option<String>,
        /// Whether the response has logits and timings.
        #[schema(nullable = false, example = false)]
        details: Option<bool>,
    }
}
