//! `/openapi.json`: the HTTP interface in OpenAPI's words, its problems out of the one table of errors.

use std::{collections::BTreeMap, sync::LazyLock};

use axum::response::{IntoResponse as _, Response};
use http::header::CONTENT_TYPE;
use serde_json::Value;
use utoipa::{
    Modify, OpenApi,
    openapi::{
        self, Content, ContentBuilder, HeaderBuilder, ObjectBuilder, Ref, RefOr, ResponseBuilder,
        schema::Type,
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use crate::{
    error::{ErrorReason, ErrorSpec, Scope},
    http::{
        inference::{
            ask_request::AskRequest,
            ask_response::CardResponse,
            form_schema::{CardForm, MatchForm},
            score_responses::{EmbedResponse, MatchResponse},
            sse::{AnswerEvent, EndEvent, PieceEvent, ServerSentEvent},
            task_requests::{CaptionRequest, EmbedRequest, MatchRequest},
        },
        models,
        problem::{PROBLEM_JSON, Problem},
    },
};

/// Where the document is served.
pub(crate) const PATH: &str = "/openapi.json";

/// The model card's own payload and response.
const CARD_REQUEST: &str = include_str!("../examples/card_request.json");
const CARD_RESPONSE: &str = include_str!("../examples/card_response.json");

/// The document.
pub(crate) async fn document() -> Response {
    static DOCUMENT: LazyLock<String> =
        LazyLock::new(|| Document::openapi().to_json().unwrap_or_else(|error| error.to_string()));
    ([(CONTENT_TYPE, "application/json")], DOCUMENT.as_str()).into_response()
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "blip-serve",
        description = "Answers questions about images with BLIP models, describes them, and compares them with texts.\n\n\
            The same over gRPC, and over gRPC-Web on this listener at `/blip.v1.BlipService/Ask`: see \
            `proto/blip/v1/blip.proto`. Every reason for which something can be refused is described at \
            [/docs/errors](/docs/errors).",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    servers((url = "/")),
    paths(
        ask, caption, compare, embed, models::list, models::get, models::load, models::unload,
    ),
    components(schemas(Problem, AnswerEvent, PieceEvent, EndEvent)),
    modifiers(&Keys, &Problems, &Examples),
)]
struct Document;

/// Ask questions about images
///
/// Takes the model card's JSON and answers in its words: `captions` holds the answers of each image, in the order of the
/// request. The same as a form (`multipart/form-data`) carries image files as they are.
///
/// A request is refused as a whole, by a problem document, when nothing of it can be looked at: it is malformed or too
/// large, there are not as many lists of questions as images, the key is wrong, or the server takes no requests now.
/// Once it is taken, the status is 200, and each item stands for itself: one that fails (an image that cannot be
/// fetched, an empty question, a full queue, a deadline that has passed) is a `null` among the answers, and `errors`
/// says why. Without failed items there is no `errors`.
///
/// With `stream`, or with `Accept: text/event-stream`, the response is a stream of server-sent events: an event `answer`
/// (see `AnswerEvent`) for each item as soon as it is ready, in whatever order that is, and at last an event `end` (see
/// `EndEvent`). A caller who hangs up ends all work on his request.
#[utoipa::path(
    post,
    path = "/v1/ask",
    operation_id = "ask",
    request_body(content((AskRequest = "application/json"), (CardForm = "multipart/form-data"))),
    responses((
        status = 200,
        description = "The answers; those of failed items are null",
        content((CardResponse = "application/json"), (ServerSentEvent = "text/event-stream")),
    )),
    security((), ("bearer" = []), ("api_key" = [])),
)]
#[expect(dead_code, reason = "it is there to be described; the handler is in ask.rs")]
fn ask() {}

