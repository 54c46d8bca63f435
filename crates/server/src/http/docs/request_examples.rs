//! The examples of requests in the OpenAPI document. Swagger UI sends them as they stand.
//!
//! All images are the same small file, so that the embedded demo models answer at once.

use std::sync::LazyLock;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use utoipa::{
    Modify,
    openapi::{self, Content, RefOr, encoding::EncodingBuilder, path::ParameterStyle},
};

use crate::http::media_type::JSON;

/// `models/demo/demo.png`, scaled to 128 x 128 pixels of 32 colours.
const IMAGE: &[u8] = include_bytes!("../examples/demo.png");

/// What stands for the image in the files of the examples.
const PLACEHOLDER: &str = "demo.png";

/// The JSON requests, and the response to one of them.
const EXAMPLES: &[(&str, &str, Option<&str>)] = &[
    (
        "/v1/ask",
        include_str!("../examples/ask_request.json"),
        Some(include_str!("../examples/ask_response.json")),
    ),
    ("/v1/caption", include_str!("../examples/caption_request.json"), None),
    ("/v1/match", include_str!("../examples/match_request.json"), None),
    ("/v1/embed", include_str!("../examples/embed_request.json"), None),
    ("/v1/models", include_str!("../examples/load_model.json"), None),
    ("/v1/chat/completions", include_str!("../examples/chat_completion.json"), None),
    ("/v1/embeddings", include_str!("../examples/embeddings.json"), None),
    ("/", include_str!("../examples/task.json"), None),
    ("/models/{name}", include_str!("../examples/task.json"), None),
    ("/hf/{task}", include_str!("../examples/task.json"), None),
    ("/v2/models/{name}/infer", include_str!("../examples/infer.json"), None),
    ("/v1/models/{name}:predict", include_str!("../examples/predict.json"), None),
    ("/invocations", include_str!("../examples/predict.json"), None),
];

/// The forms: the field that may be repeated, and the fields that are JSON.
const FORMS: &[(&str, &str, &[&str])] = &[
    ("/v1/ask", "question", &["questions", "texts", "generation"]),
    ("/v1/caption", "question", &["questions", "texts", "generation"]),
    ("/v1/match", "text", &["texts"]),
];

/// Adds the examples, and how the fields of forms are encoded. The fields have their examples in
/// their schemas.
pub(crate) struct RequestExamples;

impl Modify for RequestExamples {
    fn modify(&self, document: &mut openapi::OpenApi) {
        for (path, request, response) in EXAMPLES {
            set_example(request_content(document, path, JSON), request);
            let Some(json) = response else { continue };
            let operation = document.paths.paths.get_mut(*path).and_then(|item| item.post.as_mut());
            let response = operation.and_then(|operation| operation.responses.responses.get_mut("200"));
            if let Some(RefOr::T(response)) = response {
                set_example(response.content.get_mut(JSON), json);
            }
        }
        for (path, list, json_fields) in FORMS {
            encode_form(request_content(document, path, "multipart/form-data"), list, json_fields);
        }
    }
}

/// Returns the body of `POST` requests to `path` with this media type.
fn request_content<'a>(
    document: &'a mut openapi::OpenApi,
    path: &str,
    media_type: &str,
) -> Option<&'a mut RefOr<Content>> {
    match document.paths.paths.get_mut(path)?.post.as_mut()?.request_body.as_mut()? {
        RefOr::T(body) => body.content.get_mut(media_type),
        RefOr::Ref(_) => None,
    }
}

fn set_example(content: Option<&mut RefOr<Content>>, json: &str) {
    static DATA_URL: LazyLock<String> =
        LazyLock::new(|| format!("data:image/png;base64,{}", STANDARD.encode(IMAGE)));
    if let Some(RefOr::T(content)) = content {
        content.example = serde_json::from_str(&json.replace(PLACEHOLDER, &DATA_URL)).ok();
    }
}

/// Without an encoding, Swagger UI joins the elements of a list by commas, and also those of a JSON
/// list in a field for text.
fn encode_form(content: Option<&mut RefOr<Content>>, list: &str, json_fields: &[&str]) {
    let Some(RefOr::T(content)) = content else { return };
    let repeated = EncodingBuilder::new().style(Some(ParameterStyle::Form)).explode(Some(true));
    content.encoding.insert(list.to_owned(), repeated.build());
    for name in json_fields {
        let json = EncodingBuilder::new().content_type(Some(JSON.to_owned()));
        content.encoding.insert((*name).to_owned(), json.build());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::inference::ask_request::ask_inputs;
    use crate::request::item::ImageSource;

    #[test]
    fn image_of_examples_is_small_and_a_data_url() {
        assert!(IMAGE.len() < 2 << 10);
        let mut content = RefOr::T(Content::default());
        set_example(Some(&mut content), EXAMPLES[0].1);
        let RefOr::T(Content { example: Some(example), .. }) = content else { panic!() };
        let inputs = ask_inputs(example.to_string().as_bytes()).unwrap();
        let Some(ImageSource::Remote(url)) = &inputs[0].image else { panic!() };
        assert_eq!(STANDARD.decode(url.strip_prefix("data:image/png;base64,").unwrap()).unwrap(), IMAGE);
    }

    #[test]
    fn examples_are_json() {
        for (path, request, response) in EXAMPLES {
            for json in [Some(*request), *response].into_iter().flatten() {
                assert!(serde_json::from_str::<serde_json::Value>(json).is_ok(), "{path}");
            }
        }
    }
}
