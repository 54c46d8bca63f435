//! Requests that no route accepts. Those of another API have an error in the shape of this API,
//! which names the routes that the server has of it.

use axum::{
    extract::Request,
    response::{IntoResponse as _, Response},
};

use crate::{
    error::{ErrorReason, RequestError},
    http::adapters::{error_text::TextFailure, openai::error::OpenAiFailure},
};

/// An API of another server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Api {
    OpenAi,
    OpenInference,
    HuggingFace,
}

/// The paths that belong to an API, each with the paths below it. Clients with a base URL without
/// `/v1` call those of OpenAI's API that have none.
const PATHS: &[(&str, Api)] = &[
    ("/v1/chat", Api::OpenAi),
    ("/v1/completions", Api::OpenAi),
    ("/v1/responses", Api::OpenAi),
    ("/v1/conversations", Api::OpenAi),
    ("/v1/embeddings", Api::OpenAi),
    ("/v1/moderations", Api::OpenAi),
    ("/v1/images", Api::OpenAi),
    ("/v1/audio", Api::OpenAi),
    ("/v1/videos", Api::OpenAi),
    ("/v1/realtime", Api::OpenAi),
    ("/v1/files", Api::OpenAi),
    ("/v1/uploads", Api::OpenAi),
    ("/v1/batches", Api::OpenAi),
    ("/v1/fine_tuning", Api::OpenAi),
    ("/v1/evals", Api::OpenAi),
    ("/v1/assistants", Api::OpenAi),
    ("/v1/threads", Api::OpenAi),
    ("/v1/vector_stores", Api::OpenAi),
    ("/v1/containers", Api::OpenAi),
    ("/chat", Api::OpenAi),
    ("/completions", Api::OpenAi),
    ("/responses", Api::OpenAi),
    ("/embeddings", Api::OpenAi),
    ("/v2", Api::OpenInference),
    ("/models", Api::HuggingFace),
    ("/hf", Api::HuggingFace),
    ("/pipeline", Api::HuggingFace),
];

impl Api {
    /// Returns the API that `path` belongs to.
    fn of(path: &str) -> Option<Self> {
        let is_below =
            |base: &str| path.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        PATHS.iter().find(|(base, _)| is_below(base)).map(|(_, api)| *api)
    }

    /// Returns the routes that the server has of the API.
    fn routes(self) -> &'static str {
        match self {
            Self::OpenAi => {
                "POST /v1/chat/completions, POST /v1/embeddings, GET /v1/models, GET /v1/models/NAME"
            }
            Self::OpenInference => {
                "GET /v2, GET /v2/health/live, GET /v2/health/ready, GET /v2/models/NAME, \
                 GET /v2/models/NAME/ready, POST /v2/models/NAME/infer, POST /v2/repository/index"
            }
            Self::HuggingFace => "POST /, POST /models/NAME, POST /hf/TASK",
        }
    }

    fn respond(self, error: RequestError) -> Response {
        match self {
            Self::OpenAi => OpenAiFailure::from(error).into_response(),
            Self::OpenInference | Self::HuggingFace => TextFailure(error).into_response(),
        }
    }
}

/// Returns the response to a request whose path is no route.
pub(crate) async fn unknown_route(request: Request) -> Response {
    let path = request.uri().path();
    match Api::of(path) {
        Some(api) => {
            let error = RequestError::new(ErrorReason::RouteUnsupported);
            api.respond(error.value(path).limit(api.routes()))
        }
        None => RequestError::new(ErrorReason::RouteUnknown).value(path).into_response(),
    }
}

/// Returns the response to a request whose path has no such method.
pub(crate) async fn method_not_allowed(request: Request) -> Response {
    let error = RequestError::new(ErrorReason::MethodRefused).value(request.method().as_str());
    match Api::of(request.uri().path()) {
        Some(api) => api.respond(error),
        None => error.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::StatusCode;
    use serde_json::{Value, json};

    use super::*;

    async fn body(response: Response) -> (StatusCode, Value) {
        let (status, body) = (response.status(), response.into_body());
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }

    fn request(path: &str) -> Request {
        http::Request::get(path).body(Body::empty()).unwrap()
    }

    #[test]
    fn path_belongs_to_the_api_that_has_its_beginning() {
        for (path, api) in [
            ("/v1/responses", Some(Api::OpenAi)),
            ("/v1/responses/resp_1/cancel", Some(Api::OpenAi)),
            ("/chat/completions", Some(Api::OpenAi)),
            ("/v2/models/demo/config", Some(Api::OpenInference)),
            ("/v2", Some(Api::OpenInference)),
            ("/pipeline/feature-extraction/a/b", Some(Api::HuggingFace)),
            ("/v1/ask/nothing", None),
            ("/v20", None),
            ("/chatter", None),
            ("/", None),
        ] {
            assert_eq!(Api::of(path), api, "{path}");
        }
    }

    #[tokio::test]
    async fn unsupported_route_has_the_shape_of_its_api() {
        let (status, error) = body(unknown_route(request("/v1/responses")).await).await;
        let routes = Api::OpenAi.routes();
        let message = format!("unsupported route /v1/responses, expected one of {routes}");
        let expected = json!({"error": {
            "message": message, "type": "invalid_request_error", "param": null, "code": "ROUTE_UNSUPPORTED",
        }});
        assert_eq!((status, error), (StatusCode::NOT_FOUND, expected));
        let (status, error) = body(unknown_route(request("/v2/models/demo/config")).await).await;
        assert_eq!((status, error.as_object().unwrap().len()), (StatusCode::NOT_FOUND, 1));
        let message = error["error"].as_str().unwrap();
        assert!(message.starts_with("unsupported route /v2/models/demo/config, expected one of GET /v2, "));
        // The list is whole, not an excerpt.
        assert!(message.ends_with("POST /v2/repository/index"), "{message}");
        let (_, problem) = body(unknown_route(request("/v1/nothing")).await).await;
        assert_eq!(problem["reason"], "ROUTE_UNKNOWN");
    }

    #[tokio::test]
    async fn refused_method_has_the_shape_of_its_api() {
        let (status, error) = body(method_not_allowed(request("/v1/embeddings")).await).await;
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(error["error"]["message"], "method not allowed: GET");
        let (_, error) = body(method_not_allowed(request("/v2/models/demo/infer")).await).await;
        assert_eq!(error, json!({"error": "method not allowed: GET"}));
        let (_, problem) = body(method_not_allowed(request("/v1/ask")).await).await;
        assert_eq!(problem["reason"], "METHOD_REFUSED");
    }
}