/// Describe images
///
/// Laid out as `/v1/ask`: `texts` hold what captions begin with, and `captions` of the response the captions, prompts
/// included. With `stream_tokens`, an event `piece` (see `PieceEvent`) tells each piece of a caption as it is written.
#[utoipa::path(
    post,
    path = "/v1/caption",
    operation_id = "caption",
    request_body(content((CaptionRequest = "application/json"), (CardForm = "multipart/form-data"))),
    responses((
        status = 200,
        description = "The captions; those of failed items are null",
        content((CardResponse = "application/json"), (ServerSentEvent = "text/event-stream")),
    )),
    security((), ("bearer" = []), ("api_key" = [])),
)]
#[expect(dead_code, reason = "it is there to be described; the handler is in ask.rs")]
fn caption() {}

/// Compare images with texts
///
/// Laid out as `/v1/ask`: `texts` hold what may describe each image.
#[utoipa::path(
    post,
    path = "/v1/match",
    operation_id = "match",
    request_body(content((MatchRequest = "application/json"), (MatchForm = "multipart/form-data"))),
    responses((
        status = 200,
        description = "How well they fit; failed items are null",
        content((MatchResponse = "application/json"), (ServerSentEvent = "text/event-stream")),
    )),
    security((), ("bearer" = []), ("api_key" = [])),
)]
#[expect(dead_code, reason = "it is there to be described; the handler is in ask.rs")]
fn compare() {}

/// Turn images and texts into vectors
///
/// The cosine of an image's and a text's vector is the larger the better they fit: store the vectors of images, and search
/// with those of texts.
#[utoipa::path(
    post,
    path = "/v1/embed",
    operation_id = "embed",
    request_body(content((EmbedRequest = "application/json"))),
    responses((status = 200, description = "The vectors; those of failed items are null", body = EmbedResponse)),
    security((), ("bearer" = []), ("api_key" = [])),
)]
#[expect(dead_code, reason = "it is there to be described; the handler is in ask.rs")]
fn embed() {}

/// How keys are presented.
struct Keys;

impl Modify for Keys {
    fn modify(&self, document: &mut openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("An API key."));
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer.build()));
        let header = ApiKeyValue::with_description("x-api-key", "An API key.");
        components.add_security_scheme("api_key", SecurityScheme::ApiKey(ApiKey::Header(header)));
    }
}

/// The problem documents: one response for each status in the table of errors.
struct Problems;

impl Modify for Problems {
    fn modify(&self, document: &mut openapi::OpenApi) {
        for (path, item) in &mut document.paths.paths {
            let reading = item.get.iter_mut().map(|operation| (operation, false));
            let changing = item.post.iter_mut().chain(&mut item.delete).map(|operation| (operation, true));
            for (operation, changes) in reading.chain(changing) {
                for (status, rows) in problems_of(path, changes) {
                    let response = RefOr::T(problem_response(status, &rows));
                    operation.responses.responses.insert(status.to_string(), response);
                }
            }
        }
    }
}

/// Where models are told of and changed.
const MODELS: &str = "/v1/models";

/// Why models are not told of.
const UNTOLD: &[ErrorReason] = &[
    ErrorReason::ApiKeyMissing,
    ErrorReason::ApiKeyInvalid,
    ErrorReason::ModelUnknown,
    ErrorReason::ModelLoading,
    ErrorReason::EngineBroken,
    ErrorReason::InternalError,
];

/// Why they are not changed, besides.
const UNCHANGED: &[ErrorReason] = &[
    ErrorReason::AdminOff,
    ErrorReason::AdminRequired,
    ErrorReason::ModelNameInvalid,
    ErrorReason::ModelSourceRefused,
    ErrorReason::ModelOptionInvalid,
    ErrorReason::ModelLoadFailed,
    ErrorReason::ModelLast,
    ErrorReason::TooManyModels,
    ErrorReason::ModelsBusy,
];

