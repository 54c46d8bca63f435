//! `/v1/models`: which models there are, and for administrators changes of that.

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
    http::{body::Upload, inference::ask_request::read_json, state::HttpServer},
    lifecycle::admin::{LoadRequest, ModelAdmin},
    models::info::ModelInfo,
};

/// The models of a server, in the order in which it was given them.
#[derive(Serialize, ToSchema)]
pub(crate) struct ModelList {
    models: Vec<ModelJson>,
}

/// A model that a server has.
#[derive(Serialize, ToSchema)]
pub(crate) struct ModelJson {
    /// What requests call it.
    name: String,
    /// Where it comes from.
    source: String,
    /// The commit on the hub, if it comes from there.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    revision: Option<String>,
    /// What it is for.
    task: TaskName,
    /// Where it runs, as `cuda:0` or `cpu`.
    device: String,
    /// The number format of its weights and activations.
    dtype: String,
    /// Height and width that images are scaled to, in pixels.
    image_size: u32,
    /// Longest text in tokens, special ones included.
    max_text_tokens: u32,
    /// Tokens that it writes at most; 0 if it writes nothing.
    max_new_tokens: u32,
    /// Numbers of an embedding; 0 if it makes none.
    embedding_size: u32,
    /// Parameters.
    parameters: u64,
    /// Whose conventions it follows.
    flavour: String,
    /// Names of the lists of candidates that its questions may name.
    candidate_lists: Vec<String>,
}

/// What a model is for.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TaskName {
    /// Answers to questions.
    QuestionAnswering,
    /// Captions.
    Captioning,
    /// Comparing images with texts.
    Matching,
}

impl From<&ModelInfo> for ModelJson {
    fn from(model: &ModelInfo) -> Self {
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
        }
    }
}

/// A model to load.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoadModel {
    /// What requests are to call it; that of a model that is there replaces it.
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    name: String,
    /// Where it comes from: a model inside the program such as `demo`, a folder below the server's folder of models, or a name
    /// on the Hugging Face hub.
    source: String,
    /// Where it is to run, as `--device`; the server's own choice if empty.
    #[serde(default)]
    device: String,
    /// Its number format, as `--dtype`; the server's own choice if empty.
    #[serde(default)]
    dtype: String,
    /// Whose conventions it follows; the server's own choice if empty.
    #[serde(default)]
    flavour: String,
}

type Server = State<Arc<HttpServer>>;
type Connection = Extension<TcpConnectInfo>;

/// `GET /v1/models`.
///
/// # Errors
/// A [`RequestError`] of a stranger, or while there are none.
#[utoipa::path(
    get,
    path = "/v1/models",
    operation_id = "list_models",
    summary = "The models of this server",
    description = "In the order in which the server was given them; a request that names none is answered by the first that does what is asked.",
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
    Ok(Json(ModelList { models: models.iter().map(|model| ModelJson::from(&**model)).collect() }))
}

/// `GET /v1/models/{name}`.
///
/// # Errors
/// A [`RequestError`] of a stranger, or if there is none of that name.
#[utoipa::path(
    get,
    path = "/v1/models/{name}",
    operation_id = "get_model",
    summary = "One model",
    params(("name" = String, Path, description = "What requests call the model")),
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
    let model = server.handler.models.get(&name).map_err(|refusal| refusal.field("name"))?;
    Ok(Json(ModelJson::from(&*model)))
}

/// `POST /v1/models`.
///
/// # Errors
/// A [`RequestError`] of whoever is no administrator, or if the model cannot be loaded.
#[utoipa::path(
    post,
    path = "/v1/models",
    operation_id = "load_model",
    summary = "Load a model, or replace one",
    description = "For administrators of a server that was started with --admin. The response comes when the model has been loaded and has answered a question; one of the same name serves until then. If loading fails, nothing has changed.",
    request_body = LoadModel,
    responses((status = 200, description = "The model, which serves now", body = ModelJson)),
    security((), ("bearer" = []), ("api_key" = [])),
)]
pub(crate) async fn load(
    State(server): Server,
    Extension(connection): Connection,
    request: Request<Body>,
) -> Result<Json<ModelJson>, RequestError> {
    let (head, body) = request.into_parts();
    let admin = admit(&server, &connection, &head.headers)?;
    let content_type =
        head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("missing");
    if !content_type.starts_with("application/json") {
        let refusal =
            RequestError::new(ErrorReason::MediaTypeRefused).field("content-type").value(content_type);
        return Err(refusal.limit("application/json"));
    }
    let body: Bytes = Upload::new(&head.headers, body, server.budget.clone())?.collect().await?;
    let LoadModel { name, source, device, dtype, flavour } = read_json(&body, "the body")?;
    let request = LoadRequest { name, source, device, dtype, conventions: flavour };
    Ok(Json(ModelJson::from(&*admin.load(&request).await?)))
}

/// `DELETE /v1/models/{name}`.
///
/// # Errors
/// A [`RequestError`] of whoever is no administrator, or if the model cannot be taken away.
#[utoipa::path(
    delete,
    path = "/v1/models/{name}",
    operation_id = "unload_model",
    summary = "Take a model away",
    description = "For administrators of a server that was started with --admin. Requests in flight are answered. The last model cannot be taken away.",
    params(("name" = String, Path, description = "What requests call the model")),
    responses((status = 204, description = "It is gone, or will be when nothing is in flight on it")),
    security((), ("bearer" = []), ("api_key" = [])),
)]
pub(crate) async fn unload(
    State(server): Server,
    Extension(connection): Connection,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, RequestError> {
    admit(&server, &connection, &headers)?.unload(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The administrators' way, for whoever sends these headers.
fn admit<'a>(
    server: &'a HttpServer,
    connection: &TcpConnectInfo,
    headers: &HeaderMap,
) -> Result<&'a dyn ModelAdmin, RequestError> {
    let peer = connection.remote_addr();
    let caller = server.authenticator.authenticate(token_of(headers), peer)?;
    // A page in a browser on the machine is not its administrator, whatever else it may call.
    if !caller.is_admin && headers.contains_key(ORIGIN) {
        let on = server.administration.admin.is_some();
        return Err(RequestError::new(if on { ErrorReason::AdminRequired } else { ErrorReason::AdminOff }));
    }
    server.administration.authorize(&caller, peer)
}
