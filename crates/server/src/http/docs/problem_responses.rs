//! The error responses in the OpenAPI document, from the error table.

use std::collections::BTreeMap;

use utoipa::{
    Modify,
    openapi::{
        self, ContentBuilder, HeaderBuilder, ObjectBuilder, Ref, RefOr, ResponseBuilder,
        example::{Example, ExampleBuilder},
        schema::Type,
    },
};

use crate::{
    error::{ErrorReason, Scope},
    http::{
        adapters::{error_text::ErrorText, openai::error::OpenAiError},
        docs::error_examples::error_example,
        media_type::JSON,
        problem::{PROBLEM_JSON, Problem},
    },
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

/// Errors of gRPC alone, and errors before the route is known. No operation has them.
const OTHER_ERRORS: &[ErrorReason] = &[
    ErrorReason::MethodUnknown,
    ErrorReason::ServiceUnknown,
    ErrorReason::CompressionUnsupported,
    ErrorReason::InvalidDeadline,
    ErrorReason::RouteUnknown,
    ErrorReason::MethodRefused,
];

/// The errors of the checks before a handler. They are problem documents on every route.
const EARLY_ERRORS: &[ErrorReason] =
    &[ErrorReason::HostRefused, ErrorReason::HostInvalid, ErrorReason::OriginRefused];

/// The shape of an error in JSON.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Problem,
    OpenAi,
    Text,
}

/// The routes of other APIs, with the shape of their errors.
const ADAPTERS: &[(&str, Shape)] = &[
    ("/v1/chat/completions", Shape::OpenAi),
    ("/v1/embeddings", Shape::OpenAi),
    ("/", Shape::Text),
    ("/models/{name}", Shape::Text),
    ("/hf/{task}", Shape::Text),
    ("/v1/models/{name}:predict", Shape::Text),
    ("/invocations", Shape::Text),
    ("/v2/models/{name}", Shape::Text),
    ("/v2/models/{name}/infer", Shape::Text),
];

/// Adds a response for each error status of each operation, with an example of each error.
pub(crate) struct ProblemResponses;

impl Modify for ProblemResponses {
    fn modify(&self, document: &mut openapi::OpenApi) {
        for (path, item) in &mut document.paths.paths {
            let get = item.get.iter_mut().map(|operation| (operation, false));
            let change = item.post.iter_mut().chain(&mut item.delete).map(|operation| (operation, true));
            for (operation, is_change) in get.chain(change) {
                for (status, reasons) in errors_by_status(path, is_change) {
                    let response = RefOr::T(error_responses(path, status, &reasons));
                    operation.responses.responses.insert(status.to_string(), response);
                }
            }
        }
        let components = document.components.get_or_insert_default();
        for reason in ErrorReason::ALL {
            for shape in [Shape::Problem, Shape::OpenAi, Shape::Text] {
                components.examples.insert(shape.example_name(*reason), RefOr::T(shape.example(*reason)));
            }
        }
    }
}

/// Returns the errors of an operation by HTTP status. `is_change` is false for `GET`.
fn errors_by_status(path: &str, is_change: bool) -> BTreeMap<u16, Vec<ErrorReason>> {
    let is_page = path == "/" && !is_change;
    let is_model_route = path.starts_with(MODELS) && shape_of(path) == Shape::Problem;
    let applies = |reason: &&ErrorReason| {
        if is_page {
            matches!(reason, ErrorReason::HostRefused | ErrorReason::HostInvalid)
        } else if is_model_route {
            MODEL_ERRORS.contains(reason)
                || is_change && (ADMIN_ERRORS.contains(reason) || BODY_ERRORS.contains(reason))
        } else {
            !OTHER_ERRORS.contains(reason) && !ADMIN_ERRORS.contains(reason)
        }
    };
    let mut statuses: BTreeMap<u16, Vec<ErrorReason>> = BTreeMap::new();
    for reason in ErrorReason::ALL.iter().filter(applies) {
        let spec = reason.spec();
        // A failed item fails the whole request of an adapter.
        if spec.scope != Scope::Item || shape_of(path) != Shape::Problem {
            statuses.entry(spec.http).or_default().push(*reason);
        }
    }
    statuses
}

/// Returns the shape of the errors of a handler.
fn shape_of(path: &str) -> Shape {
    ADAPTERS.iter().find(|(route, _)| *route == path).map_or(Shape::Problem, |(_, shape)| *shape)
}