/// Why the body of a change is not taken.
const UNREAD: &[ErrorReason] = &[
    ErrorReason::OriginRefused,
    ErrorReason::MediaTypeRefused,
    ErrorReason::BodyUnreadable,
    ErrorReason::PayloadInvalid,
    ErrorReason::PayloadTooManyValues,
    ErrorReason::MessageTooLarge,
    ErrorReason::UploadStalled,
    ErrorReason::ServerBusy,
    ErrorReason::ShuttingDown,
];

/// The problems of an operation, by status; what is refused before a path is known is none of any.
fn problems_of(path: &str, changes: bool) -> BTreeMap<u16, Vec<ErrorSpec>> {
    let elsewhere = [ErrorReason::RouteUnknown, ErrorReason::MethodRefused];
    let is_here = |reason: &&ErrorReason| match path.starts_with(MODELS) {
        true => UNTOLD.contains(reason) || changes && (UNCHANGED.contains(reason) || UNREAD.contains(reason)),
        false => !elsewhere.contains(reason) && !UNCHANGED.contains(reason),
    };
    let mut statuses: BTreeMap<u16, Vec<ErrorSpec>> = BTreeMap::new();
    for reason in ErrorReason::ALL.iter().filter(is_here) {
        let row = reason.spec();
        if row.scope != Scope::Item {
            statuses.entry(row.http).or_default().push(row);
        }
    }
    statuses
}

fn problem_response(status: u16, rows: &[ErrorSpec]) -> openapi::Response {
    let names: Vec<String> = rows.iter().map(|row| format!("`{}`: {}", row.name, row.remedy)).collect();
    let schema = Ref::from_schema_name("Problem");
    let mut response = ResponseBuilder::new()
        .description(names.join("\n\n"))
        .content(PROBLEM_JSON, ContentBuilder::new().schema(Some(schema)).build());
    let header = |kind: Type, description: &str| {
        let schema = ObjectBuilder::new().schema_type(kind).build();
        HeaderBuilder::new().schema(Some(schema)).description(Some(description)).build()
    };
    if status == 401 {
        response = response.header("WWW-Authenticate", header(Type::String, "How to present a key."));
    }
    if rows.iter().any(|row| row.retryable) {
        let text = "After how many seconds to try again, where that is known.";
        response = response.header("Retry-After", header(Type::Integer, text));
    }
    response.build()
}

/// The model card's payload and response.
struct Examples;

impl Modify for Examples {
    fn modify(&self, document: &mut openapi::OpenApi) {
        // The other paths have examples field by field.
        if let Some(item) = document.paths.paths.get_mut("/v1/ask") {
            let Some(operation) = &mut item.post else { return };
            if let Some(RefOr::T(body)) = &mut operation.request_body {
                set_example(
                    body.content.get_mut("application/json"),
                    serde_json::from_str(CARD_REQUEST).ok(),
                );
            }
            if let Some(RefOr::T(answers)) = operation.responses.responses.get_mut("200") {
                set_example(
                    answers.content.get_mut("application/json"),
                    serde_json::from_str(CARD_RESPONSE).ok(),
                );
            }
        }
    }
}

fn set_example(content: Option<&mut RefOr<Content>>, example: Option<Value>) {
    if let Some(RefOr::T(content)) = content {
        content.example = example;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> Value {
        serde_json::to_value(Document::openapi()).unwrap()
    }

    #[test]
    fn the_document_is_openapi_3_1_and_every_reference_in_it_leads_somewhere() {
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
    fn every_status_of_a_refused_request_is_described_and_no_other() {
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
    fn models_are_told_of_and_changed_with_problems_of_their_own() {
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
    fn the_model_cards_own_payload_is_the_example() {
        let post = document()["paths"]["/v1/ask"]["post"].clone();
        let example = &post["requestBody"]["content"]["application/json"]["example"];
        assert_eq!(example["inputs"]["texts"][0][3], "Is person solo?");
        let example = &post["responses"]["200"]["content"]["application/json"]["example"];
        assert_eq!(example["captions"][0]["image_results"][5], "taking selfie");
    }
}
