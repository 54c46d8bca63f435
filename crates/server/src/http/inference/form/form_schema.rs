//! The forms in the OpenAPI document. [`multipart`](super::multipart) decodes them field by field.

use bytes::Bytes;
use utoipa::ToSchema;

use crate::priority::RequestPriority;

/// Defines a form with the fields that all forms share and those of one route.
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
            #[schema(nullable = false)]
            secret_token: Option<String>,
            /// Whether the response is a stream of server-sent events.
            #[schema(nullable = false)]
            stream: Option<bool>,
            /// The name of the model. The default is the first model for the task.
            #[schema(nullable = false)]
            model: Option<String>,
            /// Which requests go first when several clients wait.
            #[schema(nullable = false)]
            priority: Option<RequestPriority>,
            /// The time limit, in milliseconds.
            #[schema(nullable = false, minimum = 1, maximum = 4_294_967_295_u32, format = "uint32")]
            timeout_ms: Option<u32>,
        }
    };
}

form_schema! {
    /// Image files, with questions that all images share (`question`, `questions`) or with a list
    /// for each image (`texts`).
    AskForm {
        /// A question about all images. May be repeated.
        #[schema(nullable = false)]
        question: Option<Vec<String>>,
        /// Questions about all images, as a JSON list of strings.
        #[schema(
            nullable = false,
            content_media_type = "application/json",
            example = r#"["Is it a person?", "What skin color?"]"#
        )]
        questions: Option<String>,
        /// In place of both: a JSON list with one list of questions for each image, as in the JSON
        /// request.
        #[schema(nullable = false, content_media_type = "application/json")]
        texts: Option<String>,
        /// Whether the response has scores, token ids and timings.
        #[schema(nullable = false)]
        details: Option<bool>,
        /// The generation options, as JSON.
        #[schema(nullable = false, content_media_type = "application/json", example = r#"{"num_beams": 3}"#)]
        generation: Option<String>,
        /// Whether each answer has an attention map, as in the JSON request.
        #[schema(nullable = false)]
        explain: Option<bool>,
    }
}

form_schema! {
    /// Image files, with prompts that all images share (`question`, `questions`) or with a list for
    /// each image (`texts`).
    CaptionForm {
        /// A prompt of all images. May be repeated.
        #[schema(nullable = false)]
        question: Option<Vec<String>>,
        /// Prompts of all images, as a JSON list of strings.
        #[schema(
            nullable = false,
            content_media_type = "application/json",
            example = r#"["a picture of"]"#
        )]
        questions: Option<String>,
        /// In place of both: a JSON list with one list of prompts for each image, as in the JSON
        /// request.
        #[schema(nullable = false, content_media_type = "application/json")]
        texts: Option<String>,
        /// Whether the response has scores, token ids and timings.
        #[schema(nullable = false)]
        details: Option<bool>,
        /// The generation options, as JSON.
        #[schema(nullable = false, content_media_type = "application/json", example = r#"{"num_beams": 3}"#)]
        generation: Option<String>,
    }
}

form_schema! {
    /// Image files, with texts that all images are compared with (`text`) or with a list for each
    /// image (`texts`).
    MatchForm {
        /// A text to compare all images with. May be repeated.
        #[schema(nullable = false)]
        text: Option<Vec<String>>,
        /// In its place: a JSON list with one list of texts for each image, as in the JSON request.
        #[schema(nullable = false, content_media_type = "application/json")]
        texts: Option<String>,
        /// Whether the response has logits and timings.
        #[schema(nullable = false)]
        details: Option<bool>,
    }
}