fn error_responses(path: &str, status: u16, reasons: &[ErrorReason]) -> openapi::Response {
    let lines: Vec<String> = reasons
        .iter()
        .map(|reason| reason.spec())
        .map(|spec| format!("`{}`: {}", spec.name, spec.remedy))
        .collect();
    let mut response = ResponseBuilder::new().description(lines.join("\n\n"));
    let shape = shape_of(path);
    let (problems, others): (Vec<_>, Vec<_>) =
        reasons.iter().partition(|reason| shape == Shape::Problem || EARLY_ERRORS.contains(reason));
    for (shape, reasons) in [(Shape::Problem, problems), (shape, others)] {
        if !reasons.is_empty() {
            response = response.content(shape.media_type(), shape.content(&reasons));
        }
    }
    let header = |schema_type: Type, description: &str| {
        let schema = ObjectBuilder::new().schema_type(schema_type).build();
        HeaderBuilder::new().schema(Some(schema)).description(Some(description)).build()
    };
    if status == 401 {
        let text = "The authentication scheme of API keys.";
        response = response.header("WWW-Authenticate", header(Type::String, text));
    }
    if reasons.iter().any(|reason| reason.spec().retryable) {
        let text = "The number of seconds after which a retry can succeed, if it is known.";
        response = response.header("Retry-After", header(Type::Integer, text));
    }
    response.build()
}

impl Shape {
    fn media_type(self) -> &'static str {
        if self == Self::Problem { PROBLEM_JSON } else { JSON }
    }

    /// Returns the content of a response with these errors, with an example of each.
    fn content(self, reasons: &[&ErrorReason]) -> openapi::Content {
        let schema = match self {
            Self::Problem => "Problem",
            Self::OpenAi => "OpenAiError",
            Self::Text => "ErrorText",
        };
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(schema)));
        let examples = reasons.iter().map(|reason| {
            let example = Ref::new(format!("#/components/examples/{}", self.example_name(**reason)));
            (reason.spec().name, RefOr::Ref(example))
        });
        content.examples_from_iter(examples).build()
    }

    /// Returns the name of an example among the components.
    fn example_name(self, reason: ErrorReason) -> String {
        let name = reason.spec().name;
        match self {
            Self::Problem => name.to_owned(),
            Self::OpenAi => format!("{name}.openai"),
            Self::Text => format!("{name}.text"),
        }
    }

    fn example(self, reason: ErrorReason) -> Example {
        let error = error_example(reason);
        let value = match self {
            // The request whose handler builds the document is no part of it.
            Self::Problem => serde_json::to_value(Problem { request_id: None, ..Problem::from(&error) }),
            Self::OpenAi => serde_json::to_value(OpenAiError::from(&error)),
            Self::Text => serde_json::to_value(ErrorText::from(&error)),
        };
        ExampleBuilder::new().value(value.ok()).build()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn response(path: &str, status: u16) -> Value {
        let reasons = errors_by_status(path, true)[&status].clone();
        serde_json::to_value(error_responses(path, status, &reasons)).unwrap()
    }

    #[test]
    fn each_error_of_a_status_has_its_example() {
        let content = response("/v1/ask", 401)["content"][PROBLEM_JSON].clone();
        let reference = |name: &str| json!({"$ref": format!("#/components/examples/{name}")});
        let expected = json!({
            "API_KEY_INVALID": reference("API_KEY_INVALID"), "API_KEY_MISSING": reference("API_KEY_MISSING"),
        });
        assert_eq!(content["examples"], expected);
        let example = Shape::Problem.example(ErrorReason::TextsMismatched).value.unwrap();
        assert_eq!(
            (&example["status"], &example["reason"], &example["limit"]),
            (&json!(400), &json!("TEXTS_MISMATCHED"), &json!("2 images"))
        );
    }

    #[test]
    fn adapter_has_problems_only_for_checks_before_its_handler() {
        let content = response("/v1/chat/completions", 403)["content"].clone();
        assert_eq!(content[PROBLEM_JSON]["examples"].as_object().unwrap().len(), 2);
        assert!(content[JSON]["examples"]["URL_HOST_REFUSED"].is_object());
        assert!(response("/", 401)["content"][PROBLEM_JSON].is_null());
        let example = Shape::OpenAi.example(ErrorReason::QueueFull).value.unwrap();
        assert_eq!(example["error"]["type"], "rate_limit_error");
    }

    #[test]
    fn page_has_the_errors_of_the_host_alone() {
        let statuses: Vec<_> = errors_by_status("/", false).into_keys().collect();
        assert_eq!(statuses, [400, 403]);
    }
}
