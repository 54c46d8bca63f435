//! The routes of containers on clouds: `/ping` and `/invocations` of SageMaker, `/health`, and the
//! routes that Vertex AI chooses.

use std::{fmt, sync::Arc};

use axum::{
    Extension,
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use http::{Method, Uri, uri::PathAndQuery};
use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use tonic::transport::server::TcpConnectInfo;

use crate::{
    config::sections::http::{HttpRoute, HttpSettings},
    error::RequestError,
    http::{
        adapters::{
            call::{CallRequest, HttpCall},
            error_text::TextFailure,
            hugging_face,
            open_inference::predict,
            openai::{self, error::OpenAiFailure},
        },
        inference::{
            ask_request::{AskRequest, decode_json},
            decoded_body::DecodedBody,
            response::{ask_response::AnswerLayout, json_body::json_response, sse::event_stream},
        },
        json::read_json,
        media_type::{JSON, media_type},
        state::HttpServer,
    },
    pipeline::streams::write_timing::record_writes_at_end,
};

/// The route of health checks.
pub(crate) const HEALTH: &str = "/health";

/// The route of requests of any kind.
pub(crate) const INVOCATIONS: &str = "/invocations";

/// The paths by which a cloud calls [`HEALTH`] and [`INVOCATIONS`].
#[derive(Clone, Debug)]
pub(crate) struct RouteAliases {
    health: Option<HttpRoute>,
    predict: Option<HttpRoute>,
}

impl RouteAliases {
    /// Returns the aliases in the settings, if there are any.
    pub(crate) fn of(settings: &HttpSettings) -> Option<Self> {
        let HttpSettings { health_route: health, predict_route: predict, .. } = settings.clone();
        (health.is_some() || predict.is_some()).then_some(Self { health, predict })
    }

    /// Returns the route that a request for `path` is for, if it is one of the aliases.
    fn target(&self, method: &Method, path: &str) -> Option<&'static str> {
        let is = |route: &Option<HttpRoute>| route.as_ref().is_some_and(|route| route.path() == path);
        match *method {
            Method::GET | Method::HEAD if is(&self.health) => Some(HEALTH),
            Method::POST if is(&self.predict) => Some(INVOCATIONS),
            _ => None,
        }
    }
}

/// Replaces the path of a request by the route that it is an alias of. Runs before the routing.
pub(crate) async fn resolve_alias(
    State(aliases): State<Arc<RouteAliases>>,
    mut request: Request,
    next: Next,
) -> Response {
    if let Some(route) = aliases.target(request.method(), request.uri().path()) {
        // The host of an HTTP/2 request is in the URI.
        let mut parts = request.uri().clone().into_parts();
        parts.path_and_query = Some(PathAndQuery::from_static(route));
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
    next.run(request).await
}

/// `POST /invocations`: a request of any API, which its fields decide.
///
/// # Errors
/// Those of the API.
#[utoipa::path(
    post,
    path = "/invocations",
    operation_id = "invoke",
    summary = "Answer a request of any of the APIs, as a container of SageMaker",
    description = "The fields of the request decide its API:\n\
        - `instances`: that of `/v1/models/{name}:predict`, with the first model\n\
        - `messages`: that of `/v1/chat/completions`\n\
        - `input`: that of `/v1/embeddings`\n\
        - `inputs.images`: that of `/v1/ask`\n\
        - an image file, or another field: that of `/`\n\n\
        The response is that of the API.",
    request_body = predict::PredictRequest,
    responses((status = 200, description = "The results", body = predict::Predictions)),
    security((), ("bearer" = []), ("api_key" = [])),
)]
pub(crate) async fn invoke(
    State(server): State<Arc<HttpServer>>,
    Extension(connection): Extension<TcpConnectInfo>,
    request: Request<Body>,
) -> Result<Response, TextFailure> {
    let (call, headers) = HttpCall::receive(&server, &connection, request).await?;
    let api = match media_type(&headers) == JSON {
        true => call.decode(|body| read_json::<Api>(body, "the body")).await?,
        false => Api::Task,
    };
    Ok(match api {
        Api::Predict => {
            let model = server.handler.models.get("")?;
            let memory = call.response_memory(&server);
            memory.json(&predict::run(&server, call, &model).await?)?
        }
        Api::Chat => match openai::handlers::complete(&server, call).await {
            Ok(response) => response,
            Err(error) => OpenAiFailure::from(error).into_response(),
        },
        Api::Embeddings => openai::handlers::embed(&server, call).await?,
        Api::Ask => ask(&server, call).await?,
        Api::Task => hugging_face::handlers::run_call(&server, call, &headers, "", None).await?,
    })
}

