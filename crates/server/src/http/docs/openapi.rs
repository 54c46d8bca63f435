//! `/openapi.json`: the OpenAPI document of the HTTP API.

use std::sync::LazyLock;

use axum::response::{IntoResponse as _, Response};
use http::header::CONTENT_TYPE;
use utoipa::{
    Modify, OpenApi,
    openapi::{
        self, Content, RefOr,
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use crate::http::{
    adapters::{
        clouds,
        error_text::ErrorText,
        hugging_face,
        open_inference::{infer, metadata, predict},
        openai::{self, chat_stream::ChatChunk, error::OpenAiError},
    },
    docs::problem_responses::ProblemResponses,
    inference::{
        ask_request::AskRequest,
        form::form_schema::{AskForm, CaptionForm, MatchForm},
        response::{
            ask_response::AskResponse,
            score_responses::{EmbedResponse, MatchResponse},
            sse::{AnswerEvent, EndEvent, PieceEvent, ServerSentEvent},
        },
        task_requests::{CaptionRequest, EmbedRequest, MatchRequest},
    },
    models,
    problem::Problem,
};

/// The route of the document.
pub(crate) const PATH: &str = "/openapi.json";

/// The examples of JSON requests, and of their responses. Other routes have examples of fields.
const EXAMPLES: &[(&str, &str, Option<&str>)] = &[
    // The model card.
    (
        "/v1/ask",
        include_str!("../examples/ask_request.json"),
        Some(include_str!("../examples/ask_response.json")),
    ),
    ("/v1/chat/completions", include_str!("../examples/chat_completion.json"), None),
    ("/v1/embeddings", include_str!("../examples/embeddings.json"), None),
    ("/", include_str!("../examples/task.json"), None),
    ("/models/{name}", include_str!("../examples/task.json"), None),
    ("/hf/{task}", include_str!("../examples/task.json"), None),
    ("/v2/models/{name}/infer", include_str!("../examples/infer.json"), None),
    ("/v1/models/{name}:predict", include_str!("../examples/predict.json"), None),
    ("/invocations", include_str!("../examples/predict.json"), None),
];

/// Returns the document.
pub(crate) async fn document() -> Response {
    static DOCUMENT: LazyLock<String> =
        LazyLock::new(|| Document::openapi().to_json().unwrap_or_else(|error| error.to_string()));
    ([(CONTENT_TYPE, "application/json")], DOCUMENT.as_str()).into_response()
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "blip-serve",
        description = "Answers questions about images with BLIP models, describes images, and compares \
            them with texts.\n\n\
            The server has the same methods over gRPC, and over gRPC-Web on this listener, for example at \
            `/blip.v1.BlipService/Ask`. The file `proto/blip/v1/blip.proto` defines them. \
            [/docs/errors](/docs/errors) describes every error reason.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    servers((url = "/")),
    paths(
        ask, caption, match_texts, embed, models::list, models::get, models::load, models::unload,
        openai::handlers::chat, openai::handlers::embeddings,
        hugging_face::handlers::run, hugging_face::handlers::run_model, hugging_face::handlers::run_named,
        metadata::model, infer::infer, predict::predict, clouds::invoke, home,
    ),
    components(schemas(Problem, OpenAiError, ErrorText, ChatChunk, AnswerEvent, PieceEvent, EndEvent)),
    modifiers(&SecuritySchemes, &ProblemResponses, &Examples),
)]
struct Document;

/// Ask questions about images
///
/// Request and response have the JSON of the model card. `captions` has the answers of each image,
/// in the order of the request. A form (`multipart/form-data`) carries the same request with image
/// files.
///
/// The server rejects a whole request with a problem document, for example if:
/// - it is malformed or too large
/// - the number of lists of questions is not the number of images
/// - the API key is missing or unknown
/// - the server is starting or stopping
///
/// Otherwise the status is 200, and each item succeeds or fails separately. A failed item is `null`
/// among the answers, and `errors` has its reason. Items fail, for example, because of an image
/// that cannot be fetched, an empty question, a full queue or an exceeded deadline. Without failed
/// items, the field `errors` is missing.
///
/// With `stream`, or with `Accept: text/event-stream`, the response is a stream of server-sent
/// events. Each item has an event `answer` (see `AnswerEvent`) as soon as it is ready, in any
/// order. The last event is `end` (see `EndEvent`). If the client disconnects, the server cancels
/// the request.
#[utoipa::path(
    post,
    path = "/v1/ask",
    operation_id = "ask",
    request_body(content((AskRequest = "application/json"), (AskForm = "multipart/form-data"))),
    responses((
        status = 200,
        description = "The answers. A failed item is null",
        content((AskResponse = "application/json"), (ServerSentEvent = "text/event-stream")),
    )),
    security((), ("bearer" = []), ("api_key" = [])),
)]
#[expect(dead_code, reason = "describes the operation; the handler is in inference/handlers.rs")]
fn ask() {}

/// Describe images
///
/// The layout is that of `/v1/ask`. `texts` has the prompts with which captions begin. `captions`
/// of the response has the captions, prompts included. With `stream_tokens`, events `piece` (see
/// `PieceEvent`) have the text of a caption while it is generated.
#[utoipa::path(
    post,
    path = "/v1/caption",
    operation_id = "caption",
    request_body(content((CaptionRequest = "application/json"), (CaptionForm = "multipart/form-data"))),
    responses((
        status = 200,
        description = "The captions. A failed item is null",
        content((AskResponse = "application/json"), (ServerSentEvent = "text/event-stream")),
    )),
    security((), ("bearer" = []), ("api_key" = [])),
)]
#[expect(dead_code, reason = "describes the operation; the handler is in inference/handlers.rs")]
fn caption() {}

