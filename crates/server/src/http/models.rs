//! `/v1/models`: lists models, and loads and unloads them for administrators.

use std::sync::Arc;

use axum::{
    Extension, Json,
    body::Body,
    extract::{Path, State},
};
use blip::Architecture;
use bytes::Bytes;
use http::{
    HeaderMap, Request, StatusCode,
    header::{CONTENT_TYPE, ORIGIN},
};
use serde::{Deserialize, Serialize};
use tonic::transport::server::TcpConnectInfo;
use utoipa::ToSchema;

use crate::{
    auth::token_of,
    error::{ErrorReason, RequestError},
    fair_share::Caller,
    http::{body::RequestBody, json::read_json, state::HttpServer},
    lifecycle::{
        admin::{LoadRequest, ModelAdmin},
        health::Health,
    },
    models::info::ModelInfo,
};

/// The models of the server, in the order in which they were added.
#[derive(Serialize, ToSchema)]
pub(crate) struct ModelList {
    models: Vec<ModelJson>,
    /// `list`, as in OpenAI's API.
    #[schema(example = "list")]
    object: &'static str,
    /// The same models, for clients of OpenAI's API.
    data: Vec<ModelJson>,
}

/// A model of the server.
#[derive(Clone, Serialize, ToSchema)]
pub(crate) struct ModelJson {
    /// The name by which requests select the model.
    name: String,
    /// The source of the model.
    source: String,
    /// The commit on the hub, if the model comes from the hub.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    revision: Option<String>,
    /// The task of the model.
    task: TaskName,
    /// The device, such as `cuda:0` or `cpu`.
    device: String,
    /// The number format of weights and activations.
    dtype: String,
    /// The height and width of scaled images, in pixels.
    image_size: u32,
    /// The maximum length of a text in tokens, special tokens included.
    max_text_tokens: u32,
    /// The default maximum of generated tokens. 0 for a model that generates no text.
    max_new_tokens: u32,
    /// The length of an embedding. 0 for a model without embeddings.
    embedding_size: u32,
    /// The number of parameters.
    parameters: u64,
    /// The conventions of the model: `hf` or `salesforce`.
    flavour: String,
    /// The names of the candidate lists that questions may select.
    candidate_lists: Vec<String>,
    /// The name, as in OpenAI's API.
    id: String,
    /// `model`, as in OpenAI's API.
    #[schema(example = "model")]
    object: &'static str,
    /// Always 0: the time at which the model was made is unknown.
    created: u64,
    /// The source, as in OpenAI's API.
    owned_by: String,
    /// Whether the model accepts requests, as in KServe's API.
    ready: bool,
}

/// The task of a model.
#[derive(Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TaskName {
    /// Answers to questions.
    QuestionAnswering,
    /// Captions.
    Captioning,
    /// Match scores and embeddings.
    Matching,
}

impl ModelJson {
    fn new(model: &ModelInfo, health: &Health) -> Self {
        Self {
            name: model.name.to_string(),
            source: model.source.clone(),
            revision: model.revision.clone(),
            task: match model.architecture {
                Architecture::QuestionAnswering => TaskName::QuestionAnswering,
                Architecture::Captioning => TaskName::Captioning,
                Architecture::Retrieval => TaskName::Matching,
            },
            device: model.device.clone(),
            dtype: model.dtype.clone(),
            image_size: model.image_size,
            max_text_tokens: model.max_text_tokens,
            max_new_tokens: model.max_new_tokens,
            embedding_size: model.embedding_size,
            parameters: model.parameters,
            flavour: model.conventions.to_string(),
            candidate_lists: model.candidate_lists.clone(),
            id: model.name.to_string(),
            object: "model",
            created: 0,
            owned_by: model.source.clone(),
            ready: health.is_model_serving(&model.name),
        }
    }
}

/// The model to load.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoadModelRequest {
    /// The name by which requests select the model. A loaded model of this name is replaced.
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    name: String,
    /// The source: an embedded model such as `demo`, a folder below the model folder of the server,
    /// or a name on the Hugging Face hub.
    source: String,
    /// The device, as `--device`. If it is empty, the server chooses.
    #[serde(default)]
    device: String,
    /// The number format, as `--dtype`. If it is empty, the server chooses.
    #[serde(default)]
    dtype: String,
    /// The conventions: `hf` or `salesforce`. If it is empty, the server chooses.
    #[serde(default)]
    flavour: String,
}

type Server = State<Arc<HttpServer>>;
type Connection = Extension<TcpConnectInfo>;