/// Answers the request of the model card in the body of `call`.
async fn ask(server: &HttpServer, call: HttpCall) -> Result<Response, RequestError> {
    let request = call.decode(|body| decode_json::<AskRequest>(body)).await?;
    let DecodedBody { images, texts, task, model, options, format, .. } = request;
    let inputs = DecodedBody::inputs(images, texts, format, server.budget.max_message_bytes())?;
    let counts: Vec<usize> = inputs.iter().map(|input| input.texts.len()).collect();
    let call = call.with_options(&options);
    let (results, trace) = call.begin(server, CallRequest { inputs, task, model, format })?;
    if options.stream {
        return Ok(event_stream(results, options.details, trace));
    }
    let results = record_writes_at_end(results, trace);
    json_response(results, AnswerLayout::new(counts, options.details)).await
}

/// The API of a request, by its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Api {
    Predict,
    Chat,
    Embeddings,
    Ask,
    Task,
}

impl<'de> Deserialize<'de> for Api {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ApiVisitor;

        impl<'de> Visitor<'de> for ApiVisitor {
            type Value = Api;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Api, A::Error> {
                let mut api = Api::Task;
                while let Some(name) = fields.next_key::<String>()? {
                    let found = match name.as_str() {
                        "instances" => Some(Api::Predict),
                        "messages" => Some(Api::Chat),
                        "input" => Some(Api::Embeddings),
                        "inputs" => {
                            let HasImages(has_images) = fields.next_value()?;
                            if has_images {
                                api = Api::Ask;
                            }
                            continue;
                        }
                        _ => None,
                    };
                    fields.next_value::<IgnoredAny>()?;
                    api = found.unwrap_or(api);
                }
                Ok(api)
            }
        }

        deserializer.deserialize_map(ApiVisitor)
    }
}

/// Whether a value is an object with a field `images`.
struct HasImages(bool);

impl<'de> Deserialize<'de> for HasImages {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ValueVisitor;

        impl<'de> Visitor<'de> for ValueVisitor {
            type Value = HasImages;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a list or an object")
            }

            fn visit_str<E: Error>(self, _: &str) -> Result<HasImages, E> {
                Ok(HasImages(false))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<HasImages, A::Error> {
                while elements.next_element::<IgnoredAny>()?.is_some() {}
                Ok(HasImages(false))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<HasImages, A::Error> {
                let mut has_images = false;
                while let Some(name) = fields.next_key::<String>()? {
                    has_images |= name == "images";
                    fields.next_value::<IgnoredAny>()?;
                }
                Ok(HasImages(has_images))
            }
        }

        deserializer.deserialize_any(ValueVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    #[test]
    fn fields_decide_the_api() {
        let api =
            |body: &str| read_json::<Api>(body.as_bytes(), "the body").map_err(|error| error.to_string());
        for (body, expected) in [
            (r#"{"parameters": {}, "instances": []}"#, Api::Predict),
            (r#"{"messages": [], "model": "m"}"#, Api::Chat),
            (r#"{"input": "a"}"#, Api::Embeddings),
            (r#"{"inputs": {"texts": [], "images": []}}"#, Api::Ask),
            (r#"{"inputs": {"image": ""}, "parameters": {}}"#, Api::Task),
            (r#"{"inputs": ["a"]}"#, Api::Task),
            (r#"{"inputs": "a"}"#, Api::Task),
            ("{}", Api::Task),
        ] {
            assert_eq!(api(body), Ok(expected), "{body}");
        }
        assert!(api("[]").unwrap_err().contains("expected an object"));
        assert!(api(r#"{"inputs": 5}"#).unwrap_err().starts_with("inputs is invalid"));
    }

    #[test]
    fn alias_is_for_its_path_and_method_only() {
        let mut settings = Settings::default().http;
        assert!(RouteAliases::of(&settings).is_none());
        settings.predict_route = Some("/predict".parse().unwrap());
        settings.health_route = Some("/alive".parse().unwrap());
        let aliases = RouteAliases::of(&settings).unwrap();
        assert_eq!(aliases.target(&Method::POST, "/predict"), Some(INVOCATIONS));
        assert_eq!(aliases.target(&Method::GET, "/alive"), Some(HEALTH));
        for (method, path) in
            [(Method::GET, "/predict"), (Method::POST, "/alive"), (Method::POST, "/predict/")]
        {
            assert_eq!(aliases.target(&method, path), None, "{method} {path}");
        }
    }
}