/// Compare images with texts
///
/// The layout is that of `/v1/ask`. `texts` has the texts that each image is compared with.
#[utoipa::path(
    post,
    path = "/v1/match",
    operation_id = "match",
    request_body(content((MatchRequest = "application/json"), (MatchForm = "multipart/form-data"))),
    responses((
        status = 200,
        description = "The match scores. A failed item is null",
        content((MatchResponse = "application/json"), (ServerSentEvent = "text/event-stream")),
    )),
    security((), ("bearer" = []), ("api_key" = [])),
)]
#[expect(dead_code, reason = "describes the operation; the handler is in inference/handlers.rs")]
fn match_texts() {}

/// Embed images and texts
///
/// The cosine of two embeddings grows with the similarity of image and text. A search stores the
/// embeddings of images and compares them with the embedding of a text.
#[utoipa::path(
    post,
    path = "/v1/embed",
    operation_id = "embed",
    request_body(content((EmbedRequest = "application/json"))),
    responses((status = 200, description = "The embeddings. A failed item is null", body = EmbedResponse)),
    security((), ("bearer" = []), ("api_key" = [])),
)]
#[expect(dead_code, reason = "describes the operation; the handler is in inference/handlers.rs")]
fn embed() {}

/// Go to the documentation
#[utoipa::path(
    get,
    path = "/",
    operation_id = "home",
    responses((status = 307, description = "The path of the documentation")),
    security(()),
)]
#[expect(dead_code, reason = "describes the operation; the handler is in router.rs")]
fn home() {}

/// Adds the two ways to present an API key.
struct SecuritySchemes;

impl Modify for SecuritySchemes {
    fn modify(&self, document: &mut openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("An API key."));
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer.build()));
        let header = ApiKeyValue::with_description("x-api-key", "An API key.");
        components.add_security_scheme("api_key", SecurityScheme::ApiKey(ApiKey::Header(header)));
    }
}

/// Adds the examples of requests and responses.
struct Examples;

impl Modify for Examples {
    fn modify(&self, document: &mut openapi::OpenApi) {
        for (path, request, response) in EXAMPLES {
            let Some(item) = document.paths.paths.get_mut(*path) else { continue };
            let Some(operation) = &mut item.post else { continue };
            if let Some(RefOr::T(body)) = &mut operation.request_body {
                set_example(body.content.get_mut("application/json"), request);
            }
            if let (Some(json), Some(RefOr::T(response))) =
                (response, operation.responses.responses.get_mut("200"))
            {
                set_example(response.content.get_mut("application/json"), json);
            }
        }
    }
}

fn set_example(content: Option<&mut RefOr<Content>>, json: &str) {
    if let Some(RefOr::T(content)) = content {
        content.example = serde_json::from_str(json).ok();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn document() -> Value {
        serde_json::to_value(Document::openapi()).unwrap()
    }

    #[test]
    fn document_is_openapi_3_1_and_its_references_resolve() {
        let document = document();
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
        let text = document.to_string();
        let mut references = 0;
        for reference in text.split("\"$ref\":\"#").skip(1) {
            let pointer = reference.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
            references += 1;
        }
        assert!(references > 5, "{text}");
    }

    #[test]
    fn ask_has_the_statuses_of_its_errors_and_no_other() {
        let document = document();
        let described: Vec<u16> = document["paths"]["/v1/ask"]["post"]["responses"]
            .as_object()
            .unwrap()
            .keys()
            .map(|status| status.parse().unwrap())
            .collect();
        assert!(
            [200, 400, 401, 408, 413, 415, 429, 500, 503, 504]
                .iter()
                .all(|status| described.contains(status))
        );
        assert!(described.contains(&404) && ![405, 424].iter().any(|status| described.contains(status)));
    }

    #[test]
    fn model_routes_have_the_statuses_of_their_errors() {
        let paths = document()["paths"].clone();
        let status = |path: &str, method: &str| -> Vec<String> {
            paths[path][method]["responses"].as_object().unwrap().keys().cloned().collect()
        };
        assert!(status("/v1/models", "get").contains(&"200".to_owned()));
        for described in ["200", "403", "409", "424", "501"] {
            assert!(status("/v1/models", "post").contains(&described.to_owned()), "{described}");
        }
        assert!(status("/v1/models/{name}", "delete").contains(&"204".to_owned()));
        assert!(!status("/v1/models/{name}", "get").contains(&"501".to_owned()));
        assert!(
            paths["/v1/models"]["post"]["requestBody"]["content"]["application/json"]["example"].is_null()
        );
    }

    #[test]
    fn ask_has_the_example_of_the_model_card() {
        let post = document()["paths"]["/v1/ask"]["post"].clone();
        let example = &post["requestBody"]["content"]["application/json"]["example"];
        assert_eq!(example["inputs"]["texts"][0][3], "Is person solo?");
        let example = &post["responses"]["200"]["content"]["application/json"]["example"];
        assert_eq!(example["captions"][0]["image_results"][5], "taking selfie");
    }
}