/// `GET /v1/models`.
///
/// # Errors
/// A [`RequestError`] if the client is not authenticated, or if no model is loaded.
#[utoipa::path(
    get,
    path = "/v1/models",
    operation_id = "list_models",
    summary = "List the models",
    description = "The models are in the order in which they were added. A request without a model name \
        is processed by the first model for its task.",
    responses((status = 200, description = "The models", body = ModelList)),
    security((), ("bearer" = []), ("api_key" = [])),
)]
pub(crate) async fn list(
    State(server): Server,
    Extension(connection): Connection,
    headers: HeaderMap,
) -> Result<Json<ModelList>, RequestError> {
    server.authenticator.authenticate(token_of(&headers), connection.remote_addr())?;
    let models = server.handler.models.list()?;
    let models: Vec<_> = models.iter().map(|model| ModelJson::new(model, &server.health)).collect();
    Ok(Json(ModelList { data: models.clone(), models, object: "list" }))
}

/// `GET /v1/models/{name}`.
///
/// # Errors
/// A [`RequestError`] if the client is not authenticated, or if the model is unknown.
#[utoipa::path(
    get,
    path = "/v1/models/{name}",
    operation_id = "get_model",
    summary = "Get one model",
    params(("name" = String, Path, description = "The name of the model", example = "demo")),
    responses((status = 200, description = "The model", body = ModelJson)),
    security((), ("bearer" = []), ("api_key" = [])),
)]
pub(crate) async fn get(
    State(server): Server,
    Extension(connection): Connection,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Json<ModelJson>, RequestError> {
    server.authenticator.authenticate(token_of(&headers), connection.remote_addr())?;
    let model = server.handler.models.get(&name).map_err(|error| error.field("name"))?;
    Ok(Json(ModelJson::new(&model, &server.health)))
}

/// `POST /v1/models`.
///
/// # Errors
/// A [`RequestError`] if the client is no administrator, or if the model cannot be loaded.
#[utoipa::path(
    post,
    path = "/v1/models",
    operation_id = "load_model",
    summary = "Load a model, or replace one",
    description = "For administrators of a server with --admin. The server responds when the model is \
        loaded and has passed its self-test. Until then, a loaded model of the same name continues to \
        serve. If loading fails, the loaded models are unchanged.",
    request_body = LoadModelRequest,
    responses((status = 200, description = "The loaded model", body = ModelJson)),
    security((), ("bearer" = []), ("api_key" = [])),
)]
pub(crate) async fn load(
    State(server): Server,
    Extension(connection): Connection,
    request: Request<Body>,
) -> Result<Json<ModelJson>, RequestError> {
    let (head, body) = request.into_parts();
    let admin = authorize(&server, &connection, &head.headers)?;
    let content_type =
        head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("missing");
    if !content_type.starts_with("application/json") {
        return Err(RequestError::new(ErrorReason::MediaTypeRefused)
            .field("content-type")
            .value(content_type)
            .limit("application/json"));
    }
    let budget = server.budget.of(Caller::peer(connection.remote_addr().map(|peer| peer.ip())));
    let body: Bytes = RequestBody::new(&head.headers, body, budget)?.collect().await?;
    let LoadModelRequest { name, source, device, dtype, flavour: conventions } =
        read_json(&body, "the body")?;
    let request = LoadRequest { name, source, device, dtype, conventions };
    Ok(Json(ModelJson::new(&*admin.load(&request).await?, &server.health)))
}

/// `DELETE /v1/models/{name}`.
///
/// # Errors
/// A [`RequestError`] if the client is no administrator, or if the model cannot be unloaded.
#[utoipa::path(
    delete,
    path = "/v1/models/{name}",
    operation_id = "unload_model",
    summary = "Unload a model",
    description = "For administrators of a server with --admin. The server completes the requests in \
        flight. The last model cannot be unloaded.",
    params(("name" = String, Path, description = "The name of the model", example = "demo")),
    responses((status = 204, description = "The server accepts no more requests for the model")),
    security((), ("bearer" = []), ("api_key" = [])),
)]
pub(crate) async fn unload(
    State(server): Server,
    Extension(connection): Connection,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, RequestError> {
    authorize(&server, &connection, &headers)?.unload(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Returns the operations if the client with these headers is an administrator.
fn authorize<'a>(
    server: &'a HttpServer,
    connection: &TcpConnectInfo,
    headers: &HeaderMap,
) -> Result<&'a dyn ModelAdmin, RequestError> {
    let peer = connection.remote_addr();
    let client = server.authenticator.authenticate(token_of(headers), peer)?;
    // A server without keys trusts clients of its machine, but no pages in their browsers.
    if !client.is_admin && headers.contains_key(ORIGIN) {
        let is_enabled = server.administration.admin.is_some();
        return Err(RequestError::new(if is_enabled {
            ErrorReason::AdminRequired
        } else {
            ErrorReason::AdminOff
        }));
    }
    server.administration.authorize(&client, peer)
}
