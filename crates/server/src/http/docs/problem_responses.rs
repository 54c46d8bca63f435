//! The error responses in the OpenAPI document, from the error table.

use std::collections::BTreeMap;

use utoipa::{
    Modify,
    openapi::{
        self, ContentBuilder, HeaderBuilder, ObjectBuilder, Ref, RefOr, ResponseBuilder, schema::Type,
    },
};

use crate::{
    error::{ErrorReason, ErrorSpec, Scope},
    http::{media_type::JSON, problem::PROBLEM_JSON},
};

/// The prefix of the routes of models.
const MODELS: &str = "/v1/models";

/// The errors of every model route.
const MODEL_ERRORS: &[ErrorReason] = &[
    ErrorReason::HostRefused,
    ErrorReason::HostInvalid,
    ErrorReason::ApiKeyMissing,
    ErrorReason::ApiKeyInvalid,
    ErrorReason::ModelUnknown,
    ErrorReason::ModelLoading,
    ErrorReason::EngineBroken,
    ErrorReason::InternalError,
];

/// The further errors of loading and unloading.
const ADMIN_ERRORS: &[ErrorReason] = &[
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

/// The errors of the body of a load request.
const BODY_ERRORS: &[ErrorReason] = &[
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

/// Errors before the route is known. No operation has them.
const ROUTING_ERRORS: &[ErrorReason] =
    &[ErrorReason::RouteUnknown, ErrorReason::RouteUnsupported, ErrorReason::MethodRefused];

/// The routes of other APIs, with the schema of their errors.
const ADAPTERS: &[(&str, &str)] = &[
    ("/v1/chat/completions", "OpenAiError"),
    ("/v1/embeddings", "OpenAiError"),
    ("/", "ErrorText"),
    ("/models/{name}", "ErrorText"),
    ("/hf/{task}", "ErrorText"),
    ("/v1/models/{name}:predict", "ErrorText"),
    ("/invocations", "ErrorText"),
    ("/v2/models/{name}", "ErrorText"),
    ("/v2/models/{name}/infer", "ErrorText"),
];

/// Adds a response for each error status of each operation, with a problem document or an error of
/// the API of the route.
pub(crate) struct ProblemResponses;

impl Modify for ProblemResponses {
    fn modify(&self, document: &mut openapi::OpenApi) {
        for (path, item) in &mut document.paths.paths {
            let get = item.get.iter_mut().map(|operation| (operation, false));
            let change = item.post.iter_mut().chain(&mut item.delete).map(|operation| (operation, true));
            for (operation, is_change) in get.chain(change) {
                for (status, specs) in errors_by_status(path, is_change) {
                    let response = RefOr::T(problem_response(path, status, &specs));
                    operation.responses.responses.insert(status.to_string(), response);
                }
            }
        }
    }
}

/// Returns the errors of an operation by HTTP status. `is_change` is false for `GET`.
fn errors_by_status(path: &str, is_change: bool) -> BTreeMap<u16, Vec<ErrorSpec>> {
    let is_model_route = path.starts_with(MODELS) && adapter_schema(path).is_none();
    let applies = |reason: &&ErrorReason| match is_model_route {
        true => {
            MODEL_ERRORS.contains(reason)
                || is_change && (ADMIN_ERRORS.contains(reason) || BODY_ERRORS.contains(reason))
        }
        false => !ROUTING_ERRORS.contains(reason) && !ADMIN_ERRORS.contains(reason),
    };
    let mut statuses: BTreeMap<u16, Vec<ErrorSpec>> = BTreeMap::new();
    for reason in ErrorReason::ALL.iter().filter(applies) {
        let spec = reason.spec();
        // A failed item fails the whole request of an adapter.
        if spec.scope != Scope::Item || adapter_schema(path).is_some() {
            statuses.entry(spec.http).or_default().push(spec);
        }
    }
    statuses
}

/// Returns the name of the schema of errors, if the route belongs to another API.
fn adapter_schema(path: &str) -> Option<&'static str> {
    ADAPTERS.iter().find(|(route, _)| *route == path).map(|(_, schema)| *schema)
}

fn problem_response(path: &str, status: u16, specs: &[ErrorSpec]) -> openapi::Response {
    let reasons: Vec<String> = specs.iter().map(|spec| format!("`{}`: {}", spec.name, spec.remedy)).collect();
    let content = |schema| ContentBuilder::new().schema(Some(Ref::from_schema_name(schema))).build();
    let mut response = ResponseBuilder::new().description(reasons.join("\n\n"));
    // The checks before a handler answer with problem documents on every route.
    response = response.content(PROBLEM_JSON, content("Problem"));
    if let Some(schema) = adapter_schema(path) {
        response = response.content(JSON, content(schema));
    }
    let header = |schema_type: Type, description: &str| {
        let schema = ObjectBuilder::new().schema_type(schema_type).build();
        HeaderBuilder::new().schema(Some(schema)).description(Some(description)).build()
    };
    if status == 401 {
        let text = "The authentication scheme of API keys.";
        response = response.header("WWW-Authenticate", header(Type::String, text));
    }
    if specs.iter().any(|spec| spec.retryable) {
        let text = "The number of seconds after which a retry can succeed, if it is known.";
        response = response.header("Retry-After", header(Type::Integer, text));
    }
    response.build()
}
